"""A recipe drafted from a Dockerfile: fetches that can be declared become steps, the rest stays recorded.

Knows nothing of files beside those it is given. What it cannot say as plain steps (several stages, mounts,
another shell) it leaves to ``dockerfile(…)`` as a whole.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from reprobuild.derivation.dockerfile import fetches
from reprobuild.derivation.dockerfile.copying import is_address, is_mode, words_of
from reprobuild.derivation.dockerfile.declared import Known, declared
from reprobuild.derivation.dockerfile.expand import Rules, WordError, expand, names_in
from reprobuild.derivation.dockerfile.expansion import dockerfile_steps
from reprobuild.derivation.dockerfile.parser import Instruction, heredoc_of, parse
from reprobuild.derivation.dockerfile.patterns import GLOB, cleaned, glob
from reprobuild.derivation.dockerfile.recipe_text import q, recipe_text
from reprobuild.derivation.dockerfile.settings import setting_words
from reprobuild.derivation.dockerfile.shell import Part, hidden_failures, is_row, parts
from reprobuild.derivation.dockerfile.stages import argument_words, find_stages

ROOT = "src"
"""The folder of the recipe that gets the Dockerfile's context."""
SUITES = ("buster", "bullseye", "bookworm", "trixie")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a person should look at: a line of the Dockerfile, and what about it."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe's text with what is to be said of it."""

    recipe: str
    findings: tuple[Finding, ...]
    copies: tuple[str, ...]
    """Paths of the context that the recipe reads; ``.`` for all of it."""
    is_whole: bool = False
    """Whether the recipe takes the Dockerfile as it is."""


def draft(text: str, name: str, context: Sequence[str], read: Mapping[str, str] | None = None) -> Draft:
    """Draft the recipe ``name`` from a Dockerfile's text.

    ``context``: the paths of the files beside it; ``read``: the texts of those that may be lists of Python
    requirements. Raises RecipeError, with the line, for a Dockerfile that cannot be read.
    """
    parsed = parse(text, "Dockerfile")
    stages = find_stages(parsed, {})
    dockerfile_steps(text, "Dockerfile", args={})  # what makes no sense is said before anything is made of it
    found = [
        Finding(one.where.line, said) for one in parsed.instructions for said in _hidden(one, parsed.escape)
    ]
    why = _needs_the_whole(parsed.instructions, len(stages.all))
    if why is not None:
        found.append(why)
        recipe = recipe_text(name, ['dockerfile("src/Dockerfile")'], {}, "", _start(parsed.instructions))
        return Draft(recipe, tuple(sorted(found, key=_line)), (".",), True)
    writer = _Writer(Rules(parsed.escape), stages.arguments, context, Known(read or {}))
    base = stages.all[0]
    writer.has_workdir = any(one.word == "WORKDIR" for one in base.body)
    if base.reference:
        writer.base(base.reference)
    for one in base.body:
        writer.add(one)
    recipe = recipe_text(name, writer.steps, writer.env, writer.workdir, _start(parsed.instructions))
    findings = sorted([*found, *writer.findings], key=_line)
    return Draft(recipe, tuple(findings), tuple(dict.fromkeys(writer.copies)))


def _line(one: Finding) -> int:
    return one.line


def _hidden(one: Instruction, escape: str) -> list[str]:
    if one.word != "RUN" or one.array is not None:
        return []
    text = "\n".join(found.content for found in one.heredocs) if one.heredocs else one.rest
    return hidden_failures(text)


