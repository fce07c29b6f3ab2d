from __future__ import annotations

import pytest

from reprobuild.lock.wheel_tags import Target

BOOKWORM = Target("3.11", "x86_64", "glibc", (2, 36))


@pytest.mark.parametrize(
    ("target", "names", "best"),
    [
        (BOOKWORM, ["a-1-py3-none-any.whl", "a-1-cp311-cp311-manylinux_2_17_x86_64.whl"], 1),
        (
            BOOKWORM,
            ["a-1-cp311-cp311-manylinux_2_28_x86_64.whl", "a-1-cp311-cp311-manylinux2014_x86_64.whl"],
            0,
        ),
        (BOOKWORM, ["a-1-cp311-cp311-manylinux_2_39_x86_64.whl", "a-1-cp311-cp311-manylinux1_x86_64.whl"], 1),
        (BOOKWORM, ["a-1-cp39-abi3-manylinux_2_17_x86_64.whl", "a-1-cp38-abi3-manylinux_2_17_x86_64.whl"], 0),
        (BOOKWORM, ["a-1-cp39-abi3-manylinux_2_17_x86_64.whl", "a-1-py3-none-any.whl"], 0),
        (BOOKWORM, ["a-1-cp312-abi3-manylinux_2_17_x86_64.whl", "a-1-py2.py3-none-any.whl"], 1),
        (BOOKWORM, ["a-1-2-py3-none-any.whl", "a-1-10-py3-none-any.whl", "a-1-py3-none-any.whl"], 1),
        (BOOKWORM, ["a-1-cp310-cp310-manylinux1_x86_64.whl", "a-1-cp311-cp311-win_amd64.whl"], None),
        (BOOKWORM, ["a-1-cp311-cp311-musllinux_1_1_x86_64.whl", "a-1.tar.gz", "nonsense"], None),
        (BOOKWORM, ["a-1-cp311-cp311-linux_x86_64.whl", "a-1-cp311-none-any.whl"], 0),
        (BOOKWORM, ["a-1-cp311-cp311t-manylinux_2_17_x86_64.whl"], None),
        (
            Target("3.7", "x86_64", "glibc", (2, 24)),
            ["a-1-cp37-cp37m-manylinux1_x86_64.whl", "a-1-cp37-cp37-manylinux1_x86_64.whl"],
            0,
        ),
        (
            Target("3.12", "aarch64", "glibc", (2, 36)),
            ["a-1-cp312-cp312-manylinux_2_28_x86_64.whl", "a-1-cp312-cp312-manylinux2014_aarch64.whl"],
            1,
        ),
        (
            Target("3.12", "x86_64", "musl", (1, 2)),
            ["a-1-cp312-cp312-manylinux1_x86_64.whl", "a-1-cp312-cp312-musllinux_1_1_x86_64.whl"],
            1,
        ),
    ],
    ids=[
        "compiled before pure",
        "newest glibc that fits",
        "never a newer glibc",
        "newest stable ABI",
        "stable ABI before pure",
        "never a newer stable ABI",
        "highest build number",
        "other Python and platform",
        "musl and nonsense",
        "plain linux",
        "free-threaded",
        "ABI m until 3.7",
        "aarch64",
        "musl image",
    ],
)
def test_takes_the_wheel_that_fits_best(target: Target, names: list[str], best: int | None) -> None:
    expected = None if best is None else names[best]
    assert target.best(names) == expected
    assert target.best(reversed(names)) == expected


def test_equally_good_wheels_do_not_depend_on_the_order_of_the_index() -> None:
    names = [
        "a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl",
        "a-1-cp311-cp311-manylinux_2_28_x86_64.whl",
    ]
    assert target_best(names) == target_best(names[::-1]) == min(names)


def target_best(names: list[str]) -> str | None:
    return BOOKWORM.best(names)


@pytest.mark.parametrize(
    ("libc", "version", "platform"),
    [
        ("glibc", (2, 36), "x86_64-manylinux_2_36"),
        ("glibc", (2, 30), "x86_64-manylinux_2_28"),
        ("glibc", (2, 17), "x86_64-manylinux_2_17"),
        ("glibc", (2, 99), "x86_64-manylinux_2_40"),
        ("musl", (1, 2), "x86_64-unknown-linux-musl"),
    ],
)
def test_uv_is_never_promised_a_newer_c_library(libc: str, version: tuple[int, int], platform: str) -> None:
    assert Target("3.11", "x86_64", libc, version).uv_platform == platform


def test_a_name_that_is_no_wheel_has_no_rank() -> None:
    with pytest.raises(ValueError, match=r"not-a-wheel"):
        BOOKWORM.rank("not-a-wheel.zip")
