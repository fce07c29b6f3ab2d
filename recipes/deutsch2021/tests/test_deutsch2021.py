from __future__ import annotations

from reprobuild import load

REFERENCE = "Robin took the train to the sea. The journey lasted two hours."


def test_a_summary_that_says_it_all_has_higher_scores() -> None:
    whole, nothing = load("deutsch2021/qaeval").predict_batch(
        [
            {"candidate": REFERENCE, "references": [REFERENCE]},
            {"candidate": "It rained in the mountains.", "references": [REFERENCE]},
        ]
    )
    assert whole["f1"] > nothing["f1"] and whole["is_answered"] > nothing["is_answered"]
    assert whole["pairs"] == []


def test_questions_and_answers_can_be_had() -> None:
    given = {"candidate": REFERENCE, "references": [REFERENCE]}
    assert load("deutsch2021/qaeval").predict(**given, pairs=True)["pairs"]


def test_the_models_alone() -> None:
    start = REFERENCE.index("the train")
    asked = load("deutsch2021/question-generation").predict(
        context=REFERENCE, start=start, end=start + len("the train")
    )
    assert asked["question"].endswith("?")
    found = load("deutsch2021/question-answering").predict(
        context=REFERENCE, question="How long did the journey last?"
    )
    assert found["answer"] is not None and 0 <= found["probability"] <= 1