def _needs_the_whole(instructions: Sequence[Instruction], stages: int) -> Finding | None:
    """Say what in a Dockerfile plain steps cannot say."""
    if stages > 1:
        second = [one for one in instructions if one.word == "FROM"][1]
        return Finding(second.where.line, "several stages: the recipe takes the Dockerfile as it is")
    for one in instructions:
        flags = {name for name, _ in one.flags}
        if one.word == "SHELL" or (one.word == "RUN" and flags & {"mount", "security"}) or one.heredocs:
            return Finding(
                one.where.line, f"{one.word} as it is here has no plain step: the recipe takes the Dockerfile"
            )
        if one.word not in ("COPY", "ADD"):
            continue
        plain = {"chmod"} if is_mode(dict(one.flags).get("chmod", "")) else set()
        if flags - plain:
            named = " ".join(f"--{flag}" for flag in sorted(flags - plain))
            return Finding(one.where.line, f"{named} has no plain step: the recipe takes the Dockerfile")
    return None


def _start(instructions: Sequence[Instruction]) -> str:
    """Give what the image starts with, as the Dockerfile says it."""
    said = [one for one in instructions if one.word in ("CMD", "ENTRYPOINT")]
    return "; ".join(f"{one.word} {' '.join(one.rest.split())}" for one in said)


