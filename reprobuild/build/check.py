"""``realize --check``: build again from nothing while everything outside varies, and compare.

Knows nothing of what a person sees. The second build runs in a process of its own: the other engine where
there is one, another store on another file system, another umask, time zone and locale, one core.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reprobuild.build.derive import Derived, derive_recipe
from reprobuild.build.image import Realised, read_layers, recall_image
from reprobuild.build.outputs import check_outputs
from reprobuild.build.project import Project
from reprobuild.build.realize import build_image, keep
from reprobuild.build.sources import fetch_sources
from reprobuild.derivation.predictors import Json
from reprobuild.errors import BuildFailedError, CheckFailedError, OutsideError
from reprobuild.events import Note, Warned
from reprobuild.process import run_program
from reprobuild.store.store import Store
from reprobuild.tree import Entry, Layer

MEMORY_FILE_SYSTEM = Path("/dev/shm")
LARGEST_COMPARED = 64 * 1024 * 1024
"""Bytes of a file past which its cause is not looked for."""
CLOCK_SECONDS = 1.5
DIFFOSCOPE_LINES = 60
DIFFOSCOPE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class FileDifference:
    """A path that came out otherwise the second time."""

    step: str
    path: str
    what: str
    """``only in the first build``, ``mode 644 against 755``, ``content``."""
    cause: str
    """``time stamp``, ``byte code``, ``order``, ``random``, or empty where it is not known."""
    detail: str = ""
    """What diffoscope says of it, where it is installed."""


def check(
    project: Project, name: str, options: Mapping[str, Json] | None = None, *, trust: bool = False
) -> Realised:
    """Realize a recipe, build it again from nothing in another surrounding, and compare.

    Raises CheckFailedError listing every file that differs, with its cause where it is known, and
    whatever either build raises.
    """
    derived = derive_recipe(project, name, options or {}, trust=trust)
    first = build_image(project, derived)
    check_outputs(project.store, derived, first)
    keep(project.store, name, derived.derivation.input_hash, derived.lock, "realized")
    fetch_sources(project, derived)  # a pulled image came without them
    with _second_store(project, derived) as store:
        _let_the_clock_move(project.store, first)
        said = _build_again_with_the_other(project, store, derived, trust=trust)
        second = recall_image(store, derived.derivation.input_hash)
        if second is None:
            raise CheckFailedError(
                f"{name}: the second build did not come to {derived.derivation.input_hash}\n{said}".rstrip(),
                "perhaps the recipe's folder changed meanwhile, or its evaluation is not pure",
            )
        found = list(_compare(project.store, first, store, second))
    if found:
        raise CheckFailedError(
            _report(name, found), "a run step that is not deterministic: make its output so"
        )
    if first.image_id != second.image_id:
        raise CheckFailedError(f"{name}: equal layers, and image IDs {first.image_id} and {second.image_id}")
    return first


@contextmanager
def _second_store(project: Project, derived: Derived) -> Iterator[Store]:
    """Make an empty store on another file system, with the pinned files alone in it."""
    sources = {pin.sha256: pin.size for pin in derived.pins}
    room = shutil.disk_usage(MEMORY_FILE_SYSTEM).free if MEMORY_FILE_SYSTEM.is_dir() else 0
    on_memory = room > 8 * sum(sources.values()) + 2**30 and os.access(MEMORY_FILE_SYSTEM, os.W_OK)
    parent = MEMORY_FILE_SYSTEM if on_memory else project.store.root / "tmp"
    if not on_memory:
        project.tell(Note(f"{MEMORY_FILE_SYSTEM} has no room: the second build is on the same file system"))
    folder = Path(tempfile.mkdtemp(prefix="reprobuild-check-", dir=parent))
    try:
        folder.chmod(0o711)
        store = Store.open(folder / "another place" / "store")
        with store.transaction() as group:
            for digest in sources:
                with project.store.blobs.open(digest) as file:
                    group.add_stream(file)
        yield store
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _let_the_clock_move(store: Store, first: Realised) -> None:
    """Wait until a build that writes the time, in whole seconds, must show it."""
    age = time.time() - os.stat(store.realisations.locate(first.input_hash)).st_ctime
    if 0 <= age < CLOCK_SECONDS:
        time.sleep(CLOCK_SECONDS - age)


def _build_again_with_the_other(project: Project, store: Store, derived: Derived, *, trust: bool) -> str:
    """Build in other surroundings, with the other engine where it works; give what was said to stderr."""
    surroundings = "other store, file system, umask, time zone, locale, one core"
    used, other = project.engine, project.other_engine
    if other is not None:
        told = f"building again from nothing: other engine, {other.probe().name}; {surroundings}"
        project.tell(Note(told))
        try:
            return _build_again(project, store, derived, other.name, trust=trust)
        except OutsideError as error:
            project.tell(
                Warned(f"the other engine cannot make the second build: {error.message}", error.hint)
            )
    project.tell(Note(f"building again from nothing: {surroundings}"))
    return _build_again(project, store, derived, used.name, trust=trust)


def _build_again(project: Project, store: Store, derived: Derived, engine: str, *, trust: bool) -> str:
    """Build in a process whose surroundings differ from ours in everything that should not matter.

    Gives what it said to stderr. Raises BuildFailedError where it fails, OutsideError where something
    outside of the build does.
    """
    argv = [sys.executable, "-m", "reprobuild", "--store", str(store.root), "--offline"]
    argv += ["--engine", engine, "realize", derived.recipe.name, "--json"]
    argv += ["--trust"] * trust
    for folder in project.settings.recipes:
        argv += ["--recipes", folder]
    for key, value in derived.recipe.chosen.items():
        argv += ["--set", f"{key}={value}"]
    environment = {
        **os.environ,
        "TZ": "Pacific/Marquesas" if os.environ.get("TZ") != "Pacific/Marquesas" else "Asia/Kathmandu",
        "LC_ALL": "C" if os.environ.get("LC_ALL") != "C" else "C.UTF-8",
        "LANG": "C",
    }
    cores = sorted(os.sched_getaffinity(0))

    def vary() -> None:
        os.umask(0o077 if _umask() != 0o077 else 0o022)
        os.sched_setaffinity(0, cores[-1:])

    ended = run_program(argv, env=environment, limit=None, prepare=vary)
    shown = ended.messages.decode(errors="replace").strip()
    if ended.code == OutsideError.exit_code:
        raise OutsideError(f"{derived.recipe.name}: the second build failed:\n{shown}")
    if ended.code not in (0, CheckFailedError.exit_code):
        raise BuildFailedError(
            f"{derived.recipe.name}: the second build failed, exit code {ended.code}:\n{shown}"
        )
    return shown


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _compare(store_a: Store, a: Realised, store_b: Store, b: Realised) -> Iterator[FileDifference]:
    layers_a, layers_b = read_layers(store_a, a), read_layers(store_b, b)
    titles_a, titles_b = [layer.step for layer in a.layers], [layer.step for layer in b.layers]
    if titles_a != titles_b:
        for title in sorted({*titles_a} ^ {*titles_b}):
            one = "first" if title in titles_a else "second"
            yield FileDifference(title, "", f"a layer in the {one} build only", "")
        return
    for title, first, second in zip(titles_a, layers_a, layers_b, strict=True):
        if first != second:
            yield from compare_layers(title, store_a, first, store_b, second)


def compare_layers(
    title: str, store_a: Store, a: Layer, store_b: Store, b: Layer
) -> Iterator[FileDifference]:
    """Give every path that is not the same in two layers of a step, whose bodies are in the stores."""
    entries_a = {entry.path: entry for entry in a.entries}
    entries_b = {entry.path: entry for entry in b.entries}
    for path in sorted({*entries_a, *entries_b}):
        one, other = entries_a.get(path), entries_b.get(path)
        if one == other:
            continue
        if one is None or other is None:
            yield FileDifference(title, path, f"only in the {'second' if one is None else 'first'} build", "")
            continue
        what = _what(one, other)
        cause, detail = "", ""
        if one.digest is not None and other.digest is not None and one.digest != other.digest:
            if max(one.size, other.size) <= LARGEST_COMPARED:
                cause = find_cause(path, store_a.blobs.read(one.digest), store_b.blobs.read(other.digest))
            detail = _diffoscope(store_a.blobs.path(one.digest), store_b.blobs.path(other.digest))
        yield FileDifference(title, path, what, cause, detail)
    for path in sorted({*a.whiteouts} ^ {*b.whiteouts}):
        yield FileDifference(
            title, path, f"removed in the {'first' if path in a.whiteouts else 'second'} build only", ""
        )


def _what(one: Entry, other: Entry) -> str:
    if one.kind != other.kind:
        return f"kind {one.kind} against {other.kind}"
    parts = []
    if one.mode != other.mode:
        parts.append(f"mode {one.mode:o} against {other.mode:o}")
    if (one.uid, one.gid) != (other.uid, other.gid):
        parts.append(f"owner {one.uid}:{one.gid} against {other.uid}:{other.gid}")
    if one.target != other.target:
        parts.append(f"link to {one.target} against {other.target}")
    if one.digest != other.digest:
        parts.append(f"content ({one.size} and {other.size} bytes)")
    return ", ".join(parts)


_TIMES = re.compile(
    rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?|\d\d:\d\d:\d\d|\b1[6-9]\d{8}(\.\d+)?\b"
    rb"|(Mon|Tue|Wed|Thu|Fri|Sat|Sun),? [A-Z0-9][A-Za-z0-9 :]+"
)
_HEX = re.compile(rb"\b[0-9a-fA-F]{8,}(-[0-9a-fA-F]{4,}){0,4}\b")
_DIGITS = re.compile(rb"\d+")


def find_cause(path: str, a: bytes, b: bytes) -> str:
    """Guess why two bodies of one path differ: one of the causes of FileDifference, or ``""``."""
    if path.endswith((".pyc", ".pyo")):
        return "byte code"
    if a[:2] == b[:2] == b"\x1f\x8b" and a[:4] + a[8:] == b[:4] + b[8:]:
        return "time stamp"
    if _TIMES.sub(b"", a) == _TIMES.sub(b"", b):
        return "time stamp"
    if sorted(a.splitlines()) == sorted(b.splitlines()):
        return "order"
    if _HEX.sub(b"", a) == _HEX.sub(b"", b):
        return "random"
    if len(a) == len(b) and _DIGITS.sub(b"", a) == _DIGITS.sub(b"", b):
        return "random"
    if sorted(a) == sorted(b):
        return "order"
    if len(a) == len(b) and sum(x == y for x, y in zip(a, b, strict=True)) < len(a) / 32:
        return "random"
    return ""


def _diffoscope(a: Path, b: Path) -> str:
    program = shutil.which("diffoscope")
    if program is None:
        return ""
    try:
        ended = run_program(
            [program, "--text", "-", str(a), str(b)], env=os.environ, limit=DIFFOSCOPE_SECONDS
        )
    except OSError:
        return ""
    return "\n".join(ended.output.decode(errors="replace").splitlines()[:DIFFOSCOPE_LINES])


def _report(name: str, found: list[FileDifference]) -> str:
    count = f"{len(found)} path{'s differ' if len(found) > 1 else ' differs'}"
    return "\n".join([f"{name}: built twice, and {count}", *difference_lines(found)])


def difference_lines(found: Sequence[FileDifference]) -> list[str]:
    """Write differences for people: a line for each step, and for each path with its cause."""
    lines = []
    step = None
    for one in found:
        if one.step != step:
            step = one.step
            lines.append(f"  step {step}:")
        cause = f" [{one.cause}]" if one.cause else ""
        lines.append(f"    /{one.path}: {one.what}{cause}")
        lines.extend(f"      {line}" for line in one.detail.splitlines())
    return lines
