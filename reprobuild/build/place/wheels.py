"""Place wheels: their files become entries of a tree, as an installer would have laid them out.

The wheel format is read by PyPA's ``installer``; here are the destination that makes entries of it, and
the checks that keep a hostile wheel inside its folders. The result depends on the wheels and on where the
tree's Python looks, on nothing else. Knows nothing of indexes, of byte code, nor of how trees are joined.
"""

from __future__ import annotations

import configparser
import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from installer import install
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import Hash, RecordEntry
from installer.sources import WheelContentElement, WheelFile

from reprobuild.build.place.placement import Placement
from reprobuild.build.place.python import Python, find_python
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Wheels
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, RecipeError
from reprobuild.tree import Entry, Tree, file

if TYPE_CHECKING:
    import os

    from installer.scripts import ScriptSection
    from installer.utils import Scheme

    from reprobuild.store.store import Store
    from reprobuild.store.transaction import Transaction

INSTALLER = b"reprobuild\n"
"""What ``INSTALLER`` in each ``.dist-info`` says: no version, so that a release of ours changes no bytes."""

LEFT_OUT = frozenset({"INSTALLER", "REQUESTED", "RECORD.jws", "RECORD.p7s", "direct_url.json"})
"""Files of a wheel's ``.dist-info`` that an installer writes, or that sign a RECORD that is written anew."""

LAUNCHER = """\
#!/{interpreter}
import sys
from {module} import {name}
if __name__ == "__main__":
    sys.exit({function}())
"""

_SCRIPT_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]+")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def facts(step: Wheels, tree: Tree, store: Store) -> dict[str, str]:
    """Give what placing depends on besides the pins: which Python the tree has, and its folders.

    Raises RecipeError where the tree has no Python, or not the one that the step names.
    """
    return find_python(tree, step.python, str(step.where)).facts


def place(
    step: Wheels, pins: Sequence[Pin], facts: Mapping[str, Any], store: Store, group: Transaction
) -> Placement:
    """Give the entries of all wheels of a step; bodies join the group.

    Raises MissingBlobError where a wheel is not in the store, CheckFailedError for a wheel that is broken or
    reaches outside its folders, RecipeError where two wheels have different files for one path.
    """
    python = Python(**facts)
    where = str(step.where)
    owners: dict[str, tuple[str, Entry]] = {}
    for pin in sorted(pins, key=lambda pin: pin.name):
        for entry in place_wheel(pin, python, store, group):
            name, before = owners.setdefault(entry.path, (pin.name, entry))
            if before != entry:
                raise _conflict(where, entry.path, name, pin.name)
    for path, (name, _) in owners.items():
        above = path
        while above := posixpath.dirname(above):
            if above in owners:
                raise _conflict(where, above, owners[above][0], name)
    return Placement(tuple(entry for _, (_, entry) in sorted(owners.items())))


def _conflict(where: str, path: str, first: str, second: str) -> RecipeError:
    return RecipeError(
        f"{where}: {first} and {second} both bring /{path}, and not the same file",
        "put the one whose file should stay into a wheels(…) step of its own, after this one",
    )


def place_wheel(pin: Pin, python: Python, store: Store, group: Transaction) -> list[Entry]:
    """Give the entries of one wheel. Raises as ``place`` does."""
    destination = _Entries(python, pin.name, group)
    with io.BufferedReader(store.blobs.open(pin.sha256)) as body:  # type: ignore[type-var]
        try:
            with zipfile.ZipFile(body) as archive:
                install(_Wheel(archive, pin.name, destination), destination, {"INSTALLER": INSTALLER})
        except (
            InstallerError,
            configparser.Error,
            zlib.error,
            zipfile.BadZipFile,
            zipfile.LargeZipFile,
            EOFError,
            NotImplementedError,  # a compression that zipfile does not know
            RuntimeError,  # an encrypted member
            ValueError,
            KeyError,
            AssertionError,  # installer's, for entry points that make no sense
        ) as error:
            raise _broken(pin.name, _words(error)) from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise _broken(pin.name, _words(error)) from error
    return destination.entries


def _words(error: Exception) -> str:
    issues = getattr(error, "issues", None)
    if issues:
        more = f" (and {len(issues) - 1} more)" if len(issues) > 1 else ""
        return str(issues[0]) + more
    return str(error).partition("\n")[0] or type(error).__name__


def _broken(name: str, why: str) -> CheckFailedError:
    return CheckFailedError(
        f"the wheel {name} cannot be placed: {why}",
        "take another version of the package; tell its authors, since pip may take what is wrong here",
    )


