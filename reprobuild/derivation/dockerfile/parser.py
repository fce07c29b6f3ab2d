"""The text of a Dockerfile to instructions with their lines.

Knows nothing of what an instruction means. Directives, continuations, comments and here-documents follow
the Dockerfile reference and BuildKit's ``frontend/dockerfile/parser``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from reprobuild.derivation.dockerfile.expand import Rules, WordError, expand_words, raw_words
from reprobuild.derivation.where import Where
from reprobuild.errors import RecipeError

WITH_HEREDOCS = ("RUN", "COPY", "ADD")
WITH_ARRAY = ("RUN", "CMD", "ENTRYPOINT", "SHELL", "COPY", "ADD", "VOLUME")
LARGEST = 4 * 1024 * 1024
"""Bytes of a Dockerfile."""

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]+)")
_FRONTEND = re.compile(r"(docker\.io/)?docker/dockerfile(-upstream)?(:[\w.-]+)?(@sha256:[0-9a-f]{64})?")


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document: a text that follows its instruction."""

    name: str
    text: str
    """As it stands, with its line ends."""
    expands: bool
    """Whether variables in it are replaced: its name was not quoted."""
    chomps: bool
    """Whether leading tabs go: ``<<-``."""

    @property
    def content(self) -> str:
        """The text as its reader gets it, variables aside."""
        return re.sub(r"(?m)^\t+", "", self.text) if self.chomps else self.text


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, as it is written."""

    where: Where
    word: str
    """In capitals: ``RUN``."""
    rest: str
    """What follows the flags, continuations joined."""
    flags: tuple[tuple[str, str], ...] = ()
    """``--name=value``; an empty value where there is none."""
    array: tuple[str, ...] | None = None
    """What the rest is as a JSON list, where it is one (the exec form)."""
    heredocs: tuple[Heredoc, ...] = ()

    def error(self, problem: str, hint: str = "") -> RecipeError:
        """Give an error about this instruction, with its line."""
        return RecipeError(f"{self.where}: {self.word}: {problem}", hint)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A Dockerfile's instructions, and the character that it escapes by."""

    instructions: tuple[Instruction, ...]
    escape: str = "\\"


def parse(text: str, file: str) -> Parsed:
    """Part a Dockerfile into instructions; ``file``: what errors call it. Raises RecipeError, with line."""
    if len(text) > LARGEST:
        raise RecipeError(f"{file} has more than {LARGEST:,} characters")
    if "\0" in text:
        raise RecipeError(f"{file}:{text[: text.index(chr(0))].count(chr(10)) + 1}: a NUL character")
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    escape, start = _directives(lines, file)
    reader = _Reader(lines, start, file, escape)
    found = tuple(reader.instructions())
    if not found:
        raise RecipeError(f"{file} has no instruction", "a Dockerfile begins with FROM")
    return Parsed(found, escape)


def _directives(lines: list[str], file: str) -> tuple[str, int]:
    """Read the directives at the top; give the escape character and how many lines they take."""
    seen: dict[str, str] = {}
    for index, line in enumerate(lines):
        found = _DIRECTIVE.fullmatch(line.strip())
        name = found.group(1).lower() if found else ""
        if found is None or name not in ("syntax", "escape", "check"):
            return seen.get("escape", "\\"), index
        value = found.group(2)
        if name in seen:
            raise RecipeError(f"{file}:{index + 1}: the directive {name} is there twice")
        if name == "escape" and value not in ("\\", "`"):
            raise RecipeError(f"{file}:{index + 1}: escape={value}: only \\ and ` are known")
        if name == "syntax" and not _FRONTEND.fullmatch(value):
            raise RecipeError(
                f"{file}:{index + 1}: syntax={value}: a frontend of its own is not supported",
                "only docker/dockerfile is known",
            )
        seen[name] = value
    return seen.get("escape", "\\"), len(lines)


