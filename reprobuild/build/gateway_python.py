"""The Python that gateways' containers run: Debian packages, pinned by ``gateway_python.lock`` beside it.

It is no part of any image, and no image's Python stands in for it: what runs there may shape a network,
which a stranger's program must not. Knows nothing of containers.
"""

from __future__ import annotations

from pathlib import Path

from reprobuild.build.project import Project
from reprobuild.build.realize import fetch
from reprobuild.build.remembered import recall_layer, remember_layer
from reprobuild.canonical import canonical_digest
from reprobuild.derivation.lockfile import read_lock
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import DEBIAN_ARCHITECTURES, Apt
from reprobuild.derivation.where import Where
from reprobuild.digest import Digest
from reprobuild.engine.docker.helper import Python
from reprobuild.errors import EngineError, OfflineError
from reprobuild.tree import Layer

LOCK = Path(__file__).with_suffix(".lock")
STEP = Apt(where=Where(LOCK.name), suite="bookworm", packages=("python3.11-minimal",))
PROGRAM = "usr/bin/python3.11"
ROOT = "gateway of containers"
"""The name under which ``gc`` keeps it: no recipe's, and no tag's."""

_UNUSED = ("usr/share/", "usr/lib/x86_64-linux-gnu/gconv/", "usr/lib/aarch64-linux-gnu/gconv/")
"""Half of what the packages hold."""


def gateway_python(project: Project, platform: str) -> Python:
    """Give the Python for a platform, as OCI writes it; it is fetched and unpacked the first time.

    Raises EngineError for a platform that it is not pinned for, OfflineError, UpstreamError and
    DigestMismatchError where its packages can't be had.
    """
    pins = _pins(platform)
    store = project.store
    key = canonical_digest({"gateway python": 1, "pins": [pin.content for pin in pins]})
    with store.lock(f"make-{key.hex}"):
        layer = recall_layer(store, key)
        if layer is None:
            layer = _make(project, key, pins)
    store.roots.set(ROOT, [key], "commands of --engine docker are answered by it")
    return Python([layer], f"/{PROGRAM}")


def _pins(platform: str) -> tuple[Pin, ...]:
    key = STEP.lock_key(platform)
    pins = read_lock(LOCK.read_text(), LOCK.name).sources.get(key, ())
    if not pins:
        known = ", ".join(sorted(DEBIAN_ARCHITECTURES))
        raise EngineError(f"there is no Python for gateways on {platform}", f"there is one for {known}")
    return pins


def _make(project: Project, key: Digest, pins: tuple[Pin, ...]) -> Layer:
    from reprobuild.build.place.apt import unpacked
    from reprobuild.fetch.apt import downloads

    store = project.store
    missing = [pin for pin in pins if not store.blobs.has(pin.sha256)]
    if missing and project.settings.offline:
        size = sum(pin.size for pin in missing) / 1000**2
        raise OfflineError(
            f"the Python of gateways' containers is not in the store ({len(missing)} packages, {size:.1f} "
            "MB), and this run may not use the network (--offline)",
            "leave out --offline once, or use --engine sandbox",
        )
    fetch(project, downloads(STEP, missing, project.settings))
    with store.transaction() as group:
        entries = unpacked(pins, {"links": {}}, store, group)
        layer = Layer([entry for entry in entries if not entry.path.startswith(_UNUSED)])
        remember_layer(group, key, "placement", layer)
    return layer
