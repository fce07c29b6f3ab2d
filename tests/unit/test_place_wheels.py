from __future__ import annotations

from collections.abc import Sequence

import pytest

from reprobuild.build.place import wheels as place_wheels
from reprobuild.build.place.placement import Placement
from reprobuild.build.place.python import Python
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.words import wheels
from reprobuild.errors import CheckFailedError, RecipeError, ReprobuildError
from reprobuild.store.store import Store
from reprobuild.tree import Layer
from tests.golden import assert_golden
from tests.wheels import keep, record_hash, wheel

PURELIB = "usr/local/lib/python3.11/dist-packages"
PYTHON = Python(
    "3.11",
    "usr/bin/python3.11",
    PURELIB,
    PURELIB,
    "usr/local/bin",
    "usr/local/include/python3.11",
    "usr/local",
)
NAME = "pkg-1.0-py3-none-any.whl"
CONSOLE = "[console_scripts]\npkg-run = pkg.cli:main\n\n[gui_scripts]\npkg-show = pkg.cli:App.show [extra]\n"


def place(store: Store, pins: Sequence[Pin]) -> Placement:
    with store.transaction() as group:
        return place_wheels.place(wheels("pkg"), pins, PYTHON.facts, store, group)


def bodies(store: Store, placement: Placement) -> dict[str, bytes]:
    return {entry.path: store.blobs.read(entry.digest) for entry in placement.entries if entry.digest}


def everything() -> bytes:
    """A wheel with a file in each scheme, commands, an executable, names beyond ASCII."""
    return wheel(
        "pkg",
        "1.0",
        {
            "pkg/__init__.py": b"VALUE = 1\n",
            "pkg/cli.py": b"def main(): ...\n",
            "pkg/data/\u00fcber.txt": b"text",
            "pkg/tool.sh": b"#!/bin/sh\n",
            "pkg-1.0.data/scripts/pkg-old": b"#!python -E\nprint(1)\n",
            "pkg-1.0.data/scripts/pkg-shell": b"#!/bin/sh\ntrue\n",
            "pkg-1.0.data/data/share/pkg/note.txt": b"note",
            "pkg-1.0.data/headers/pkg.h": b"#define PKG 1\n",
            "pkg-1.0.data/platlib/pkg/more.py": b"MORE = 1\n",
        },
        entry_points=CONSOLE,
        executable=("pkg/tool.sh",),
    )


def test_files_go_where_the_image_s_python_looks(store: Store) -> None:
    placement = place(store, [keep(store, NAME, everything())])
    info = f"{PURELIB}/pkg-1.0.dist-info"
    assert {entry.path: oct(entry.mode) for entry in placement.entries} == {
        f"{PURELIB}/pkg/__init__.py": "0o644",
        f"{PURELIB}/pkg/cli.py": "0o644",
        f"{PURELIB}/pkg/data/über.txt": "0o644",
        f"{PURELIB}/pkg/more.py": "0o644",
        f"{PURELIB}/pkg/tool.sh": "0o755",
        "usr/local/bin/pkg-old": "0o755",
        "usr/local/bin/pkg-run": "0o755",
        "usr/local/bin/pkg-shell": "0o755",
        "usr/local/bin/pkg-show": "0o755",
        "usr/local/include/python3.11/pkg/pkg.h": "0o644",
        "usr/local/share/pkg/note.txt": "0o644",
        f"{info}/INSTALLER": "0o644",
        f"{info}/METADATA": "0o644",
        f"{info}/RECORD": "0o644",
        f"{info}/WHEEL": "0o644",
        f"{info}/entry_points.txt": "0o644",
    }


def test_commands_run_the_image_s_python(store: Store) -> None:
    found = bodies(store, place(store, [keep(store, NAME, everything())]))
    assert found["usr/local/bin/pkg-run"].decode() == (
        "#!/usr/bin/python3.11\nimport sys\nfrom pkg.cli import main\n"
        'if __name__ == "__main__":\n    sys.exit(main())\n'
    )
    assert b"from pkg.cli import App\n" in found["usr/local/bin/pkg-show"]
    assert b"sys.exit(App.show())" in found["usr/local/bin/pkg-show"]
    assert found["usr/local/bin/pkg-old"] == b"#!/usr/bin/python3.11\nprint(1)\n"
    assert found["usr/local/bin/pkg-shell"] == b"#!/bin/sh\ntrue\n"


