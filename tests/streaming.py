"""A predictor of protocol ``stream`` that reverses texts, and does all that a hostile one might.

What it does with a record depends on the record's text. Knows nothing of engines.
"""

from __future__ import annotations

from reprobuild.derivation.predictors import Predictor, predictor

PROGRAM = r"""
import json, os, sys, time

def write(text):
    sys.stdout.write(text)
    sys.stdout.flush()

def answer(number, **fields):
    write(json.dumps({"_id": number, **fields}) + "\n")

def do(record):
    number, text = record["_id"], record["text"]
    word, _, rest = text.partition(" ")
    reverse = text[::-1]
    if word == "die":
        print("it is bad:", rest, file=sys.stderr, flush=True)
        os._exit(7)
    elif word == "once":  # dies unless it was given before
        if not os.path.exists(rest):
            open(rest, "w").close()
            os._exit(8)
        answer(number, output=reverse)
    elif word == "leave":
        sys.exit(0)
    elif word == "hang":
        time.sleep(1000)
    elif word == "fail":
        answer(number, _error=rest)
    elif word == "twice":
        write(2 * (json.dumps({"_id": number, "output": reverse}) + "\n"))
    elif word == "unknown":
        answer(10 ** 6, output=reverse)
    elif word == "below":
        answer(-1, output=reverse)
    elif word == "named":
        answer(str(number), output=reverse)
    elif word == "true":
        answer(True, output=reverse)
    elif word == "nan":
        answer(number, output=float("nan"))
    elif word == "other":
        answer(number, result=reverse)
    elif word == "more":
        answer(number, output=reverse, more=1)
    elif word == "duplicate":
        write('{"_id": %d, "output": "a", "output": "b"}\n' % number)
    elif word == "torn":
        write('{"_id": %d, "output": "ab\n' % number)
    elif word == "surrogate":
        write('{"_id": %d, "output": "\\ud800"}\n' % number)
    elif word == "garbage":
        os.write(1, b"\xff\x00 [1, 2] garbage\n{\n}\n{\"no\": \"id\"}\n[\"_id\"]\n\n")
        answer(number, output=reverse)
    elif word == "unended":
        os.write(2, b"no line end")
        answer(number, output=reverse)
    elif word == "huge":
        answer(number, output=int(rest) * "x")
    elif word == "log":
        os.write(2, int(rest) * b"0123456789abcde\n")
        os.write(1, int(rest) * b"0123456789abcde\n")
        answer(number, output=reverse)
    elif word == "close":
        os.close(1)
        time.sleep(1000)
    elif word == "count":
        answer(number, output=str(do.count))
    elif word == "pid":
        answer(number, output=str(os.getpid()))
    else:
        answer(number, output=reverse)
    do.count += 1

do.count = 0
mode = sys.argv[1] if len(sys.argv) > 1 else ""
if mode == "broken":
    sys.exit("no model here")
if mode == "deaf":
    time.sleep(1000)
if mode == "mute":
    for line in sys.stdin:
        pass
if mode == "batch":
    while line := sys.stdin.readline():
        count = json.loads(line)["_batch"]
        records = [json.loads(sys.stdin.readline()) for _ in range(count)]
        if any(record["text"] == "halt" for record in records):
            answer(records[0]["_id"], output="")
            sys.exit(9)
        for record in reversed(records):
            said = {"output": "%s of %d" % (record["text"], count)}
            answer(record["_id"], **({"_error": "no"} if record["text"] == "fail" else said))
if mode == "backwards":
    several = []
    for line in sys.stdin:
        several.append(json.loads(line))
        if len(several) == 3:
            for record in reversed(several):
                do(record)
            several = []
for line in iter(sys.stdin.readline, ""):
    do(json.loads(line))
"""


def streamer(mode: str = "", **more: object) -> Predictor:
    """Make the predictor; ``mode``: ``broken``, ``deaf``, ``mute``, ``batch`` or ``backwards``."""
    quoted = PROGRAM.replace("'", "'\\''")
    given = {"inputs": {"text": str}, "outputs": {"output": str}, "scope": "item", **more}
    return predictor(f"exec python3 -c '{quoted}' {mode}", protocol="stream", **given)  # type: ignore[arg-type]
