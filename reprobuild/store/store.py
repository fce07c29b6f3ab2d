"""The store: the only folder where bytes live (DESIGN section 7; on disk: ``docs/store.md``).

Opens or makes the folder and hands out its parts. Knows nothing of recipes, layers or the network.
Light on purpose: a ``realize`` that has nothing to do opens a store too, so parts load when asked for.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cached_property

from reprobuild.errors import OutsideError
from reprobuild.store.disk import file_name_of, fresh_name, trouble
from reprobuild.store.owner import choose_owner, is_mapped, is_nobodys, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from reprobuild.store.blobs import Blobs
    from reprobuild.store.checkouts import Checkouts
    from reprobuild.store.daemons import Daemons
    from reprobuild.store.locks import Lock
    from reprobuild.store.realisations import Realisations
    from reprobuild.store.roots import Roots
    from reprobuild.store.transaction import Transaction

FORMAT_FILE = "format"
FORMAT = b"reprobuild store 1\n"
FOLDERS = (
    "blobs",
    "blobs/sha256",
    "checkouts",
    "locks",
    "logs",
    "predictions",
    "realisations",
    "roots",
    "tmp",
)


class Store:
    """An open store. Any number of threads and processes may use one folder at once."""

    def __init__(self, root: str, owner: int | None) -> None:
        """Take a folder that is known to be a store: use ``open``."""
        self.path = root
        self.owner = owner
        """The uid (and gid) that every file is given to when root runs us; else None."""
        self._reaped = False

    @classmethod
    def open(cls, root: Path | str) -> Store:
        """Open the store in a folder, making it (mode 0700) where there is none.

        Raises OutsideError, with a hint, for a folder that is no store, is another user's, cannot be
        written to, or was made by a release with another format.
        """
        path = os.path.abspath(root)
        try:
            return cls._open(path)
        except OSError as error:
            raise trouble(error, f"opening the store {path}") from error

    @classmethod
    def _open(cls, path: str) -> Store:
        made = False
        try:
            found = os.stat(path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            try:
                os.mkdir(path, 0o700)
                made = True
                # A set-group-ID folder above gives its group, which no sandbox of ours can have files of.
                os.chown(path, -1, os.getegid())
                os.chmod(path, 0o700)
            except FileExistsError:
                pass
            found = os.stat(path)
        if not os.path.isdir(path):
            raise OutsideError(f"the store {path} is no folder", "choose another with --store DIR")
        owner = _owner_of(path, found.st_uid)
        if not os.access(path, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise OutsideError(
                f"the store {path} may not be written to", "choose a folder of your own with --store DIR"
            )
        written = _read_format(path)
        if written is None:
            _lay_foundation(path, owner, made=made)
        elif written != FORMAT:
            raise OutsideError(
                f"the store {path} has a format that this release does not know: {written[:40]!r}",
                "use the release that made it, or choose another folder with --store DIR",
            )
        else:
            _make_folders(path, owner)
        return cls(path, owner)

    @cached_property
    def root(self) -> Path:
        """The folder, absolute."""
        from pathlib import Path

        return Path(self.path)

    def _below(self, *parts: str) -> str:
        return os.path.join(self.path, *parts)

    @cached_property
    def tmp(self) -> str:
        """The folder below which everything is made before it gets its name."""
        return self._below("tmp")

    @cached_property
    def blobs(self) -> Blobs:
        """File contents, listings, configs, downloads: bytes by digest."""
        from reprobuild.store.blobs import Blobs

        return Blobs(self._below("blobs", "sha256"))

    @cached_property
    def realisations(self) -> Realisations:
        """Records of what came of what."""
        from reprobuild.store.realisations import Realisations

        return Realisations(self)

    @cached_property
    def roots(self) -> Roots:
        """What ``gc`` keeps, and why."""
        from reprobuild.store.roots import Roots

        return Roots(self)

    @cached_property
    def checkouts(self) -> Checkouts:
        """Trees laid out as folders."""
        from reprobuild.store.checkouts import Checkouts

        return Checkouts(self)

    @cached_property
    def daemons(self) -> Daemons:
        """What container daemons keep of it."""
        from reprobuild.store.daemons import Daemons

        return Daemons(self)

    def transaction(self) -> Transaction:
        """Begin a group of writes: ``with store.transaction() as group:``."""
        from reprobuild.store.transaction import Transaction

        self.reap()
        return Transaction(self)

    def lock(self, name: str) -> AbstractContextManager[Lock]:
        """Wait until nobody else makes the thing of that name, and be its maker for a ``with`` block."""
        from reprobuild.store.locks import acquire

        return acquire(self.lock_path(name))

    def lock_path(self, name: str) -> str:
        """Give where the lock of a name is."""
        return self._below("locks", file_name_of(name))

    @contextmanager
    def scratch(self, prefix: str) -> Iterator[Path]:
        """Make a private folder for a ``with`` block, removed at its end, or later if we are killed."""
        from pathlib import Path

        from reprobuild.store.scratch import Scratch

        self.reap()
        with Scratch(self.tmp, prefix, self.owner) as held:
            yield Path(held.make())

    def partial(self, name: str) -> Path:
        """Give where the first bytes of an interrupted download are kept, to go on from.

        Hold ``lock`` of the same name meanwhile. The file need not exist; ``gc`` removes it when old.
        """
        from pathlib import Path

        folder = os.path.join(self.tmp, "partial")
        try:
            make_folder(folder, self.owner)
        except OSError as error:
            raise trouble(error, f"making {folder}") from error
        return Path(folder, file_name_of(name))

    def reap(self) -> None:
        """Remove what dead processes left below ``tmp/``, once for each opened store."""
        if not self._reaped:
            from reprobuild.store.scratch import reap

            self._reaped = True
            reap(self.tmp)


def make_folder(path: str, owner: int | None, *, own: bool = False) -> None:
    """Make a folder of the store unless it is there; ``own``: give it to its owner in any case."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not own:
            return
    if owner is not None:
        os.chown(path, owner, owner)


