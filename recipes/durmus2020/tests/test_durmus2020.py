from __future__ import annotations

import pytest

from reprobuild import load

SOURCE = "Robin took the train to the sea on Monday. The journey lasted two hours."


def test_what_the_document_says_is_more_faithful_than_what_it_does_not() -> None:
    same, other = load("durmus2020/feqa").predict_batch(
        [
            {"candidate": "Robin took the train to the sea.", "sources": [SOURCE]},
            {"candidate": "Kim flew to the mountains.", "sources": [SOURCE]},
        ]
    )
    assert same["feqa"] > other["feqa"]


def test_macro_scores_are_the_means() -> None:
    records = [
        {"candidate": candidate, "sources": [SOURCE]}
        for candidate in ("Robin took the train to the sea.", "Kim flew to the mountains.")
    ]
    items = load("durmus2020/feqa").predict_batch(records)
    first, second = load("durmus2020/macro").predict_batch(records)
    assert first == second
    assert first["feqa"] == pytest.approx(sum(one["feqa"] for one in items) / 2)
