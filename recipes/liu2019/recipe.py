"""PreSumm: summaries of news, extracted or written anew, by BERT encoders (BertSum)."""

from reprobuild import apt, files, gdrive, git, image, oci, predictor, recipe, run, url, wheels

CORENLP = "https://nlp.stanford.edu/software/stanford-corenlp-full-2017-06-09.zip"
MODELS = {
    "bertsumext": "1kKWoV0QCbeIuFt85beQgJ4v0lujaXobJ",
    "bertsumextabs": "1-IKVCtc4Q-BdZpjXc4s70_fRsWnjtYLr",
    "bertsumextabs-xsum": "1H50fClyTkNprWJNh10HWdGEdDdQIkzsI",
    "transformerabs": "1yLCqT__ilQ3mf5YUUCw9-UToesX5Roxy",
}
# How long summaries of each data set are, and the weight of length in the beam search.
CNN_DM = {"min_length": 50, "max_length": 200, "alpha": 0.95}
XSUM = {"min_length": 20, "max_length": 100, "alpha": 0.9}


@recipe(version="1.0")
def liu2019(
    bertsumext: bool = True,
    bertsumextabs: bool = True,
    bertsumextabs_xsum: bool = True,
    transformerabs: bool = True,
):
    wanted = {
        "bertsumext": bertsumext,
        "bertsumextabs": bertsumextabs,
        "bertsumextabs-xsum": bertsumextabs_xsum,
        "transformerabs": transformerabs,
    }
    chosen = [name for name, is_wanted in wanted.items() if is_wanted]
    if not chosen:
        raise ValueError("at least one model is needed")
    return image(
        oci("python:3.7-slim"),
        # CoreNLP splits documents into sentences; it is of 2017, and runs on later Java.
        apt("bookworm", "openjdk-17-jre-headless"),
        wheels(
            "torch==1.1.0",
            "multiprocess==0.70.9",
            "numpy==1.17.2",
            "pyrouge==0.1.3",
            "pytorch-transformers==1.2.0",
            "tensorboardX==1.9",
            python="3.7",
            as_of="2019-12-31",
            build=True,
        ),
        git(
            "https://github.com/nlpyang/PreSumm",
            "25c24abd236f4aa896660e1e6dc509d4f3aec372",
            to="/opt/presumm",
            licence="MIT",
        ),
        url(CORENLP, to="/opt/corenlp", unpack=True, strip=1, licence="GPL-3.0-or-later"),
        *(gdrive(MODELS[name], to=f"/opt/models/{name}", unpack=True) for name in chosen),
        files("src", to="/app"),
        # BERT's vocabulary and configuration are fetched when a model is loaded: a first summary does so.
        *(
            run(
                f"python run.py {name} --input-file warm-up.jsonl --output-file /dev/null "
                "--min-length 5 --max-length 10 --alpha 0.9",
                network="recorded",
                workdir="/app",
            )
            for name in chosen
        ),
        env={"CLASSPATH": "/opt/corenlp/*"},
        workdir="/app",
        predictors={name: _predictor(name) for name in chosen},
    )


def _predictor(name):
    lengths = XSUM if name.endswith("xsum") else CNN_DM
    options = (
        "" if name == "bertsumext" else "--min-length {min_length} --max-length {max_length} --alpha {alpha}"
    )
    return predictor(
        f"python run.py {name} {options} --input-file {{input}} --output-file {{output}}",
        inputs={"document": str},
        outputs={"summary": "list[str]"},
        scope="item",
        parameters={} if name == "bertsumext" else lengths,
    )
