"""Name the content type of each file of a JSON Lines file with Magika."""

import argparse
import json

import onnxruntime
from magika import Magika


class OneThread(Magika):
    """Magika on one thread: ONNX Runtime takes all cores by default, and then sums in another order."""

    def _init_onnx_session(self):
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(self._model_path, options, providers=["CPUExecutionProvider"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input-file", required=True)
    parser.add_argument("--output-file", required=True)
    arguments = parser.parse_args()
    magika = OneThread()
    with (
        open(arguments.input_file, encoding="utf-8") as records,
        open(arguments.output_file, "w", encoding="utf-8") as outputs,
    ):
        for line in records:
            found = magika.identify_path(json.loads(line)["path"])
            output = {"label": str(found.output.label), "score": float(found.score)}
            outputs.write(json.dumps(output) + "\n")


if __name__ == "__main__":
    main()
