"""Which container daemons keep trees of this store, and since when each was of no use: ``daemons/``.

One small file for each tree in each daemon, whose change time says when it was last used. Knows nothing of
any daemon's API: what is written down is how a daemon was called, and what it keeps.
"""

from __future__ import annotations

import hashlib
import json
import os

from reprobuild.digest import Digest
from reprobuild.store.disk import trouble
from reprobuild.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reprobuild.store.store import Store

SUFFIX = ".json"


class KeptTree(Value):
    """A tree in a daemon."""

    host: str
    """``unix:///run/docker.sock``."""
    tree: Digest
    layers: tuple[Digest, ...]
    """The listings of the layers that it was made of, lowest first."""


class Daemons:
    """The trees of a store that daemons keep."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.folder = os.path.join(store.path, "daemons")

    def locate(self, host: str, tree: Digest) -> str:
        """Give where a daemon's keeping of a tree is written down, or would be."""
        return f"{self.folder}/{hashlib.sha256(host.encode()).hexdigest()[:16]}-{tree.hex}{SUFFIX}"

    def use(self, host: str, tree: Digest, layers: Sequence[Digest]) -> None:
        """Write down that a daemon keeps a tree, or will, and that it is used now.

        Say it before the tree is looked for there: from then on ``gc`` leaves it alone. Raises
        OutsideError where the disk refuses.
        """
        place = self.locate(host, tree)
        try:
            os.utime(place)
            return
        except FileNotFoundError:
            pass
        except OSError as error:
            raise trouble(error, f"writing to {self.folder}") from error
        from reprobuild.canonical import canonical
        from reprobuild.store.store import make_folder
        from reprobuild.store.transaction import write_synced

        try:
            make_folder(self.folder, self._store.owner)
        except OSError as error:
            raise trouble(error, f"making {self.folder}") from error
        record = {"schema": 1, "host": host, "tree": str(tree), "layers": [str(layer) for layer in layers]}
        write_synced(self._store, {place: canonical(record) + b"\n"})

    def forget(self, host: str, tree: Digest) -> None:
        """Write down that a daemon keeps a tree no more. Raises OutsideError where the disk refuses."""
        try:
            os.unlink(self.locate(host, tree))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise trouble(error, f"writing to {self.folder}") from error

    def __iter__(self) -> Iterator[KeptTree]:
        """Give what daemons keep, in no order; a file that makes no sense keeps nothing."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise trouble(error, f"reading {self.folder}") from error
        for name in names:
            found = _read(f"{self.folder}/{name}")
            if found is not None:
                yield found


def _read(path: str) -> KeptTree | None:
    try:
        with open(path, "rb", buffering=0) as file:
            record = json.loads(file.read())
        return KeptTree(
            host=str(record["host"]),
            tree=Digest.parse(record["tree"]),
            layers=tuple(Digest.parse(layer) for layer in record["layers"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    except OSError as error:
        raise trouble(error, f"reading {path}") from error
