"""Words of a Dockerfile: quotes, escapes and variables, as the Dockerfile reference has them.

Knows nothing of instructions. The rules are those of BuildKit's ``frontend/dockerfile/shell/lex.go``: like
a shell's, without command substitution.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Lookup = Callable[[str], str | None]
"""Gives the value of a variable, None where there is none."""

_SPECIAL = "@*#?-$!0"
_DEEPEST = 100


class WordError(ValueError):
    """A text that is no word: a quote or a brace without its end, a modifier that there is not."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is left as it is written."""

    escape: str = "\\"
    keeps_quotes: bool = False
    keeps_escapes: bool = False
    keeps_unset: bool = False
    """Whether ``$name`` stays where there is no such variable."""
    has_quotes: bool = True
    """Whether quotes mean anything."""


TEXT = Rules(has_quotes=False)
"""Of here-documents: variables and escapes count, quotes do not."""


def expand(text: str, lookup: Lookup | Mapping[str, str], rules: Rules | None = None) -> str:
    """Give one word's value: variables replaced, quotes and escapes taken away. Raises WordError."""
    return _Lexer(text, _lookup(lookup), rules or Rules()).all()[0]


def expand_words(text: str, lookup: Lookup | Mapping[str, str], rules: Rules | None = None) -> list[str]:
    """Give the words that a text comes to, parted at blanks outside quotes. Raises WordError."""
    return _Lexer(text, _lookup(lookup), rules or Rules()).all()[1]


def raw_words(text: str, escape: str = "\\") -> list[str]:
    """Part a text at blanks outside quotes; the words stay as they are written."""
    words: list[str] = []
    word, quote, position = "", "", 0
    while position < len(text):
        char = text[position]
        position += 1
        if not quote and char.isspace():
            if word:
                words.append(word)
            word = ""
            continue
        word += char
        if char == escape and quote != "'" and position < len(text):
            word += text[position]
            position += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
    return [*words, word] if word else words


def quoted(text: str) -> str:
    """Give a word whose value is a text, whatever is in it."""
    return "'" + text.replace("'", "'\"'\"'") + "'" if re.search(r"[^\w./:@%+,=-]", text) else text


def names_in(text: str, rules: Rules | None = None) -> set[str]:
    """Give the variables that a word depends on. Raises WordError."""
    found: set[str] = set()

    def note(name: str) -> str:
        found.add(name)
        return "x"

    def note_unset(name: str) -> None:
        found.add(name)

    expand(text, note, rules)
    expand(text, note_unset, rules)
    return found


def _lookup(lookup: Lookup | Mapping[str, str]) -> Lookup:
    return lookup.get if isinstance(lookup, Mapping) else lookup


@dataclass(slots=True)
class _Words:
    """Collects the words that a text comes to."""

    found: list[str] = field(default_factory=list)
    word: str = ""
    is_in_word: bool = False

    def add(self, text: str) -> None:
        for char in text:
            if char.isspace():
                self.end()
            else:
                self.word += char
                self.is_in_word = True

    def add_raw(self, text: str) -> None:
        self.word += text
        self.is_in_word = True

    def end(self) -> None:
        if self.is_in_word:
            self.found.append(self.word)
        self.word, self.is_in_word = "", False


