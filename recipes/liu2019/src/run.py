"""Summarise the documents of a JSON Lines file with one of PreSumm's models."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = "/opt/presumm/src"
MODELS = Path("/opt/models")
CACHE = "/opt/presumm/temp"
BREAK = "<q>"
"""What PreSumm writes between the sentences of a summary."""
TOKENS = {
    "-LRB-": "(",
    "-RRB-": ")",
    "-LSB-": "[",
    "-RSB-": "]",
    "-LCB-": "{",
    "-RCB-": "}",
    "``": '"',
    "''": '"',
}


def split(documents, folder):
    """Give each document's sentences, tokenised as PreSumm's training data was: by CoreNLP."""
    texts = folder / "texts"
    texts.mkdir()
    names = []
    for number, document in enumerate(documents):
        path = texts / f"{number}.story"
        path.write_text(document, encoding="utf-8")
        names.append(str(path))
    listed = folder / "files"
    listed.write_text("\n".join(names) + "\n")
    run(
        ["java", "edu.stanford.nlp.pipeline.StanfordCoreNLP", "-annotators", "tokenize,ssplit",
         "-ssplit.newlineIsSentenceBreak", "always", "-filelist", str(listed), "-outputFormat", "json",
         "-outputDirectory", str(folder)],
        cwd=str(folder),
    )  # fmt: skip
    for name in names:
        found = json.loads((folder / (Path(name).name + ".json")).read_text(encoding="utf-8"))
        yield [
            " ".join(TOKENS.get(token["word"], token["word"]) for token in sentence["tokens"])
            for sentence in found["sentences"]
        ]


def summarise(name, sentences, folder, lengths):
    """Give PreSumm's line for each document."""
    checkpoints = sorted((MODELS / name).rglob("*.pt"))
    if len(checkpoints) != 1:
        sys.exit(f"the archive of {name} has {len(checkpoints)} checkpoints; one is needed")
    given = folder / "given"
    given.write_text("\n".join(" [CLS] [SEP] ".join(own) for own in sentences), encoding="utf-8")
    Path(CACHE).mkdir(exist_ok=True)
    task = "ext" if name == "bertsumext" else "abs"
    # A transformer without BERT is an encoder of its own kind.
    encoder = "baseline" if name == "transformerabs" else "bert"
    run(
        [sys.executable, "train.py", "-task", task, "-mode", "test_text", "-encoder", encoder,
         "-text_src", str(given), "-test_from", str(checkpoints[0]), "-result_path", str(folder / "result"),
         "-log_file", str(folder / "log"), "-temp_dir", CACHE, "-visible_gpus", "-1", *lengths],
        cwd=SOURCE,
    )  # fmt: skip
    result = "result_step-1.candidate" if task == "ext" else "result.-1.candidate"
    lines = (folder / result).read_text(encoding="utf-8").split("\n")[: len(sentences)]
    if len(lines) != len(sentences):
        sys.exit(f"PreSumm wrote {len(lines)} summaries for {len(sentences)} documents")
    return lines


def run(command, cwd):
    """Run a program; what it prints is log."""
    done = subprocess.run(command, cwd=cwd, stdout=sys.stderr)
    if done.returncode:
        sys.exit("{} ended with exit code {}".format(" ".join(command[:3]), done.returncode))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--min-length", default="")
    parser.add_argument("--max-length", default="")
    parser.add_argument("--alpha", default="")
    parser.add_argument("--input-file", required=True)
    parser.add_argument("--output-file", required=True)
    arguments = parser.parse_args()
    with open(arguments.input_file, encoding="utf-8") as lines:
        documents = [json.loads(line)["document"] for line in lines]
    lengths = []
    for option in ("min_length", "max_length", "alpha"):
        if getattr(arguments, option):
            lengths += ["-" + option, getattr(arguments, option)]
    with (
        tempfile.TemporaryDirectory() as folder,
        open(arguments.output_file, "w", encoding="utf-8") as outputs,
    ):
        if not documents:
            return
        sentences = list(split(documents, Path(folder)))
        for line in summarise(arguments.model, sentences, Path(folder), lengths):
            summary = [part.strip() for part in line.split(BREAK)]
            outputs.write(json.dumps({"summary": [part for part in summary if part]}) + "\n")


if __name__ == "__main__":
    main()
