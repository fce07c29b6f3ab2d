from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from reprobuild.build import bytecode
from reprobuild.digest import Digest
from reprobuild.engine.protocol import Capture, Command, Dialogue, Gateway, Gpu, Ground, Isolation, Result
from reprobuild.errors import BuildFailedError, EngineError
from reprobuild.store.checkouts import Checkout
from reprobuild.store.store import Store
from reprobuild.tree import NORMAL_TIME, Entry, Layer, Tree, file, link, overlay

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = f"usr/lib/python{VERSION}"
LOCAL = f"usr/local/lib/python{VERSION}/dist-packages"


class OwnPython:
    """An engine that runs the command with the interpreter of the tests, on the host."""

    name = "own python"

    def __init__(self, outcome: int = 0, lie: bytes = b"") -> None:
        self._outcome = outcome
        self._lie = lie

    def probe(self) -> Isolation:
        return Isolation(self.name, True)

    @contextlib.contextmanager
    def ground(self, layers: Sequence[Layer | Digest]) -> Iterator[Ground]:
        yield Checkout(())

    def gpu(self, number: str) -> Gpu:
        raise EngineError(f"there is no GPU {number} here")

    def run(
        self,
        ground: Ground,
        command: Command,
        *,
        gateway: Gateway | None = None,
        capture: Capture | None = None,
        output: Callable[[bytes], None] | None = None,
        stdin: BinaryIO | None = None,
        dialogue: Dialogue | None = None,
        ending: int | None = None,
        hold: Callable[[], bool] | None = None,
    ) -> Result:
        places = {
            str(inside): str(outside)
            for inside, outside in (*command.inputs.items(), *command.outputs.items())
        }
        argv = [sys.executable, *(places.get(part, part) for part in command.argv[1:])]
        done = subprocess.run(argv, check=False, env={"PYTHONHASHSEED": "0"}, timeout=60)
        if self._lie:
            (command.outputs[bytecode.RESULTS] / "0").write_bytes(self._lie)
        return Result(self._outcome or done.returncode, 0.1, tail=("the last line",))


def make_tree(store: Store, sources: dict[str, bytes]) -> Tree:
    with store.transaction() as group:
        entries = [
            file(path, group.add_bytes(body), len(body))
            for path, body in {
                **sources,
                f"usr/bin/python{VERSION}": b"the interpreter",
                "var/lib/dpkg/status": b"",
            }.items()
        ]
    return overlay(Tree(), [link("lib", "usr/lib"), *entries])


def compiled(store: Store, tree: Tree, engine: OwnPython | None = None) -> tuple[Entry, ...]:
    [batch] = bytecode.batches(tree, tree)
    with store.transaction() as group:
        return bytecode.compile_batch(batch, store, engine or OwnPython(), Checkout(()), group)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"{LIBRARY}/json/__init__.py", True),
        (f"lib/python{VERSION}/os.py", True),
        (f"{LOCAL}/pkg/deep/er.py", True),
        ("usr/lib/python3/dist-packages/six.py", True),
        (f"{LOCAL}/pkg/tests/test_it.py", False),
        (f"{LIBRARY}/test/support.py", False),
        (f"{LIBRARY}/lib2to3/main.py", False),
        ("app/run.py", False),
        ("usr/lib/python2.7/os.py", False),
        (f"{LOCAL}/pkg/data.txt", False),
    ],
)
def test_compiles_what_a_start_imports(store: Store, path: str, expected: bool) -> None:
    found = bytecode.batches(make_tree(store, {path: b"x = 1\n"}), [file(path, Digest.of(b"x = 1\n"), 6)])
    real = path if path.startswith("usr") else f"usr/{path}"
    assert [entry.path for batch in found for entry in batch.sources] == ([real] if expected else [])


def test_an_empty_source_has_nothing_to_compile(store: Store) -> None:
    tree = make_tree(store, {f"{LOCAL}/pkg/__init__.py": b""})
    assert bytecode.batches(tree, tree) == ()


def test_a_tree_without_python_has_nothing_to_compile() -> None:
    assert bytecode.batches(Tree(), []) == ()


