"""Commands that fetch, read as the steps that say the same: wget, curl, gdown, git, pip, apt-get.

Knows nothing of Dockerfiles. What is not understood whole is not understood: the command stays what it is.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Sequence
from urllib.parse import parse_qs, unquote, urlsplit

_QUIET = (
    *(
        "-q",
        "-nv",
        "--quiet",
        "--no-verbose",
        "--progress=bar",
        "--show-progress",
        "-c",
        "--no-clobber",
        "-nc",
    ),
    *("--continue", "-s", "-S", "-f", "-L", "-sS", "-fL", "-sL", "-fsSL", "-fsS", "-sSL", "-sSfL", "-#"),
    *("--silent", "--fail", "--location", "--show-error", "-fSL", "-Lf", "-LsS", "-Ls", "-LSs"),
)
_PIP_QUIET = (
    *("--no-cache-dir", "-q", "-qq", "--quiet", "-U", "--upgrade", "--disable-pip-version-check"),
    *("--no-input", "--progress-bar=off", "--root-user-action=ignore", "--prefer-binary"),
)
_APT_QUIET = (
    *("-y", "-yq", "-qy", "-qq", "-q", "-yqq", "-qqy", "--yes", "--assume-yes"),
    "--no-install-recommends",
)
_APT_LISTS = re.compile(r"rm\s+-(rf|fr)\s+/var/lib/apt/lists(/\*?)?")
_REMOTE_NAME = ("-O", "--remote-name", "-LO", "-OL", "-sLO", "-fsSLO", "-fLO", "-sSLO", "-sO")
_PINNED = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,.-]+\])?==[\w.!+-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")


def words(text: str) -> list[str] | None:
    """Part a simple command; None for one with variables, globs, redirections or substitutions."""
    if _APT_LISTS.fullmatch(text):
        return ["rm", "-rf", "/var/lib/apt/lists"]
    try:
        found = shlex.split(text)
    except ValueError:
        return None
    plain = not re.search(r"[$`<>*]|\\\n", text) and bool(found)
    return found if plain and not re.match(r"\w+=", found[0]) else None


def download(command: Sequence[str], folder: str) -> tuple[str, str] | None:
    """Give address and absolute path of ``wget`` and ``curl`` of one file."""
    tool, *rest = command
    if tool not in ("wget", "curl"):
        return None
    named, urls, own_name = "", [], tool == "wget"
    into = folder
    while rest:
        one = rest.pop(0)
        if one in _QUIET:
            continue
        if one in (("-O", "--output-document") if tool == "wget" else ("-o", "--output")) and rest:
            named = rest.pop(0)
        elif one in ("-P", "--directory-prefix") and tool == "wget" and rest:
            into = posixpath.join(folder, rest.pop(0))
        elif one.startswith("--output-document=") and tool == "wget":
            named = one.partition("=")[2]
        elif one in _REMOTE_NAME and tool == "curl":
            own_name = True
        elif re.match(r"https?://", one):
            urls.append(one)
        else:
            return None
    if len(urls) != 1 or named == "-":
        return None
    name = named or (unquote(urlsplit(urls[0]).path).rpartition("/")[2] if own_name else "")
    if not name or (urlsplit(urls[0]).query and not named):
        return None
    return urls[0], posixpath.normpath(posixpath.join(into, name))


def drive_file(command: Sequence[str], folder: str) -> tuple[str, str] | None:
    """Give id and absolute path of ``gdown``."""
    tool, *rest = command
    if tool != "gdown":
        return None
    found, named = "", ""
    while rest:
        one = rest.pop(0)
        if one in ("-q", "--quiet", "--no-cookies", "--fuzzy"):
            continue
        if one in ("-O", "--output") and rest:
            named = rest.pop(0)
        elif one == "--id" and rest:
            found = rest.pop(0)
        elif one.startswith("-"):
            return None
        else:
            found = one
    if re.match(r"https?://", found):
        parts = urlsplit(found)
        inside = re.search(r"/d/([\w-]+)", parts.path)
        found = inside[1] if inside else parse_qs(parts.query).get("id", [""])[0]
    if not re.fullmatch(r"[\w-]{10,}", found) or not named:
        return None
    target = posixpath.normpath(posixpath.join(folder, named))
    return found, target + "/" if named.endswith("/") else target


def clone(command: Sequence[str], folder: str) -> tuple[str, str] | None:
    """Give address and absolute path of ``git clone`` of a whole repository."""
    if list(command[:2]) != ["git", "clone"]:
        return None
    rest = list(command[2:])
    found: list[str] = []
    while rest:
        one = rest.pop(0)
        if one in ("--depth", "--depth=1") or one in ("-q", "--quiet", "--single-branch", "--no-tags"):
            if one == "--depth" and rest:
                rest.pop(0)
            continue
        if one.startswith("-"):
            return None
        found.append(one)
    if not 1 <= len(found) <= 2 or not re.match(r"https?://", found[0]):
        return None
    name = found[1] if len(found) == 2 else found[0].rstrip("/").rpartition("/")[2].removesuffix(".git")
    return found[0], posixpath.normpath(posixpath.join(folder, name))


def checkout(command: Sequence[str], folder: str) -> tuple[str, str] | None:
    """Give folder and full commit of ``git checkout``, with or without ``-C``, and of ``git reset``."""
    rest = list(command)
    if rest[:1] != ["git"]:
        return None
    rest = rest[1:]
    if rest[:1] == ["-C"] and len(rest) > 1:
        folder, rest = posixpath.normpath(posixpath.join(folder, rest[1])), rest[2:]
    plain = [one for one in rest if one not in ("-q", "--quiet", "--detach", "--hard")]
    fits = len(plain) == 2 and plain[0] in ("checkout", "reset") and _COMMIT.fullmatch(plain[1])
    return (folder, plain[1]) if fits else None


def pip_install(command: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """Give requirements and requirement files of ``pip install``."""
    rest = list(command)
    if len(rest) > 3 and re.fullmatch(r"python[\d.]*", rest[0]) and rest[1:3] == ["-m", "pip"]:
        rest = rest[2:]
    if not re.fullmatch(r"pip[\d.]*", rest[0]) or rest[1:2] != ["install"]:
        return None
    found, files = [], []
    rest = rest[2:]
    while rest:
        one = rest.pop(0)
        if one in _PIP_QUIET:
            continue
        if one in ("-r", "--requirement") and rest:
            files.append(rest.pop(0))
        elif one.startswith("-") or "/" in one or one == ".":
            return None
        else:
            found.append(one)
    return (found, files) if found or files else None


def is_pinned(requirement: str) -> bool:
    """Tell whether a requirement names one version."""
    return _PINNED.fullmatch(requirement) is not None


def apt_install(command: Sequence[str]) -> list[str] | None:
    """Give the packages of ``apt-get install``; an empty list for what goes with it (update, clean up)."""
    if list(command[:2]) == ["rm", "-rf"] and all(
        one.startswith("/var/lib/apt/lists") for one in command[2:]
    ):
        return []
    rest = [one for one in command if one not in _APT_QUIET]
    if not rest or rest[0] not in ("apt-get", "apt"):
        return None
    if rest[1:] in (["update"], ["clean"], ["autoremove"]):
        return []
    if rest[1:2] != ["install"] or not all(map(_PACKAGE.fullmatch, rest[2:])):
        return None
    return rest[2:] or None


def untar(command: Sequence[str], folder: str) -> tuple[str, str, int] | None:
    """Give archive, target and stripped components of ``tar -x``."""
    tool, *rest = command
    if tool != "tar" or not rest:
        return None
    archive, to, strip = "", folder, 0
    first = rest.pop(0)
    flags = first.lstrip("-")
    if not re.fullmatch(r"[xzjJvf]+", flags) or "x" not in flags or not flags.endswith("f") or not rest:
        return None
    archive = posixpath.normpath(posixpath.join(folder, rest.pop(0)))
    while rest:
        one = rest.pop(0)
        if one in ("-C", "--directory") and rest:
            to = posixpath.normpath(posixpath.join(folder, rest.pop(0)))
        elif re.fullmatch(r"--strip(-components)?=\d", one):
            strip = int(one[-1])
        else:
            return None
    return archive, to, strip
