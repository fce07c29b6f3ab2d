"""A RUN's text to its commands, as far as that can be told safely; and what in it hides failures.

Knows nothing of what commands do. What is more than a row of commands (loops, groups, functions) stays whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OPERATORS = ("&&", "||", ";;", ";", "|&", "|", "&", "\n")
COMPOUND = (
    *("if", "then", "elif", "else", "fi", "for", "while", "until", "do", "done", "case", "esac"),
    *("{", "}", "(", ")", "function", "[["),
)
_JOINING = ("then", "do", "else", "elif", "fi", "done", "esac", "}", ")")
_HEREDOC = re.compile(r"<<-?\s*['\"]?\w")
_TOLERATED = re.compile(r"true|:|exit 0|/bin/true|echo\b.*")


@dataclass(frozen=True, slots=True)
class Part:
    """A command of a text, and what stands in front of it."""

    operator: str
    """``""`` for the first, else ``&&``, ``;``, ``|``, ``||``, ``&`` or a line end."""
    text: str


def parts(text: str) -> list[Part]:
    """Part a text at operators outside quotes, groups and substitutions."""
    found: list[Part] = []
    operator, start, at, depth = "", 0, 0, 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 2
            continue
        if char in "'\"`":
            at = _after_quote(text, at)
            continue
        if char == "#" and (at == 0 or text[at - 1] in " \t\n;"):
            end = text.find("\n", at)
            text = text[:at] + ("" if end < 0 else text[end:])
            continue
        if char in "({":
            depth += char == "(" or text[at - 1 : at] == "$"
        elif char in ")}" and depth:
            depth -= 1
        elif depth == 0 and (sign := _operator(text, at)):
            found.append(Part(operator, text[start:at].strip()))
            operator, at = sign, at + len(sign)
            start = at
            continue
        at += 1
    found.append(Part(operator, text[start:].strip()))
    return [one for one in found if one.text]


def _operator(text: str, at: int) -> str:
    """Give the operator at a place; the ``&`` of a redirection is none."""
    sign = next((one for one in OPERATORS if text.startswith(one, at)), "")
    is_redirection = sign == "&" and (text[max(at - 1, 0) : at] in ("<", ">") or text.startswith("&>", at))
    return "" if is_redirection else sign


def _after_quote(text: str, at: int) -> int:
    quote = text[at]
    at += 1
    while at < len(text) and text[at] != quote:
        at += 2 if text[at] == "\\" and quote != "'" else 1
    return at + 1


def is_row(text: str) -> bool:
    """Tell whether a text is commands in a row, each of them needed: ``a && b && c``, and nothing else."""
    found = parts(text)
    joined = all(one.operator in ("", "&&") for one in found)
    return joined and not _HEREDOC.search(text) and not any(_begins_compound(one) for one in found)


def hidden_failures(text: str, *, stops: bool = False) -> list[str]:
    """Say what in a text lets the step go on after a failure, each thing once.

    ``stops``: whether its shell stops at a failure by itself (``-e``).
    """
    found: list[str] = []
    commands = parts(text)
    has_pipefail = "pipefail" in text
    for before, one in zip([None, *commands], commands, strict=False):
        first = one.text.split()[0] if one.text.split() else ""
        if re.match(r"set\s+(-\w*e|-o\s+errexit)", one.text):
            stops = True
        if before is None or first in _JOINING or before.text.split()[:1] in (["do"], ["then"], ["else"]):
            if one.operator == "|" and not has_pipefail:
                found.append(_piped(before, one))
            continue
        said = _said(before, one, stops=stops, has_pipefail=has_pipefail)
        if said:
            found.append(said)
    return list(dict.fromkeys(found))


def _said(before: Part, one: Part, *, stops: bool, has_pipefail: bool) -> str:
    shown = _shown(before.text)
    if one.operator == "||" and _TOLERATED.fullmatch(one.text):
        return f"|| {_shown(one.text)} hides a failure of: {shown}"
    if one.operator == "&":
        return f"& does not wait for: {shown}"
    if one.operator in (";", "\n") and not stops and not before.text.startswith(("set ", "export ", "cd ")):
        sign = ";" if one.operator == ";" else "a new line"
        return f"{sign} goes on after a failure of: {shown}"
    if one.operator == "|" and not has_pipefail:
        return _piped(before, one)
    return ""


def _piped(before: Part | None, one: Part) -> str:
    return f"| hides a failure of: {_shown(before.text if before else '')}"


def _shown(text: str) -> str:
    first = " ".join(text.split())
    return first if len(first) <= 50 else first[:49] + "…"


def _begins_compound(one: Part) -> bool:
    words = one.text.split()
    return not words or words[0] in COMPOUND or words[0].startswith("(") or words[0].endswith("()")
