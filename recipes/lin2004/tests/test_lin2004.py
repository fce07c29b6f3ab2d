"""Scores that the package's own tests give (rouge_scorer_test.py, testdata), from runs of ROUGE-1.5.5."""

from __future__ import annotations

import pytest

from reprobuild import aggregate, load

PAIRS = [
    {
        "candidate": "rFDJCRtion Ht-LM EKtDXkME,yz'RBr q'wer wrojNbN wL,b .a-'XdQggyFl jB-RPP'iyOIcUxi",
        "references": [
            "ZfbCUIUuePaiLVUlCaUXxkpu XPeWing tUHfPMuZ',-Xd Y BrUgVJing M-HV.-DgdDaY.rFDJCRing Ht-LM "
            "EKBDXkME,yz'RBr q'wtion wIojNbN wL,b .a-'XdQggyFl jB-RPP'iyOIcUxer tKM L"
        ],
    },
    {
        "candidate": "n cw-WeFyu vC MoBL Xdn g wkvcEiGvKtion BDFhrpMer pstion sbKao Q m qier LMmed "
        "HqqLFXe,XPY,J XsurkMeo ,ed nB'wH'bWVHjWFEer tQ.saefZwJtKrTlixYpMMNJtion UCAPwNHeYVjD",
        "references": [
            "KsJdPByEtAor fE-Qg Dpdbring cw-WeFyu vC MoBL Xdn g wkvcEiGvKtion BDFhrpMtion psing sbKao Q m "
            "qiing LMmer HqqLFXe,XPY,J XsurkMer ,ed nB'wH'bWVHjWFEing tQ.saefZwJtKrTlixYpMMsJing "
            "UCAPwNHeYVjDing c T BUySKtion gMPfJpwGw p'NvxAoping eu pBwMBKV'I DNxqelhu,PHPxDEq,mtion SN"
        ],
    },
]
# Recall, precision, F of ROUGE-1.5.5, in the order in which the tests have them.
PLAIN = [
    {
        "rouge1": (0.40741, 0.68750, 0.51163),
        "rouge2": (0.30769, 0.53333, 0.39024),
        "rougeL": (0.40741, 0.68750, 0.51163),
    },
    {
        "rouge1": (0.40476, 0.65385, 0.50000),
        "rouge2": (0.29268, 0.48000, 0.36364),
        "rougeL": (0.40476, 0.65385, 0.50000),
    },
]
STEMMED = [
    {"rouge1": (0.40741, 0.68750, 0.51163), "rouge2": (0.30769, 0.53333, 0.39024)},
    {"rouge1": (0.42857, 0.69231, 0.52941), "rouge2": (0.29268, 0.48000, 0.36364)},
]


def test_shards_are_joined_into_the_means_of_all() -> None:
    model = load("lin2004")
    whole = model.evaluate(PAIRS)
    assert aggregate([model.evaluate(PAIRS[:1]), model.evaluate(PAIRS[1:])]) == whole
    for kind, values in PLAIN[0].items():
        means = [(one + other) / 2 for one, other in zip(values, PLAIN[1][kind], strict=True)]
        assert_scores(dict(whole.macro), {kind: tuple(means)})


def assert_scores(output: dict[str, dict[str, float]], expected: dict[str, tuple[float, ...]]) -> None:
    for kind, values in expected.items():
        found = tuple(output[kind][part] for part in ("recall", "precision", "fmeasure"))
        assert found == pytest.approx(values, abs=5e-6)


@pytest.mark.parametrize(("stemmer", "expected"), [(False, PLAIN), (True, STEMMED)], ids=["plain", "stemmed"])
def test_scores_are_those_of_rouge_155(stemmer: bool, expected: list[dict[str, tuple[float, ...]]]) -> None:
    for output, values in zip(load("lin2004").predict_batch(PAIRS, stemmer=stemmer), expected, strict=True):
        assert_scores(output, values)


def test_macro_scores_are_the_means() -> None:
    items = load("lin2004").predict_batch(PAIRS)
    first, second = load("lin2004/macro").predict_batch(PAIRS)
    assert first == second
    assert first["rouge2"]["recall"] == pytest.approx((0.30769 + 0.29268) / 2, abs=1e-5)
    assert first["rouge1"]["fmeasure"] == pytest.approx(sum(one["rouge1"]["fmeasure"] for one in items) / 2)


def test_of_several_references_the_best_counts() -> None:
    model = load("lin2004")
    alone = model.predict(candidate="testing one", references=["testing one two"])
    several = model.predict(candidate="testing one", references=["nothing of it", "testing one two", ""])
    assert several == alone
