"""QAEval: how many questions about the references a summary answers."""

from reprobuild import files, gdrive, image, oci, predictor, recipe, run, url, wheels

SPACY = "https://github.com/explosion/spacy-models/releases/download"
SMALL = f"{SPACY}/en_core_web_sm-2.2.5/en_core_web_sm-2.2.5.tar.gz"


@recipe(version="1.0")
def deutsch2021():
    inputs = {"candidate": str, "references": "list[str]"}
    scores = {"is_answered": float, "em": float, "f1": float, "lerc": float}
    io = "--input-file {input} --output-file {output}"
    return image(
        oci("python:3.7"),
        wheels("qaeval==0.1.0", "click==7.1.2", python="3.7", as_of="2021-08-31", build=True),
        url(SMALL, to="/opt/en_core_web_sm", unpack=True, strip=1, licence="MIT"),
        gdrive("1vVhRgLtsQDAOmxYhY5PMPnxxHUyCOdQU", to="/opt/models/generation/model.tar.gz"),
        gdrive("1q2Z3FPP9AYNz0RJKHMlaweNhmLQoyPA8", to="/opt/models/answering", unpack=True),
        gdrive("193K7v6pjOtuXdlMenQW-RzF6ft-xY2qd", to="/opt/models/lerc/model.tar.gz"),
        gdrive("1fWBahDT-O1mpsbND300cuZuF73mfObzH", to="/opt/models/lerc/pretraining.tar.gz"),
        files("src/run.py", to="/app/run.py"),
        files("src/warm-up.jsonl", to="/app/warm-up.jsonl"),
        # BART and BERT are fetched when the models are loaded: a first score does so.
        run(
            "python run.py qaeval --input-file warm-up.jsonl --output-file /dev/null",
            network="recorded",
            workdir="/app",
        ),
        env={"PYTHONPATH": "/opt/en_core_web_sm"},
        workdir="/app",
        predictors={
            "qaeval": predictor(
                f"python run.py qaeval --pairs {{pairs}} {io}",
                inputs=inputs,
                outputs={**scores, "pairs": list},
                scope="item",
                parameters={"pairs": False},
                tolerance=1e-4,
            ),
            "macro": predictor(
                f"python run.py macro {io}", inputs=inputs, outputs=scores, scope="batch", tolerance=1e-4
            ),
            "question-generation": predictor(
                f"python run.py generate {io}",
                inputs={"context": str, "start": int, "end": int},
                outputs={"question": str},
                scope="item",
            ),
            "question-answering": predictor(
                f"python run.py answer {io}",
                inputs={"context": str, "question": str},
                outputs={"answer": "any", "probability": float, "null_probability": float},
                scope="item",
                tolerance=1e-4,
            ),
        },
    )
