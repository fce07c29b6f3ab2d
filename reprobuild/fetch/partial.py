"""Downloads in the making: files that outlive a crash, hashed as they grow, one process at each.

Knows nothing of HTTP beyond the two validators that it remembers, nor of what the bytes should be.

A partial lies where ``Store.partial`` says, named after its pin or its address. Whoever opens it holds
the lock of that name until the store has the bytes, and hashes what is there before anything is added.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

from reprobuild.digest import BUFFER_SIZE, Digest
from reprobuild.errors import OutsideError
from reprobuild.store.locks import Lock, try_acquire
from reprobuild.store.store import Store

LOCK_SECONDS = 0.1
"""Between two looks at a partial that another process holds."""


class Stopped(BaseException):
    """The work is to end at once; what has arrived is kept."""


class Partial:
    """One growing file with its digest so far. Not for two threads at once."""

    def __init__(self, path: Path, lock: Lock) -> None:
        """Take a file's place and the lock that goes with it; hashes what is there."""
        self.path = path
        self._lock = lock
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = open(os.open(path, flags, 0o600), "r+b", buffering=0)  # noqa: SIM115 - close() does it
        self._hasher = hashlib.sha256()
        self.size = 0
        """Bytes so far."""
        self.restarts = 0
        """How often all bytes were forgotten."""
        buffer = memoryview(bytearray(BUFFER_SIZE))
        while count := self._file.readinto(buffer):
            self._hasher.update(buffer[:count])
            self.size += count

    @classmethod
    def open(cls, store: Store, name: str, is_needed: Callable[[], bool]) -> Partial | None:
        """Open and lock a partial, waiting while another process or thread has it.

        ``is_needed`` is asked when the lock is held, and after each wait; None where it says no.
        """
        path = store.lock_path("fetch-" + name)
        waiting = threading.Event()
        while (lock := try_acquire(path)) is None:
            waiting.wait(LOCK_SECONDS)
            if not is_needed():
                return None
        try:
            if is_needed():
                return cls(store.partial(name), lock)
        except BaseException:
            lock.close(remove=True)
            raise
        lock.close(remove=True)
        return None

    @property
    def digest(self) -> Digest:
        """The digest of all bytes so far."""
        return Digest(self._hasher.hexdigest())

    def write(self, chunk: bytes) -> None:
        """Add bytes. Raises OutsideError where the disk takes no more."""
        view = memoryview(chunk)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise OutsideError(
                f"{self.path.parent}: cannot write: {error.strerror}", "reprobuild gc gives space back"
            ) from None
        self._hasher.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Forget all bytes."""
        self._file.seek(0)
        self._file.truncate()
        self._hasher = hashlib.sha256()
        self.size = 0
        self.restarts += 1
        self._notes.unlink(missing_ok=True)

    @property
    def _notes(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def note(self, url: str, validator: str) -> None:
        """Remember where the bytes come from and what tells whether they are still the same there."""
        temporary = self.path.with_name(self.path.name + ".new")
        temporary.write_text(json.dumps({"url": url, "validator": validator}))
        temporary.replace(self._notes)

    def validator(self, url: str) -> str:
        """Give what was noted for an address, or ``""``."""
        try:
            noted = json.loads(self._notes.read_bytes())
        except (OSError, ValueError):
            return ""
        same = isinstance(noted, dict) and noted.get("url") == url
        return str(noted.get("validator", "")) if same else ""

    def set_aside(self) -> None:
        """Free the name for another try; the bytes stay, under a name of their digest."""
        aside = self.path.with_name(f"{self.path.name}.{self.digest.hex}")
        self.path.replace(aside)
        self._notes.unlink(missing_ok=True)
        self.path = aside

    def discard(self) -> None:
        """Remove what is left after the store took the file, and let it go."""
        self._notes.unlink(missing_ok=True)
        self.close()

    def forget(self) -> None:
        """Remove the bytes, which nobody needs any more, and let the file go."""
        self.restart()
        self.close()

    def close(self) -> None:
        """Let the file go; its bytes stay for the next time, if there are any."""
        if self._file.closed:
            return
        if not self.size:
            self.path.unlink(missing_ok=True)
        self._file.close()
        self._lock.close(remove=True)