def test_record_names_every_file_with_its_true_hash(store: Store) -> None:
    found = bodies(store, place(store, [keep(store, NAME, everything())]))
    record = found[f"{PURELIB}/pkg-1.0.dist-info/RECORD"].decode()
    lines = record.splitlines()
    assert lines == sorted(lines)
    assert "pkg-1.0.dist-info/RECORD,," in lines
    old = found["usr/local/bin/pkg-old"]
    assert f"../../../bin/pkg-old,{record_hash(old)},{len(old)}" in lines
    assert len(lines) == len(found)


def test_the_bytes_are_those_of_the_golden(store: Store) -> None:
    """Guards against a library that changes what it writes: then ASSEMBLER has to be raised."""
    placement = place(store, [keep(store, NAME, everything())])
    assert_golden("place/wheel", Layer(placement.entries).listing.decode().splitlines())


def test_times_and_order_of_a_wheel_change_nothing(store: Store) -> None:
    files = {"pkg/__init__.py": b"", "pkg/a.py": b"a = 1\n"}
    one = wheel("pkg", "1.0", files)
    other = wheel("pkg", "1.0", dict(reversed(files.items())), date=(2031, 1, 1, 1, 1, 2))
    assert place(store, [keep(store, NAME, one)]) == place(store, [keep(store, NAME, other)])


def test_what_installers_leave_behind_is_not_taken(store: Store) -> None:
    info = "pkg-1.0.dist-info"
    files = {
        "pkg/__init__.py": b"",
        "pkg/__pycache__/__init__.cpython-311.pyc": b"stale",
        f"{info}/INSTALLER": b"somebody\n",
        f"{info}/REQUESTED": b"",
        f"{info}/direct_url.json": b'{"url": "file:///home/me"}',
    }
    found = bodies(store, place(store, [keep(store, NAME, wheel("pkg", "1.0", files))]))
    assert set(found) == {
        f"{PURELIB}/pkg/__init__.py",
        *(f"{PURELIB}/{info}/{name}" for name in ("INSTALLER", "METADATA", "RECORD", "WHEEL")),
    }
    assert found[f"{PURELIB}/{info}/INSTALLER"] == b"reprobuild\n"


def test_other_hashes_in_record_are_checked_too(store: Store) -> None:
    made = wheel("pkg", "1.0", {"pkg.py": b"x = 1\n"}, algorithm="sha512")
    assert f"{PURELIB}/pkg.py" in bodies(store, place(store, [keep(store, NAME, made)]))
    line = f"pkg.py,{record_hash(b'other', 'sha512')},6"
    wrong = wheel("pkg", "1.0", {"pkg.py": b"x = 1\n"}, record={"pkg.py": line}, algorithm="sha512")
    with pytest.raises(CheckFailedError, match=r"contents of pkg\.py"):
        place(store, [keep(store, NAME, wrong)])


def hostile(path: str) -> bytes:
    return wheel("pkg", "1.0", {path: b"x = 1\n"})


def damaged(body: bytes) -> bytes:
    """Turn all bits of a byte in the middle of the first member."""
    return body[:120] + bytes([body[120] ^ 0xFF]) + body[121:]


GOOD = {"pkg.py": b"x = 1\n"}
INFO = "pkg-1.0.dist-info"