class _Lexer:
    """Reads a text from the left; each method begins at what it is named after."""

    def __init__(self, text: str, lookup: Lookup, rules: Rules, depth: int = 0) -> None:
        self._text = text
        self._position = 0
        self._lookup = lookup
        self._rules = rules
        self._depth = depth

    def all(self) -> tuple[str, list[str]]:
        """Give the text as one word, and as the words that it comes to."""
        words = _Words()
        value = self._until("", words)
        words.end()
        return value, words.found

    def _peek(self) -> str:
        return self._text[self._position : self._position + 1]

    def _next(self) -> str:
        char = self._peek()
        self._position += 1
        return char

    def _until(self, stop: str, words: _Words) -> str:
        result = ""
        while char := self._peek():
            if char == stop:
                self._next()
                return result
            if char == "'" and self._rules.has_quotes:
                part = self._single()
                words.add_raw(part)
            elif char == '"' and self._rules.has_quotes:
                part = self._double()
                words.add_raw(part)
            elif char == "$":
                part = self._dollar()
                words.add(part)
            elif char == self._rules.escape:
                self._next()
                part = char if self._rules.keeps_escapes else ""
                part += self._next()
                words.add_raw(part)
            else:
                part = self._next()
                words.add(part)
            result += part
        if stop:
            raise WordError(f"{stop!r} is missing in {self._text!r}")
        return result

    def _single(self) -> str:
        quote = self._next()
        end = self._text.find("'", self._position)
        if end < 0:
            raise WordError(f"the closing ' is missing in {self._text!r}")
        inner = self._text[self._position : end]
        self._position = end + 1
        return quote + inner + quote if self._rules.keeps_quotes else inner

    def _double(self) -> str:
        quote = self._next() if self._rules.keeps_quotes else self._next() and ""
        result = quote
        while True:
            char = self._peek()
            if not char:
                raise WordError(f'the closing " is missing in {self._text!r}')
            if char == '"':
                self._next()
                return result + quote
            if char == "$":
                result += self._dollar()
                continue
            self._next()
            if char == self._rules.escape:
                following = self._peek()
                if following and following in ('"', "$", self._rules.escape):
                    result += char if self._rules.keeps_escapes else ""
                    char = self._next()
            result += char

    def _dollar(self) -> str:
        start = self._position
        self._next()
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._lookup(name)
            return self._unset(start) if value is None else value
        self._next()
        if self._peek() in ("", "{", "}", ":"):
            raise WordError(f"${{…}} names no variable in {self._text!r}")
        name = self._name()
        char = self._next()
        if char == "}" and name:
            value = self._lookup(name)
            return self._unset(start) if value is None else value
        counts_empty = char == ":"
        modifier = self._next() if counts_empty else char
        if not modifier:
            raise WordError(f"'}}' is missing in {self._text!r}")
        if not name or modifier not in ("-+?" if counts_empty else "-+?#%/"):
            shown = (":" if counts_empty else "") + modifier
            raise WordError(f"${{{name}{shown}…}} in {self._text!r} is no modifier of a variable")
        return self._modified(name, modifier, counts_empty, start)

    def _modified(self, name: str, modifier: str, counts_empty: bool, start: int) -> str:
        if self._depth > _DEEPEST:
            raise WordError("variables are nested too deeply")
        self._depth += 1
        if modifier in "#%/":
            return self._replaced(name, modifier, start)
        word = self._until("}", _Words())
        self._depth -= 1
        value = self._lookup(name)
        is_set = value is not None and not (counts_empty and value == "")
        if modifier == "+":
            return word if is_set else ""
        if is_set:
            return value or ""
        if modifier == "?":
            raise WordError(f"{name}: {word or 'not set'}")
        return word

    def _replaced(self, name: str, modifier: str, start: int) -> str:
        """``${name#pattern}``, ``##``, ``%``, ``%%``, ``${name/pattern/text}``, ``//``."""
        longest = self._peek() == modifier
        if longest:
            self._next()
        replacement = ""
        if modifier == "/":
            pattern = self._until("/", _Words())
            replacement = self._until("}", _Words())
        else:
            pattern = self._until("}", _Words())
        self._depth -= 1
        value = self._lookup(name)
        if value is None:
            return self._unset(start)
        expression = re.compile(_as_expression(pattern, greedy=longest or modifier == "/"), re.DOTALL)
        if modifier == "/":
            return expression.sub(lambda _: replacement, value, count=0 if longest else 1)
        if modifier == "#":
            found = expression.match(value)
            return value[found.end() :] if found else value
        ends = (at for at in range(len(value) + 1) if expression.fullmatch(value, at))
        cuts = list(ends)
        return value[: cuts[0] if longest else cuts[-1]] if cuts else value

    def _unset(self, start: int) -> str:
        return self._text[start : self._position] if self._rules.keeps_unset else ""

    def _name(self) -> str:
        char = self._peek()
        if char.isascii() and char.isdigit():
            match = re.compile("[0-9]+").match(self._text, self._position)
        elif char and char in _SPECIAL:
            match = re.compile(re.escape(char)).match(self._text, self._position)
        else:
            match = re.compile("[A-Za-z0-9_]*").match(self._text, self._position)
        assert match is not None
        self._position = match.end()
        return match.group()


def _as_expression(pattern: str, *, greedy: bool) -> str:
    parts = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if char == "\\" and position + 1 < len(pattern):
            position += 1
            parts.append(re.escape(pattern[position]))
        elif char == "*":
            parts.append(".*" if greedy else ".*?")
        else:
            parts.append("." if char == "?" else re.escape(char))
        position += 1
    return "".join(parts)
