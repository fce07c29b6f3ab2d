"""Score the sentiment of each text of a JSON Lines file with VADER."""

import argparse
import json
import sys
import types

# VADER's module imports requests for the demo at its end alone, and does not declare it.
sys.modules["requests"] = types.ModuleType("requests")

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input-file", required=True)
    parser.add_argument("--output-file", required=True)
    arguments = parser.parse_args()
    analyzer = SentimentIntensityAnalyzer()
    with (
        open(arguments.input_file, encoding="utf-8") as records,
        open(arguments.output_file, "w", encoding="utf-8") as outputs,
    ):
        for line in records:
            scores = analyzer.polarity_scores(json.loads(line)["text"])
            outputs.write(json.dumps(scores) + "\n")


if __name__ == "__main__":
    main()
