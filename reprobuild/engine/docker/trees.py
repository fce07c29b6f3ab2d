"""Brings trees into a daemon as images, ``reprobuild/tree:<key>``, each once.

They go as one stream of ``load``; the layers that the daemon has already are left out of it where it
reads only those that it lacks, as Docker's own image store does. Knows nothing of commands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from reprobuild.digest import Digest
from reprobuild.engine.docker.daemon import Daemon
from reprobuild.engine.docker.ground import Ground
from reprobuild.engine.docker.profile import profile
from reprobuild.errors import EngineError
from reprobuild.images.tar import BLOCK, END, layer_chunks, member_header
from reprobuild.store.diff_ids import measured_diff_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.store.store import Store

REPOSITORY = "reprobuild/tree"
"""The name of all of them; the tag is the key of the ground."""

KIND = "org.reprobuild.kind"
"""The label that says what an image of ours is: ``tree``."""

_PODMANS_OWN = "localhost/"
"""What Podman puts before the name of an image that comes from nowhere else."""

_PROFILE = "io.containers.seccomp.profile"
"""The label from which Podman takes a system call filter, as JSON (containers.conf(5), seccomp policy)."""


def name_of(key: Digest, daemon: Daemon) -> str:
    """Give the name in a daemon of the image of the ground with this key."""
    prefix = _PODMANS_OWN if daemon.is_podman else ""
    return f"{prefix}{REPOSITORY}:{key.hex}"


class _Part(NamedTuple):
    """A layer of an image."""

    diff_id: Digest
    size: int
    chunks: Callable[[], Iterator[bytes]]


def ensure(ground: Ground, daemon: Daemon, store: Store) -> str:
    """Give the name of a ground's image, which the daemon has then, and the store knows that it has.

    Several processes that want the same wait for one that sends it. Raises MissingBlobError or
    CheckFailedError where bytes of the store are missing or damaged, EngineError where the daemon
    refuses it.
    """
    name = name_of(ground.key, daemon)
    store.daemons.use(daemon.host, ground.key, ground.listings)
    if has_image(daemon, name):
        return name
    with store.lock(f"docker-{ground.key.hex}"):
        if not has_image(daemon, name):
            parts = _parts(ground, store)
            known = _known(daemon, [part.diff_id for part in parts])
            try:
                _load(daemon, name, parts, known)
            except EngineError:
                if not known:
                    raise
                _load(daemon, name, parts, 0)  # what it had may be gone by now
    return name


def has_image(daemon: Daemon, name: str) -> bool:
    """Tell whether a daemon has an image."""
    from docker.errors import ImageNotFound

    try:
        daemon.client.inspect_image(name)
    except ImageNotFound:
        return False
    return True


def _parts(ground: Ground, store: Store) -> list[_Part]:
    def of(layer_index: int) -> Callable[[], Iterator[bytes]]:
        return lambda: layer_chunks(ground.layers[layer_index], store.blobs.open)

    with store.transaction() as group:
        measured = [measured_diff_id(store, group, layer) for layer in ground.layers]
    parts = [_Part(found, size, of(index)) for index, (found, size) in enumerate(measured)]
    top = ground.top
    return [*parts, _Part(*top.measured, top.chunks)] if top.is_needed else parts


def _known(daemon: Daemon, wanted: Sequence[Digest]) -> int:
    """Count the lowest layers that a daemon has and would not read: they need not be sent."""
    if daemon.is_podman or daemon.has_snapshotter:
        return 0
    from docker.errors import ImageNotFound

    most = 0
    for image in {found["Id"] for found in daemon.client.images()}:
        try:
            has = daemon.client.inspect_image(image).get("RootFS", {}).get("Layers") or []
        except ImageNotFound:
            continue
        count = 0
        for one, other in zip(has, wanted, strict=False):
            if one != str(other):
                break
            count += 1
        most = max(most, count)
    return most


def _load(daemon: Daemon, name: str, parts: Sequence[_Part], known: int) -> None:
    from docker.errors import APIError

    try:
        for told in daemon.client.load_image(_archive(daemon, name, parts, known)):
            if "error" in told:
                raise EngineError(f"{daemon.name} takes no tree: {told['error']}", "docker system df")
    except APIError as error:
        why = error.explanation or error
        raise EngineError(f"{daemon.name} takes no tree: {why}", "docker system df") from error
    if not has_image(daemon, name):
        raise EngineError(f"{daemon.name} took the tree {name} and has it not", "docker images")


def _archive(daemon: Daemon, name: str, parts: Sequence[_Part], known: int) -> Iterator[bytes]:
    """Give what ``docker load`` reads: config, layers, and last what belongs together."""
    config = _config(daemon, [part.diff_id for part in parts])
    yield from _member("config.json", config)
    names = [f"{index}-{part.diff_id.hex}.tar" for index, part in enumerate(parts)]
    for part, file in list(zip(parts, names, strict=True))[known:]:
        yield member_header(file, part.size)
        yield from part.chunks()
        yield bytes(-part.size % BLOCK)
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
    yield from _member("manifest.json", json.dumps(manifest).encode())
    yield END


def _config(daemon: Daemon, diff_ids: Sequence[Digest]) -> bytes:
    system, _, architecture = daemon.platform.partition("/")
    labels = {KIND: "tree"}
    if daemon.is_podman:
        labels[_PROFILE] = profile(architecture)
    return json.dumps(
        {
            "architecture": architecture,
            "os": system,
            "config": {"Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": [str(one) for one in diff_ids]},
            "history": [{"created_by": "reprobuild"} for _ in diff_ids],
        }
    ).encode()


def _member(name: str, content: bytes) -> Iterable[bytes]:
    return member_header(name, len(content)), content, bytes(-len(content) % BLOCK)
