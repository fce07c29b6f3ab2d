"""sacreBLEU: BLEU, chrF and TER of translations, comparable between papers."""

from reprobuild import apt, files, image, predictor, recipe, wheels

# The example of sacreBLEU's README ("Using SacreBLEU from Python"), sentence by sentence.
README = [
    {
        "candidate": "The dog bit the man.",
        "references": ["The dog bit the man.", "The dog had bit the man."],
    },
    {
        "candidate": "It wasn't surprising.",
        "references": ["It was not unexpected.", "No one was surprised."],
    },
    {
        "candidate": "The man had just bitten him.",
        "references": ["The man bit him first.", "The man had bitten the dog."],
    },
]
# The same with a variable number of references: the first sentence has one alone.
README_VARIABLE = [{**README[0], "references": README[0]["references"][1:]}, *README[1:]]

SENTENCES = [
    {"bleu": 100.0, "chrf": 100.0, "ter": 0.0},
    {"bleu": 14.794015674776452, "chrf": 35.34635301425291, "ter": 75.0},
    {"bleu": 29.071536848410968, "chrf": 51.87740799504779, "ter": 54.54545454545454},
]


@recipe(version="1.0")
def post2018():
    inputs = {"candidate": str, "references": "list[str]"}
    options = "--tokenize {tokenize} --lowercase {lowercase} --input-file {input} --output-file {output}"
    parameters = {"tokenize": "13a", "lowercase": False}
    return image(
        apt("bookworm", "python3", "libstdc++6"),
        wheels("sacrebleu==2.6.0"),
        files("src/run.py", to="/app/run.py"),
        workdir="/app",
        predictors={
            "default": predictor(
                f"python3 run.py corpus {options}",
                inputs=inputs,
                outputs={"bleu": float, "chrf": float, "ter": float, "signatures": dict},
                scope="batch",
                parameters=parameters,
                tolerance=1e-9,
                examples=[
                    (README, [{"bleu": 48.530827009929865, "chrf": 59.72751782684763, "ter": 40.0}] * 3),
                    (
                        README_VARIABLE,
                        [{"bleu": 29.443657650964873, "chrf": 51.70106133373036, "ter": 45.16129032258064}]
                        * 3,
                    ),
                ],
            ),
            "sentence": predictor(
                f"python3 run.py sentence {options}",
                inputs=inputs,
                outputs={"bleu": float, "chrf": float, "ter": float},
                scope="item",
                macro="mean",
                parameters=parameters,
                tolerance=1e-9,
                examples=[(README, SENTENCES)],
            ),
            "metric": predictor(
                f"python3 run.py both {options}",
                inputs=inputs,
                outputs={"bleu": float, "chrf": float, "ter": float},
                scope="batch",
                macro="corpus",
                parameters=parameters,
                tolerance=1e-9,
                examples=[(README, SENTENCES)],
            ),
        },
    )