def _owner_of(path: str, uid: int) -> int | None:
    """Give the owner of a store whose folder belongs to ``uid``; raises OutsideError if it is not ours."""
    me = os.geteuid()
    if me == 0:
        chosen = choose_owner()
        if uid in (0, chosen):
            return chosen
        if is_mapped(uid) and is_nobodys(uid):
            return uid
        raise OutsideError(
            f"the store {path} belongs to {name_of(uid)}, and root runs this",
            f"run it as {name_of(uid)}, or choose another folder with --store DIR",
        )
    if uid == me:
        return None
    whose = "was made by root" if uid == 0 or is_nobodys(uid) else f"belongs to {name_of(uid)}"
    raise OutsideError(
        f"the store {path} {whose}, and {name_of(me)} runs this",
        "choose a folder of your own with --store DIR",
    )


def _read_format(path: str) -> bytes | None:
    try:
        with open(os.path.join(path, FORMAT_FILE), "rb") as file:
            return file.read(200)
    except FileNotFoundError:
        return None


def _lay_foundation(path: str, owner: int | None, *, made: bool) -> None:
    """Make a store of an empty folder, or finish one that somebody began."""
    known = {name.partition("/")[0] for name in FOLDERS}
    strange = [name for name in os.listdir(path) if name not in known and not name.startswith(FORMAT_FILE)]
    if strange and not made:
        raise OutsideError(
            f"{path} is no store: it holds {min(strange)!r} and no file {FORMAT_FILE!r}",
            "choose an empty or a new folder with --store DIR",
        )
    # Files get the gid of the process, not one that a set-gid parent folder would hand down.
    group = os.getegid() if owner is None else owner
    os.chown(path, -1 if owner is None else owner, group)
    os.chmod(path, 0o700)
    _make_folders(path, owner, own=True)
    name = os.path.join(path, FORMAT_FILE)
    draft = f"{name}-{fresh_name()}"
    with open(draft, "xb") as file:
        file.write(FORMAT)
        if owner is not None:
            os.fchown(file.fileno(), owner, owner)
    os.replace(draft, name)


def _make_folders(path: str, owner: int | None, *, own: bool = False) -> None:
    for folder in FOLDERS:
        make_folder(os.path.join(path, folder), owner, own=own)
