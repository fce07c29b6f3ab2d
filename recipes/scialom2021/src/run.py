"""Score the texts of a JSON Lines file against their source, reference, or both with QuestEval."""

import argparse
import json
import sys

SCORES = ("precision", "recall", "fscore")
OPTIONS = {
    "text2text": {},
    # What the authors recommend for each task.
    "summarization": {"do_weighter": True},
    "text_simplification": {"do_BERTScore": True},
}


def read(path):
    with open(path, encoding="utf-8") as records:
        for number, line in enumerate(records, start=1):
            record = json.loads(line)
            for field in ("sources", "references"):
                if len(record[field]) > 1:
                    sys.exit(f"record {number} has {len(record[field])} {field}; QuestEval takes one")
            if not record["sources"] and not record["references"]:
                sys.exit(f"record {number} has neither source nor reference")
            yield record


def score_items(records, task):
    from questeval.questeval_metric import QuestEval

    metric = QuestEval(task=task, isCuda=False, **OPTIONS[task])
    for record in records:
        found = metric.compute_all(
            record["candidate"],
            record["sources"][0] if record["sources"] else None,
            record["references"][0] if record["references"] else None,
        )
        yield {name: float(found["scores"][name]) for name in SCORES}


def score_macro(records, task):
    """Give the same for each record: the means over all of them."""
    scores = list(score_items(records, task))
    for _ in scores:
        yield {name: sum(one[name] for one in scores) / len(scores) for name in SCORES}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=sorted(OPTIONS))
    parser.add_argument("mode", choices=("item", "macro"))
    parser.add_argument("--input-file", required=True)
    parser.add_argument("--output-file", required=True)
    arguments = parser.parse_args()
    records = list(read(arguments.input_file))
    score = score_items if arguments.mode == "item" else score_macro
    with open(arguments.output_file, "w", encoding="utf-8") as outputs:
        for output in score(records, arguments.task) if records else ():
            outputs.write(json.dumps(output) + "\n")


if __name__ == "__main__":
    main()
