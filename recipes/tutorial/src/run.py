"""Reverse the text of each record of a JSON Lines file."""

import argparse
import json


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input-file", required=True)
    parser.add_argument("--output-file", required=True)
    arguments = parser.parse_args()
    with (
        open(arguments.input_file, encoding="utf-8") as records,
        open(arguments.output_file, "w", encoding="utf-8") as outputs,
    ):
        for line in records:
            text = json.loads(line)["text"]
            outputs.write(json.dumps({"output": text[::-1]}) + "\n")


if __name__ == "__main__":
    main()
