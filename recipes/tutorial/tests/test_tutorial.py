from __future__ import annotations

import pytest

from reprobuild import load


@pytest.mark.parametrize(
    ("text", "reversed_text"),
    [("abc", "cba"), ("", ""), ("two words", "sdrow owt"), ('"\\\n', '\n\\"'), ("über 💘", "💘 rebü")],
    ids=["letters", "empty", "words", "escapes", "beyond ascii"],
)
def test_reverses_a_text(text: str, reversed_text: str) -> None:
    assert load("tutorial").predict(text=text) == reversed_text


def test_reverses_a_batch_in_order() -> None:
    items = [{"text": f"text {number}"} for number in range(50)]
    outputs = load("tutorial").predict_batch(items)
    assert outputs == [item["text"][::-1] for item in items]
