"""Place what ``COPY`` and ``ADD`` take onto a tree, by docker's rules.

Knows nothing of where the files come from: they are a tree themselves. The rules are BuildKit's
(tonistiigi/fsutil, copy/copy.go): the contents of a folder go into the target, a file goes into a target
that is a folder, folders that are missing are made 0755 and belong to whom ``--chown`` names.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Sequence

from reprobuild import tree as trees
from reprobuild.build.accounts import NoSuchAccountError, Read, owner_of
from reprobuild.derivation.dockerfile.copying import is_mode
from reprobuild.derivation.dockerfile.patterns import GLOB, PatternError, cleaned, glob
from reprobuild.derivation.stated import Stated, word
from reprobuild.derivation.written import Copy
from reprobuild.errors import RecipeError
from reprobuild.tree import Entry, Tree, TreeError

Unpack = Callable[[Entry], tuple[Entry, ...] | None]
"""Gives what is in an archive; None for a file that is none."""


def copied(
    step: Copy, lower: Tree, source: Tree, texts: Sequence[Entry], stated: Stated, read: Read, unpack: Unpack
) -> Tree:
    """Give the tree that a copy makes of ``lower``.

    ``source``: the context or a stage; ``texts``: files of here-documents. Raises RecipeError, with the
    Dockerfile's line, for what does not fit.
    """
    try:
        placing = _Placing(step, lower, source, stated, read)
        for pattern in step.sources:
            for path in placing.matches(pattern):
                placing.add(path, unpack)
        for text in texts:
            placing.add_file(text, text.path)
        return placing.tree()
    except (TreeError, NoSuchAccountError, PatternError) as error:
        said = error.message if isinstance(error, TreeError) else str(error)
        raise RecipeError(f"{step.where}: {step.title}: {said}") from None


class _Placing:
    """A tree in the making."""

    def __init__(self, step: Copy, lower: Tree, source: Tree, stated: Stated, read: Read) -> None:
        self._step = step
        self._source = source
        self._stated = stated
        self._entries = {entry.path: entry for entry in lower}
        self._owner: tuple[int, int] | None = None
        chown = word(step, step.chown, stated)
        if chown:
            self._owner = owner_of(chown, lower, read)
        chmod = word(step, step.chmod, stated)
        if chmod and not is_mode(chmod):
            raise TreeError(f"--chmod={chmod}: permission bits in octal digits are needed, like 755")
        self._mode = int(chmod, 8) if chmod else None
        self._exclude = [glob(pattern.lstrip("/")) for pattern in step.exclude]
        to = word(step, step.to, stated)
        if not to:
            raise TreeError("the target comes to nothing")
        self._to = stated.folder(to)
        if self._to.endswith("/"):
            self._folder(self._to)

    def tree(self) -> Tree:
        return Tree(self._entries.values())

    def matches(self, pattern: str) -> list[str]:
        """Give the paths of the source that a pattern means, links in all but the last part followed."""
        text = word(self._step, pattern, self._stated) if self._step.stage else pattern
        plain = cleaned(text)
        if not GLOB.search(plain):
            return [plain]
        found = [""]
        for part in plain.split("/"):
            if not GLOB.search(part):
                found = [f"{path}/{part}".lstrip("/") for path in found]
                continue
            expression = glob(part)
            found = [
                f"{path}/{name}".lstrip("/")
                for path in found
                for name in self._names(self._source.resolve(path))
                if expression.fullmatch(name)
            ]
        return [path for path in found if self._source.get(self._source.resolve(path)) is not None]

    def _names(self, path: str) -> list[str]:
        start = len(path) + 1 if path else 0
        return [name for entry in self._source.below(path) if "/" not in (name := entry.path[start:])]

    def add(self, path: str, unpack: Unpack) -> None:
        """Place what is at a path of the source."""
        real = self._source.resolve(path)
        entry = self._source.get(real)
        if real and entry is None:
            where = f"the stage {self._step.stage}" if self._step.stage else "the context"
            raise TreeError(f"there is no /{path} in {where}")
        if entry is None or entry.kind == "d":
            self._add_below(self._folder(self._to), self._source.below(real), real)
            return
        if self._step.unpack and (members := unpack(entry)) is not None:
            self._add_below(self._folder(self._to), members, "")
            return
        self.add_file(entry, posixpath.basename(path))

    def add_file(self, entry: Entry, name: str) -> None:
        """Place a file at the target, or in it where that is a folder."""
        target = trees.resolve(self._entries, self._to)
        there = self._entries.get(target)
        if not target or (there is not None and there.kind == "d"):
            target = f"{target}/{name}".lstrip("/")
        above = self._folder(target.rpartition("/")[0])
        self._put(entry, "/".join(filter(None, (above, target.rpartition("/")[2]))))

    def _add_below(self, target: str, entries: Iterable[Entry], root: str) -> None:
        """Place the contents of a folder; those of one that is there already join them."""
        left_out: list[str] = []
        for entry in entries:
            inner = entry.path[len(root) + 1 :] if root else entry.path
            if any(pattern.fullmatch(inner) for pattern in self._exclude):
                left_out.append(inner + "/")
            if left_out and (inner + "/").startswith(tuple(left_out)):
                continue
            path = f"{target}/{inner}".lstrip("/")
            self._put(entry, trees.resolve(self._entries, path, follow_last=False))

    def _folder(self, path: str) -> str:
        """Make a folder and those that it is in; give its literal path."""
        real = trees.resolve(self._entries, path)
        parts = real.split("/") if real else []
        for count in range(1, len(parts) + 1):
            here = "/".join(parts[:count])
            there = self._entries.get(here)
            if there is None:
                uid, gid = self._owner or (0, 0)
                self._entries[here] = trees.directory(here, 0o755, uid, gid)
            elif there.kind != "d":
                raise TreeError(f"/{here} is no folder")
        return real

    def _put(self, entry: Entry, path: str) -> None:
        there = self._entries.get(path)
        if there is not None and there.kind == "l" and entry.kind == "d":
            path = trees.resolve(self._entries, path)
            there = self._entries.get(path)
        if there is not None and (there.kind == "d") != (entry.kind == "d"):
            raise TreeError(f"/{path} is a folder, and what comes there is none, or the other way round")
        uid, gid = self._owner or (entry.uid, entry.gid)
        mode = entry.mode if self._mode is None or entry.kind == "l" else self._mode
        self._entries[path] = entry._replace(path=path, mode=mode, uid=uid, gid=gid)
