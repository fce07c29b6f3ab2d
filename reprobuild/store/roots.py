"""Roots: what ``gc`` keeps, and why: ``roots/<name>.json``, one file a name.

A name is a recipe's or a tag's. Knows nothing of what the records say that a root points to.
"""

from __future__ import annotations

import json
import os

from reprobuild.digest import Digest
from reprobuild.store.disk import file_name_of, trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from reprobuild.store.store import Store

SUFFIX = ".json"


class Root:
    """A name, the keys of the realisations that it keeps, and why."""

    __slots__ = ("keys", "name", "why")

    def __init__(self, name: str, keys: tuple[Digest, ...], why: str) -> None:
        self.name = name
        self.keys = keys
        self.why = why

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Root) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def _fields(self) -> tuple[object, ...]:
        return (self.name, self.keys, self.why)

    def __repr__(self) -> str:
        return f"Root({self.name!r}, {self.keys!r}, {self.why!r})"


class Roots:
    """The roots of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.folder = os.path.join(store.path, "roots")

    def locate(self, name: str) -> str:
        """Give where the root of a name is, or would be."""
        return f"{self.folder}/{file_name_of(name)}{SUFFIX}"

    def set(self, name: str, keys: Iterable[Digest], why: str) -> None:
        """Keep these realisations, and nothing else, under a name; writes only if that is new.

        ``why``: ``realized``, say. Raises OutsideError where the disk refuses.
        """
        root = Root(name, tuple(keys), why)
        if self.get(name) == root:
            return
        from reprobuild.canonical import canonical
        from reprobuild.store.transaction import write_synced

        record = {"schema": 1, "name": name, "keys": [str(key) for key in root.keys], "why": why}
        write_synced(self._store, {self.locate(name): canonical(record) + b"\n"})

    def get(self, name: str) -> Root | None:
        """Give the root of a name; None where there is none, or none that can be read."""
        try:
            return _read(self.locate(name))
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> bool:
        """Keep nothing under a name any more; tell whether there was something."""
        try:
            os.unlink(self.locate(name))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise trouble(error, f"removing {self.locate(name)}") from error
        return True

    def __iter__(self) -> Iterator[Root]:
        """Give all roots, by name."""
        for _, root in self._all():
            if root is not None:
                yield root

    def unreadable(self) -> list[str]:
        """Give the paths of root files that make no sense: ``gc`` must not run while there are any."""
        return [path for path, root in self._all() if root is None]

    def _all(self) -> Iterator[tuple[str, Root | None]]:
        """Give the path of each root, and the root where it makes sense."""
        for name in sorted(name for name in os.listdir(self.folder) if name.endswith(SUFFIX)):
            path = f"{self.folder}/{name}"
            try:
                root = _read(path)
            except FileNotFoundError:
                continue  # removed since
            yield path, root


def _read(path: str) -> Root | None:
    """Read a root; None if it makes no sense. Raises FileNotFoundError."""
    try:
        with open(path, "rb", buffering=0) as file:
            record = json.loads(file.read())
        return Root(record["name"], tuple(Digest.parse(key) for key in record["keys"]), record["why"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise trouble(error, f"reading {path}") from error
