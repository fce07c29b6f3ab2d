from __future__ import annotations

import pytest

from reprobuild import load

SOURCE = "Robin took the train to the sea on Monday. The journey lasted two hours."
SAME = {"candidate": "Robin took the train to the sea.", "sources": [SOURCE], "references": []}
OTHER = {"candidate": "Kim flew to the mountains.", "sources": [SOURCE], "references": []}


@pytest.mark.parametrize("name", ["questeval", "questeval-summarization", "questeval-simplification"])
def test_what_the_source_says_has_higher_scores(name: str) -> None:
    same, other = load(f"scialom2021/{name}").predict_batch([SAME, OTHER])
    assert same["fscore"] > other["fscore"]


def test_a_reference_alone_will_do() -> None:
    found = load("scialom2021/questeval").predict(
        candidate=SAME["candidate"], sources=[], references=["Robin went to the sea by train."]
    )
    assert 0 <= found["fscore"] <= 1


def test_macro_scores_are_the_means() -> None:
    items = load("scialom2021/questeval").predict_batch([SAME, OTHER])
    first, second = load("scialom2021/questeval-macro").predict_batch([SAME, OTHER])
    assert first == second
    assert first["recall"] == pytest.approx(sum(one["recall"] for one in items) / 2)
