"""Build wheels from source archives: in the sandbox, without network, with the image's own Python.

A build sees the tree below its step and, on top, the wheels that the archive says it needs, in a folder of
their own (PEP 517, PEP 518). What comes out is remembered by everything that decides it: the whole tree, the
archive, those wheels. Knows nothing of how any of them was chosen.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from reprobuild.build.place.python import Python
from reprobuild.build.place.wheels import place_wheel
from reprobuild.build.remembered import recall_layer, remember_layer
from reprobuild.build.unpack import unpack
from reprobuild.canonical import canonical_digest
from reprobuild.derivation.derive import ASSEMBLER
from reprobuild.derivation.pins import Pin
from reprobuild.digest import Digest
from reprobuild.engine.protocol import ENVIRONMENT, Command, Result, thread_environment
from reprobuild.errors import BuildFailedError, CheckFailedError
from reprobuild.events import OutputLine
from reprobuild.fetch.stranger_json import read_json
from reprobuild.images.archive import ArchiveError
from reprobuild.tree import Entry, Layer, Tree, difference, file, overlay

if TYPE_CHECKING:
    from reprobuild.build.project import Project

PLACE = "usr/src/reprobuild"
"""The folder that a build sees and no image has: always the same, since compilers write it down."""
SOURCE = f"{PLACE}/source"
REQUIRES = f"{PLACE}/requires"
OUT = "/out"
TIME_LIMIT = 3 * 3600.0
"""Seconds for one archive."""
SHOWN_LINES = 30
LARGEST_ANSWER = 1024 * 1024
LEGACY = "setuptools.build_meta:__legacy__"
DEFAULT_REQUIRES = ("setuptools", "wheel")
"""What an archive without ``[build-system]`` needs (PEP 518)."""

SCRIPT = r"""
import importlib, json, os, sys
task, out, backend = sys.argv[1:4]
for folder in reversed(sys.argv[4:]):
    sys.path.insert(0, os.path.join(os.getcwd(), folder))
name, _, inner = backend.partition(":")
hooks = importlib.import_module(name)
found = hooks
for part in filter(None, inner.split(".")):
    found = getattr(found, part, None)
if found is None:
    # A setuptools from before 2019 knows setup.py alone.
    found = hooks if hasattr(hooks, "build_wheel") else None
if task == "requires":
    ask = getattr(found, "get_requires_for_build_wheel", None)
    with open(os.path.join(out, "answer"), "w") as answer:
        json.dump(list(ask({})) if ask else [], answer)
else:
    found.build_wheel(out, {})
"""
"""What the image's Python runs, in the folder of the source."""

SETUP = r"""
import sys, setuptools
sys.argv[0] = __file__ = "setup.py"
sys.path.insert(0, "")
with open("setup.py", "rb") as setup:
    code = compile(setup.read(), "setup.py", "exec")
exec(code)
"""
"""For a setuptools that has no ``build_meta``, or an archive without one: what pip did then."""

HINTS = (
    (r"would build wheel with unsupported tag",
     "its build tools are of a day when there was no such Python yet: leave out as_of=, "
     "or begin with a base image that has an older one"),
    (r"Python\.h: No such file|cannot execute '?cc1plus|[Uu]nable to find a compiler"
     r"|(?:No such file or directory: |unable to execute )'?(?:[\w/.-]*-)?(?:gcc|cc|g\+\+|c\+\+)\b"
     r"|command '[^']*(?:gcc|cc|\+\+)' failed: No such file",
     'it has compiled parts: put apt("bookworm", "gcc", "python3-dev") before this step, "g++" for C++'),
    (r"\b(?:cargo|rustc)\b.*(?:not found|No such file|not installed|PATH)",
     'it has parts in Rust: put apt("bookworm", "cargo") before this step'),
    (r"urlopen error|Could not resolve host|Temporary failure in name resolution|Connection refused",
     "builds have no network: put what it fetches into a step before this one"),
    (r"No module named|ModuleNotFoundError|ImportError",
     "it imports what it does not say that its build needs: put that into a wheels(…) step before this one"),
)  # fmt: skip
"""What a failed build printed → what helps."""


@dataclass(frozen=True)
class SourceBuild:
    """An archive that is to become a wheel, with the wheels that its build needs."""

    archive: Pin
    requires: tuple[Pin, ...]
    python: Python
    where: str
    """The step in the recipe, for errors."""

    @property
    def package(self) -> str:
        """The package's normal name."""
        return str(self.archive.hashed["package"])

    def key(self, tree: Tree) -> Digest:
        """Give the key under which its wheel is remembered."""
        return canonical_digest(
            {
                "wheel": ASSEMBLER,
                "tree": str(tree.digest),
                "archive": self.archive.content,
                "requires": sorted([pin.name, pin.sha256.hex] for pin in self.requires),
                "python": self.python.facts,
                "script": Digest.of((SCRIPT + SETUP).encode()).hex,
            }
        )


