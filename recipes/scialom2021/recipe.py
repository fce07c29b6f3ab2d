"""QuestEval: whether a text says the same as its source or reference, by questions that both are asked."""

from reprobuild import files, git, image, oci, predictor, recipe, run, url, wheels

MODELS = "https://safeval.s3.eu-west-3.amazonaws.com"
SPACY = "https://github.com/explosion/spacy-models/releases/download"
SMALL = f"{SPACY}/en_core_web_sm-3.0.0/en_core_web_sm-3.0.0-py3-none-any.whl"
PYTHONPATH = "/opt/questeval:/opt/questeval/unilm/s2s-ft"
TASKS = {
    "questeval": "text2text",
    "questeval-summarization": "summarization",
    "questeval-simplification": "text_simplification",
}


@recipe(version="1.0")
def scialom2021():
    inputs = {"candidate": str, "sources": "list[str]", "references": "list[str]"}
    outputs = {"precision": float, "recall": float, "fscore": float}
    io = "--input-file {input} --output-file {output}"
    scores = {
        name + suffix: predictor(
            f"python /app/run.py {task} {mode} {io}",
            inputs=inputs,
            outputs=outputs,
            scope=scope,
            tolerance=1e-4,
        )
        for name, task in TASKS.items()
        for suffix, mode, scope in (("", "item", "item"), ("-macro", "macro", "batch"))
    }
    return image(
        oci("python:3.7"),
        wheels(
            "torch==1.9.0",
            "datasets==1.7.0",
            "transformers==3.0.1",
            "bert_score==0.3.8",
            "spacy==3.0.0",
            "Unidecode==1.2.0",
            f"en_core_web_sm @ {SMALL}",
            # What the UniLM code beside QuestEval imports.
            "boto3",
            "sacremoses",
            "sentencepiece",
            "tensorboardX",
            python="3.7",
            as_of="2021-07-31",
            build=True,
        ),
        git(
            "https://github.com/ThomasScialom/QuestEval",
            "7c827804a8da82560e91cf8fe84124d37f7c0660",
            to="/opt/questeval",
            licence="MIT",
        ),
        *(
            url(f"{MODELS}/{name}.zip", to="/opt/questeval/models", unpack=True)
            for name in ("QA_en_T5", "QG_en_T5", "Weighter_en_T5")
        ),
        files("src", to="/app"),
        # BERTScore's script and model are fetched when they are loaded: a first score of each kind does so.
        *(
            run(
                f"python /app/run.py {task} item --input-file /app/warm-up.jsonl --output-file /dev/null",
                env={"HF_DATASETS_OFFLINE": "0"},
                network="recorded",
            )
            for task in TASKS.values()
        ),
        env={"PYTHONPATH": PYTHONPATH, "HF_DATASETS_OFFLINE": "1"},
        workdir="/app",
        predictors=scores,
    )
