"""Scores that BLEURT's own tests give (bleurt/score_test.py), of the checkpoint that comes with its code."""

from __future__ import annotations

import pytest

from reprobuild import load

APPLE = "An apple a day keeps the doctor away."
OTHER = "An apple a day keeps doctors away."
RECORDS = [{"candidate": APPLE, "references": [APPLE]}, {"candidate": OTHER, "references": [APPLE]}]
SCORES = [0.910811, 0.771989]


def test_scores_are_those_of_the_package() -> None:
    outputs = load("sellam2020/bleurt").predict_batch(RECORDS, model="test_checkpoint")
    assert [one["mean"] for one in outputs] == pytest.approx(SCORES, abs=1e-5)
    assert [one["max"] for one in outputs] == pytest.approx(SCORES, abs=1e-5)


def test_of_several_references_there_is_a_mean_and_a_maximum() -> None:
    model = load("sellam2020/bleurt")
    found = model.predict(candidate=OTHER, references=[APPLE, OTHER], model="test_checkpoint")
    alone = model.predict(candidate=OTHER, references=[OTHER], model="test_checkpoint")
    assert found["mean"] == pytest.approx((SCORES[1] + alone["mean"]) / 2, abs=1e-5)
    assert found["max"] == pytest.approx(max(SCORES[1], alone["mean"]), abs=1e-5)


def test_macro_scores_are_the_means() -> None:
    first, second = load("sellam2020/macro").predict_batch(RECORDS, model="test_checkpoint")
    assert first == second
    assert first["mean"] == pytest.approx(sum(SCORES) / 2, abs=1e-5)
