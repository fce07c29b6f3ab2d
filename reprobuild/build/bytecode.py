"""Compile the Python sources of a step with the image's own Python, so that commands start fast.

Without byte code every start compiles all that it imports, since nothing may be written then. The
sources travel into the sandbox as one file and the results out as one file for each worker, so any laid-out
tree that has the interpreter will do. What comes out depends on the interpreter, the sources and their paths
alone: not on order, machine or number of workers. Knows nothing of how a result is remembered.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from reprobuild.build.place.python import Python, python_paths
from reprobuild.digest import Digest
from reprobuild.engine.protocol import Command, Engine, Ground
from reprobuild.errors import BuildFailedError
from reprobuild.tree import NORMAL_TIME, Entry, Tree, TreeError, file

if TYPE_CHECKING:
    from reprobuild.store.store import Store
    from reprobuild.store.transaction import Transaction

SKIPPED_FOLDERS = frozenset({"__pycache__", "test", "tests", "lib2to3", "idlelib"})
"""Folders whose modules no start-up imports; they stay importable, from source."""

LARGEST_SOURCE = 16 * 1024 * 1024
"""Bytes; larger files are data in Python's clothes, and are left as they are."""

LARGEST_RESULT = 256 * 1024 * 1024
"""Bytes of byte code that one source may come to."""

TIME_LIMIT = 1800.0
"""Seconds for all sources of a step."""

SOURCES = "/in/sources"
RESULTS = "/out"

SCRIPT = r"""
import marshal, posix, sys
from _frozen_importlib_external import MAGIC_NUMBER

def hold(code):
    # marshal writes one bit for each object that something else refers to as well. Holding all of them
    # makes that bit the same whatever this process has done before.
    held, todo = [], [code]
    while todo:
        item = todo.pop()
        held.append(item)
        if isinstance(item, (tuple, frozenset)):
            todo.extend(item)
        elif isinstance(item, type(code)):
            for name in dir(item):
                if name.startswith("co_") and name not in ("co_code", "co_lnotab"):
                    value = getattr(item, name)
                    if not callable(value):
                        todo.append(value)
    return held

def compiled(path, source):
    try:
        code = compile(source, path, "exec", 0, True, 0)
        held = hold(code)
        body = marshal.dumps(code)
    except Exception:
        return None
    del held
    header = MAGIC_NUMBER + bytes(4) if sys.version_info >= (3, 7) else MAGIC_NUMBER
    return header + TIME.to_bytes(4, "little") + (len(source) & 0xFFFFFFFF).to_bytes(4, "little") + body

def work(number, workers):
    with open(sys.argv[1], "rb") as sources, open("%s/%d" % (sys.argv[2], number), "wb") as results:
        index = 0
        while True:
            head = sources.readline()
            if not head:
                break
            size, _, path = head.decode()[:-1].partition(" ")
            if index % workers == number:
                body = compiled(path, sources.read(int(size)))
                if body is not None:
                    results.write(b"%d %d\n" % (index, len(body)))
                    results.write(body)
            else:
                sources.seek(int(size), 1)
            index += 1

TIME = int(sys.argv[3])
sys.setrecursionlimit(10000)
workers = max(1, min(8, len(posix.sched_getaffinity(0)), int(sys.argv[4]) // 20))
children = []
for number in range(1, workers):
    child = posix.fork()
    if child == 0:
        try:
            work(number, workers)
            posix._exit(0)
        finally:
            posix._exit(1)
    children.append(child)
work(0, workers)
sys.exit(1 if any([posix.waitpid(child, 0)[1] for child in children]) else 0)
"""
"""What the image's Python runs; only built-in modules, so that the smallest Python can. The interpreter is
not isolated (``-I``), because it would then not heed ``PYTHONHASHSEED``."""


@dataclass(frozen=True)
class Batch:
    """Sources of a tree that one of its Pythons compiles in one go."""

    python: Python
    sources: tuple[Entry, ...]
    """Files of the tree, by path."""
    interpreter: Mapping[str, Digest] = field(default_factory=dict)
    """Path → digest of the files that the interpreter consists of."""

    @property
    def key(self) -> dict[str, object]:
        """Everything that decides what comes out, for remembering it."""
        return {
            "script": Digest.of(SCRIPT.encode()).hex,
            "interpreter": {path: digest.hex for path, digest in self.interpreter.items()},
            "sources": [[entry.path, entry.digest.hex] for entry in self.sources if entry.digest],
        }

    def runs_on(self, tree: Tree) -> bool:
        """Whether a tree has the interpreter with all its parts, so that its checkout will do."""
        here = (tree.get(path) for path in self.interpreter)
        wanted = self.interpreter.values()
        return all(
            entry is not None and entry.digest == digest for entry, digest in zip(here, wanted, strict=True)
        )

    @property
    def command(self) -> Command:
        """The command that compiles; its input and output folders are still to be named."""
        argv = (f"/{self.python.interpreter}", "-S", "-s", "-W", "ignore", "-c", SCRIPT)
        arguments = (SOURCES, RESULTS, str(NORMAL_TIME), str(len(self.sources)))
        return Command((*argv, *arguments), workdir="/", timeout=TIME_LIMIT)


