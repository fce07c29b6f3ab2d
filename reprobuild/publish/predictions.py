"""Predictions of an image on their way out of a cache, and into another: lines of JSON, one a prediction.

What comes in is somebody's word: it is checked for its form, kept as such, and never put in the place of what
is there. The form is specified in ``docs/pulling.md``. Knows nothing of what carries it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reprobuild.canonical import NotCanonicalError, canonical
from reprobuild.derivation.predictors import Predictor
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.predict import bulk
from reprobuild.predict.fields import Fields
from reprobuild.predict.key import run_id
from reprobuild.predict.sealed import RUN, imported, unseal
from reprobuild.predict.strict import parse_strictly

if TYPE_CHECKING:
    from reprobuild.build.image import Realised
    from reprobuild.images.tar_layer import Stream
    from reprobuild.predict.cache import PredictionCache

LONGEST_LINE = 256 * 1024 * 1024
"""Bytes of one prediction; of batch scope, it holds every output of a call."""
BATCH = 20_000
"""Predictions kept at once."""
PIECE = 1024 * 1024


def lines_of(cache: PredictionCache, image: Realised) -> Iterator[bytes]:
    """Give the predictions of an image that a cache has, as lines in the order of predictors and keys.

    Those that do not fit their digests are left out.
    """
    run = _run(image)
    for name in sorted(image.predictors):
        for row in cache.rows(f"{image.recipe}/{name}"):
            value = row.value if row.filename is None else bulk.read_file(cache.folder, row.filename)
            kept = unseal(row.key, value)
            if kept is None:
                continue
            try:
                said = parse_strictly(kept.provenance)
            except ValueError:
                continue
            if isinstance(said, dict) and said.get(RUN) == run:
                outputs = [parse_strictly(line) for line in kept.output.split(b"\n")[:-1]]
                line = {"key": row.key.hex(), "outputs": outputs, "predictor": name, "provenance": said}
                yield canonical(line) + b"\n"


def check_lines(stream: Stream, predictors: Mapping[str, Predictor], where: str) -> int:
    """See that a stream has predictions of some predictors, as ``lines_of`` wrote them; give how many.

    ``where``: what errors call it. Raises CheckFailedError, naming the line, for what is none.
    """
    return sum(1 for _ in _predictions(stream, predictors, where))


def keep_lines(stream: Stream, cache: PredictionCache, image: Realised, source: Digest) -> int:
    """Keep the predictions of an image that a stream has; give how many are new.

    ``source``: the manifest that they came with. Raises as ``check_lines``.
    """
    before = cache.stats().predictions
    predictions = _predictions(stream, image.predictors, image.tag)
    while batch := list(itertools.islice(predictions, BATCH)):
        alike: dict[tuple[str, bytes], list[tuple[bytes, bytes]]] = {}
        for name, key, output, said in batch:
            alike.setdefault((name, imported(said, str(source), _run(image))), []).append((key, output))
        for (name, provenance), outputs in alike.items():
            cache.put_many(outputs, provenance, tag=f"{image.recipe}/{name}")
    return cache.stats().predictions - before


def _predictions(
    stream: Stream, predictors: Mapping[str, Predictor], where: str
) -> Iterator[tuple[str, bytes, bytes, dict[str, Any]]]:
    """Read predictions: predictor, key, output as it is kept, and what was said of it."""
    fields = {name: Fields(one.outputs) for name, one in predictors.items()}
    for number, line in enumerate(_lines(stream), start=1):
        try:
            yield _parse(line, predictors, fields)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckFailedError(f"{where}: line {number} of its predictions is none: {error}") from None


def _parse(
    line: bytes, predictors: Mapping[str, Predictor], fields: Mapping[str, Fields]
) -> tuple[str, bytes, bytes, dict[str, Any]]:
    value = parse_strictly(line)
    name, outputs, said = value["predictor"], value["outputs"], value["provenance"]
    key = bytes.fromhex(value["key"])
    if len(key) != 32 or not isinstance(outputs, list) or not isinstance(said, dict):
        raise ValueError("it lacks a key, outputs or a provenance")
    if predictors[name].scope == "item" and len(outputs) != 1:
        raise ValueError(f"{len(outputs)} outputs where one belongs")
    if canonical(value) != line:
        raise NotCanonicalError("it is not written in the canonical form")
    output = b"".join(one + b"\n" for one in fields[name].encode(outputs))
    return name, key, output, said


def _lines(stream: Stream) -> Iterator[bytes]:
    """Cut a stream into lines, without their ends."""
    rest = b""
    while chunk := stream.read(PIECE):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
        if len(rest) > LONGEST_LINE:
            raise CheckFailedError(f"a line of the predictions has more than {LONGEST_LINE:,} bytes")
    if rest:
        raise CheckFailedError("the predictions are cut off")


def _run(image: Realised) -> str:
    return run_id([layer.diff_id for layer in image.layers], image.env, image.workdir).short
