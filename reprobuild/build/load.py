"""Puts an image of the store into a container daemon, under its tag: only what the daemon lacks is sent.

Knows nothing of Docker's API, nor of what a person sees.
"""

from __future__ import annotations

import time

from reprobuild.build.export import layer_reader, oci_image
from reprobuild.build.image import Realised
from reprobuild.digest import Digest
from reprobuild.engine.docker import images
from reprobuild.engine.docker.daemon import Daemon
from reprobuild.errors import CheckFailedError
from reprobuild.events import Note, PushFinished, PushProgressed, PushStarted, Tell, Warned
from reprobuild.images.export import archive_of
from reprobuild.images.image import Config, Image
from reprobuild.store.store import Store
from reprobuild.value import Value


class Loaded(Value):
    """An image that a daemon has under our tag, and what it took."""

    tag: str
    image_id: Digest
    daemon: str
    """``Docker 20.10.24, unix:///run/docker.sock``."""
    layers: tuple[tuple[Digest, int, bool], ...]
    """``diff_id``, bytes of the tar stream, and whether it was sent; lowest first."""
    sent_bytes: int
    seconds: float

    @property
    def is_sent(self) -> bool:
        """Tell whether anything had to be sent."""
        return self.sent_bytes > 0


def load(store: Store, realised: Realised, daemon: Daemon, tell: Tell) -> Loaded:
    """Make sure that a daemon has an image under its tag, and that it is the same image.

    Raises EngineError for what the daemon says against it or a connection that ends, CheckFailedError
    where the store is damaged or the daemon ends up with another image.
    """
    started = time.monotonic()
    image, tag = oci_image(store, realised), realised.tag
    # Where containerd keeps its images, Docker goes by the digest of the manifest.
    ours = (image.image_id, image.manifest_digest)
    before = images.image_id(daemon, tag)
    sent, there = 0, frozenset(layer.diff_id for layer in image.layers)
    if before not in ours:
        if before is not None:
            tell(Warned(f"{tag} named another image there ({before.short}), which loses the name"))
        _compare_platforms(image, daemon, tell)
        if images.image_id(daemon, str(image.image_id)) == image.image_id:
            images.give_name(daemon, image.image_id, tag)
        else:
            sent, there = _send(store, image, tag, daemon, tell)
        after = images.image_id(daemon, tag)
        if after not in ours:
            raise CheckFailedError(
                f"{daemon.name} has {'no image' if after is None else f'the image {after}'} under {tag} now, "
                f"and not {image.image_id}",
                "somebody else may have used the tag just now: try again",
            )
    return Loaded(
        tag=tag,
        image_id=image.image_id,
        daemon=daemon.name,
        layers=tuple((layer.diff_id, layer.size, layer.diff_id not in there) for layer in image.layers),
        sent_bytes=sent,
        seconds=round(time.monotonic() - started, 3),
    )


def _compare_platforms(image: Image, daemon: Daemon, tell: Tell) -> None:
    platform = Config.parse(image.config).platform
    if not platform.startswith(daemon.platform):
        tell(
            Warned(
                f"the image is for {platform}, and {daemon.name} for {daemon.platform}: it may not run there"
            )
        )


def _send(store: Store, image: Image, tag: str, daemon: Daemon, tell: Tell) -> tuple[int, frozenset[Digest]]:
    """Send what a daemon lacks; give the bytes that went, and the layers that were there."""
    there = images.layers_there(daemon, [layer.diff_id for layer in image.layers])
    if there:
        try:
            return _send_without(there, store, image, tag, daemon, tell), there
        except images.RefusedByDaemonError:
            # As where somebody has just removed the image that they were of.
            tell(Note(f"{daemon.name} lacks a layer that it seemed to have: all are sent"))
    return _send_without(frozenset(), store, image, tag, daemon, tell), frozenset()


def _send_without(
    there: frozenset[Digest], store: Store, image: Image, tag: str, daemon: Daemon, tell: Tell
) -> int:
    """Send an image without some of its layers; give the bytes that went."""
    read_layer = layer_reader(store)
    size, chunks = archive_of(image, read_layer, store.blobs.open, tag=tag, docker=True, without=there)
    count = 0

    def progressed(more: int) -> None:
        nonlocal count
        count += more
        tell(PushProgressed(tag, count))

    tell(PushStarted(tag, size))
    images.send_archive(daemon, chunks, progressed)
    tell(PushFinished(tag, size, count))
    return count