def batches(tree: Tree, placed: Iterable[Entry]) -> tuple[Batch, ...]:
    """Give what is to be compiled of the entries that a step placed, for each Python of the tree.

    ``tree``: with the entries in it; ``placed``: paths may pass through its links. Of a source that
    several Pythons import, the newest compiles it.
    """
    paths = python_paths(tree)
    if not paths:
        return ()
    by_version: dict[str, tuple[Python, dict[str, Entry]]] = {}
    real_paths = _real_paths(tree, paths)
    for entry in placed:
        if entry.kind != "f" or not entry.path.endswith(".py") or not 0 < entry.size <= LARGEST_SOURCE:
            continue
        path = tree.resolve(entry.path)
        python = _importer(path, real_paths)
        here = tree.get(path)
        if python is None or here is None or here.kind != "f" or "\n" in path:
            continue
        by_version.setdefault(python.version, (python, {}))[1][path] = here
    return tuple(
        Batch(python, tuple(sources[path] for path in sorted(sources)), _interpreter_files(tree, python))
        for _, (python, sources) in sorted(by_version.items())
    )


def _real_paths(tree: Tree, paths: Mapping[str, Python]) -> dict[str, Python]:
    real: dict[str, Python] = {}
    for path, python in paths.items():
        try:
            real[tree.resolve(path)] = python
        except TreeError:
            continue
    return real


def _importer(path: str, paths: Mapping[str, Python]) -> Python | None:
    """Give the Python that imports a source, None where no start-up does."""
    folder = posixpath.dirname(path)
    inner: list[str] = []
    while folder:
        python = paths.get(folder)
        if python is not None:
            return None if SKIPPED_FOLDERS.intersection(inner) else python
        folder, _, name = folder.rpartition("/")
        inner.append(name)
    return None


def _interpreter_files(tree: Tree, python: Python) -> dict[str, Digest]:
    library = f"libpython{python.version}"
    real = tree.resolve(python.interpreter)
    return {
        entry.path: entry.digest
        for entry in tree
        if entry.digest is not None
        and (
            entry.path == real or (posixpath.basename(entry.path).startswith(library) and ".so" in entry.path)
        )
    }


def compile_batch(
    batch: Batch, store: Store, engine: Engine, ground: Ground, group: Transaction
) -> tuple[Entry, ...]:
    """Compile a batch with the Python of a laid-out tree; give the entries of the byte code files.

    ``ground``: any that has the batch's interpreter and its libraries. Bodies join the group.
    Sources that do not compile (templates, Python 2) have no entry. Raises BuildFailedError where
    the interpreter itself fails, and what the engine raises.
    """
    with store.scratch("bytecode") as scratch:
        sources, results = scratch / "sources", scratch / "results"
        results.mkdir()
        with open(sources, "wb") as packed:
            for entry in batch.sources:
                assert entry.digest is not None
                packed.write(b"%d /%s\n" % (entry.size, entry.path.encode()))
                with store.blobs.open(entry.digest) as body:
                    _copy(body, packed)
        _let_read(store, sources)
        made = batch.command
        command = Command(
            made.argv,
            workdir=made.workdir,
            timeout=made.timeout,
            inputs={SOURCES: sources},
            outputs={RESULTS: results},
        )
        result = engine.run(ground, command)
        if result.exit_code or result.timed_out:
            last = "\n".join(f"  {line}" for line in result.tail[-10:])
            raise BuildFailedError(
                f"/{batch.python.interpreter} of the image ended with code {result.exit_code} while it "
                f"compiled {len(batch.sources)} files of Python" + (f"\n{last}" if last else ""),
                "try the interpreter alone: reprobuild shell NAME",
            )
        return tuple(_entries(batch, results, group))


def _copy(body: BinaryIO, packed: BinaryIO) -> None:
    while chunk := body.read(256 * 1024):
        packed.write(chunk)


def _let_read(store: Store, path: Path) -> None:
    """Give a file to the uid that the sandbox runs as when root runs us."""
    if store.owner is not None:
        os.chown(path, store.owner, store.owner)


def _entries(batch: Batch, results: Path, group: Transaction) -> Iterator[Entry]:
    tag = "cpython-" + batch.python.version.replace(".", "")
    bodies: dict[int, bytes] = {}
    for part in sorted(results.iterdir()):
        with open(part, "rb") as packed:
            bodies.update(_unpack(packed, len(batch.sources), batch.python.interpreter))
    for index, body in sorted(bodies.items()):
        folder, name = posixpath.split(batch.sources[index].path)
        path = posixpath.join(folder, "__pycache__", f"{name.removesuffix('.py')}.{tag}.pyc")
        yield file(path, group.add_bytes(body), len(body))


def _unpack(packed: BinaryIO, count: int, interpreter: str) -> Iterator[tuple[int, bytes]]:
    """Read what one worker wrote: the image's Python did, so nothing of it is believed unseen."""
    while head := packed.readline(32):
        index, _, size = head.partition(b" ")
        if not (index.isdigit() and size[:-1].isdigit() and size.endswith(b"\n") and int(index) < count):
            raise BuildFailedError(f"/{interpreter} of the image wrote something else than byte code")
        body = packed.read(min(int(size), LARGEST_RESULT))
        if len(body) != int(size):
            raise BuildFailedError(f"/{interpreter} of the image wrote byte code that is cut off")
        yield int(index), body