class _Reader:
    """Reads lines from the top."""

    def __init__(self, lines: list[str], start: int, file: str, escape: str) -> None:
        self._lines = lines
        self._at = start
        self._file = file
        self._escape = escape
        sign = re.escape(escape)
        self._continues = re.compile(rf"(?:^|(?<=[^{sign}])){sign}[ \t]*$")

    def instructions(self) -> list[Instruction]:
        found = []
        while self._at < len(self._lines):
            number = self._at + 1
            line = self._lines[self._at].lstrip()
            self._at += 1
            if line and not line.startswith("#") and (whole := self._joined(line).strip()):
                found.append(self._instruction(whole, Where(self._file, number)))
        return found

    def _joined(self, line: str) -> str:
        """Join a line with those that continue it; comments and empty lines between them do not count."""
        whole = ""
        while (cut := self._continues.search(line)) is not None:
            whole += line[: cut.start()]
            line = ""
            while self._at < len(self._lines):
                line = self._lines[self._at]
                self._at += 1
                if line.strip() and not line.lstrip().startswith("#"):
                    break
                line = ""
            else:
                break
        return whole + line

    def _instruction(self, line: str, where: Where) -> Instruction:
        word, rest = (*line.split(maxsplit=1), "")[:2]
        word = word.upper()
        if not re.fullmatch("[A-Z]+", word):
            raise RecipeError(f"{where}: {word!r} is no instruction")
        heredocs: tuple[Heredoc, ...] = ()
        if word in WITH_HEREDOCS:
            heredocs = tuple(self._bodies(_heredocs(rest, self._escape), where))
        return made(word, rest, where, self._escape, heredocs)

    def _bodies(self, begun: list[Heredoc], where: Where) -> list[Heredoc]:
        found = []
        for one in begun:
            body = []
            while True:
                if self._at >= len(self._lines):
                    raise RecipeError(f"{where}: the here-document {one.name} does not end")
                line = self._lines[self._at]
                self._at += 1
                if (line.lstrip("\t") if one.chomps else line) == one.name:
                    break
                body.append(line + "\n")
            found.append(Heredoc(one.name, "".join(body), one.expands, one.chomps))
        return found


def made(word: str, rest: str, where: Where, escape: str, heredocs: tuple[Heredoc, ...] = ()) -> Instruction:
    """Make an instruction of its words: flags apart, and the exec form read. Raises RecipeError."""
    flags, rest = _flags(rest, escape)
    array = None
    if word in WITH_ARRAY and rest.startswith("["):
        array = _array(rest, where, word)
    return Instruction(where, word, rest, flags, array, heredocs)


def _array(rest: str, where: Where, word: str) -> tuple[str, ...] | None:
    """Read the exec form. What is no JSON is the shell form, as in docker."""
    try:
        found = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in found):
        raise RecipeError(f"{where}: {word}: the exec form is a list of texts alone")
    try:
        "".join(found).encode()
    except UnicodeEncodeError:
        raise RecipeError(f"{where}: {word}: half a character (a lone surrogate) in the exec form") from None
    if any("\0" in item for item in found):
        raise RecipeError(f"{where}: {word}: a NUL character in the exec form")
    return tuple(found)


def _flags(rest: str, escape: str) -> tuple[tuple[tuple[str, str], ...], str]:
    flags = []
    while rest.startswith("--"):
        first = raw_words(rest, escape)[0]
        rest = rest[len(first) :].lstrip()
        if first == "--":
            break
        name, _, value = first[2:].partition("=")
        flags.append((name, _unquoted(value, escape)))
    return tuple(flags), rest


def _unquoted(value: str, escape: str) -> str:
    result, quote, position = "", "", 0
    while position < len(value):
        char = value[position]
        position += 1
        if char == escape and position < len(value):
            result += value[position]
            position += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            result += char
    return result


def _heredocs(rest: str, escape: str) -> list[Heredoc]:
    """Find the here-documents that a line begins; their texts are still to be read."""
    if "<<" not in rest:
        return []
    raw = Rules(escape, keeps_quotes=True, keeps_escapes=True, keeps_unset=True)
    try:
        words = expand_words(rest, {}, raw)
    except WordError:
        return []  # a shell's own quoting, which is the shell's to read
    return [one for word in words if (one := heredoc_of(word)) is not None]


def heredoc_of(word: str) -> Heredoc | None:
    """Read ``<<EOF``, ``<<-EOF``, ``3<<"EOF"``; None for any other word."""
    found = _HEREDOC.fullmatch(word)
    if found is None:
        return None
    try:
        raw = expand_words(found[3], {}, Rules(keeps_quotes=True, keeps_escapes=True, keeps_unset=True))
        plain = expand_words(found[3], {}, Rules(keeps_unset=True))
    except WordError:
        return None
    if len(raw) != 1 or len(plain) != 1 or not plain[0]:
        return None
    return Heredoc(plain[0], "", raw == plain, bool(found[2]))
