"""BLEURT: how well a candidate says what its references say, by a trained model."""

from reprobuild import files, git, image, oci, predictor, recipe, run, url, wheels

OSS = "https://storage.googleapis.com/bleurt-oss"
CHECKPOINTS = {
    **{
        f"bleurt-{size}-{length}": f"{OSS}/bleurt-{size}-{length}.zip"
        for size in ("tiny", "base", "large")
        for length in (128, 512)
    },
    **{f"BLEURT-20{size}": f"{OSS}-21/BLEURT-20{size}.zip" for size in ("", "-D12", "-D6", "-D3")},
}


@recipe(version="1.0")
def sellam2020(checkpoints: str = "bleurt-tiny-128 bleurt-base-128 BLEURT-20"):
    """Take checkpoints by their names, with spaces between; BLEURT-20 is always among them."""
    names = sorted({"BLEURT-20", *checkpoints.split()})
    if unknown := [name for name in names if name not in CHECKPOINTS]:
        raise ValueError(f"no checkpoint {unknown[0]!r}; there are {', '.join(CHECKPOINTS)}")
    inputs = {"candidate": str, "references": "list[str]"}
    outputs = {"mean": float, "max": float}
    options = "--model {model} --input-file {input} --output-file {output}"
    # Values of BLEURT's own tests (bleurt/score_test.py), of the checkpoint that comes with its code.
    apple = "An apple a day keeps the doctor away."
    tested = (
        [
            {"candidate": apple, "references": [apple]},
            {"candidate": "An apple a day keeps doctors away.", "references": [apple]},
        ],
        [{"mean": 0.910811, "max": 0.910811}, {"mean": 0.771989, "max": 0.771989}],
        {"model": "test_checkpoint"},
    )
    return image(
        oci("python:3.7-slim"),
        wheels(
            "tensorflow==2.2.2",
            "pandas==1.1.5",
            "scipy==1.5.4",
            "tf-slim==1.1.0",
            "sentencepiece==0.1.96",
            python="3.7",
            as_of="2021-10-15",
            build=True,
        ),
        git(
            "https://github.com/google-research/bleurt",
            "c6f2375c7c178e1480840cf27cb9e2af851394f9",
            to="/opt/bleurt",
            licence="Apache-2.0",
        ),
        *(url(CHECKPOINTS[name], to="/opt/checkpoints", unpack=True, licence="Apache-2.0") for name in names),
        run("ln -s /opt/bleurt/bleurt/test_checkpoint /opt/checkpoints/test_checkpoint"),
        files("src/run.py", to="/app/run.py"),
        env={"PYTHONPATH": "/opt/bleurt", "CUDA_VISIBLE_DEVICES": "-1"},
        workdir="/app",
        predictors={
            "bleurt": predictor(
                f"python run.py item {options}",
                inputs=inputs,
                outputs=outputs,
                scope="item",
                parameters={"model": "BLEURT-20"},
                tolerance=1e-5,
                examples=[tested],
            ),
            "macro": predictor(
                f"python run.py macro {options}",
                inputs=inputs,
                outputs=outputs,
                scope="batch",
                parameters={"model": "BLEURT-20"},
                tolerance=1e-5,
            ),
        },
    )
