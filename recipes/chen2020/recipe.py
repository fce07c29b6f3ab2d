"""LERC, the metric of MOCHA: how right an answer to a question about a text is, beside a reference."""

from reprobuild import files, git, image, oci, predictor, recipe, run, url, wheels

ARCHIVE = "https://storage.googleapis.com/allennlp-public-models/lerc-2020-11-18.tar.gz"


@recipe(version="1.0")
def chen2020():
    return image(
        oci("python:3.7"),
        # What requirements.txt names for predictions, as the index stood when the model was published.
        wheels("allennlp==1.1.0", "scipy", python="3.7", as_of="2020-11-30", build=True),
        git(
            "https://github.com/anthonywchen/MOCHA",
            "debf4d27888d8d36fd5c6d3a9fa02b450e6fbd93",
            to="/opt/mocha",
        ),
        url(ARCHIVE, to="/opt/lerc/model.tar.gz"),
        files("src/run.py", to="/app/run.py"),
        # The model's transformer is fetched when it is loaded: a first prediction does so.
        files("src/warm-up.jsonl", to="/app/warm-up.jsonl"),
        run(
            "python run.py lerc --input-file warm-up.jsonl --output-file /dev/null",
            network="recorded",
            workdir="/app",
        ),
        env={"PYTHONPATH": "/opt/mocha"},
        workdir="/app",
        predictors={
            "lerc": predictor(
                "python run.py lerc --input-file {input} --output-file {output}",
                inputs={"context": str, "question": str, "reference": str, "candidate": str},
                outputs={"score": float},
                scope="item",
                tolerance=1e-4,
            ),
            "eval": predictor(
                "python run.py eval --input-file {input} --output-file {output}",
                inputs={"dataset": str, "source": str, "score": float, "prediction": float},
                outputs={"pearson": dict},
                scope="batch",
                tolerance=1e-9,
                examples=[
                    (
                        [
                            {"dataset": "drop", "source": "a", "score": score, "prediction": prediction}
                            for score, prediction in ((1, 1), (2, 2), (3, 3))
                        ]
                        + [
                            {"dataset": "drop", "source": "b", "score": score, "prediction": prediction}
                            for score, prediction in ((1, 3), (2, 2), (3, 1))
                        ],
                        [{"pearson": {"drop": {"a": 1.0, "b": -1.0, "overall": 0.0}}}] * 6,
                    )
                ],
            ),
        },
    )
