"""A Dockerfile to the plain steps of an image.

Knows nothing of files beside the text, nor of what the base image says: variables are replaced when that is
known. Steps are in one row: a ``Stage`` sets aside what the steps before it made, and begins with another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reprobuild.derivation.dockerfile.copying import is_address, read_copy, read_download, words_of
from reprobuild.derivation.dockerfile.expand import Rules, WordError, names_in, quoted
from reprobuild.derivation.dockerfile.mounts import mount_of
from reprobuild.derivation.dockerfile.parser import Instruction, heredoc_of, parse
from reprobuild.derivation.dockerfile.settings import PAIRS, SETTINGS, setting_words
from reprobuild.derivation.dockerfile.stages import (
    PLATFORM_ARGS,
    PROXY_ARGS,
    Found,
    Stages,
    argument_words,
    check_reference,
    find_stages,
    value_of,
)
from reprobuild.derivation.steps import Oci, Run, Step
from reprobuild.derivation.where import Where
from reprobuild.derivation.written import Setting, Stage
from reprobuild.errors import RecipeError

SHELL = ("/bin/sh", "-c")
KNOWN = (*SETTINGS, "FROM", "RUN", "COPY", "ADD")
DECIDES = ("ARG", "ENV", "WORKDIR", "USER", "SHELL")
"""Instructions whose change is likely to change what a later RUN fetches."""


def dockerfile_steps(
    text: str,
    file: str,
    *,
    args: Mapping[str, str],
    target: str = "",
    context: str = "",
    ignore: Sequence[str] = (),
    where: Where | None = None,
) -> tuple[Step, ...]:
    """Give the steps that a Dockerfile comes to.

    ``file``: what errors call it; ``args``: values of its arguments; ``target``: the stage to end with,
    by default the last; ``context``: the folder that COPY reads, inside the recipe's; ``ignore``:
    patterns of what it leaves out; ``where``: where the recipe names it. Raises RecipeError, with the line.
    """
    parsed = parse(text, file)
    stages = find_stages(parsed, args)
    last = stages.named(target) if target else stages.all[-1]
    if last is None:
        known = ", ".join(stage.name for stage in stages.all)
        raise RecipeError(f"{where or file}: {file} has no stage {target!r}", f"its stages: {known}")
    declared = {*PROXY_ARGS, *(name.lower() for name in PROXY_ARGS)}
    for one in parsed.instructions:
        if one.word == "ARG":
            declared |= {name for name, _ in argument_words(one, parsed.escape)}
    if unknown := sorted(args.keys() - declared):
        raise RecipeError(
            f"{where or file}: {file} has no ARG {unknown[0]}", f"add ARG {unknown[0]} to it, or leave it out"
        )
    settings = _Common(stages, dict(args), parsed.escape, context, tuple(ignore))
    steps: list[Step] = []
    written: dict[str, _Writer] = {}
    before = ""
    for found in stages.all:
        writer = _Writer(found, written.get(found.parent), settings)
        writer.write()  # all of them: an error in a stage that is not needed is an error
        written[found.name] = writer
    for found in stages.needed(last):
        writer = written[found.name]
        for name, aside in writer.asides.items():
            if name in settings.made:
                continue
            settings.made.add(name)
            steps += [Stage(name=before, where=aside[0].where)] if before else []
            steps += aside
            before = name
        if before:
            steps.append(Stage(name=before, begin=found.parent, where=found.begins.where))
        steps += writer.steps
        before = found.name
    return tuple(steps)


@dataclass(slots=True)
class _Common:
    """What the stages of one Dockerfile share."""

    stages: Stages
    args: Mapping[str, str]
    escape: str
    context: str
    ignore: tuple[str, ...]
    made: set[str] = field(default_factory=set)
    """Images and downloads that stand aside already."""
    seen: dict[str, int] = field(default_factory=dict)
    """How many equal commands in equal settings there were."""


class _Writer:
    """Writes the steps of a stage, one instruction after another."""

    def __init__(self, found: Found, parent: _Writer | None, common: _Common) -> None:
        self.steps: list[Step] = []
        self.asides: dict[str, list[Step]] = {}
        """Images and downloads that this stage takes files from."""
        self._found = found
        self._common = common
        self._rules = Rules(common.escape)
        self._known: dict[str, str | None] = dict(parent._known) if parent else {}
        """Variables as far as the Dockerfile alone tells their values."""
        self._is_open: bool = parent._is_open if parent else bool(found.reference)
        """Whether the base image may have further variables."""
        self._decides: list[str] = list(parent._decides) if parent else []
        self._decides.append(found.reference)

    def write(self) -> None:
        """Write all of it. Raises RecipeError, with the line."""
        begins = self._found.begins
        if self._found.reference:
            self.steps.append(Oci(reference=self._found.reference, where=begins.where))
            self._setting(begins, (self._found.reference, self._found.platform))
        for one in self._found.body:
            if one.word in SETTINGS:
                self._set(one)
            elif one.word == "RUN":
                self._run(one)
            elif one.word in ("COPY", "ADD"):
                self._copy(one)
            elif one.word == "ONBUILD":
                raise one.error("is not supported", "put it into the Dockerfiles that build on this image")
            else:
                raise one.error("there is no such instruction", _nearest(one.word))
            if one.word in DECIDES:
                self._decides.append(f"{one.word} {one.rest}")

    def _setting(self, one: Instruction, values: Sequence[str]) -> None:
        self.steps.append(
            Setting(word=one.word, values=tuple(values), escape=self._common.escape, where=one.where)
        )

    def _set(self, one: Instruction) -> None:
        try:
            values = setting_words(one, self._common.escape)
            if one.word == "ARG":
                values = self._arguments(one, values)
            if one.word in PAIRS:
                self._learn(one, values)
        except WordError as error:
            raise one.error(str(error)) from None
        if values or one.word != "ARG":
            self._setting(one, values)

    def _arguments(self, one: Instruction, values: Sequence[str]) -> tuple[str, ...]:
        """Give arguments with the values that count: given, written here, or written before FROM."""
        found: list[str] = []
        for name, default in argument_words(one, self._common.escape):
            if name in self._common.args:
                found += [name, quoted(self._common.args[name])]
            elif default is not None:
                found += [name, default]
            elif name in self._common.stages.arguments:
                found += [name, quoted(self._common.stages.arguments[name])]
            elif name in PLATFORM_ARGS:
                found += [name, f"${name}"]
        return tuple(found)

    def _learn(self, one: Instruction, values: Sequence[str]) -> None:
        said: dict[str, str | None] = {}
        for name, word in zip(values[::2], values[1::2], strict=True):
            names = names_in(word, self._rules)
            is_known = not any(self._value(other) is None for other in names)
            said[name] = value_of(word, self._plain(), self._rules, one) if is_known else None
        if one.word != "LABEL":
            self._known.update(said)

    def _value(self, name: str) -> str | None:
        """Give a variable's value; None where the Dockerfile alone does not tell it."""
        return self._known.get(name, None if self._is_open else "")

    def _plain(self) -> dict[str, str]:
        return {name: value for name, value in self._known.items() if value is not None}

    def _static(self, word: str, one: Instruction) -> str:
        """Expand a word whose value is needed before the base image is known."""
        try:
            names = sorted(names_in(word, self._rules))
        except WordError as error:
            raise one.error(str(error)) from None
        for name in names:
            if self._value(name) is None:
                raise one.error(
                    f"{word}: ${name} is not known before the base image is",
                    f"say it in the Dockerfile: ENV {name}=…, or ARG {name}=…",
                )
        return value_of(word, self._plain(), self._rules, one)

    def _run(self, one: Instruction) -> None:
        mounts = []
        network = "recorded"
        for name, value in one.flags:
            if name == "mount":
                mount = mount_of(value, one)
                self._check_word(mount.target, one)
                self._check_word(mount.source, one)
                if mount.source and not mount.whence and "$" in mount.source:
                    value += f",source={self._context_path(self._static(mount.source, one), one)}"
                if mount.whence:
                    value = f"{value},from={self._whence(mount.whence, one)}"
                mounts.append(value)
            elif name == "network" and value in ("default", "none", "host"):
                network = "" if value == "none" else "recorded"
            elif name != "security" or value != "sandbox":
                raise one.error(f"--{name}={value} is not supported")
        command = one.array
        if command is None:
            command = (*SHELL, _shell_text(one))
        if not command or not all(command[:1]) or not command[-1].strip():
            raise one.error("needs a command")
        setting = hashlib.sha256("\0".join([*self._decides, *mounts, *command]).encode()).hexdigest()[:12]
        count = self._common.seen.get(setting, 0)
        self._common.seen[setting] = count + 1
        self.steps.append(
            Run(
                command=command,
                network=network,  # type: ignore[arg-type]  # one of two constants
                shell=one.array is None,
                mounts=tuple(mounts),
                context=self._common.context if mounts else "",
                ignore=self._common.ignore if mounts else (),
                setting=f"{setting}-{count + 1}" if count else setting,
                where=one.where,
            )
        )

    def _copy(self, one: Instruction) -> None:
        if one.word == "ADD":
            downloads = [word for word in words_of(one, self._common.escape)[:-1] if is_address(word)]
            for number, word in enumerate(downloads, start=1):
                name = f"add-{one.where.line}-{number}"
                step, placed = read_download(one, self._static(word, one), name, self._common.escape)
                self.asides[name] = [step]
                self.steps.append(placed)
        flags = dict(one.flags)
        stage = self._whence(flags["from"], one) if "from" in flags else ""
        copy = read_copy(
            one,
            self._common.escape,
            stage=stage,
            context="" if stage else self._common.context,
            ignore=() if stage else self._common.ignore,
            static=lambda word: self._static(word, one),
        )
        if copy is not None:
            self.steps.append(copy)

    def _context_path(self, path: str, one: Instruction) -> str:
        if "," in path or '"' in path or "\n" in path:
            raise one.error(f"--mount: {path!r}: a path without commas and quotes is needed")
        return path

    def _check_word(self, word: str, one: Instruction) -> None:
        try:
            names_in(word, self._rules)
        except WordError as error:
            raise one.error(str(error)) from None

    def _whence(self, name: str, one: Instruction) -> str:
        """Give the stage that files come from; one for an image that is named where a stage could be."""
        stages = self._common.stages
        other = stages.named(name)
        if other is not None:
            if stages.all.index(other) >= stages.all.index(self._found):
                raise one.error(f"from={name}: that stage comes later, or is this one")
            return other.name
        if not name or name == "scratch" or "$" in name or name.isdecimal():
            raise one.error(f"from={name}: there is no such stage")
        check_reference(name, one)
        self.asides.setdefault(name, [Oci(reference=name, where=one.where)])
        return name


def _shell_text(one: Instruction) -> str:
    """Give what the shell gets: here-documents are its own, but for one that is the whole command."""
    if not one.heredocs:
        return one.rest
    whole = heredoc_of(one.rest)
    if whole is None:
        return "\n".join([one.rest, *(f"{found.text}{found.name}" for found in one.heredocs)])
    first = one.heredocs[0]
    if first.text.startswith("#!"):
        return _script(first.content, one)
    return first.content


def _script(content: str, one: Instruction) -> str:
    """Give the shell's text for a script with an interpreter of its own."""
    end = "REPROBUILD_END_OF_SCRIPT"
    if end in content:
        raise one.error(f"the script has the line {end}")
    path = "/tmp/.reprobuild-script"
    return (
        f"cat > {path} <<'{end}' && chmod 700 {path} && {path}; code=$?; rm -f {path}; exit $code\n"
        f"{content}{end}\n"
    )


def _nearest(word: str) -> str:
    """Give a hint that names the instruction that one is most like."""
    from difflib import get_close_matches

    found = get_close_matches(word, KNOWN, n=1)
    return f"did you mean {found[0]}?" if found else ""