@dataclass(frozen=True, slots=True)
class BuildSystem:
    """How an archive says that it is built (``[build-system]`` of pyproject.toml)."""

    requires: tuple[str, ...] = DEFAULT_REQUIRES
    backend: str = LEGACY
    path: tuple[str, ...] = ()


def is_archive(pin: Pin) -> bool:
    """Tell whether a pin of a ``wheels`` step is a source archive."""
    return not pin.name.endswith(".whl")


def is_placed(pin: Pin) -> bool:
    """Tell whether a pinned wheel is part of the image, and not only of a build."""
    return not is_archive(pin) and ("builds" not in pin.hashed or bool(pin.hashed.get("placed")))


def source_builds(pins: Iterable[Pin], python: Python, where: str) -> tuple[SourceBuild, ...]:
    """Give what is to be built of a step's pins."""
    every = list(pins)
    return tuple(
        SourceBuild(
            pin,
            tuple(one for one in every if pin.hashed["package"] in one.hashed.get("builds", ())),
            python,
            where,
        )
        for pin in every
        if is_archive(pin)
    )


def recall_wheel(build: SourceBuild, project: Project, tree: Tree) -> Pin | None:
    """Give the wheel that an archive came to before, if it is still in the store."""
    layer = recall_layer(project.store, build.key(tree))
    return None if layer is None else _pin(build, *layer.entries)


def make_wheel(build: SourceBuild, project: Project, tree: Tree, below: Sequence[Layer]) -> Pin:
    """Build an archive's wheel, or recall it; ``below``: layers that make the tree.

    Raises BuildFailedError, with what the build said; CheckFailedError for an archive that is broken and
    for a wheel of something else.
    """
    key = build.key(tree)
    with project.store.lock(f"make-{key.hex}"):
        if (recalled := recall_wheel(build, project, tree)) is not None:
            return recalled
        made = _Workshop(build, project, tree, below)
        with project.store.scratch("wheel") as scratch:
            return made.wheel(scratch, key)


def build_system(build: SourceBuild, project: Project) -> BuildSystem:
    """Read how an archive is built. Raises CheckFailedError for one that cannot be read."""
    with project.store.transaction() as group:
        entries = _unpacked(build, project, group)
        for entry in entries:
            if entry.path == f"{SOURCE}/pyproject.toml" and entry.digest is not None:
                return _parsed(group.read(entry.digest), build)
    return BuildSystem()


def further_requires(build: SourceBuild, project: Project, tree: Tree, below: Sequence[Layer]) -> list[str]:
    """Ask an archive's own build system what else it needs (``get_requires_for_build_wheel``)."""
    with project.store.scratch("wheel") as scratch:
        return _Workshop(build, project, tree, below).requires(scratch)


