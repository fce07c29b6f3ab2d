"""COPY and ADD as steps.

Knows nothing of files: patterns and paths are looked up when the step is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

from reprobuild.derivation.dockerfile.expand import (
    TEXT,
    Rules,
    WordError,
    expand,
    names_in,
    quoted,
    raw_words,
)
from reprobuild.derivation.dockerfile.parser import Heredoc, Instruction, heredoc_of
from reprobuild.derivation.dockerfile.patterns import PatternError, cleaned, glob
from reprobuild.derivation.steps import Git, Step, Url
from reprobuild.derivation.written import Copy

_FLAGS: Mapping[str, tuple[str, ...]] = {
    "COPY": ("from", "chown", "chmod", "link", "exclude"),
    "ADD": ("chown", "chmod", "link", "exclude", "checksum", "unpack", "keep-git-dir"),
}
_GIT = re.compile(r"git@|git://|https?://.*\.git(#.*)?$|github\.com/")


def words_of(one: Instruction, escape: str) -> tuple[str, ...]:
    """Give sources and target, as they are written. Raises RecipeError for flags that are not supported."""
    for name, value in one.flags:
        if name not in _FLAGS[one.word] or (name == "keep-git-dir" and value != "false"):
            raise one.error(f"--{name} is not supported")
    _check_mode(one, dict(one.flags).get("chmod", ""), Rules(escape))
    words = tuple(raw_words(one.rest, escape)) if one.array is None else one.array
    if len(words) < 2 or not all(words):
        raise one.error("needs a source and a target")
    *sources, to = words
    if len(sources) > 1 and not (to.endswith(("/", "/.")) or to == "."):
        raise one.error(f"with several sources the target is a folder: {to}", f"{to}/")
    return words


def is_mode(text: str) -> bool:
    """Tell whether a text is permission bits in octal digits."""
    return bool(re.fullmatch("[0-7]{3,4}", text))


def _check_mode(one: Instruction, written: str, rules: Rules) -> None:
    """Raise RecipeError for what no variable can make permission bits."""
    try:
        mode = "" if names_in(written, rules) else expand(written, {}, rules)
    except WordError as error:
        raise one.error(f"--chmod={written}: {error}") from None
    if mode and not is_mode(mode):
        raise one.error(
            f"--chmod={mode} is not supported", "permission bits in octal digits are: --chmod=755"
        )


def is_address(word: str) -> bool:
    """Tell whether a source is somewhere else: a download, or a git repository."""
    return bool(re.match(r"https?://|git@|git://|github\.com/", word))


def read_download(one: Instruction, address: str, name: str, escape: str) -> tuple[Step, Copy]:
    """Give the step that fetches what an ADD names, and the copy of it from the stage ``name``."""
    flags = dict(one.flags)
    to = words_of(one, escape)[-1]
    if _GIT.match(address):
        return _repository(one, address), _aside(one, "/content", to, name, escape)
    checksum = flags.get("checksum", "")
    if checksum and not re.fullmatch("sha256:[0-9a-f]{64}", checksum):
        raise one.error(f"--checksum={checksum}: sha256: and 64 hex digits are needed")
    parts = urlsplit(address)
    if not parts.hostname or parts.username:
        raise one.error(f"{address}: not an http or https address", "credentials belong into ~/.netrc")
    unpacks = flags.get("unpack", "false") == "true"
    last = unquote(parts.path).rstrip("/").rpartition("/")[2]
    if not unpacks and (not last or last in (".", "..") or "\0" in last):
        raise one.error(f"{address} ends in no file name", "fetch it by RUN, or by url(…, to=…)")
    step = Url(
        url=address,
        to="/content" if unpacks else f"/{last}",
        sha256=checksum.removeprefix("sha256:"),
        unpack=unpacks,
        mode=None if unpacks else 0o600,
        where=one.where,
    )
    return step, _aside(one, "/content" if unpacks else quoted(f"/{last}"), to, name, escape)


def _aside(one: Instruction, source: str, to: str, stage: str, escape: str) -> Copy:
    flags = dict(one.flags)
    return Copy(
        sources=(source,),
        to=to,
        stage=stage,
        chown=flags.get("chown", ""),
        chmod=flags.get("chmod", ""),
        escape=escape,
        where=one.where,
    )


def _repository(one: Instruction, address: str) -> Git:
    url, _, fragment = address.partition("#")
    commit, _, folder = fragment.partition(":")
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit) or folder:
        raise one.error(f"{address}: a repository at a full commit is needed", f"{url}#<40 hex digits>")
    if not url.startswith(("http://", "https://")):
        raise one.error(f"{address}: a repository at an https address is needed")
    return Git(url=url, commit=commit, to="/content", where=one.where)


def read_copy(
    one: Instruction,
    escape: str,
    *,
    stage: str,
    context: str,
    ignore: tuple[str, ...],
    static: Callable[[str], str],
) -> Copy | None:
    """Give the step that copies; None where an ADD does nothing but fetch.

    ``static``: expands a word before the base image is known, as the paths of the context must be.
    """
    *words, to = words_of(one, escape)
    flags = dict(one.flags)
    exclude = tuple(value for name, value in one.flags if name == "exclude")
    texts: dict[str, Heredoc] = {}
    sources: list[str] = []
    bodies = list(one.heredocs)
    try:
        for word in (to, flags.get("chown", ""), flags.get("chmod", ""), *(words if stage else ())):
            names_in(word, Rules(escape))
        for word in words:
            if one.array is None and bodies and heredoc_of(word) is not None:
                found = bodies.pop(0)
                texts[found.name] = found
                if found.expands:
                    names_in(found.content, TEXT)
            elif stage:
                sources.append(word)
            elif not (one.word == "ADD" and is_address(word)):
                sources.append(_pattern(static(word)))
        for pattern in exclude:
            glob(pattern)
    except (PatternError, WordError) as error:
        raise one.error(str(error), "name paths inside the context") from None
    if not sources and not texts:
        return None
    if stage and texts:
        raise one.error("here-documents come from no stage")
    return Copy(
        sources=tuple(sources),
        to=to,
        stage=stage,
        context=context,
        ignore=ignore,
        texts={name: found.content for name, found in texts.items()},
        expands=tuple(name for name, found in texts.items() if found.expands),
        exclude=exclude,
        chown=flags.get("chown", ""),
        chmod=flags.get("chmod", ""),
        unpack=one.word == "ADD",
        escape=escape,
        where=one.where,
    )


def _pattern(source: str) -> str:
    """Give a source of the context in its plain form; a trailing slash stays: it wants a folder."""
    found = cleaned(source)
    for part in found.split("/"):
        glob(part)
    return found + "/" if found and source.endswith("/") else found or "."
