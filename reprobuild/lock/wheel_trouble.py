"""Say in plain words why uv found no wheels, and what to do about it.

Looks at what the index has of the packages in question. Knows nothing of resolving itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from reprobuild.derivation.steps import Wheels
from reprobuild.errors import OfflineError, OutsideError, RecipeError, ReprobuildError, UpstreamError
from reprobuild.fetch.index_page import IndexFile
from reprobuild.fetch.python_index import PythonIndex
from reprobuild.fetch.uv import Answer
from reprobuild.fetch.wheels import Pages, where_asked
from reprobuild.lock.wheel_tags import Target
from reprobuild.settings import Settings

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


def explain(
    step: Wheels, answer: Answer, target: Target, index: PythonIndex, settings: Settings
) -> ReprobuildError:
    """Make the error for what uv said, with what the index has of packages that lack a wheel."""
    said = _words(answer.messages)
    where = str(step.where)
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
    lacking = lacking_of(answer.messages)
    without_date = set(re.findall(r"`([^`]+)` " + UNDATED, answer.messages)) if step.as_of else set()
    packages = {*lacking, *(canonicalize_name(name.partition("-")[0]) for name in without_date)}
    found = _ask(packages, index, settings)
    if without_date and not any(file.uploaded for files in found.values() for file in files):
        return undated(step, index)
    if unknown := re.findall(r"(\S+) was not found in the package registry", answer.messages):
        return RecipeError(
            f"{where}: the Python index has no package {', '.join(unknown)} ({where_asked(index)})\n{said}",
            "check the spelling, or ask the index that has it (python_index in reprobuild.toml)",
        )
    if not lacking:
        return RecipeError(
            f"{where}: no set of versions fits {step.title}\n{said}",
            "loosen one of the requirements that are named"
            + (f", or take another day than as_of={step.as_of}" if step.as_of else ""),
        )
    described = [
        _describe(package, version, found.get(package, []), step.as_of, target)
        for package, version in lacking.items()
    ]
    return RecipeError(
        f"{where}: no wheel fits the image (Python {target.python}, {target.architecture}, {target.libc} "
        f"{'.'.join(map(str, target.libc_version))})\n" + "\n".join([*described, said]),
        "name a version that has a wheel, or another python=, or build from source: wheels(…, build=True)"
        if not step.build
        else "name a version that has a wheel or a source archive",
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


def lacking_of(messages: str) -> dict[str, str]:
    """Give the packages that uv says have no wheel that fits, with the version in question or ``""``."""
    flat = " ".join(messages.split())
    lacking: dict[str, str] = {}
    for package, version in _WITHOUT_WHEEL.findall(flat):
        exact = re.search(rf"\b{re.escape(package)}==(\S+?) has no (?:usable )?wheels", flat)
        lacking[package] = exact[1] if exact else version or lacking.get(package, "")
    return lacking


def _ask(packages: Iterable[str], index: PythonIndex, settings: Settings) -> dict[str, list[IndexFile]]:
    """Give what the index has of packages; nothing where it does not answer, since uv's words remain."""
    try:
        with Pages(index, settings) as pages:
            return pages.of_projects(sorted(packages))
    except OutsideError:
        return {}


def _describe(package: str, version: str, files: Sequence[IndexFile], as_of: str, target: Target) -> str:
    """Say in a line what there is of a package, and which version would do."""
    wheels: dict[Version, list[str]] = {}
    archives: set[Version] = set()
    for file in files:
        if as_of and not "" < file.uploaded[:19] < moment_after(as_of)[:19]:
            continue
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
        return f"  {package}: the index has no file of it" + (f" from before {as_of}" if as_of else "")
    number = Version(version) if version else max(known)
    if number in wheels:
        has = _tags(wheels[number], target)
    elif number in archives:
        has = "is there as a source archive only"
    else:
        has = "is not there"
    fitting = [other for other, names in wheels.items() if target.best(names) is not None]
    if not fitting:
        return f"  {package} {number} {has}; no other version has a wheel that fits"
    nearest = min((other for other in fitting if other > number), default=max(fitting))
    newest = f"; the newest is {max(fitting)}" if max(fitting) != nearest else ""
    return f"  {package} {number} {has}; the nearest version with a wheel that fits is {nearest}{newest}"


def _tags(names: Sequence[str], target: Target) -> str:
    """Say what wheels that do not fit are for: other Pythons, or other platforms."""
    tags = {tag for name in names for tag in parse_wheel_filename(name)[3]}
    platforms = {tag.platform for tag in target.ranks}
    pythons = {tag.interpreter for tag in tags if tag.platform in platforms}
    if pythons:
        return f"has wheels for other Pythons only ({', '.join(sorted(pythons, key=_by_number))})"
    others = sorted({tag.platform for tag in tags})
    more = f" and {len(others) - MOST_SHOWN} more" if len(others) > MOST_SHOWN else ""
    return f"has wheels for other platforms only ({', '.join(others[:MOST_SHOWN])}{more})"


def _by_number(interpreter: str) -> tuple[str, int]:
    """Sort ``cp39`` before ``cp310``."""
    digits = interpreter.lstrip("abcdefghijklmnopqrstuvwxyz")
    return interpreter[: len(interpreter) - len(digits)] + digits[:1], int(digits[1:] or 0)


def moment_after(as_of: str) -> str:
    """Give the moment before which a file has to have been uploaded: a day counts to its end, in UTC."""
    if "T" in as_of:
        moment = datetime.strptime(as_of, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    else:
        moment = datetime.strptime(as_of, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
