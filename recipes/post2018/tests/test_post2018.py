from __future__ import annotations

import pytest

from reprobuild import aggregate, load
from reprobuild.errors import UsageError

CANDIDATES = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
REFERENCES = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected.", "No one was surprised."],
    ["The man bit him first.", "The man had bitten the dog."],
]


def records(references: list[list[str]]) -> list[dict[str, object]]:
    return [
        {"candidate": candidate, "references": own}
        for candidate, own in zip(CANDIDATES, references, strict=True)
    ]


def test_a_corpus_has_the_scores_of_the_readme() -> None:
    outputs = load("post2018").predict_batch(records(REFERENCES))
    assert len(outputs) == 3 and outputs[0] == outputs[1] == outputs[2]
    assert f"{outputs[0]['bleu']:.2f}" == "48.53"
    assert f"{outputs[0]['chrf']:.2f}" == "59.73"
    expected = "nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
    assert outputs[0]["signatures"]["bleu"] == expected


def test_a_variable_number_of_references_has_the_score_of_the_readme() -> None:
    outputs = load("post2018").predict_batch(records([REFERENCES[0][1:], *REFERENCES[1:]]))
    assert f"{outputs[0]['bleu']:.2f}" == "29.44"
    assert outputs[0]["signatures"]["bleu"].startswith("nrefs:var|")


def test_as_a_metric_it_has_both() -> None:
    macro, items = load("post2018/metric").evaluate(records(REFERENCES))
    (corpus, *_) = load("post2018").predict_batch(records(REFERENCES))
    assert macro == corpus
    assert items == load("post2018/sentence").predict_batch(records(REFERENCES))


def test_shards_of_a_corpus_are_refused() -> None:
    model = load("post2018/metric")
    shards = [model.evaluate([record]) for record in records(REFERENCES)]
    with pytest.raises(UsageError, match="post2018/metric is a corpus metric"):
        aggregate(shards)


def test_sentences_are_scored_alone() -> None:
    model = load("post2018/sentence")
    together = model.predict_batch(records(REFERENCES))
    assert together == [model.predict(**record) for record in records(REFERENCES)]
    assert together[0]["bleu"] == pytest.approx(100) and together[0]["ter"] == 0


def test_lowercase_counts() -> None:
    model = load("post2018/sentence")
    given = {"candidate": "THE DOG BIT THE MAN.", "references": ["the dog bit the man."]}
    assert model.predict(**given, lowercase=True)["bleu"] == pytest.approx(100)
    assert model.predict(**given)["bleu"] < 50