class _Workshop:
    """The tree in which an archive is built."""

    def __init__(self, build: SourceBuild, project: Project, tree: Tree, below: Sequence[Layer]) -> None:
        self._build = build
        self._project = project
        self._system = build_system(build, project)
        with project.store.transaction() as group:
            entries = [*_unpacked(build, project, group), *self._wheels(group)]
        self._layers = [*below, difference(tree, overlay(tree, sorted(entries)))]

    def _wheels(self, group: Any) -> list[Entry]:
        """Give the entries of the wheels that the build needs, in folders of their own."""
        python = Python(
            version=self._build.python.version,
            interpreter=self._build.python.interpreter,
            purelib=REQUIRES,
            platlib=REQUIRES,
            scripts=f"{PLACE}/bin",
            headers=f"{PLACE}/include",
            data=PLACE,
        )
        found: dict[str, Entry] = {}
        for pin in sorted(self._build.requires, key=lambda pin: pin.name):
            for entry in place_wheel(pin, python, self._project.store, group):
                found.setdefault(entry.path, entry)
        return list(found.values())

    def requires(self, scratch: Path) -> list[str]:
        if self._is_setup():
            return []
        self._run(scratch, self._hook("requires"))
        answer = scratch / "out/answer"
        try:
            with answer.open("rb") as body:
                found = read_json(body.read(LARGEST_ANSWER))
        except (OSError, ValueError) as error:
            raise self._failed(f"did not say what its build needs: {error}", ()) from None
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise self._failed("did not say what its build needs", ())
        return found

    def wheel(self, scratch: Path, key: Digest) -> Pin:
        setup = ("-c", SETUP, "bdist_wheel", "--dist-dir", OUT)
        self._run(scratch, setup if self._is_setup() else self._hook("wheel"))
        made = sorted(path for path in (scratch / "out").iterdir() if path.name.endswith(".whl"))
        if len(made) != 1:
            raise self._failed(f"left {len(made)} wheels, and one is needed", ())
        (path,) = made
        self._check_name(path.name)
        with self._project.store.transaction() as group, path.open("rb") as body:
            digest, size = group.add_stream(body)
            entry = file(path.name, digest, size)
            remember_layer(group, key, "placement", Layer((entry,)))
        return _pin(self._build, entry)

    def _check_name(self, name: str) -> None:
        try:
            package, version, _, _ = parse_wheel_filename(name)
            wanted = parse_sdist_filename(self._build.archive.name)
        except (InvalidWheelFilename, InvalidSdistFilename) as error:
            raise self._failed(f"left a wheel with a name that makes no sense: {error}", ()) from None
        if (package, version) != wanted:
            raise self._failed(f"came to {name}, a wheel of something else", ())

    def _is_setup(self) -> bool:
        """Tell whether setup.py is run as it was before there were build systems."""
        known = next((pin for pin in self._build.requires if pin.hashed["package"] == "setuptools"), None)
        if self._system.backend != LEGACY or known is None:
            return False
        first, _, rest = str(known.hashed["version"]).partition(".")
        return (int(first), int(rest.partition(".")[0] or 0)) < (40, 8)

    def _hook(self, task: str) -> tuple[str, ...]:
        return ("-c", SCRIPT, task, OUT, self._system.backend, *self._system.path)

    def _run(self, scratch: Path, arguments: tuple[str, ...]) -> None:
        out = scratch / "out"
        out.mkdir()
        command = Command(
            (f"/{self._build.python.interpreter}", *arguments),
            env={
                **thread_environment(1),
                "PATH": f"/{PLACE}/bin:{ENVIRONMENT['PATH']}",
                "PYTHONPATH": f"/{REQUIRES}",
                "MAKEFLAGS": "-j1",
                "CARGO_NET_OFFLINE": "true",
            },
            workdir=f"/{SOURCE}",
            outputs={OUT: out},
            timeout=TIME_LIMIT,
        )
        engine = self._project.engine
        with engine.ground(self._layers) as ground:
            result = engine.run(
                ground,
                command,
                output=lambda line: self._project.tell(OutputLine(line.decode(errors="replace"))),
            )
        if result.exit_code or result.timed_out:
            raise self._failed(_how(result), result.tail)

    def _failed(self, how: str, tail: Sequence[str]) -> BuildFailedError:
        shown = "".join(f"\n  {line}" for line in tail[-SHOWN_LINES:])
        text = "\n".join(tail)
        hint = next((hint for sign, hint in HINTS if re.search(sign, text)), "")
        return BuildFailedError(
            f"{self._build.where}: building a wheel of {self._build.archive.name} {how}{shown}",
            hint or "name a version that has a wheel, or put what its build lacks before this step",
        )


def _how(result: Result) -> str:
    if result.timed_out:
        return f"did not end within {TIME_LIMIT / 3600:.0f} hours"
    if result.out_of_memory:
        return "was stopped for its memory"
    return f"ended with exit code {result.exit_code}"


def _unpacked(build: SourceBuild, project: Project, group: Any) -> tuple[Entry, ...]:
    try:
        with project.store.blobs.open(build.archive.sha256) as body:
            return unpack(body, group, to=SOURCE, strip=1)
    except ArchiveError as error:
        raise CheckFailedError(
            f"{build.where}: {build.archive.name}: {error.message}", "name another version of the package"
        ) from None


def _parsed(text: bytes, build: SourceBuild) -> BuildSystem:
    try:
        found = tomllib.loads(text.decode()).get("build-system")
        if found is None:
            return BuildSystem()
        requires, path = found["requires"], found.get("backend-path", [])
        if not all(isinstance(one, str) for one in (*requires, *path, found.get("build-backend", ""))):
            raise TypeError("texts are needed")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckFailedError(
            f"{build.where}: {build.archive.name}: its pyproject.toml makes no sense: {error}",
            "name another version of the package",
        ) from None
    if any(os.path.isabs(one) or ".." in one.split("/") for one in path):
        raise CheckFailedError(f"{build.where}: {build.archive.name}: its backend-path leads outside")
    return BuildSystem(tuple(requires), found.get("build-backend", LEGACY), tuple(path))


def _pin(build: SourceBuild, entry: Entry) -> Pin:
    assert entry.digest is not None
    package, version, _, _ = parse_wheel_filename(entry.path)
    return Pin(
        entry.path,
        entry.size,
        entry.digest,
        {"package": canonicalize_name(package), "version": str(version)},
    )
