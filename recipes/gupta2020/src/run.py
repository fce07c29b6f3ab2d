"""Answer the questions of a JSON Lines file with the neural module network for DROP."""

import argparse
import json

MODEL = "/opt/model/model.tar.gz"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input-file", required=True)
    parser.add_argument("--output-file", required=True)
    arguments = parser.parse_args()
    with open(arguments.input_file, encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]

    from allennlp.common.util import import_submodules
    from allennlp.models.archival import load_archive
    from allennlp.predictors import Predictor

    import_submodules("semqa")
    archive = load_archive(MODEL, cuda_device=-1)
    predictor = Predictor.from_archive(archive, "drop_demo_predictor")
    with open(arguments.output_file, "w", encoding="utf-8") as outputs:
        for record in records:
            found = predictor.predict_json({"passage": record["context"], "question": record["question"]})
            outputs.write(json.dumps({"answer": str(found["answer"])}) + "\n")


if __name__ == "__main__":
    main()