def test_python_takes_the_byte_code_for_valid(store: Store, tmp_path: Path) -> None:
    source = b"def greet(name):\n    return f'hello {name}'\n"
    [entry] = compiled(store, make_tree(store, {f"{LOCAL}/greeting.py": source}))
    tag = sys.implementation.cache_tag
    assert entry.path == f"{LOCAL}/__pycache__/greeting.{tag}.pyc"
    assert entry.mode == 0o644 and entry.digest is not None
    module, cached = tmp_path / "greeting.py", tmp_path / "__pycache__" / f"greeting.{tag}.pyc"
    module.write_bytes(source)
    import os

    os.utime(module, (NORMAL_TIME, NORMAL_TIME))
    cached.parent.mkdir()
    cached.write_bytes(store.blobs.read(entry.digest))
    said = subprocess.run(
        [sys.executable, "-v", "-c", "import greeting; print(greeting.greet('you'))"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "hello you\n"
    assert f"# {cached} matches" in said.stderr


SOURCES = {
    f"{LOCAL}/m{number}.py": (
        f"import os, re\nNAMES = {{'a', 'b', 'shared', 'm{number}'}}\n"
        f"def f{number % 7}(shared, *, key=('x', {number}.5, b'bytes')):\n"
        "    '''A docstring.'''\n"
        "    if shared in {'a', 'b', 'c'}:\n        return [lambda y: y + shared for _ in key]\n"
        "class Shared:\n    attribute = 'shared'\n    def method(self): return self.attribute\n"
    ).encode()
    for number in range(60)
}


def test_order_and_company_of_sources_change_nothing(store: Store) -> None:
    together = {entry.path: entry.digest for entry in compiled(store, make_tree(store, SOURCES))}
    alone = {
        entry.path: entry.digest
        for path, body in list(SOURCES.items())[::9]
        for entry in compiled(store, make_tree(store, {path: body}))
    }
    assert len(together) == 60
    assert alone == {path: together[path] for path in alone} and len(alone) == 7


def test_what_does_not_compile_is_left_as_it_is(store: Store) -> None:
    sources = {
        f"{LOCAL}/good.py": b"x = 1\n",
        f"{LOCAL}/two.py": b"print 'python 2'\n",
        f"{LOCAL}/template.py": b"{{ name }} = $x\n",
        f"{LOCAL}/bytes.py": b"x = '\xff'\n",
        f"{LOCAL}/nul.py": b"x = 1\0\n",
        f"{LOCAL}/deep.py": b"x = " + b"(" * 5000 + b")" * 5000 + b"\n",
    }
    assert [
        entry.path.rpartition("/")[2].partition(".")[0]
        for entry in compiled(store, make_tree(store, sources))
    ] == ["good"]


def test_the_key_is_that_of_interpreter_and_sources(store: Store) -> None:
    def key(sources: dict[str, bytes]) -> object:
        [batch] = bytecode.batches(tree := make_tree(store, sources), tree)
        return batch.key

    one = {f"{LOCAL}/a.py": b"x = 1\n"}
    assert key(one) == key({**one, "app/other.txt": b"anything"})
    assert key(one) != key({f"{LOCAL}/a.py": b"x = 2\n"})
    assert key(one) != key({f"{LOCAL}/b.py": b"x = 1\n"})
    assert key(one) != key({**one, f"usr/lib/libpython{VERSION}.so.1.0": b"library"})


def test_a_tree_without_the_interpreter_will_not_do(store: Store) -> None:
    tree = make_tree(store, {f"{LOCAL}/a.py": b"x = 1\n"})
    [batch] = bytecode.batches(tree, tree)
    assert batch.runs_on(tree)
    assert not batch.runs_on(Tree())


def test_an_interpreter_that_fails_is_an_error_with_its_last_lines(store: Store) -> None:
    tree = make_tree(store, {f"{LOCAL}/a.py": b"x = 1\n"})
    with pytest.raises(BuildFailedError, match=r"ended with code 139[^$]*the last line"):
        compiled(store, tree, OwnPython(139))


@pytest.mark.parametrize(
    "lie",
    [
        b"1 3\nabc",
        b"0 30\nabc",
        b"-1 3\nabc",
        b"0 -3\nabc",
        b"0 3",
        b"nonsense\n",
        b"0 " + b"9" * 80 + b"\n",
        b"0 " + b"9" * 28 + b"\n",
    ],
    ids=[
        "past the end",
        "cut off",
        "negative index",
        "negative size",
        "no line end",
        "nonsense",
        "endless",
        "huge",
    ],
)
def test_an_interpreter_that_lies_is_not_believed(store: Store, lie: bytes) -> None:
    tree = make_tree(store, {f"{LOCAL}/a.py": b"x = 1\n"})
    with pytest.raises(BuildFailedError):
        compiled(store, tree, OwnPython(lie=lie))


def test_unpacks_what_the_script_packs() -> None:
    packed = io.BytesIO(b"0 3\nabc2 0\n1 1\n\n")
    assert list(bytecode._unpack(packed, 3, "python3")) == [(0, b"abc"), (2, b""), (1, b"\n")]
