"""The instructions of a Dockerfile to its stages: what each begins with, and which others it needs.

Knows nothing of steps. Arguments before the first FROM are for FROM lines, and for stages that ask for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reprobuild.derivation.dockerfile.expand import Rules, WordError, expand, names_in, raw_words
from reprobuild.derivation.dockerfile.mounts import mount_of
from reprobuild.derivation.dockerfile.parser import Instruction, Parsed
from reprobuild.derivation.image_reference import read_reference

PLATFORM_ARGS = tuple(
    f"{side}{part}" for side in ("TARGET", "BUILD") for part in ("PLATFORM", "OS", "ARCH", "VARIANT")
)
"""Arguments whose values are the platform's that an image is built for."""
PROXY_ARGS = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
"""Arguments that need no ARG: they name the network of who builds, and change nothing here."""

_STAGE_NAME = re.compile(r"[a-z][a-z0-9._-]*")
_PLATFORM = re.compile(r"linux/[a-z0-9]+(/v[0-9]+)?")


@dataclass(slots=True)
class Found:
    """A stage of a Dockerfile."""

    name: str
    """Unique: its own, or ``stage-2``."""
    begins: Instruction
    reference: str = ""
    """The base image; empty for none, or for another stage."""
    parent: str = ""
    """The stage that it begins with."""
    platform: str = ""
    """As in ``FROM --platform``, where that is a constant."""
    body: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stages:
    """A Dockerfile's stages in order, and the arguments before them."""

    all: tuple[Found, ...]
    arguments: Mapping[str, str]
    """Values of the arguments before the first FROM."""

    def named(self, name: str) -> Found | None:
        """Give a stage by its name or its number."""
        for index, stage in enumerate(self.all):
            if name.lower() == stage.name or name == str(index):
                return stage
        return None

    def needed(self, last: Found) -> list[Found]:
        """Give the stages without which the last cannot be, in order."""
        wanted, todo = {last.name}, [last]
        while todo:
            stage = todo.pop()
            for name in (stage.parent, *(name for one in stage.body for name in whence(one))):
                other = self.named(name) if name else None
                if other is not None and other.name not in wanted:
                    wanted.add(other.name)
                    todo.append(other)
        return [stage for stage in self.all if stage.name in wanted]


def whence(instruction: Instruction) -> list[str]:
    """Give the stages or images that an instruction takes files from."""
    if instruction.word in ("COPY", "ADD"):
        return [value for name, value in instruction.flags if name == "from"]
    if instruction.word == "RUN":
        mounts = [mount_of(value, instruction) for name, value in instruction.flags if name == "mount"]
        return [one.whence for one in mounts if one.whence]
    return []


def find_stages(parsed: Parsed, given: Mapping[str, str]) -> Stages:
    """Part a Dockerfile's instructions into stages; ``given``: arguments. Raises RecipeError, with line."""
    rules = Rules(parsed.escape)
    arguments: dict[str, str] = {}
    stages: list[Found] = []
    for one in parsed.instructions:
        if one.word == "FROM":
            try:
                stages.append(_begin(one, stages, arguments, rules))
            except WordError as error:
                raise one.error(str(error)) from None
        elif stages:
            stages[-1].body.append(one)
        elif one.word == "ARG":
            for name, default in argument_words(one, parsed.escape):
                if name in given:
                    arguments[name] = given[name]
                elif default is not None:
                    arguments[name] = value_of(default, arguments, rules, one)
        else:
            raise one.error("the first instruction is FROM, or ARG before it")
    if not stages:
        raise parsed.instructions[0].error("there is no FROM after it", "a Dockerfile begins with FROM")
    return Stages(tuple(stages), arguments)


def _begin(one: Instruction, before: Sequence[Found], arguments: Mapping[str, str], rules: Rules) -> Found:
    words = raw_words(one.rest, rules.escape)
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise one.error("needs one image, and AS NAME at most")
    name = words[2].lower() if len(words) == 3 else f"stage-{len(before)}"
    if not _STAGE_NAME.fullmatch(name):
        raise one.error(f"{words[-1]!r} is no name of a stage", "letters, digits, '.', '_' and '-'")
    if any(stage.name == name for stage in before) or name == "scratch":
        raise one.error(f"the name {name!r} is taken")
    platform = ""
    for flag, value in one.flags:
        if flag != "platform":
            raise one.error(f"--{flag} is not supported")
        if not names_in(value, rules) & set(PLATFORM_ARGS):
            platform = value_of(value, arguments, rules, one)
            if not _PLATFORM.fullmatch(platform):
                raise one.error(f"--platform={platform}: not a platform of Linux", "--platform=linux/amd64")
    missing = sorted(names_in(words[0], rules) & {*PLATFORM_ARGS} - arguments.keys())
    if missing:
        raise one.error(f"${missing[0]} in the name of an image is not supported", "name the image in full")
    reference = value_of(words[0], arguments, rules, one)
    if not reference:
        raise one.error(f"{words[0]} comes to no image", "give the argument a default, or a value in args=")
    parent = next((stage.name for stage in before if stage.name == reference.lower()), "")
    if parent or reference == "scratch":
        reference = ""
    else:
        check_reference(reference, one)
    return Found(name, one, reference, parent, platform)


def argument_words(one: Instruction, escape: str) -> list[tuple[str, str | None]]:
    """Read ``ARG name[=default] …``."""
    words = raw_words(one.rest, escape)
    if not words:
        raise one.error("needs a name")
    found = []
    for word in words:
        name, sign, default = word.partition("=")
        if not re.fullmatch(r"[^\W\d]\w*", name, re.ASCII):
            raise one.error(f"{name!r} is no name of an argument")
        found.append((name, default if sign else None))
    return found


def value_of(word: str, values: Mapping[str, str], rules: Rules, one: Instruction) -> str:
    """Expand a word of an instruction. Raises RecipeError, with its line."""
    try:
        return expand(word, values, rules)
    except WordError as error:
        raise one.error(str(error)) from None


def check_reference(reference: str, one: Instruction) -> None:
    """See to it that a text is a reference to an image. Raises RecipeError, with the line."""
    try:
        read_reference(reference)
    except ValueError as error:
        raise one.error(str(error)) from None
