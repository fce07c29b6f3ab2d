"""Predictors as frozen data: commands of an image with typed inputs and outputs.

Knows nothing of how predictions are run or remembered.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from reprobuild.derivation.typed import typed
from reprobuild.derivation.where import Where
from reprobuild.errors import RecipeError
from reprobuild.value import NOTHING, Value

Json = Any
"""A JSON value, as Python's json module gives it."""

FIELD_TYPES = (
    "str",
    "int",
    "float",
    "bool",
    "file",
    "list[str]",
    "list[int]",
    "list[float]",
    "list",
    "dict",
    "any",
)
"""What a field of a record can be. ``file``: a path of the host on the way in, whose bytes travel by
digest; inside, a path below ``/in``."""

NUMERIC = ("int", "float", "dict")
"""Types of outputs that have a mean: numbers, and objects of nothing but numbers, nested or not."""

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]*")
_PLACEHOLDER = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")


class File:
    """The type of an input field that holds the path of a file: ``inputs={"path": File}``."""


class Parameter(Value):
    """An argument of a predictor that all records of a call share."""

    type: str
    """One of ``str``, ``int``, ``float``, ``bool``."""
    default: Json


class Example(Value, kw_only=True):
    """One call: records with the outputs that they must give."""

    items: tuple[tuple[Mapping[str, Json], Mapping[str, Json]], ...]
    """Pairs of inputs and outputs, in the order of the call."""
    parameters: Mapping[str, Json] = NOTHING


class Predictor(Value, kw_only=True):
    """A command of an image with typed inputs and outputs."""

    command: str
    """A shell text; ``{input}``, ``{output}``, ``{device}`` and ``{parameter}`` are filled in, quoted."""
    inputs: Mapping[str, str]
    """Field → one of FIELD_TYPES, in the order of positional arguments."""
    outputs: Mapping[str, str]
    protocol: Literal["files", "stream"] = "files"
    scope: Literal["batch", "item"] = "batch"
    parameters: Mapping[str, Parameter] = NOTHING
    random: bool = False
    threads: int = 1
    cuda: bool = False
    tolerance: float = 0.0
    """How far numbers may be from those of an example: absolute, and relative to it."""
    examples: tuple[Example, ...] = ()
    network: Literal["", "recorded"] = ""
    refusal: Literal["", "reset"] = ""
    """How refused requests end: an HTTP 403, or a connection that is cut."""
    macro: Literal["", "mean", "corpus"] = ""
    """For a metric: how its result over all records of a call comes about. ``mean``: of the numbers of
    each; ``corpus``: the command writes it, as one record more, ``{"_macro": {…}}``."""
    exchanges: tuple[Mapping[str, Json], ...] = ()
    """What was recorded, from the lock: what of each pin enters hashes. Empty in a recipe."""


@typed
def predictor(
    command: str,
    *,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    protocol: Literal["files", "stream"] = "files",
    scope: Literal["batch", "item"] = "batch",
    parameters: Mapping[str, Any] | None = None,
    random: bool = False,
    threads: int = 1,
    cuda: bool = False,
    tolerance: float = 0.0,
    examples: Sequence[Any] = (),
    network: Literal["", "recorded"] = "",
    refusal: Literal["", "reset"] = "",
    macro: Literal["", "mean", "corpus"] = "",
) -> Predictor:
    """Name a command of the image with its protocol and the fields that it reads and writes.

    ``inputs``, ``outputs``: field → type (``str``, ``int``, ``float``, ``bool``, ``list[str]``,
    ``dict``, ``File``, or their names); ``parameters``: name → default, whose type is the
    parameter's; ``examples``: ``(inputs, outputs)`` pairs of dicts, or of lists of dicts for one
    call with several records; a third element holds parameters; ``network``: nothing, or
    ``"recorded"``: ``lock`` records what the examples fetch, and every prediction replays it;
    ``refusal``: ``"reset"`` cuts connections that are refused; ``macro``: for a metric, how its result
    over all records comes about: ``"mean"`` of what each has, or ``"corpus"``: the command writes it as
    one record more than it was given, the last, ``{"_macro": {…}}``. Raises RecipeError.
    """
    where = Where.caller()
    if not inputs or not outputs:
        raise RecipeError(f"{where}: predictor() needs inputs and outputs")
    _check_one_of("protocol", protocol, ("files", "stream"), where)
    _check_one_of("scope", scope, ("batch", "item"), where)
    if not 0 <= tolerance < math.inf:
        raise RecipeError(
            f"{where}: predictor(tolerance={tolerance!r}): a number from 0 up is needed",
            "for example tolerance=1e-6; leave it out for numbers that are the same",
        )
    if threads < 1:
        raise RecipeError(
            f"{where}: predictor(threads={threads!r}): at least 1 is needed", "leave it out for one thread"
        )
    named = {name: _parameter(name, default, where) for name, default in (parameters or {}).items()}
    known = {"input", "output", "device", "seed", *named}
    used = set(_PLACEHOLDER.findall(command))
    if unknown := sorted(used - known):
        raise RecipeError(
            f"{where}: the command uses {{{unknown[0]}}}, which is neither input, output, device, seed "
            f"nor a parameter",
            f"add parameters={{{unknown[0]!r}: …}}",
        )
    if protocol == "files" and not {"input", "output"} <= used:
        raise RecipeError(f"{where}: the command of protocol 'files' needs {{input}} and {{output}}")
    if protocol == "stream" and {"input", "output"} & used:
        raise RecipeError(
            f"{where}: the command of protocol 'stream' has no {{input}} and {{output}}: it reads records "
            "from standard input, and answers on standard output"
        )
    check_network(network, refusal, where)
    if network and not examples:
        raise RecipeError(
            f"{where}: predictor(…, network='recorded') has no examples, and what they fetch is recorded",
            "add examples=[({…}, {…})]",
        )
    made = Predictor(
        command=command,
        inputs={name: _field_type(name, kind, where) for name, kind in inputs.items()},
        outputs={name: _field_type(name, kind, where) for name, kind in outputs.items()},
        protocol=protocol,
        scope=scope,
        parameters=named,
        random=random,
        threads=threads,
        cuda=cuda,
        tolerance=tolerance,
        examples=tuple(_example(example, where) for example in examples),
        network=network,
        refusal=refusal,
        macro=macro,
    )
    _check_macro(made, where)
    for index, example in enumerate(made.examples):
        for given, expected in example.items:
            if set(given) != set(made.inputs) or not set(expected) <= set(made.outputs):
                raise RecipeError(f"{where}: example {index} does not have the predictor's fields")
    return made


