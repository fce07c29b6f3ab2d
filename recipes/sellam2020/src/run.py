"""Score candidates of a JSON Lines file against their references with BLEURT."""

import argparse
import json
import os
import sys

CHECKPOINTS = "/opt/checkpoints"
BATCH = 16


def read(path):
    with open(path, encoding="utf-8") as records:
        for number, line in enumerate(records, start=1):
            record = json.loads(line)
            if not record["references"]:
                sys.exit(f"record {number} has no references")
            yield record


def score_items(records, model):
    """Give the mean and the maximum of each record's scores over its references."""
    from bleurt.score import BleurtScorer

    folder = os.path.join(CHECKPOINTS, model)
    if not os.path.isdir(folder):
        there = ", ".join(sorted(os.listdir(CHECKPOINTS)))
        sys.exit(f"no checkpoint {model!r} in this image; it has {there}")
    pairs = [(reference, record["candidate"]) for record in records for reference in record["references"]]
    scores = iter(
        BleurtScorer(folder).score(
            references=[reference for reference, _ in pairs],
            candidates=[candidate for _, candidate in pairs],
            batch_size=BATCH,
        )
    )
    for record in records:
        own = [float(next(scores)) for _ in record["references"]]
        yield {"mean": sum(own) / len(own), "max": max(own)}


def score_macro(records, model):
    """Give the same for each record: the means over all of them."""
    scores = list(score_items(records, model))
    for _ in scores:
        yield {part: sum(one[part] for one in scores) / len(scores) for part in ("mean", "max")}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=("item", "macro"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--input-file", required=True)
    parser.add_argument("--output-file", required=True)
    arguments = parser.parse_args()
    records = list(read(arguments.input_file))
    score = score_items if arguments.mode == "item" else score_macro
    with open(arguments.output_file, "w", encoding="utf-8") as outputs:
        for output in score(records, arguments.model) if records else ():
            outputs.write(json.dumps(output) + "\n")


if __name__ == "__main__":
    main()
