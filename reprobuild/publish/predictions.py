"""Predictions on their way out of a cache, and into another: those of an image, which a closure takes along,
or a cache as one file.

The lines are those of ``predict.lines``. What comes in is somebody's word, and is kept as such.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reprobuild.build.compression import unpacked
from reprobuild.derivation.predictors import Predictor
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, OutsideError
from reprobuild.images.archive import ArchiveError
from reprobuild.predict.key import run_id
from reprobuild.predict.lines import (
    End,
    Line,
    Shape,
    Stream,
    end_line,
    head_line,
    keep,
    line_of,
    lines_of_making,
    read_lines,
)
from reprobuild.predict.sealed import MAKING, RUN
from reprobuild.predict.upkeep import summaries
from reprobuild.publish.compress import compressed, workers
from reprobuild.value import Value

if TYPE_CHECKING:
    from reprobuild.build.image import Realised
    from reprobuild.predict.cache import PredictionCache

_NAME_ONE = "name a file that `reprobuild cache export --to FILE` wrote"
_AGAIN = "nothing of it was taken: it must be as `reprobuild cache export --to FILE` wrote it; write it again"


def lines_of(cache: PredictionCache, image: Realised) -> Iterator[bytes]:
    """Give the predictions of an image that a cache has, as lines in the order of predictors and keys.

    Those that do not fit their digests are left out, and so are inputs.
    """
    run = _run(image)
    makings = sorted(cache.makings(), key=lambda one: one.digest)
    for name in sorted(image.predictors):
        tag = f"{image.recipe}/{name}"
        for row in cache.rows(tag, making=0):
            if line := line_of(cache, row, lambda facts: facts.get(RUN) == run.short and MAKING not in facts):
                yield line
        for making in makings:
            if making.tag == tag and making.parts.get("run_id") == str(run):
                found = lines_of_making(cache, making)
                first = next(found, b"")
                if first:
                    yield head_line(making) + first
                    yield from found


def check_lines(stream: Stream, predictors: Mapping[str, Predictor], run: Digest, where: str) -> int:
    """See that a stream has predictions of an image, as ``lines_of`` wrote them; give how many.

    ``run``: the image's run ID; ``where``: what errors call it. Raises CheckFailedError, naming the line,
    for what is none.
    """
    return sum(1 for _ in read_lines(stream, _shapes(predictors), where, run=str(run)))


def keep_lines(stream: Stream, cache: PredictionCache, image: Realised, source: Digest) -> int:
    """Keep the predictions of an image that a stream has; give how many are new.

    ``source``: the manifest that they came with. Raises as ``check_lines``.
    """
    run = _run(image)
    found = read_lines(stream, _shapes(image.predictors), image.tag, run=str(run))
    return keep(found, cache, lambda line: f"{image.recipe}/{line.predictor}", run.short, str(source))


class CacheFile(Value):
    """A cache, or a part of one, as one file."""

    predictions: int
    left_out: int
    """Predictions that it does not have: damaged, or from before it was kept what they were made with."""
    size: int
    """Bytes of the file."""
    new: int = 0
    """Predictions that an import added."""


def export_cache(
    cache: PredictionCache, path: Path, names: Sequence[str] = (), *, with_inputs: bool = False
) -> CacheFile:
    """Write predictions to one file, whole or not at all; ``names``: of recipes or predictors, else all.

    ``with_inputs``: with the sample of inputs that is kept. Equal caches give equal files. Raises
    OutsideError where it can't be written.
    """
    chosen = sorted(
        (one for one in cache.makings() if one.is_whole and is_of(one.tag, names)),
        key=lambda one: (one.tag, one.digest),
    )
    kept = sum(one.predictions for one in summaries(cache) if is_of(one.name, names))
    written = 0

    def content() -> Iterator[bytes]:
        nonlocal written
        hasher = hashlib.sha256()
        for making in chosen:
            head = head_line(making)
            for line in lines_of_making(cache, making, with_inputs=with_inputs):
                written += 1
                hasher.update(head + line)
                yield head + line
                head = b""
        yield end_line(written, hasher.hexdigest())

    draft = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        with workers() as pool, draft.open("xb") as file:
            for piece in compressed(content(), pool):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OutsideError(f"{path} can't be written: {error.strerror}") from None
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return CacheFile(written, kept - written, path.stat().st_size)


def import_cache(cache: PredictionCache, path: Path) -> CacheFile:
    """Take the predictions of a file, as somebody else's: never in the place of what is there.

    All of it is in order before anything counts. Raises CheckFailedError for what is not, OutsideError for
    what can't be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            end = End()
            count = sum(1 for _ in read_lines(unpacked(file, size), None, str(path), end=end, hint=_AGAIN))
            file.seek(0)
            found = read_lines(unpacked(file, size), None, str(path), end=End(), hint=_AGAIN)
            new = keep(found, cache, _tag_of, "", end.digest)
    except OSError as error:
        raise OutsideError(f"{path} can't be read: {error.strerror}", _NAME_ONE) from None
    except ArchiveError as error:
        raise CheckFailedError(f"{path}: {error.message}", _AGAIN) from None
    return CacheFile(count, 0, size, new)


def is_of(tag: str, names: Sequence[str]) -> bool:
    """Tell whether a predictor is one of those named: ``RECIPE`` or ``RECIPE/PREDICTOR``; none means all."""
    return not names or tag in names or tag.rpartition("/")[0] in names


def _tag_of(line: Line) -> str:
    assert line.head is not None
    return line.head.tag


def _shapes(predictors: Mapping[str, Predictor]) -> dict[str, Shape]:
    return {
        name: Shape(one.outputs, one.scope, getattr(one, "macro", "")) for name, one in predictors.items()
    }


def _run(image: Realised) -> Digest:
    return run_id([layer.diff_id for layer in image.layers], image.env, image.workdir)
