"""Several blobs pushed at a time: threads send them, the calling thread tells what happens.

A failure or an interrupt stops all threads; what registries have of each blob is remembered by whoever
sends it. Knows nothing of requests.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence

from reprobuild.events import Event, Tell
from reprobuild.fetch.partial import Stopped
from reprobuild.registry.blob import BlobSource

JOIN_SECONDS = 2.0
"""How long threads may take to notice that the work is to end."""

Push = Callable[[BlobSource, Tell, threading.Event], int]
"""Pushes one blob, telling of it; gives the bytes that travelled, raises Stopped once the event is set."""


def push_all(push: Push, blobs: Sequence[BlobSource], *, jobs: int, tell: Tell) -> int:
    """Push blobs, ``jobs`` at a time, each once; give the bytes that travelled. Raises the first failure."""
    stopping = threading.Event()
    todo = list({blob.digest: blob for blob in blobs}.values())
    messages: queue.SimpleQueue[Event | int | BaseException] = queue.SimpleQueue()
    turns = iter(todo)
    lock = threading.Lock()

    def take_turns() -> None:
        while not stopping.is_set():
            with lock:
                blob = next(turns, None)
            if blob is None:
                return
            try:
                messages.put(push(blob, messages.put, stopping))
            except Stopped:
                return
            except BaseException as error:  # noqa: BLE001 - handed to the calling thread, which raises it
                messages.put(error)

    threads = [
        threading.Thread(target=take_turns, name=f"push-{number}", daemon=True)
        for number in range(min(jobs, len(todo)))
    ]
    for thread in threads:
        thread.start()
    sent = done = 0
    try:
        while done < len(todo):
            message = messages.get()
            if isinstance(message, BaseException):
                raise message
            if isinstance(message, int):
                sent, done = sent + message, done + 1
            else:
                tell(message)
    finally:
        stopping.set()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
    return sent
