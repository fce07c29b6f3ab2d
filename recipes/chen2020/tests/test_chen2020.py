from __future__ import annotations

import pytest

from reprobuild import load

GIVEN = {
    "context": "Robin walked to the station and took the train to the sea.",
    "question": "How did Robin get to the sea?",
    "reference": "by train",
}


def test_a_right_answer_has_a_higher_score_than_a_wrong_one() -> None:
    right, wrong = load("chen2020/lerc").predict_batch(
        [{**GIVEN, "candidate": "by train"}, {**GIVEN, "candidate": "by plane"}]
    )
    assert right["score"] > wrong["score"]


def test_correlations_are_by_dataset_and_source() -> None:
    records = [
        {"dataset": dataset, "source": source, "score": score, "prediction": prediction}
        for dataset, source, score, prediction in (
            ("drop", "a", 1, 2),
            ("drop", "a", 2, 4),
            ("drop", "a", 4, 8),
            ("quoref", "b", 1, 1),
        )
    ]
    first = load("chen2020/eval").predict_batch(records)[0]["pearson"]
    assert first["drop"]["a"] == pytest.approx(1)
    assert first["quoref"] == {"overall": None, "b": None}
