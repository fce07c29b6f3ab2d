"""Score candidates of a JSON Lines file against their references with rouge-score."""

import argparse
import json
import sys

TYPES = ("rouge1", "rouge2", "rougeL")
PARTS = ("precision", "recall", "fmeasure")


def read(path):
    with open(path, encoding="utf-8") as records:
        for number, line in enumerate(records, start=1):
            record = json.loads(line)
            if not record["references"]:
                sys.exit(f"record {number} has no references")
            yield record


def score_items(path, has_stemmer):
    """Give each record's scores: of several references, for each type the one with the highest F counts."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(TYPES, use_stemmer=has_stemmer)
    for record in read(path):
        best = scorer.score_multi(record["references"], record["candidate"])
        yield {kind: {part: float(getattr(best[kind], part)) for part in PARTS} for kind in TYPES}


def score_macro(path, has_stemmer):
    """Give the same for each record: the means over all of them."""
    scores = list(score_items(path, has_stemmer))
    means = {
        kind: {part: sum(one[kind][part] for one in scores) / len(scores) for part in PARTS}
        for kind in TYPES
        if scores
    }
    for _ in scores:
        yield means


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=("item", "macro"))
    parser.add_argument("--input-file", required=True)
    parser.add_argument("--output-file", required=True)
    parser.add_argument("--stemmer", choices=("false", "true"), default="false")
    arguments = parser.parse_args()
    score = score_items if arguments.mode == "item" else score_macro
    with open(arguments.output_file, "w", encoding="utf-8") as outputs:
        for output in score(arguments.input_file, arguments.stemmer == "true"):
            outputs.write(json.dumps(output) + "\n")


if __name__ == "__main__":
    main()