HOSTILE = {
    "leads up": hostile("../../../etc/cron.d/job"),
    "leads up further in": hostile("pkg/../../x.py"),
    "absolute": hostile("/etc/passwd"),
    "dot": hostile("pkg/./x.py"),
    "empty part": hostile("pkg//x.py"),
    "backslash": hostile("pkg\\..\\x.py"),
    "data scheme leads up": hostile("pkg-1.0.data/scripts/../../x"),
    "unknown data scheme": hostile("pkg-1.0.data/elsewhere/x"),
    "data without a scheme": hostile("pkg-1.0.data/x"),
    "twice": wheel("pkg", "1.0", GOOD, more=[("pkg.py", b"y = 2\n")]),
    "not in RECORD": wheel("pkg", "1.0", GOOD, more=[("extra.py", b"")]),
    "wrong hash": wheel("pkg", "1.0", GOOD, record={"pkg.py": f"pkg.py,{record_hash(b'y')},6"}),
    "wrong size": wheel("pkg", "1.0", GOOD, record={"pkg.py": f"pkg.py,{record_hash(GOOD['pkg.py'])},7"}),
    "no hash": wheel("pkg", "1.0", GOOD, record={"pkg.py": "pkg.py,,"}),
    "unknown hash": wheel("pkg", "1.0", GOOD, record={"pkg.py": "pkg.py,rot13=eA,6"}),
    "RECORD makes no sense": wheel("pkg", "1.0", GOOD, record={"pkg.py": "pkg.py,sha256=a,b,c,d"}),
    "another package": wheel("other", "1.0", GOOD),
    "two dist-info": wheel("pkg", "1.0", {**GOOD, "six-1.0.dist-info/x": b""}),
    "no zip": b"no zip at all",
    "cut off": wheel("pkg", "1.0", GOOD)[:-30],
    "damaged": damaged(wheel("pkg", "1.0", {"pkg.py": bytes(range(256)) * 9})),
    "command leads up": wheel(
        "pkg", "1.0", GOOD, entry_points="[console_scripts]\n../../../bin/sh = pkg:main\n"
    ),
    "command is code": wheel("pkg", "1.0", GOOD, entry_points="[console_scripts]\nrun = pkg:f();x\n"),
    "command without a function": wheel("pkg", "1.0", GOOD, entry_points="[console_scripts]\nrun = pkg\n"),
    "commands make no sense": wheel("pkg", "1.0", GOOD, entry_points="run = pkg:main\n"),
    "a newer format": wheel(
        "pkg", "1.0", {**GOOD}, more=[], record={f"{INFO}/WHEEL": f"{INFO}/WHEEL,sha256=x,1"}
    ),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_wheel_is_refused_by_name(store: Store, body: bytes) -> None:
    with pytest.raises(CheckFailedError) as caught:
        place(store, [keep(store, NAME, body)])
    assert caught.value.message.startswith(f"the wheel {NAME} cannot be placed: ")
    assert "\n" not in caught.value.message


def test_a_link_in_a_wheel_is_a_file_with_its_target_in_it(store: Store) -> None:
    import io
    import zipfile

    made = io.BytesIO(wheel("pkg", "1.0", {"pkg.py": b"/etc/passwd"}))
    with zipfile.ZipFile(made, "a") as archive:
        archive.getinfo("pkg.py").external_attr = 0o120777 << 16
        archive.comment = b"written anew"
    [placed] = [
        e for e in place(store, [keep(store, NAME, made.getvalue())]).entries if e.path.endswith("pkg.py")
    ]
    assert (placed.kind, placed.mode, placed.size) == ("f", 0o644, 11)


def test_two_wheels_may_bring_the_same_file(store: Store) -> None:
    pins = [
        keep(store, "aaa-1.0-py3-none-any.whl", wheel("aaa", "1.0", {"space/__init__.py": b""})),
        keep(store, "bbb-1.0-py3-none-any.whl", wheel("bbb", "1.0", {"space/__init__.py": b""})),
    ]
    assert place(store, pins) == place(store, pins[::-1])


@pytest.mark.parametrize(
    ("first", "second"),
    [({"top.py": b"1"}, {"top.py": b"2"}), ({"top": b"1"}, {"top/inner.py": b"2"})],
    ids=["other contents", "a file and a folder"],
)
def test_two_wheels_at_odds_are_both_named(
    store: Store, first: dict[str, bytes], second: dict[str, bytes]
) -> None:
    pins = [
        keep(store, "aaa-1.0-py3-none-any.whl", wheel("aaa", "1.0", first)),
        keep(store, "bbb-1.0-py3-none-any.whl", wheel("bbb", "1.0", second)),
    ]
    with pytest.raises(RecipeError) as caught:
        place(store, pins)
    assert "aaa-1.0" in caught.value.message and "bbb-1.0" in caught.value.message
    assert f"/{PURELIB}/top" in caught.value.message


def test_a_wheel_that_is_not_in_the_store_is_an_error(store: Store) -> None:
    pin = keep(store, NAME, everything())
    store.blobs.path(pin.sha256).unlink()
    with pytest.raises(ReprobuildError, match="not in the store"):
        place(store, [pin])
