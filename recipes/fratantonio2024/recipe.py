"""Magika: what kind of content a file has, by a small neural network that ships in its wheel."""

from reprobuild import File, apt, files, image, predictor, recipe, wheels

# Small files of ours, in tests/fixtures, and what Magika says of them. The first is of Magika's README.
EXAMPLES = [
    ({"path": f"tests/fixtures/{name}"}, {"label": label, "score": score})
    for name, label, score in [
        ("log.js", "javascript", 0.8505),
        ("gradient.png", "png", 1.0),
        ("hello.c", "c", 0.9236),
        ("mean.py", "python", 0.9985),
        ("nothing", "empty", 1.0),
        ("page.html", "html", 0.7863),
        ("planets.csv", "csv", 1.0),
        ("planets.json", "json", 0.7239),
        ("settings.ini", "ini", 0.9971),
    ]
]


@recipe(version="1.0")
def fratantonio2024():
    return image(
        # ONNX Runtime's wheel is linked to the system's C++ library.
        apt("bookworm", "python3", "libstdc++6"),
        wheels("magika==1.0.3"),
        files("src/run.py", to="/app/run.py"),
        workdir="/app",
        predictors={
            "default": predictor(
                "python3 run.py --input-file {input} --output-file {output}",
                inputs={"path": File},
                outputs={"label": str, "score": float},
                scope="item",
                threads=1,
                # The last bits of a score depend on the processor's instructions.
                tolerance=1e-3,
                examples=EXAMPLES,
            ),
        },
    )
