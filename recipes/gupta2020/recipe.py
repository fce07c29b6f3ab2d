"""Neural module networks for DROP: answers to questions that need reasoning over a text."""

from reprobuild import files, gdrive, git, image, oci, predictor, recipe, run, url, wheels

SPACY = "https://github.com/explosion/spacy-models/releases/download"
LARGE = f"{SPACY}/en_core_web_lg-2.1.0/en_core_web_lg-2.1.0.tar.gz"
PYTHONPATH = "/opt/nmn-drop:/opt/allennlp-semparse:/opt/en_core_web_lg"


@recipe(version="1.0")
def gupta2020():
    return image(
        oci("python:3.7"),
        wheels(
            "allennlp==0.9.0",
            "dateparser==0.7.2",
            "overrides==3.1.0",
            "spacy==2.1.9",
            python="3.7",
            as_of="2020-06-30",
            build=True,
        ),
        git(
            "https://github.com/allenai/allennlp-semparse",
            "937d5945488a33c61d0047bd74d8106e60340bbd",
            to="/opt/allennlp-semparse",
            licence="Apache-2.0",
        ),
        git(
            "https://github.com/nitishgupta/nmn-drop",
            "1ff2047be76689e914cca35b9ace713f3e502577",
            to="/opt/nmn-drop",
        ),
        url(LARGE, to="/opt/en_core_web_lg", unpack=True, strip=1, licence="MIT"),
        gdrive("14gYu4cEhz_KMsCASAl7zHu-Jsk0dxsZs", to="/opt/model/model.tar.gz"),
        files("src/run.py", to="/app/run.py"),
        files("src/warm-up.jsonl", to="/app/warm-up.jsonl"),
        # BERT's vocabulary and weights are fetched when the model is loaded: a first prediction does so.
        run(
            "python /app/run.py --input-file /app/warm-up.jsonl --output-file /dev/null",
            network="recorded",
            workdir="/opt/nmn-drop",
        ),
        env={"PYTHONPATH": PYTHONPATH},
        workdir="/opt/nmn-drop",
        predictors={
            "nmn": predictor(
                "python /app/run.py --input-file {input} --output-file {output}",
                inputs={"context": str, "question": str},
                outputs={"answer": str},
                scope="item",
            ),
        },
    )
