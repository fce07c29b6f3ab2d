"""Refused attempts in words, and as what would pin them: lines of Python to paste into the recipe.

Pure functions; knows nothing of recipes or sockets. Addresses are a stranger's: no control character of
theirs reaches a terminal, and their length is bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qs, unquote, urlsplit

from reprobuild.gateway.refusal import Refusal

LONGEST = 300
"""Characters of an address that are shown."""
SHOWN = 20
"""Attempts that are listed before it is said how many more there are."""

RECORDED = '{word}("…", network="recorded")'

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB = re.compile(r"/(?:(datasets|spaces)/)?([\w.-]+(?:/[\w.-]+)?)/(?:resolve|raw)/([^/]+)/(.+)")
_HUB_API = re.compile(r"/api/(?:models|(datasets|spaces))/([\w.-]+/[\w.-]+)(?:/.*)?")
_DRIVE = re.compile(r"/file/d/([\w-]{10,})")
_GIT = re.compile(r"(/.+?)/(?:info/refs|git-upload-pack|info/lfs/.*)")
_SIMPLE = re.compile(r".*/simple/([A-Za-z0-9][\w.-]*)/?")
_WHEEL = re.compile(r".*/([A-Za-z0-9][\w.]*?)-([0-9][\w.!+]*)(?:-[\w.]+)*\.whl")
_DISTS = re.compile(r".*/dists/([\w.+/-]+?)/(?:InRelease|Release.*|(?:main|contrib|non-free|universe)\b.*)")
_POOL = re.compile(r".*/pool/.*/([a-z0-9][a-z0-9.+-]*)_[^/]*\.deb")


def describe(refused: Sequence[Refusal]) -> str:
    """Give a line for each attempt: program, address, how often, why where it is not for lack of a pin."""
    lines = [_line(one) for one in refused[:SHOWN]]
    if len(refused) > SHOWN:
        lines.append(f"and {len(refused) - SHOWN} more")
    return "\n".join(f"  {line}" for line in lines)


def stanza(refused: Sequence[Refusal], word: str = "run") -> str:
    """Give the steps that would pin what was tried, as Python; the last lets ``lock`` record all of it.

    ``word``: of what was refused, ``run`` or ``predictor``.
    """
    recorded = RECORDED.format(word=word)
    return "\n".join(f"    {line}," for line in (*dict.fromkeys(_steps(refused)), recorded))


def sentence(one: Refusal, word: str = "run") -> str:
    """Say to the client itself what was refused, and what would pin it; ``word``: as for ``stanza``."""
    what = f"{one.method} {printable(one.url)}".strip() if one.url else f"{one.host}:{one.port}"
    reason = f"it {one.why}" if one.why else "nothing is pinned under that address"
    steps = "".join(f"    {step},\n" for step in _steps([one]))
    return (
        f"reprobuild refuses {what}: {reason}.\n"
        f"A command has no network but what its recipe pins. To pin this, declare it or have it recorded:\n"
        f"{steps}    {RECORDED.format(word=word)},\n"
    )


def printable(text: str, most: int = LONGEST) -> str:
    """Give a stranger's text as one bounded line without control characters."""
    line = "".join(character if character.isprintable() else " " for character in text[: 4 * most])
    line = " ".join(line.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _line(one: Refusal) -> str:
    parts = [f"{printable(one.program, 60)}: "] if one.program else []
    if one.url:
        parts.append(f"{one.method} {printable(one.url)}".strip())
    else:
        parts.append(printable(one.host, 100) + (f":{one.port}" if one.port else ""))
    if one.count > 1:
        parts.append(f", {one.count} times")
    if one.why:
        # The reason may begin with the address, which stands there already.
        parts.append(f": {printable(one.why.removeprefix(f'{one.url}: '))}")
    return "".join(parts)


def _steps(refused: Iterable[Refusal]) -> list[str]:
    """Give one step for each thing that was tried; what belongs to one step is put together."""
    found: dict[str, None] = {}
    hubs: dict[tuple[str, str], list[str]] = {}
    packages: list[str] = []
    suites: dict[str, None] = {}
    debs: list[str] = []
    for one in refused:
        if not one.url or one.why:
            continue
        parts = urlsplit(one.url)
        path = unquote(parts.path)
        host = parts.hostname or ""
        if host in ("huggingface.co", "hf.co"):
            _hub(path, hubs)
        elif drive := _drive(host, path, parts.query):
            found[f'gdrive({_text(drive)}, to="/{_word(drive)}")'] = None
        elif match := _GIT.fullmatch(path):
            address = f"{parts.scheme}://{parts.netloc}{match[1]}"
            name = _word(match[1].rpartition("/")[2].removesuffix(".git"))
            found[f'git({_text(address)}, "<commit>", to="/{name}")'] = None
        elif match := _SIMPLE.fullmatch(path):
            packages.append(match[1])
        elif match := _WHEEL.fullmatch(path):
            packages.append(f"{match[1]}=={match[2]}")
        elif match := _DISTS.fullmatch(path):
            suites[match[1]] = None
        elif match := _POOL.fullmatch(path):
            debs.append(match[1])
        elif one.method in ("GET", "HEAD"):
            name = _word(path.rpartition("/")[2]) or "download"
            found[f'url({_text(one.url)}, to="/{name}")'] = None
    for (repository, revision), files in hubs.items():
        kind, _, name = repository.partition(":")
        words = [_text(name), f"revision={_text(revision)}"]
        words += [f"files=[{', '.join(dict.fromkeys(files))}]"] if files else []
        words += [f"kind={_text(kind)}"] if kind else []
        found[f"hub({', '.join(words)})"] = None
    if packages:
        found[f"wheels({', '.join(map(_text, dict.fromkeys(packages)))})"] = None
    if suites or debs:
        suite = next(iter(suites), "<suite>")
        names = ", ".join(map(_text, dict.fromkeys(debs))) or '"…"'
        found[f"apt({_text(suite)}, {names})"] = None
    return list(found)


def _hub(path: str, hubs: dict[tuple[str, str], list[str]]) -> None:
    match = _HUB.fullmatch(path)
    if match is not None:
        kind, repository, revision, file = match.groups()
        name = f"{(kind or '').removesuffix('s')}:{repository}"
        shown = revision if _COMMIT.fullmatch(revision) else "<commit>"
        hubs.setdefault((name, shown), []).append(_text(file))
    elif match := _HUB_API.fullmatch(path):
        name = f"{(match[1] or '').removesuffix('s')}:{match[2]}"
        if not any(known == name for known, _ in hubs):
            hubs[(name, "<commit>")] = []


def _drive(host: str, path: str, query: str) -> str:
    """Give a file's id, where the address is one of Google Drive's."""
    if host not in ("drive.google.com", "docs.google.com", "drive.usercontent.google.com"):
        return ""
    if match := _DRIVE.match(path):
        return match[1]
    found = parse_qs(query).get("id", [""])[0]
    return found if re.fullmatch(r"[\w-]{10,}", found) else ""


def _text(text: str) -> str:
    """Write a stranger's text as a Python string."""
    return json.dumps(printable(text), ensure_ascii=False)


def _word(text: str) -> str:
    """Give a text as a file name that needs no quoting."""
    return re.sub(r"[^\w.+-]+", "-", printable(text, 100)).strip("-.")
