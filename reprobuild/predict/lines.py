"""Predictions as lines of JSON: how they leave a cache, and get into another.

What comes in is somebody's word: it is checked for its form, kept as such, and never put in the place of what
is there. The form is specified in ``docs/predictions.md``. Knows nothing of what carries it.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson

from reprobuild.canonical import NotCanonicalError, canonical
from reprobuild.derivation.predictors import FIELD_TYPES
from reprobuild.errors import CheckFailedError
from reprobuild.predict import bulk
from reprobuild.predict.fields import Fields
from reprobuild.predict.key import KEY_SCHEMA
from reprobuild.predict.makings import Making
from reprobuild.predict.sealed import MAKING, facts_of, imported, making_name, unseal

if TYPE_CHECKING:
    from reprobuild.predict.cache import PredictionCache

LONGEST_LINE = 256 * 1024 * 1024
"""Bytes of one prediction; of batch scope, it holds every output of a call."""
BATCH = 20_000
"""Predictions kept at once."""
PIECE = 1024 * 1024

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z][A-Za-z0-9_-]*")
_PROVENANCE = b',"provenance":'
HEAD = b'{"making":'
"""How the line begins that says what the predictions after it were made with."""


class Stream(Protocol):
    """What bytes come from."""

    def read(self, size: int, /) -> bytes: ...


class Line(NamedTuple):
    """A prediction that came in, checked for its form."""

    predictor: str
    """Without its recipe."""
    key: bytes
    output: bytes
    """As it is kept."""
    said: Mapping[str, Any]
    """The provenance that came with it."""
    head: Head | None
    """What it was made with, where that came too."""
    record: bytes
    """Its input as it entered the key, or empty."""


class Head(NamedTuple):
    """What the predictions that follow were made with."""

    tag: str
    """``RECIPE/PREDICTOR``."""
    making: bytes


class Shape:
    """How the outputs of a predictor are read."""

    def __init__(self, outputs: Mapping[str, str], scope: str, macro: str = "") -> None:
        self._fields = Fields(outputs)
        self._macro = Fields({"_macro": "dict"}) if macro == "corpus" else None
        self._is_item = scope == "item"

    def encode(self, outputs: list[Any]) -> list[bytes]:
        """Give outputs in their canonical form. Raises ValueError for what they cannot be."""
        if not outputs or (self._is_item and len(outputs) != 1):
            raise ValueError(f"{len(outputs)} outputs where one belongs")
        if self._macro is None:
            return self._fields.encode(outputs)
        return [*self._fields.encode(outputs[:-1]), *self._macro.encode(outputs[-1:])]


def head_line(making: Making) -> bytes:
    """Give the line that says what the predictions after it were made with."""
    return HEAD + b'%b,"tag":%b}\n' % (making.body, canonical(making.tag))


def lines_of_making(cache: PredictionCache, making: Making, *, with_inputs: bool = False) -> Iterator[bytes]:
    """Give the predictions of a making that a cache has, as lines in the order of their keys, no head before.

    Those that do not fit their digests are left out. ``with_inputs``: with those of the sample that is kept.
    """
    name = making_name(making.body)
    records = iter(cache.inputs(making.number)) if with_inputs else iter(())
    record = next(records, None)
    for row in cache.rows(making=making.number):
        while record is not None and record.key < row.key:
            record = next(records, None)
        given = b""
        if record is not None and record.key == row.key and making.key_of(record.record) == row.key:
            given = record.record
        if line := line_of(cache, row, lambda facts: facts.get(MAKING) == name, given):
            yield line


def line_of(
    cache: PredictionCache, row: bulk.Row, fits: Callable[[Mapping[str, Any]], bool], record: bytes = b""
) -> bytes:
    """Give a prediction as a line; nothing if it is damaged, or if its provenance does not fit."""
    kept = unseal(row.key, row.value if row.filename is None else bulk.read_file(cache.folder, row.filename))
    if kept is None or not fits(facts_of(kept.provenance)):
        return b""
    # All parts are canonical, and so are the names between them: no need to take them apart.
    predictor = canonical(row.tag.rpartition("/")[2])
    outputs = kept.output[:-1].replace(b"\n", b",")
    return _joined(record, row.key, outputs, predictor, kept.provenance) + b"\n"


def _joined(record: bytes, key: bytes, outputs: bytes, predictor: bytes, provenance: bytes) -> bytes:
    given = b'"input":%b,' % record if record else b""
    return b'{%b"key":"%b","outputs":[%b],"predictor":%b,"provenance":%b}' % (
        given,
        key.hex().encode(),
        outputs,
        predictor,
        provenance,
    )


def end_line(count: int, digest: str) -> bytes:
    """Give the line that ends a file: how many predictions came before, and the sha256 of all lines."""
    return b'{"predictions":%d,"sha256":"%b"}\n' % (count, digest.encode())


class End:
    """What the last line of a file must say: filled in by ``read_lines``, and compared."""

    def __init__(self) -> None:
        self.count = 0
        self.hasher = hashlib.sha256()
        self.is_there = False

    @property
    def digest(self) -> str:
        """Of all lines before the last one: ``sha256:…``."""
        return f"sha256:{self.hasher.hexdigest()}"

    def take(self, line: bytes) -> bool:
        """Count a line; tell whether it is the last one. Raises ValueError for what does not fit."""
        if self.is_there:
            raise ValueError("it comes after the end")
        self.is_there = line.startswith(b'{"predictions":')
        if not self.is_there:
            self.hasher.update(line + b"\n")
            self.count += not line.startswith(HEAD)
        elif line + b"\n" != end_line(self.count, self.hasher.hexdigest()):
            raise ValueError("what was before it has been changed")
        return self.is_there


def read_lines(
    stream: Stream,
    shapes: Mapping[str, Shape] | None,
    where: str,
    *,
    run: str = "",
    end: End | None = None,
    hint: str = "",
) -> Iterator[Line]:
    """Read predictions; raise CheckFailedError, naming the line, for what is none.

    ``shapes``: of the predictors that there may be; None: what the heads say, and each prediction has one.
    ``run``: the run ID that every head must have, if one is given. ``end``: to be given where a last line is
    needed that sums up. ``where``: what errors call the stream; ``hint``: what mends one that is wrong.
    """
    reader = _Reader(shapes, run)
    for number, line in enumerate(_lines(stream, where, hint), start=1):
        try:
            if end is not None and end.take(line):
                continue
            if line.startswith(HEAD):
                reader.take_head(line)
            else:
                yield reader.read(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if number == 1 and not _begins(line):
                raise CheckFailedError(f"{where} holds no predictions that reprobuild wrote", hint) from None
            raise CheckFailedError(
                f"{where}: line {number} of its predictions does not fit: {_reason(error)}", hint
            ) from None
    if end is not None and not end.is_there:
        raise CheckFailedError(f"{where}: its end is missing: the predictions are cut off", hint)


def keep(
    lines: Iterable[Line], cache: PredictionCache, tag_of: Callable[[Line], str], run: str, source: str
) -> int:
    """Keep predictions as somebody else's; give how many are new.

    ``run``: the first digits of the run ID, or empty: that of each making; ``source``: where they came from.
    """
    before = cache.stats().predictions
    iterator = iter(lines)
    while batch := list(itertools.islice(iterator, BATCH)):
        alike: dict[tuple[str, bytes, bytes], list[Line]] = {}
        for line in batch:
            making = line.head.making if line.head is not None else b""
            at = run or _run(making)
            alike.setdefault((tag_of(line), imported(line.said, source, at), making), []).append(line)
        for (tag, provenance, making), found in alike.items():
            cache.put_many(
                [(one.key, one.output) for one in found],
                provenance,
                tag=tag,
                making=making,
                records=[one.record for one in found],
                imports=True,
            )
    return cache.stats().predictions - before


class _Reader:
    def __init__(self, shapes: Mapping[str, Shape] | None, run: str) -> None:
        self._shapes = shapes
        self._run = run
        self._head: Head | None = None
        self._shape: Shape | None = None
        self._provenance = b"{}"
        self._said: Mapping[str, Any] = {}

    def take_head(self, line: bytes) -> None:
        value = orjson.loads(line)
        parts, tag = value["making"], value["tag"]
        making = canonical(parts)
        if line != HEAD + b'%b,"tag":%b}' % (making, canonical(tag)):
            raise NotCanonicalError("it is not written in the canonical form")
        if not _TAG.fullmatch(tag):
            raise ValueError(f"{tag!r} names no predictor")
        outputs = parts["outputs"]
        if parts["schema"] != KEY_SCHEMA or not isinstance(parts["parameters"], dict):
            raise ValueError("what it was made with is of another kind")
        if parts["scope"] not in ("item", "batch") or not set(outputs.values()) <= set(FIELD_TYPES):
            raise ValueError("what it was made with makes no sense")
        if not _run(making) or (self._run and parts["run_id"] != self._run):
            raise ValueError("it was made with another image")
        self._head = Head(tag, making)
        self._shape = Shape(outputs, parts["scope"], parts.get("macro", ""))

    def read(self, line: bytes) -> Line:
        value = orjson.loads(line)
        name, outputs, said = value["predictor"], value["outputs"], value["provenance"]
        key = bytes.fromhex(value["key"])
        if len(key) != 32 or not isinstance(outputs, list) or not isinstance(said, dict):
            raise ValueError("it lacks a key, outputs or a provenance")
        head = self._head
        shape = self._shape if self._shapes is None else self._shapes[name]
        if shape is None or (head is not None and head.tag.rpartition("/")[2] != name):
            raise ValueError("what it was made with is not said before it")
        encoded = shape.encode(outputs)
        record = b""
        if "input" in value:
            record = canonical(value["input"])
            if head is None or Making(0, b"", head.tag, head.making, 0.0, 0, 0.0, 0).key_of(record) != key:
                raise ValueError("its key is not that of its input")
        # Many share a provenance: it is taken apart once.
        if not line.endswith(_PROVENANCE + self._provenance + b"}"):
            self._provenance, self._said = canonical(said), said
        if line != _joined(record, key, b",".join(encoded), canonical(name), self._provenance):
            raise NotCanonicalError("it is not written in the canonical form")
        return Line(name, key, b"".join(one + b"\n" for one in encoded), self._said, head, record)


def _run(making: bytes) -> str:
    """Give the first digits of the run ID of a making, as provenance has them."""
    run = facts_of(making).get("run_id")
    return run.partition(":")[2][:12] if isinstance(run, str) else ""


def _begins(line: bytes) -> bool:
    """Tell whether a line may be meant as one of ours."""
    try:
        value = orjson.loads(line)
    except ValueError:
        return False
    return isinstance(value, dict) and not value.keys().isdisjoint({"making", "key", "predictions"})


def _reason(error: Exception) -> str:
    """Say what is wrong with a line, in words for whoever has never seen one."""
    if isinstance(error, KeyError):
        return f"it lacks {error}, or names what is not there"
    if isinstance(error, orjson.JSONDecodeError):
        return f"it is no JSON: {error.msg}"
    return str(error) if isinstance(error, ValueError) else "its parts are of other types"


def _lines(stream: Stream, where: str, hint: str) -> Iterator[bytes]:
    """Cut a stream into lines, without their ends."""
    rest = b""
    while chunk := stream.read(PIECE):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
        if len(rest) > LONGEST_LINE:
            raise CheckFailedError(
                f"{where}: a line of the predictions has more than {LONGEST_LINE:,} bytes", hint
            )
    if rest:
        raise CheckFailedError(f"{where}: the predictions are cut off", hint)
