"""What the words of a recipe are given, checked: paths, modes, variables, mirrors, digests, days.

Knows nothing of the words themselves; errors say where in the recipe a word stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypedDict
from urllib.parse import urlsplit

from reprobuild.derivation.where import Where
from reprobuild.errors import RecipeError

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}|\d{8}T\d{6}Z")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FetchedFields(TypedDict):
    """What is said of every source: fields of ``steps.Fetched``."""

    mirrors: tuple[str, ...]
    licence: str
    redistribute: bool
    where: Where


class FileFields(TypedDict):
    """What is said of one file that is fetched: fields of ``steps.FetchedFile``."""

    to: str
    sha256: str
    unpack: bool
    strip: int
    mode: int | None


def path_inside(path: str, where: Where) -> str:
    """Give an absolute path of the image as it was written. Raises RecipeError for any other text."""
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise RecipeError(f"{where}: {path!r} is no absolute path in the image")
    return path


def checked_environment(env: Mapping[str, str] | None, where: Where) -> dict[str, str]:
    """Give variables that a process can have. Raises RecipeError, naming one that none can."""
    for name, value in (env or {}).items():
        fits = isinstance(name, str) and isinstance(value, str) and "\0" not in name + value
        if not fits or not name or "=" in name:
            raise RecipeError(f"{where}: env={{{name!r}: {value!r}}}: no process can have such a variable")
    return dict(env or {})


def checked_mode(mode: int | None, where: Where) -> int | None:
    """Give permission bits, or None for the usual ones. Raises RecipeError for any other number."""
    if mode is not None and not 0 <= mode <= 0o7777:
        raise RecipeError(f"{where}: mode={mode!r}: permission bits like 0o755 are needed")
    return mode


def checked_mirrors(mirrors: tuple[str, ...] | list[str], where: Where) -> tuple[str, ...]:
    """Give addresses that have the same bytes. Raises RecipeError for what is none, or holds a password."""
    for mirror in (mirrors,) if isinstance(mirrors, str) else mirrors:
        parts = urlsplit(mirror)
        if isinstance(mirrors, str) or parts.scheme not in ("http", "https", "file"):
            raise RecipeError(
                f"{where}: mirrors={mirrors!r}: a list of http, https or file addresses is needed"
            )
        if parts.username or parts.password:
            raise RecipeError(
                f"{where}: mirrors= holds a user name or password", "put credentials into ~/.netrc"
            )
    return tuple(mirrors)


def fetched_fields(
    mirrors: tuple[str, ...] | list[str], licence: str, redistribute: bool, where: Where
) -> FetchedFields:
    """Give what is said of every source. Raises RecipeError."""
    return FetchedFields(
        mirrors=checked_mirrors(mirrors, where), licence=licence, redistribute=redistribute, where=where
    )


def file_fields(to: str, sha256: str, unpack: bool, strip: int, mode: int | None, where: Where) -> FileFields:
    """Give what is said of one file, wherever it is from. Raises RecipeError."""
    if sha256 and not _SHA256.fullmatch(sha256):
        raise RecipeError(f"{where}: sha256={sha256!r}: 64 lower-case hex digits are needed")
    if strip < 0 or (strip and not unpack):
        raise RecipeError(f"{where}: strip={strip} makes sense only as a count, with unpack=True")
    if unpack and mode is not None:
        raise RecipeError(f"{where}: mode= is for one file; with unpack=True the archive's own modes count")
    return FileFields(
        to=to and path_inside(to, where),
        sha256=sha256,
        unpack=unpack,
        strip=strip,
        mode=checked_mode(mode, where),
    )


def check_day(as_of: str, where: Where) -> None:
    """Raise RecipeError for what is neither a day nor a moment of the snapshot archive."""
    if as_of and not _DAY.fullmatch(as_of):
        raise RecipeError(f"{where}: as_of={as_of!r}: a day like '2024-01-31' is needed")
