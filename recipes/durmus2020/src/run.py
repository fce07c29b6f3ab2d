"""Score the summaries of a JSON Lines file against their documents with FEQA."""

import argparse
import json
import sys


def read(path):
    with open(path, encoding="utf-8") as records:
        for number, line in enumerate(records, start=1):
            record = json.loads(line)
            if len(record["sources"]) != 1:
                sys.exit("record {} has {} sources; FEQA takes one".format(number, len(record["sources"])))
            yield record


def score_items(records):
    """Give each record's score.

    FEQA gives the scores of a call in the order of their numbers as text (0, 1, 10, 2, …), so that each
    record is a call of its own.
    """
    from feqa import FEQA

    scorer = FEQA(use_gpu=False)
    for record in records:
        (score,) = scorer.compute_score(record["sources"], [record["candidate"]], aggregate=False)
        yield {"feqa": float(score)}


def score_macro(records):
    """Give the same for each record: the mean over all of them."""
    scores = [one["feqa"] for one in score_items(records)]
    for _ in scores:
        yield {"feqa": sum(scores) / len(scores)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=("item", "macro"))
    parser.add_argument("--input-file", required=True)
    parser.add_argument("--output-file", required=True)
    arguments = parser.parse_args()
    records = list(read(arguments.input_file))
    score = score_items if arguments.mode == "item" else score_macro
    with open(arguments.output_file, "w", encoding="utf-8") as outputs:
        for output in score(records) if records else ():
            outputs.write(json.dumps(output) + "\n")


if __name__ == "__main__":
    main()
