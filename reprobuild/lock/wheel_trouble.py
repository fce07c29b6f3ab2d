"""Say in plain words why uv found no wheels, and what to do about it.

Looks at what the index has of the packages in question. Knows nothing of resolving itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from reprobuild.errors import OfflineError, OutsideError, RecipeError, ReprobuildError, UpstreamError
from reprobuild.fetch.index_page import IndexFile
from reprobuild.fetch.python_index import PythonIndex
from reprobuild.fetch.uv import Answer
from reprobuild.fetch.wheels import Pages, where_asked
from reprobuild.lock.wheel_tags import Target
from reprobuild.recipe.steps import Wheels

MOST_SHOWN = 12
"""Tags of wheels that are named before the rest is counted."""

UNDATED = "is missing an upload date"
"""What uv says of a file when ``--exclude-newer`` is asked for and the index gives no dates."""

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_WITHOUT_WHEEL = re.compile(
    r"(?:Wheels are required for|we only found wheels for|Wheels are available for) `([^`]+)`"
    r"(?: \(v([^)]+)\))?"
)
_NETWORK = ("error sending request", "Failed to fetch", "dns error", "Could not connect", "timed out")


def explain(step: Wheels, answer: Answer, target: Target, index: PythonIndex) -> ReprobuildError:
    """Make the error for what uv said, with what the index has of packages that lack a wheel."""
    said = _words(answer.messages)
    where = str(step.where)
    if step.as_of and UNDATED in answer.messages:
        return undated(step, index)
    if any(sign in answer.messages for sign in _NETWORK):
        from reprobuild.fetch.http import is_network_cut

        if is_network_cut():
            return OfflineError(
                f"{where}: finding wheels needs the Python index, and there is no network",
                "lock once with the network",
            )
        return UpstreamError(f"{where}: the Python index does not answer ({where_asked(index)})\n{said}")
    if "No solution found" not in answer.messages:
        return UpstreamError(f"{where}: uv could not find wheels\n{said}", "try again, or name versions")
    lacking = _lacking(answer.messages)
    if not lacking:
        return RecipeError(
            f"{where}: no set of versions fits {step.title}\n{said}",
            "loosen one of the requirements that are named, or take as_of= back or forth",
        )
    described = _describe_all(lacking, target, index)
    return RecipeError(
        f"{where}: no wheel fits the image (Python {target.python}, {target.architecture}, {target.libc} "
        f"{'.'.join(map(str, target.libc_version))})\n" + "\n".join([*described, said]),
        "name a version that has a wheel, or another python=; "
        "building from source (build=True) is not in this release",
    )


def undated(step: Wheels, index: PythonIndex) -> UpstreamError:
    """Make the error of an index that cannot answer ``as_of``."""
    return UpstreamError(
        f"{step.where}: as_of={step.as_of} needs to know when files were uploaded, and the Python index does "
        f"not say ({where_asked(index)})",
        "ask an index that says (PEP 700: upload-time), or name versions instead of as_of",
    )


def _words(messages: str) -> str:
    """Give uv's own explanation without its hints (which name its options) and without credentials."""
    kept = []
    for line in messages.splitlines():
        if line.startswith("hint:"):
            break
        if line.strip() and not line.startswith(("warning:", "error: No solution found", "Resolved ")):
            kept.append("  " + re.sub(r"^\s*(cause|error): ", "", line).strip())
    return _CREDENTIALS.sub("", "\n".join(kept))


def _lacking(messages: str) -> dict[str, str]:
    """Give the packages that uv says have no wheel that fits, with the version in question or ``""``."""
    flat = " ".join(messages.split())
    lacking: dict[str, str] = {}
    for package, version in _WITHOUT_WHEEL.findall(flat):
        exact = re.search(rf"\b{re.escape(package)}==(\S+?) has no (?:usable )?wheels", flat)
        lacking[package] = exact[1] if exact else version or lacking.get(package, "")
    return lacking


def _describe_all(lacking: dict[str, str], target: Target, index: PythonIndex) -> list[str]:
    try:
        with Pages(index) as pages:
            found = pages.of_projects(sorted(lacking))
    except OutsideError:
        return []
    return [_describe(package, version, found[package], target) for package, version in lacking.items()]


def _describe(package: str, version: str, files: Sequence[IndexFile], target: Target) -> str:
    wheels: dict[Version, list[str]] = {}
    archives: set[Version] = set()
    for file in files:
        try:
            _, number, _, _ = parse_wheel_filename(file.name)
            wheels.setdefault(number, []).append(file.name)
        except InvalidWheelFilename:
            try:
                archives.add(parse_sdist_filename(file.name)[1])
            except InvalidSdistFilename:
                continue
    known = [*wheels, *archives]
    if not known:
        return f"  {package}: the index has no file of it"
    number = Version(version) if version else max(known)
    if number in wheels:
        tags = sorted({name.removesuffix(".whl").split("-", 2)[2] for name in wheels[number]})
        more = f" and {len(tags) - MOST_SHOWN} more" if len(tags) > MOST_SHOWN else ""
        has = f"has wheels for {', '.join(tags[:MOST_SHOWN])}{more} only"
    elif number in archives:
        has = "is there as a source archive only"
    else:
        has = "is not there"
    fitting = [other for other, names in wheels.items() if target.best(names) is not None]
    fits = f"versions with a wheel that fits: {_some(fitting)}" if fitting else "no version has one that fits"
    return f"  {package} {number} {has}; {fits}"


def _some(versions: Sequence[Version]) -> str:
    ordered = sorted(versions, reverse=True)
    shown = ", ".join(map(str, ordered[:5]))
    return shown + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")
