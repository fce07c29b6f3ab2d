"""Score candidates of a JSON Lines file against their references with sacreBLEU."""

import argparse
import json
import sys


def read(path):
    """Give the candidates, and for each its references."""
    candidates, references = [], []
    with open(path, encoding="utf-8") as records:
        for number, line in enumerate(records, start=1):
            record = json.loads(line)
            if not record["references"]:
                sys.exit(f"record {number} has no references")
            candidates.append(record["candidate"])
            references.append(record["references"])
    return candidates, references


def make_metrics(arguments, is_sentence):
    from sacrebleu.metrics import BLEU, CHRF, TER

    lowercase = arguments.lowercase == "true"
    return {
        "bleu": BLEU(tokenize=arguments.tokenize, lowercase=lowercase, effective_order=is_sentence),
        "chrf": CHRF(lowercase=lowercase),
        "ter": TER(),
    }


def score_corpus(arguments, candidates, references):
    """Give the same for each record: the scores of all of them together."""
    if not candidates:
        return
    # sacreBLEU takes streams of references, one for each place, None where a sentence has fewer.
    most = max(map(len, references))
    streams = [[own[place] if place < len(own) else None for own in references] for place in range(most)]
    output, signatures = {}, {}
    for name, metric in make_metrics(arguments, is_sentence=False).items():
        output[name] = metric.corpus_score(candidates, streams).score
        signatures[name] = str(metric.get_signature())
    output["signatures"] = signatures
    for _ in candidates:
        yield output


def score_sentences(arguments, candidates, references):
    metrics = make_metrics(arguments, is_sentence=True)
    for candidate, own in zip(candidates, references, strict=True):
        yield {name: metric.sentence_score(candidate, own).score for name, metric in metrics.items()}


def score_both(arguments, candidates, references):
    """Give the scores of each sentence, and last those of all of them together."""
    yield from score_sentences(arguments, candidates, references)
    yield {"_macro": next(score_corpus(arguments, candidates, references), {})}


SCORES = {"corpus": score_corpus, "sentence": score_sentences, "both": score_both}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=SCORES)
    parser.add_argument("--input-file", required=True)
    parser.add_argument("--output-file", required=True)
    parser.add_argument("--tokenize", choices=("13a", "char", "intl", "none", "zh"), default="13a")
    parser.add_argument("--lowercase", choices=("false", "true"), default="false")
    arguments = parser.parse_args()
    with open(arguments.output_file, "w", encoding="utf-8") as outputs:
        for output in SCORES[arguments.mode](arguments, *read(arguments.input_file)):
            outputs.write(json.dumps(output) + "\n")


if __name__ == "__main__":
    main()
