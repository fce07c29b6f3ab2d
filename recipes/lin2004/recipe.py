"""ROUGE, by Google's reimplementation: overlap of a text with references, in words, pairs, subsequences."""

from reprobuild import apt, files, image, predictor, recipe, wheels


def score(precision, recall, fmeasure):
    return {"precision": precision, "recall": recall, "fmeasure": fmeasure}


# Values of the package's own tests, rouge_scorer_test.py.
TARGET = "testing one two"
NOTHING = score(0, 0, 0)
ONE = score(1, 1 / 3, 1 / 2)
TWO = score(1, 2 / 3, 4 / 5)
TESTED = [
    ({"candidate": "testing", "references": [TARGET]}, {"rouge1": ONE, "rouge2": NOTHING, "rougeL": ONE}),
    (
        {"candidate": "testing one", "references": [TARGET]},
        {"rouge1": TWO, "rouge2": score(1, 1 / 2, 2 / 3), "rougeL": TWO},
    ),
    ({"candidate": "", "references": [TARGET]}, {"rouge1": NOTHING, "rouge2": NOTHING, "rougeL": NOTHING}),
]


@recipe(version="1.0")
def lin2004():
    inputs = {"candidate": str, "references": "list[str]"}
    outputs = {"rouge1": dict, "rouge2": dict, "rougeL": dict}
    options = "--stemmer {stemmer} --input-file {input} --output-file {output}"
    return image(
        apt("bookworm", "python3", "libstdc++6"),
        # Published as source alone: it is built in the image.
        wheels("rouge-score==0.1.2", "numpy==2.4.6", build=True),
        files("src/run.py", to="/app/run.py"),
        workdir="/app",
        predictors={
            "default": predictor(
                f"python3 run.py item {options}",
                inputs=inputs,
                outputs=outputs,
                scope="item",
                macro="mean",
                parameters={"stemmer": False},
                tolerance=1e-9,
                examples=TESTED,
            ),
            "macro": predictor(
                f"python3 run.py macro {options}",
                inputs=inputs,
                outputs=outputs,
                scope="batch",
                parameters={"stemmer": False},
                tolerance=1e-9,
                examples=[
                    (
                        [record for record, _ in TESTED[:2]],
                        [
                            {
                                "rouge1": score(1, 1 / 2, 13 / 20),
                                "rouge2": score(1 / 2, 1 / 4, 1 / 3),
                                "rougeL": score(1, 1 / 2, 13 / 20),
                            }
                        ]
                        * 2,
                    )
                ],
            ),
        },
    )
