"""What is remembered of pushes: uploads that were begun, and where a registry has a blob.

Small files beside downloads in the making (``Store.partial``), under names of digests; without a store
nothing is remembered. Losing one costs a blob sent again. Knows nothing of requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reprobuild.digest import Digest
from reprobuild.store.disk import fresh_name, trouble
from reprobuild.store.locks import try_acquire

if TYPE_CHECKING:
    from pathlib import Path

    from reprobuild.store.store import Store

MOST_PLACES = 8
"""Repositories that are remembered to have a blob."""


class Note:
    """What is remembered of one blob and one repository."""

    def __init__(self, path: Path | None = None, location: str = "", elsewhere: str = "") -> None:
        self._path = path
        self.location = location
        """Where an upload was begun and not finished, or empty."""
        self.elsewhere = elsewhere
        """Another repository of the registry that has the blob, or empty."""

    def keep(self, location: str) -> None:
        """Remember where the upload goes on."""
        self.location = location
        if self._path is not None:
            _write(self._path, {"location": location})

    def forget(self) -> None:
        """Forget the upload."""
        self.location = ""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class Journal:
    """Remembers pushes to one repository."""

    def __init__(self, store: Store | None, registry: str, repository: str) -> None:
        self._store = store
        self._registry = registry
        self._repository = repository

    @contextmanager
    def note(self, digest: Digest) -> Iterator[Note]:
        """Give what is remembered of a blob; only one process at a time goes on with an upload."""
        if self._store is None:
            yield Note()
            return
        elsewhere = next((name for name in self._places(digest) if name != self._repository), "")
        name = "push-" + Digest.of(f"{self._registry}/{self._repository}@{digest}".encode()).hex
        lock = try_acquire(self._store.lock_path(name))
        if lock is None:
            yield Note(elsewhere=elsewhere)
            return
        try:
            path = self._store.partial(name)
            location = _read(path).get("location")
            yield Note(path, location if isinstance(location, str) else "", elsewhere)
        finally:
            lock.close(remove=True)

    def has(self, digest: Digest) -> None:
        """Remember that the repository has a blob."""
        if self._store is None:
            return
        path = self._store.partial("pushed-" + digest.hex)
        places = self._places(digest)
        if self._repository not in places:
            _write(path, {**_read(path), self._registry: [self._repository, *places][:MOST_PLACES]})

    def _places(self, digest: Digest) -> list[str]:
        """Give the repositories of the registry that are known to have a blob, the latest first."""
        assert self._store is not None
        found = _read(self._store.partial("pushed-" + digest.hex)).get(self._registry)
        return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, value: dict[str, object]) -> None:
    """Write a file whole or not at all. Raises OutsideError."""
    draft = path.with_name(f"{path.name}-{fresh_name()}")
    try:
        draft.write_text(json.dumps(value))
        draft.replace(path)
    except OSError as error:
        raise trouble(error, f"writing {path}") from error
