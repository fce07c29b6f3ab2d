"""Score the summaries of a JSON Lines file with QAEval, or use one of its two models alone."""

import argparse
import json
import sys
from pathlib import Path

MODELS = Path("/opt/models")
GENERATION = str(MODELS / "generation" / "model.tar.gz")
SCORES = ("is_answered", "em", "f1", "lerc")
CPU = -1


def answering_folder():
    """Give the folder of the answering model: where its archive has a config.json."""
    found = sorted((MODELS / "answering").rglob("config.json"))
    if not found:
        sys.exit("the archive of the answering model has no config.json")
    return str(found[0].parent)


def score(records, with_pairs):
    from qaeval import QAEval

    for number, record in enumerate(records, start=1):
        if not record["references"]:
            sys.exit(f"record {number} has no references")
    metric = QAEval(
        generation_model_path=GENERATION,
        answering_model_dir=answering_folder(),
        cuda_device=CPU,
        use_lerc=True,
        lerc_model_path=str(MODELS / "lerc" / "model.tar.gz"),
        lerc_pretrained_model_path=str(MODELS / "lerc" / "pretraining.tar.gz"),
    )
    summaries = [record["candidate"] for record in records]
    references = [record["references"] for record in records]
    for output in metric.score_batch(summaries, references, return_qa_pairs=with_pairs):
        scores, pairs = (output[0], output[1]) if with_pairs else (output, [])
        found = {name: float(scores["qa-eval"][name]) for name in SCORES}
        yield {**found, "pairs": pairs}


def macro(records):
    """Give the same for each record: the means over all of them."""
    scores = list(score(records, with_pairs=False))
    for _ in scores:
        yield {name: sum(one[name] for one in scores) / len(scores) for name in SCORES}


def generate(records):
    from qaeval import QuestionGenerationModel

    model = QuestionGenerationModel(GENERATION, cuda_device=CPU)
    given = [(record["context"], record["start"], record["end"]) for record in records]
    for question in model.generate_all(given):
        yield {"question": question}


def answer(records):
    from qaeval import QuestionAnsweringModel

    model = QuestionAnsweringModel(answering_folder(), cuda_device=CPU)
    given = [(record["question"], record["context"]) for record in records]
    for found, probability, null_probability in model.answer_all(given):
        # No answer is more likely than the best one: then there is none.
        yield {
            "answer": found if probability > null_probability else None,
            "probability": float(probability),
            "null_probability": float(null_probability),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=("qaeval", "macro", "generate", "answer"))
    parser.add_argument("--pairs", choices=("false", "true"), default="false")
    parser.add_argument("--input-file", required=True)
    parser.add_argument("--output-file", required=True)
    arguments = parser.parse_args()
    with open(arguments.input_file, encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    work = {
        "qaeval": lambda given: score(given, arguments.pairs == "true"),
        "macro": macro,
        "generate": generate,
        "answer": answer,
    }[arguments.mode]
    with open(arguments.output_file, "w", encoding="utf-8") as outputs:
        for output in work(records) if records else ():
            outputs.write(json.dumps(output) + "\n")


if __name__ == "__main__":
    main()
