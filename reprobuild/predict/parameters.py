"""What all records of a call share: parameters by their types, the seed, the device.

Knows nothing of records, caches or engines.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from reprobuild.canonical import LARGEST_INTEGER, canonical
from reprobuild.derivation.predictors import Parameter, Predictor
from reprobuild.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.engine.protocol import Engine

SEED = "seed"
CPU = "cpu"

_PLACEHOLDER = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse_parameters(predictor: Predictor, texts: Mapping[str, str]) -> dict[str, Any]:
    """Read ``--param K=V`` as the predictor's types have it. Raises UsageError."""
    found: dict[str, Any] = {}
    for name, text in texts.items():
        parameter = _parameter(predictor, name)
        try:
            found[name] = _TRUTH[text.lower()] if parameter.type == "bool" else _READERS[parameter.type](text)
        except (KeyError, ValueError):
            raise UsageError(f"the parameter {name} is {_WORDS[parameter.type]}, not {text!r}") from None
    return found


def fill_parameters(predictor: Predictor, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give every parameter with its value, checked; ``seed`` is among them only if it was given.

    Raises UsageError for an unknown name or a value of another type.
    """
    filled = {name: parameter.default for name, parameter in predictor.parameters.items()}
    for name, value in given.items():
        filled[name] = _checked(name, value, _parameter(predictor, name).type)
    return filled


def is_cacheable(predictor: Predictor, parameters: Mapping[str, Any]) -> bool:
    """Whether outputs may be remembered: a predictor that samples needs a seed for that."""
    return not predictor.random or SEED in parameters


def fresh_seed() -> int:
    """Give a seed for a call that asked for none, and whose outputs are not remembered."""
    return int.from_bytes(os.urandom(4), "big") >> 1


def split_devices(device: str) -> tuple[str, ...]:
    """Give the devices that a text names: ``("0", "1")`` for ``0,1``; ``cpu`` and ``-1`` are the CPU.

    Raises UsageError for what is no device, and for one that is named twice.
    """
    if device in (CPU, "-1"):
        return (CPU,)
    named = device.split(",")
    if not all(re.fullmatch(r"[0-9]{1,4}", one) for one in named):
        raise UsageError(f"there is no device {device!r}", "cpu, or the number of a GPU, or several: 0,1")
    found = tuple(str(int(one)) for one in named)
    if len(set(found)) < len(found):
        raise UsageError(f"the devices {device} name one twice", "name each GPU once")
    return found


def check_device(predictor: Predictor, device: str, engine: Callable[[], Engine]) -> str:
    """Give the device class that devices mean: ``cpu:x86_64``, ``cuda:9.0``.

    ``device``: as ``split_devices`` takes it; ``engine``: is asked what GPUs can. Raises UsageError for
    what is no device, is of no use to the predictor, or would not compute alike; EngineError where there
    is no such GPU.
    """
    named = split_devices(device)
    if named == (CPU,):
        return f"cpu:{os.uname().machine}"
    if not predictor.cuda:
        raise UsageError(
            f"the predictor does not use a GPU, and device {device} is one", "leave --device out"
        )
    ready = engine()
    classes = {number: f"cuda:{ready.gpu(number).capability}" for number in named}
    if len(set(classes.values())) > 1:
        told = ", ".join(f"{number} is {kind}" for number, kind in classes.items())
        raise UsageError(
            f"the devices {device} would not compute alike: {told}", "name GPUs of one kind in one call"
        )
    return classes[named[0]]


def driver_of(device: str, engine: Callable[[], Engine]) -> str:
    """Give the version of the driver that runs devices, for provenance; ``""`` for the CPU."""
    named = split_devices(device)
    return "" if named == (CPU,) else engine().gpu(named[0]).driver


def command_devices(device: str) -> tuple[str, ...]:
    """Give what ``Command.devices`` is for one device."""
    return () if device in (CPU, "-1") else (device,)


def fill_command(
    predictor: Predictor, parameters: Mapping[str, Any], *, source: str, destination: str, device: str
) -> str:
    """Fill a predictor's command in, each value quoted for the shell.

    ``{device}`` is ``-1`` for the CPU and ``0`` for a GPU, which is the only one that the command sees,
    whatever its number outside; ``{seed}`` without a seed is 0; true and false are written so.
    """
    values = {
        "input": source,
        "output": destination,
        "device": "0" if command_devices(device) else "-1",
        SEED: "0",
        **{name: _text(value) for name, value in parameters.items()},
    }

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        return shlex.quote(values[name]) if name in values else match[0]

    return _PLACEHOLDER.sub(fill, predictor.command)


def _parameter(predictor: Predictor, name: str) -> Parameter:
    if name in predictor.parameters:
        return predictor.parameters[name]
    takes_seed = predictor.random or "{seed}" in predictor.command
    if name == SEED and takes_seed:
        return Parameter("int", 0)
    known = [*predictor.parameters, *([SEED] if takes_seed else [])]
    raise UsageError(
        f"the predictor has no parameter {name!r}",
        f"it has {', '.join(known)}" if known else "it has none",
    )


def _checked(name: str, value: Any, kind: str) -> Any:
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    fits = type(value) is _TYPES[kind]
    if fits and kind == "float":
        fits = math.isfinite(value)
    if fits and kind == "int":
        fits = abs(value) <= LARGEST_INTEGER
    if fits and kind == "str":
        fits = "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    if not fits:
        raise UsageError(f"the parameter {name} is {_WORDS[kind]}, not {value!r}")
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value).decode()


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,16}", text) or abs(int(text)) > LARGEST_INTEGER:
        raise ValueError(text)
    return int(text)


def _fraction(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


_TYPES: Mapping[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
_READERS: Mapping[str, Any] = {"str": str, "int": _integer, "float": _fraction}
_WORDS = {"str": "a text", "int": "an integer", "float": "a number", "bool": "true or false"}
