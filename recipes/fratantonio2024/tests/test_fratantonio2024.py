from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reprobuild import load

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("gradient.png", "png"),
        ("hello.c", "c"),
        ("log.js", "javascript"),
        ("mean.py", "python"),
        ("nothing", "empty"),
        ("page.html", "html"),
        ("planets.csv", "csv"),
        ("planets.json", "json"),
        ("settings.ini", "ini"),
    ],
)
def test_names_the_type_of_a_file(name: str, label: str) -> None:
    found = load("fratantonio2024").predict(path=str(FIXTURES / name))
    assert found["label"] == label
    assert 0.5 < found["score"] <= 1


def test_looks_at_the_contents_and_not_at_the_name(tmp_path: Path) -> None:
    renamed = tmp_path / "picture.png"
    shutil.copyfile(FIXTURES / "mean.py", renamed)
    assert load("fratantonio2024").predict(path=str(renamed))["label"] == "python"