class _Wheel(WheelFile):
    """A wheel whose names are checked before anything is read, and whose bodies are as they are read."""

    def __init__(self, archive: zipfile.ZipFile, name: str, destination: _Entries) -> None:
        archive.filename = name
        super().__init__(archive)
        self._destination = destination
        seen: set[str] = set()
        for member in archive.namelist():
            _check_name(name, member)
            if member in seen:
                raise _broken(name, f"it holds {member!r} twice")
            seen.add(member)
        self.validate_record(validate_contents=False)

    def get_contents(self) -> Iterator[WheelContentElement]:
        for record, stream, is_executable in super().get_contents():
            path = record[0]
            if "__pycache__" in path.split("/"):
                continue
            if posixpath.dirname(path) == self.dist_info_dir and posixpath.basename(path) in LEFT_OUT:
                continue
            self._destination.expect(RecordEntry.from_elements(*record))
            yield record, stream, is_executable


def _check_name(wheel: str, member: str) -> None:
    """Refuse a name that could leave the folder that it is for."""
    parts = member.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in member or "\0" in member:
        raise _broken(wheel, f"it holds a file named {member!r}")


class _Entries(WheelDestination):
    """Makes entries of what ``installer`` writes."""

    def __init__(self, python: Python, wheel: str, group: Transaction) -> None:
        self.entries: list[Entry] = []
        self._python = python
        self._wheel = wheel
        self._group = group
        self._expected: RecordEntry | None = None
        package = wheel.partition("-")[0]
        self._folders: dict[str, str] = {
            "purelib": python.purelib,
            "platlib": python.platlib,
            "scripts": python.scripts,
            "headers": f"{python.headers}/{package}",
            "data": python.data,
        }

    def expect(self, record: RecordEntry) -> None:
        """Take what RECORD says of the file that is written next."""
        self._expected = record

    def write_script(self, name: str, module: str, attr: str, section: ScriptSection) -> RecordEntry:
        if not _SCRIPT_NAME.fullmatch(name) or name in (".", ".."):
            raise _broken(self._wheel, f"it has a command named {name!r}")
        if not _DOTTED.fullmatch(module) or not _DOTTED.fullmatch(attr):
            raise _broken(self._wheel, f"the command {name} is {module}:{attr}, which cannot be imported")
        text = LAUNCHER.format(
            interpreter=self._python.interpreter,
            module=module,
            name=attr.partition(".")[0],
            function=attr,
        )
        return self._add(f"{self._folders['scripts']}/{name}", io.BytesIO(text.encode()), 0o755)

    def write_file(
        self, scheme: Scheme, path: str | os.PathLike[str], stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        name = str(path)
        _check_name(self._wheel, name)
        expected, self._expected = self._expected, None
        if scheme == "scripts":
            body = stream.read()
            self._check(expected, body)
            return self._add(f"{self._folders[scheme]}/{name}", io.BytesIO(self._with_shebang(body)), 0o755)
        if expected is not None and expected.hash_ is not None and expected.hash_.name != "sha256":
            body = stream.read()
            self._check(expected, body)
            stream, expected = io.BytesIO(body), None
        mode = 0o755 if is_executable else 0o644
        return self._add(f"{self._folders[scheme]}/{name}", stream, mode, expected)

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        """Write RECORD: every file by its path relative to the folder that RECORD's own folder is in."""
        import csv

        folder = self._folders[scheme]
        rows = [
            (posixpath.relpath(entry.path, folder), _record_hash(entry), str(entry.size))
            for entry in self.entries
        ]
        rows.append((record_file_path, "", ""))
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(sorted(rows))
        self._add(f"{folder}/{record_file_path}", io.BytesIO(text.getvalue().encode()), 0o644)

    def _with_shebang(self, body: bytes) -> bytes:
        """Let a script that says ``#!python`` run the tree's Python (PEP 427)."""
        first, newline, rest = body.partition(b"\n")
        if not first.startswith(b"#!python"):
            return body
        return b"#!/" + self._python.interpreter.encode() + newline + rest

    def _check(self, expected: RecordEntry | None, body: bytes) -> None:
        if expected is not None and not expected.validate_stream(io.BytesIO(body)):
            raise self._differs(expected.path)

    def _differs(self, path: str) -> CheckFailedError:
        return _broken(self._wheel, f"the contents of {path} are not what its RECORD says")

    def _add(
        self, path: str, stream: BinaryIO, mode: int, expected: RecordEntry | None = None
    ) -> RecordEntry:
        digest, size = self._group.add_stream(stream)
        entry = file(path, digest, size, mode)
        said = _record_hash(entry)
        if expected is not None and (
            (expected.hash_ is not None and said != f"sha256={expected.hash_.value}")
            or expected.size not in (None, size)
        ):
            raise self._differs(expected.path)
        self.entries.append(entry)
        return RecordEntry(path, Hash("sha256", said.removeprefix("sha256=")), size)


def _record_hash(entry: Entry) -> str:
    """Give a digest as RECORD has it (PEP 376: URL-safe base64 without padding)."""
    import base64

    digest: Digest | None = entry.digest
    assert digest is not None
    return "sha256=" + base64.urlsafe_b64encode(bytes.fromhex(digest.hex)).rstrip(b"=").decode()
