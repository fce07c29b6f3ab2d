"""Score answers of a JSON Lines file with LERC, or compare predicted with human scores."""

import argparse
import json

ARCHIVE = "/opt/lerc/model.tar.gz"
FIELDS = ("context", "question", "reference", "candidate")
BATCH = 8


def read(path):
    with open(path, encoding="utf-8") as records:
        return [json.loads(line) for line in records]


def predict(records):
    """Give LERC's score of each answer."""
    from allennlp.predictors import Predictor
    from lerc.lerc_predictor import LERCPredictor  # noqa: F401 - registers the predictor

    predictor = Predictor.from_path(archive_path=ARCHIVE, predictor_name="lerc", cuda_device=-1)
    for start in range(0, len(records), BATCH):
        batch = [{field: record[field] for field in FIELDS} for record in records[start : start + BATCH]]
        for output in predictor.predict_batch_json(batch):
            yield {"score": float(output["pred_score"])}


def correlate(records):
    """Give the same for each record: Pearson's correlations by dataset, of all of it and of each source."""
    from scipy.stats import pearsonr

    groups = {}
    for record in records:
        dataset = groups.setdefault(record["dataset"], {})
        for name in ("overall", record["source"]):
            scores, predictions = dataset.setdefault(name, ([], []))
            scores.append(record["score"])
            predictions.append(record["prediction"])
    found = {
        dataset: {name: _pearson(pearsonr, *values) for name, values in sources.items()}
        for dataset, sources in groups.items()
    }
    for _ in records:
        yield {"pearson": found}


def _pearson(pearsonr, scores, predictions):
    """Give a correlation, or None where there is none: of one pair, or of values that are all alike."""
    if len(set(scores)) < 2 or len(set(predictions)) < 2:
        return None
    return float(pearsonr(scores, predictions)[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=("lerc", "eval"))
    parser.add_argument("--input-file", required=True)
    parser.add_argument("--output-file", required=True)
    arguments = parser.parse_args()
    work = predict if arguments.mode == "lerc" else correlate
    records = read(arguments.input_file)
    with open(arguments.output_file, "w", encoding="utf-8") as outputs:
        for output in work(records) if records else ():
            outputs.write(json.dumps(output) + "\n")


if __name__ == "__main__":
    main()
