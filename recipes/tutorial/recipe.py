"""Reverse each text: the smallest complete recipe."""

from reprobuild import apt, files, image, predictor, recipe


@recipe(version="1.0")
def tutorial():
    return image(
        apt("bookworm", "python3"),
        files("src/run.py", to="/app/run.py"),
        workdir="/app",
        predictors={
            "default": predictor(
                "python3 run.py --input-file {input} --output-file {output}",
                inputs={"text": str},
                outputs={"output": str},
                scope="item",
                examples=[
                    ({"text": "abc"}, {"output": "cba"}),
                    ([{"text": ""}, {"text": "Stra\u00dfe"}], [{"output": ""}, {"output": "e\u00dfartS"}]),
                ],
            ),
        },
    )
