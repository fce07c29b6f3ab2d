"""Squares numbers on a GPU: a kernel that the host's driver compiles and runs, to see whether GPUs work."""

from reprobuild import apt, files, image, predictor, recipe


@recipe(version="1.0")
def cuda_smoke():
    return image(
        apt("bookworm", "python3"),
        files("src/run.py", to="/app/run.py"),
        workdir="/app",
        predictors={
            "default": predictor(
                "python3 run.py --input-file {input} --output-file {output} --device {device}",
                inputs={"numbers": "list[int]"},
                outputs={"squares": "list[int]"},
                scope="item",
                cuda=True,
            ),
        },
    )
