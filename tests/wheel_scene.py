"""A tree with a Python, packages for it, and requirements that are resolved in this process.

Knows nothing of what goes wrong: that is what tests do with it.
"""

from __future__ import annotations

from reprobuild import settings
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Wheels
from reprobuild.digest import Digest
from reprobuild.events import Event, ignore
from reprobuild.lock import wheels as lock_wheels
from reprobuild.lock.resolver import Context
from reprobuild.store.store import Store
from reprobuild.tree import Tree, file, overlay
from tests.wheels import wheel

EMPTY = Digest.of(b"")


def image(store: Store, *paths: str, version: str = "3.11.2") -> Tree:
    """A tree with Debian's Python of a version, as far as anybody looks; ``paths``: more empty files."""
    minor = version.rpartition(".")[0]
    status = f"Package: python{minor}-minimal\nVersion: {version}-6+deb12u8\n".encode()
    with store.transaction() as group:
        digest = group.add_bytes(status)
        group.add_bytes(b"")
    entries = [
        file(f"usr/bin/python{minor}", EMPTY, 0, 0o755),
        file(f"var/lib/dpkg/status.d/python{minor}-minimal", digest, len(status)),
        *(file(path, EMPTY, 0) for path in paths),
    ]
    return overlay(Tree(), entries)


def context(
    store: Store,
    index: str,
    tree: Tree | None = None,
    *,
    offline: bool = False,
    told: list[Event] | None = None,
) -> Context:
    flags = {"store": str(store.root), "python_index": index, "offline": offline}
    return Context(
        store=store,
        settings=settings.load(flags, {"HOME": str(store.root)}, str(store.root)),
        tell=ignore if told is None else told.append,
        platform="linux/amd64",
        tree=tree or image(store),
        recipe_folder=store.root,
    )


def resolve(
    step: Wheels,
    store: Store,
    index: str,
    tree: Tree | None = None,
    *,
    offline: bool = False,
    told: list[Event] | None = None,
) -> tuple[Pin, ...]:
    return lock_wheels.resolve(step, context(store, index, tree, offline=offline, told=told))


def names(pins: tuple[Pin, ...]) -> list[str]:
    return [pin.name for pin in pins]


APP = {
    "app-1.0-py3-none-any.whl": wheel(
        "app",
        "1.0",
        {"app/__init__.py": b"import dep\n"},
        requires=[
            "dep>=1",
            "forwindows; sys_platform == 'win32'",
            "forarm; platform_machine == 'aarch64'",
            "fornew; python_version >= '3.12'",
            "forpatch; python_full_version < '3.11.3'",
        ],
        entry_points="[console_scripts]\napp = app:main\n",
    ),
    "dep-1.0-py3-none-any.whl": wheel("dep", "1.0", {"dep.py": b"OLD = 1\n"}),
    "dep-2.0-cp311-cp311-manylinux_2_17_x86_64.whl": wheel(
        "dep", "2.0", {"dep.py": b"X = 1\n"}, is_pure=False
    ),
    "dep-2.0-cp311-cp311-win_amd64.whl": wheel("dep", "2.0", {"dep.py": b"W = 1\n"}),
    "dep-2.0-py3-none-any.whl": wheel("dep", "2.0", {"dep.py": b"PURE = 1\n"}),
    "forpatch-1.0-py3-none-any.whl": wheel("forpatch", "1.0", {"forpatch.py": b"P = 1\n"}),
}
RESOLVED = [
    "app-1.0-py3-none-any.whl",
    "dep-2.0-cp311-cp311-manylinux_2_17_x86_64.whl",
    "forpatch-1.0-py3-none-any.whl",
]
