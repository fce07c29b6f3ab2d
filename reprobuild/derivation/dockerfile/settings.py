"""Instructions that change no file: ENV, WORKDIR, CMD and their kin, as words.

Knows nothing of what the words come to: variables are still in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from reprobuild.derivation.dockerfile.expand import Rules, expand_words, names_in, raw_words
from reprobuild.derivation.dockerfile.parser import Instruction, made

PAIRS = ("ENV", "ARG", "LABEL")
"""Instructions of names and values in turn."""
LITERAL = ("CMD", "ENTRYPOINT", "SHELL", "HEALTHCHECK", "MAINTAINER")
"""Instructions in which no variable is replaced."""
IN_SHELL = "shell"
"""What begins the words of a CMD, ENTRYPOINT or HEALTHCHECK that the image's shell runs."""
EXEC = "exec"

_DURATION = re.compile(r"(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+|0")
_PORT = re.compile(r"\d+(-\d+)?(/(tcp|udp|sctp))?", re.IGNORECASE)


def setting_words(one: Instruction, escape: str) -> tuple[str, ...]:
    """Give what a setting is made of. Raises RecipeError for what it cannot be, WordError for a word that
    is none."""
    if one.flags and one.word != "HEALTHCHECK":
        raise one.error(f"--{one.flags[0][0]} is not supported")
    values = SETTINGS[one.word](one, escape)
    if one.word not in LITERAL:
        for value in values:
            names_in(value, Rules(escape))
    return values


def _pairs(one: Instruction, escape: str) -> tuple[str, ...]:
    words = raw_words(one.rest, escape)
    if not words:
        raise one.error("needs a name and a value")
    if "=" not in words[0]:
        name, *value = re.split(r"\s+", one.rest, maxsplit=1)
        if not value or not value[0].strip():
            raise one.error(f"{name} needs a value", f"{one.word} {name}=value")
        # The old form: all that follows the name is the value, blanks too.
        found = [name, value[0].rstrip()]
    else:
        found = []
        for word in words:
            name, sign, text = word.partition("=")
            if not sign or not name:
                raise one.error(f"{word!r} is no name=value", "quote a value with blanks in it")
            found += [name, text]
    if one.word == "ENV" and any(not re.fullmatch(r"[^=\s]+", name) for name in found[::2]):
        raise one.error(f"{found[0]!r} is no name of a variable")
    return tuple(found)


def _arguments(one: Instruction, escape: str) -> tuple[str, ...]:
    return ()  # what they come to depends on what is given


def _one(one: Instruction, escape: str) -> tuple[str, ...]:
    if not one.rest:
        raise one.error("needs a value")
    return (one.rest,)


def _many(one: Instruction, escape: str) -> tuple[str, ...]:
    words = tuple(raw_words(one.rest, escape)) if one.array is None else one.array
    if not words or not all(words):
        raise one.error("needs a value")
    return words


def _ports(one: Instruction, escape: str) -> tuple[str, ...]:
    words = _many(one, escape)
    for word in words:
        if "$" not in word and not all(map(_PORT.fullmatch, expand_words(word, {}, Rules(escape)))):
            raise one.error(f"{word!r} is no port", "EXPOSE 8000, EXPOSE 8000/udp")
    return words


def _command(one: Instruction, escape: str) -> tuple[str, ...]:
    if one.array is not None:
        return (EXEC, *one.array)
    return (IN_SHELL, one.rest) if one.rest else (EXEC,)


def _shell(one: Instruction, escape: str) -> tuple[str, ...]:
    if not one.array or not one.array[0]:
        raise one.error("needs a JSON list", 'SHELL ["/bin/bash", "-c"]')
    return one.array


def _health(one: Instruction, escape: str) -> tuple[str, ...]:
    words = raw_words(one.rest, escape)
    kind = words[0].upper() if words else ""
    flags = []
    for name, value in one.flags:
        if name not in ("interval", "timeout", "start-period", "start-interval", "retries"):
            raise one.error(f"--{name} is not supported")
        if name == "retries":
            if not value.isdecimal() or len(value) > 9:
                raise one.error(f"--retries={value}: a number is needed")
        elif not _DURATION.fullmatch(value):
            raise one.error(f"--{name}={value}: a duration is needed, like 30s")
        flags.append(f"{name}={value}")
    if kind == "NONE" and len(words) == 1 and not flags:
        return ("NONE",)
    if kind != "CMD" or len(words) < 2:
        raise one.error("needs CMD and a command, or NONE")
    command = made("CMD", one.rest.strip()[3:].strip(), one.where, escape)
    return (*flags, "CMD", *_command(command, escape))


SETTINGS: Mapping[str, Callable[[Instruction, str], tuple[str, ...]]] = {
    "ENV": _pairs,
    "LABEL": _pairs,
    "ARG": _arguments,
    "WORKDIR": _one,
    "USER": _one,
    "STOPSIGNAL": _one,
    "MAINTAINER": _one,
    "EXPOSE": _ports,
    "VOLUME": _many,
    "CMD": _command,
    "ENTRYPOINT": _command,
    "SHELL": _shell,
    "HEALTHCHECK": _health,
}
