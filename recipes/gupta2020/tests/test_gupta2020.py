from __future__ import annotations

from reprobuild import load

CONTEXT = "Denver kicked a 20-yard field goal in the first quarter and a 42-yard field goal in the third."


def test_each_question_has_an_answer_of_its_own() -> None:
    model = load("gupta2020/nmn")
    questions = ["How many yards was the longest field goal?", "How many field goals did Denver kick?"]
    records = [{"context": CONTEXT, "question": question} for question in questions]
    together = model.predict_batch(records)
    assert all(one["answer"] for one in together)
    assert together == [model.predict(**record) for record in records]
