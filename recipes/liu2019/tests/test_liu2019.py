from __future__ import annotations

from reprobuild import load

DOCUMENT = (
    "Robin took the train to the sea on Monday. The journey lasted two hours. It rained all day, and the "
    "beach was empty. On Tuesday the sun came out, and many people went for a swim. The trains were full."
)


def test_an_extracted_summary_has_up_to_three_sentences_of_the_document() -> None:
    summary = load("liu2019/bertsumext").predict(document=DOCUMENT)["summary"]
    assert 1 <= len(summary) <= 3
    words = set(DOCUMENT.lower().replace(".", " ").replace(",", " ").split())
    assert all(set(one.lower().replace(".", " ").replace(",", " ").split()) <= words for one in summary)


def test_a_written_summary_is_as_long_as_it_may_be() -> None:
    model = load("liu2019/bertsumextabs")
    short = model.predict(document=DOCUMENT, min_length=5, max_length=10)["summary"]
    long = model.predict(document=DOCUMENT)["summary"]
    assert len(" ".join(short).split()) < len(" ".join(long).split())
