from __future__ import annotations

from reprobuild import load

SENTENCES = {
    "VADER is smart, handsome, and funny.": (0.0, 0.254, 0.746, 0.8316),
    "VADER is not smart, handsome, nor funny.": (0.646, 0.354, 0.0, -0.7424),
    "At least it isn't a horrible book.": (0.0, 0.637, 0.363, 0.431),
    "Today only kinda sux! But I'll get by, lol": (0.127, 0.556, 0.317, 0.5249),
    "Catch utf-8 emoji such as 💘 and 💋 and 😁": (0.0, 0.721, 0.279, 0.7003),
}
"""Of VADER's README; all sixteen of them are the recipe's example."""


def test_gives_the_scores_of_the_readme_to_the_last_digit() -> None:
    outputs = load("hutto2014").predict_batch([{"text": text} for text in SENTENCES])
    names = ("neg", "neu", "pos", "compound")
    assert outputs == [dict(zip(names, scores, strict=True)) for scores in SENTENCES.values()]


def test_a_text_without_sentiment_is_neutral() -> None:
    scores = load("hutto2014").predict("The table has four legs.")
    assert scores == {"neg": 0.0, "neu": 1.0, "pos": 0.0, "compound": 0.0}


def test_an_empty_text_has_no_scores() -> None:
    assert load("hutto2014").predict("") == {"neg": 0.0, "neu": 0.0, "pos": 0.0, "compound": 0.0}
