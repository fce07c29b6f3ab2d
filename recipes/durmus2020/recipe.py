"""FEQA: whether a summary is faithful to its document, by questions that both are asked."""

from reprobuild import files, gdrive, git, image, oci, predictor, recipe, run, url, wheels

SPACY = "https://github.com/explosion/spacy-models/releases/download"
SMALL = f"{SPACY}/en_core_web_sm-2.3.1/en_core_web_sm-2.3.1.tar.gz"
GENERATION = {
    "checkpoint_best.pt": "1GFnimonLFgGal1LT6KRgMJZLbxmNJvxF",
    "dict.src.txt": "17CShx4cUEQTl_gpLapnbMsc7CmDAaV7r",
    "dict.tgt.txt": "1_dUN7CQZdqPxoiezzWp5yByuEXVJFwce",
}
ANSWERING = {
    "config.json": "1IwWhQf9MP2G-vOBsQD87kMMEBS0IvcXa",
    "dev-v1.1.json": "1tsWhCsXSxxgkBMBnGB9wkOliJH8K3Prs",
    "evaluate-v1.1.py": "1p-LlVVAGuMYjFckjK5HxdiK5xEuM-2Ev",
    "pytorch_model.bin": "1pWMsSTTwcoX0l75bzNFjvSC7firawp9M",
    "run_squad.py": "1yZKNFU7md4KPGmThPwsp4dt95HkKsArX",
    "special_tokens_map.json": "1rbv75oE5x0rXxtGGXETTvLBoHK5h3Lfj",
    "tokenizer_config.json": "1oPM62qOWofGnaLmlX_CWkYKbZ-KEMtym",
    "train-v1.1.json": "1y9_EgnoBbm0SJeCaNZFfjOyraeA-qfqP",
    "training_args.bin": "1r49Y1Cp2t6_II2xjOyxbvYVvp2EQj3zu",
    "vocab.txt": "1iGZrP6_3PiiH0pcF4zoSbqAsWdFvimfF",
}
PYTHONPATH = "/opt/feqa:/opt/en_core_web_sm"


@recipe(version="1.0")
def durmus2020():
    inputs = {"candidate": str, "sources": "list[str]"}
    options = "--input-file {input} --output-file {output}"
    return image(
        oci("python:3.7"),
        wheels(
            "Cython==0.29.15",
            "benepar==0.1.2",
            "fairseq==0.9.0",
            "nltk==3.5",
            "numpy==1.19.1",
            "spacy==2.3.2",
            "tensorflow==1.15.0",
            "torch==1.5.0",
            "transformers==2.8.0",
            python="3.7",
            as_of="2020-09-30",
            build=True,
        ),
        git("https://github.com/esdurmus/feqa", "60a996970b005d1321c86a7ad10327bfd7e197b6", to="/opt/feqa"),
        *(gdrive(key, to=f"/opt/feqa/bart_qg/checkpoints/{name}") for name, key in GENERATION.items()),
        *(gdrive(key, to=f"/opt/feqa/qa_models/squad1.0/{name}") for name, key in ANSWERING.items()),
        url(SMALL, to="/opt/en_core_web_sm", unpack=True, strip=1, licence="MIT"),
        files("src", to="/app"),
        # The parser's model and NLTK's data, by their own ways of fetching; then BART's vocabulary.
        run(
            'python -c \'import benepar, nltk; benepar.download("benepar_en2"); '
            'nltk.download("stopwords"); nltk.download("punkt")\'',
            network="recorded",
        ),
        run(
            "python /app/run.py item --input-file /app/warm-up.jsonl --output-file /dev/null",
            network="recorded",
            workdir="/opt/feqa",
        ),
        env={"PYTHONPATH": PYTHONPATH},
        # The question answering script is started by a path relative to this folder.
        workdir="/opt/feqa",
        predictors={
            "feqa": predictor(
                f"python /app/run.py item {options}",
                inputs=inputs,
                outputs={"feqa": float},
                scope="item",
                tolerance=1e-4,
            ),
            "macro": predictor(
                f"python /app/run.py macro {options}",
                inputs=inputs,
                outputs={"feqa": float},
                scope="batch",
                tolerance=1e-4,
            ),
        },
    )