@dataclass(slots=True)
class _Writer:
    """Writes steps, one instruction after another."""

    rules: Rules
    arguments: Mapping[str, str]
    context: Sequence[str]
    known: Known
    steps: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = ""
    has_workdir: bool = False
    """Whether the image has a folder of its own in the end, which is not yet that of its first commands."""

    def base(self, reference: str) -> None:
        """Begin with a base image."""
        self.steps.append(f"oci({q(reference)})")
        self.known.suite = next((suite for suite in SUITES if re.search(rf"[:-]{suite}\b", reference)), "")

    def note(self, one: Instruction, text: str) -> None:
        self.findings.append(Finding(one.where.line, text))

    def value(self, word: str, one: Instruction) -> str:
        """Expand a word; what only the base image knows is empty, and said."""
        try:
            for name in sorted(names_in(word, self.rules) - self.known.variables.keys()):
                self.note(one, f"${name} is not known here and taken as empty")
            return expand(word, self.known.variables, self.rules)
        except WordError as error:
            raise one.error(str(error)) from None

    def add(self, one: Instruction) -> None:
        """Write what an instruction comes to."""
        if one.word == "RUN":
            self._run(one)
        elif one.word in ("COPY", "ADD"):
            self._copy(one)
        elif one.word in ("ENV", "ARG"):
            self._variables(one)
        elif one.word == "WORKDIR":
            path = posixpath.normpath(posixpath.join(self.workdir or "/", self.value(one.rest, one)))
            self.workdir = path
            made = q(f"mkdir -p {shlex.quote(path)}")
            self.steps.append(f'run({made}, workdir="/")')
        elif one.word == "USER":
            self.note(one, "USER is left out: commands of a recipe run as root, who has power over nothing")
        elif one.word not in ("CMD", "ENTRYPOINT"):
            self.note(one, f"{one.word} is left out: it changes no file")

    def _variables(self, one: Instruction) -> None:
        if one.word == "ARG":
            for name, default in argument_words(one, self.rules.escape):
                if default is not None:
                    self.known.variables[name] = self.value(default, one)
                elif name in self.arguments:
                    self.known.variables[name] = self.arguments[name]
            return
        values = setting_words(one, self.rules.escape)
        said = {name: self.value(word, one) for name, word in zip(values[::2], values[1::2], strict=True)}
        if "PATH" in said:
            self.note(one, "PATH is written out here: see that it fits the base image's")
        self.env |= said
        self.known.variables |= said

    # COPY and ADD.

    def _copy(self, one: Instruction) -> None:
        *sources, to = words_of(one, self.rules.escape)
        target = posixpath.join(self.workdir or "/", self.value(to, one))
        if to in (".", "./") or to.endswith("/.") or (len(sources) > 1 and not target.endswith("/")):
            target = posixpath.normpath(target) + "/"
        mode = dict(one.flags).get("chmod", "")
        more = f", mode=0o{int(mode, 8):o}" if mode else ""
        for word in sources:
            source = self.value(word, one)
            if is_address(source):
                self.steps.append(f"url({q(source)}, to={q(target)}, mode=0o600)")
                continue
            for path in self._matches(cleaned(source)):
                self._place(one, path, target, more)

    def _matches(self, pattern: str) -> list[str]:
        if not GLOB.search(pattern):
            return [pattern]
        parts = pattern.split("/")
        cut = {"/".join(path.split("/")[: len(parts)]) for path in self.context}
        return sorted(
            path
            for path in cut
            if len(path.split("/")) == len(parts)
            and all(glob(a).fullmatch(b) for a, b in zip(parts, path.split("/"), strict=True))
        )

    def _place(self, one: Instruction, path: str, target: str, more: str) -> None:
        self.copies.append(path or ".")
        inside = f"{ROOT}/{path}".rstrip("/")
        is_folder = path not in self.context
        if one.word == "ADD" and re.search(r"\.(tar(\.\w+)?|t[gbx]z2?)$", path):
            self.steps.append(f"url({q(f'file:{inside}')}, to={q(target)}, unpack=True)")
            return
        if is_folder:
            self.steps.append(f"files({q(inside)}, to={q(target.rstrip('/') or '/')})")
        else:
            self.steps.append(f"files({q(inside)}, to={q(target)}{more})")
        for name in self.context if is_folder else (path,):
            if not is_folder:
                where = target + posixpath.basename(name) if target.endswith("/") else target
                self.known.placed[where] = name
            elif not path or name.startswith(path + "/"):
                self.known.placed[posixpath.join(target, name[len(path) :].lstrip("/"))] = name

    # RUN: what can be declared, between what is recorded.

    def _run(self, one: Instruction) -> None:
        if one.array is not None or not is_row(one.rest) or heredoc_of(one.rest) is not None:
            command: str | list[str] = list(one.array) if one.array is not None else one.rest
            self._recorded(
                one, [command] if isinstance(command, list) else [Part("", command)], self.workdir or "/"
            )
            return
        folder = self.workdir or "/"
        begun = folder
        waiting: list[Part] = []
        row = parts(one.rest)
        note = partial(self.note, one)
        at = 0
        while at < len(row):
            words = fetches.words(self.known.plain(row[at].text))
            if words and words[0] == "cd" and len(words) == 2:
                folder = posixpath.normpath(posixpath.join(folder, words[1]))
                waiting.append(row[at])
                at += 1
                continue
            taken, step = declared(row[at:], folder, self.known, note) if words else (0, "")
            if not taken:
                waiting.append(row[at])
                at += 1
                continue
            if step:
                self._recorded(one, waiting, begun)
                waiting, begun = [], folder
                self.steps.append(step)
            for part in row[at : at + taken]:
                if part.text.startswith("cd "):
                    folder = begun = posixpath.normpath(posixpath.join(folder, part.text[3:].strip()))
            at += taken
        self._recorded(one, waiting, begun)

    def _recorded(self, one: Instruction, commands: Sequence[Part | list[str]], folder: str) -> None:
        """Write what stays a command; one that does nothing but go somewhere is none."""
        if not commands:
            return
        if isinstance(commands[0], list):
            shown = q(commands[0])
        else:
            texts = [part for part in commands if isinstance(part, Part)]
            if all(part.text.startswith("cd ") for part in texts):
                return
            text = " && ".join(part.text for part in texts)
            known = self.known.variables
            assigned = [name for name in sorted(known) if re.search(rf"\$\{{?{name}\b", text)]
            hidden = {name: known[name] for name in assigned if name not in self.env and name != "PATH"}
            shown = q(text) + (f", env={q(hidden)}" if hidden else "")
        where = f", workdir={q(folder)}" if folder != "/" or self.has_workdir else ""
        if dict(one.flags).get("network") == "none":
            self.steps.append(f"run({shown}{where})")
        else:
            self.steps.append(f'run({shown}, network="recorded"{where})')