def _check_one_of(name: str, value: object, known: tuple[str, ...], where: Where) -> None:
    """Raise RecipeError for a word that is not known, with the nearest that is."""
    if value in known:
        return
    from difflib import get_close_matches

    near = get_close_matches(str(value), known, n=1)
    raise RecipeError(
        f"{where}: predictor({name}={value!r}): it is {' or '.join(map(repr, known))}",
        f"did you mean {name}={near[0]!r}?" if near else f"leave it out for {known[0]!r}",
    )


def check_network(network: str, refusal: str, where: Where) -> None:
    """Raise RecipeError for what a command's network cannot be, or how it cannot refuse."""
    if network not in ("", "recorded"):
        raise RecipeError(f"{where}: network={network!r}: only 'recorded' is known")
    if refusal not in ("", "reset"):
        raise RecipeError(f"{where}: refusal={refusal!r}: only 'reset' is known", "leave it out for a 403")


def _check_macro(predictor: Predictor, where: Where) -> None:
    """Raise RecipeError for what can't be the result over all records of a call."""
    if predictor.macro not in ("", "mean", "corpus"):
        raise RecipeError(f"{where}: macro={predictor.macro!r}: only 'mean' and 'corpus' are known")
    if predictor.macro == "corpus" and (predictor.scope, predictor.protocol) != ("batch", "files"):
        raise RecipeError(
            f"{where}: macro='corpus' is of the whole call: it needs scope 'batch' and protocol 'files'",
            "scope='item' goes with macro='mean'",
        )
    if predictor.macro == "mean":
        for name, kind in predictor.outputs.items():
            if kind not in NUMERIC:
                raise RecipeError(
                    f"{where}: macro='mean', and the output {name} is {kind}",
                    f"outputs that have a mean are {', '.join(NUMERIC)}",
                )


def _field_type(name: str, kind: object, where: Where) -> str:
    if not _NAME.fullmatch(name):
        raise RecipeError(f"{where}: {name!r} is no name of a field")
    if kind is File:
        return "file"
    text = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    if not isinstance(kind, type) or getattr(kind, "__args__", None):
        text = str(kind)
    if text not in FIELD_TYPES:
        raise RecipeError(f"{where}: the field {name} cannot be {text}", f"one of {', '.join(FIELD_TYPES)}")
    return text


def _parameter(name: str, default: object, where: Where) -> Parameter:
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) or name in ("input", "output", "device", "seed"):
        raise RecipeError(f"{where}: {name!r} is no name of a parameter")
    if not isinstance(default, str | int | float | bool):
        raise RecipeError(f"{where}: the parameter {name} needs a default that is str, int, float or bool")
    return Parameter(type(default).__name__, default)


def _example(example: Any, where: Where) -> Example:
    if isinstance(example, Example):
        return example
    try:
        inputs, outputs, *rest = example
        parameters = dict(rest[0]) if rest else {}
        alone = isinstance(inputs, Mapping)
        pairs = [(inputs, outputs)] if alone else zip(inputs, outputs, strict=True)
        return Example(items=tuple((dict(a), dict(b)) for a, b in pairs), parameters=parameters)
    except (TypeError, ValueError):
        raise RecipeError(
            f"{where}: an example is a pair (inputs, outputs) of dicts, or of lists of dicts"
        ) from None
