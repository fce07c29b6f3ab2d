"""Pin what exists as source archives only: each is built once, to learn what it needs and what it comes to.

uv chooses versions of what has wheels, and would run an archive's code on this machine to learn of the
rest. So it is told of wheels that were built in the sandbox, one archive after the other, until it finds a
set of versions. Knows nothing of how a wheel is built.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from email.parser import BytesHeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import Version

from reprobuild.build.project import Project
from reprobuild.build.wheel_build import SourceBuild, build_system, further_requires, make_wheel
from reprobuild.derivation.pins import Pin
from reprobuild.errors import CheckFailedError, RecipeError, ReprobuildError
from reprobuild.events import Note
from reprobuild.fetch.download import Download, fetch_all
from reprobuild.fetch.index_page import IndexFile
from reprobuild.fetch.reach import host_of
from reprobuild.fetch.wheels import Pages
from reprobuild.lock.wheel_trouble import explain, lacking_of, moment_after
from reprobuild.lock.wheels import Question
from reprobuild.tree import Layer

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
MOST_METADATA = 16 * 1024 * 1024
MOST_ROUNDS = 60
"""Archives that are built, some of them in vain, before it counts as hopeless."""


@dataclass(frozen=True, slots=True)
class _Built:
    """An archive, the wheels that its build needs, and the wheel that it came to."""

    archive: Pin
    requires: tuple[Pin, ...]
    wheel: Pin
    version: Version
    needs: tuple[str, ...]
    """What the wheel says that it needs (``Requires-Dist``)."""


def resolve_with_sources(question: Question) -> list[Pin]:
    """Give the pins of a step: wheels, archives, and the wheels that builds need.

    Raises as ``lock.wheels.resolve``, and BuildFailedError for an archive that cannot be built.
    """
    step, context = question.step, question.context
    built: dict[str, _Built] = {}
    project = Project(context.settings, context.tell, context.platform)
    with context.store.scratch("built") as scratch:
        for _ in range(MOST_ROUNDS):
            places = {package: _lay_out(one.wheel, project, scratch) for package, one in built.items()}
            answer, packages = question.ask(places)
            if packages is not None:
                question.check_dates([one for one in packages if not _is_built(one, built)], answer)
                wheels = question.pins([one for one in packages if not _is_built(one, built)])
                used = {canonicalize_name(str(one["name"])) for one in packages}
                return _joined(wheels, [one for package, one in built.items() if package in used])
            lacking = lacking_of(answer.messages)
            wanted = {name: lacking[name] for name in lacking if _is_new(name, lacking[name], built)}
            wanted = wanted or _conflicting(answer.messages, built)
            progress = False
            for package, version in sorted(wanted.items()):
                allowed = _allowed(package, version, answer.messages, question, built)
                archive = _newest(package, allowed, question)
                if archive is None or (package in built and built[package].version == archive[0]):
                    continue
                context.tell(Note(f"{step.where}: {archive[1].name} is built, since there is no wheel of it"))
                built[package] = _build(package, *archive, question, project)
                progress = True
            if not progress:
                raise explain(step, answer, question.target, question.index, context.settings)
    raise RecipeError(
        f"{step.where}: {MOST_ROUNDS} source archives were built, and no set of versions was found",
        "name the versions of what has no wheels",
    )


def _is_new(package: str, version: str, built: Mapping[str, _Built]) -> bool:
    return package not in built or (bool(version) and built[package].version != Version(version))


def _is_built(package: Mapping[str, object], built: Mapping[str, _Built]) -> bool:
    return canonicalize_name(str(package["name"])) in built


def _lay_out(wheel: Pin, project: Project, scratch: Path) -> Path:
    path = scratch / wheel.name
    if not path.exists():
        path.write_bytes(project.store.blobs.read(wheel.sha256))
    return path


def _conflicting(messages: str, built: Mapping[str, _Built]) -> dict[str, str]:
    """Give the packages that were built in a version that something does not want."""
    return {package: "" for package in built if _said(package, messages)}


def _said(package: str, messages: str) -> list[str]:
    """Give what uv says that somebody wants of a package: ``<2``."""
    flat = " ".join(messages.split())
    return re.findall(rf"(?:requires?|depends? on) {re.escape(package)}([<>=!~][^\s,]*)", flat)


def _allowed(
    package: str, version: str, messages: str, question: Question, built: Mapping[str, _Built]
) -> SpecifierSet:
    """Give the versions of a package that all that is known of it allows."""
    allowed = SpecifierSet(f"=={version}" if version else "")
    asked = [*question.step.requirements]
    for one in built.values():
        asked += one.needs
    environment = {"extra": "", "python_version": question.python.version}
    for text in asked:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if canonicalize_name(requirement.name) == package and (
            requirement.marker is None or requirement.marker.evaluate(environment)
        ):
            allowed &= requirement.specifier
    for text in _said(package, messages):
        try:
            allowed &= SpecifierSet(text.rstrip("."))
        except InvalidSpecifier:
            continue
    return allowed


def _needs(wheel: Pin, project: Project, where: str) -> tuple[str, ...]:
    """Read what a wheel says that it needs. Raises CheckFailedError for what is no wheel."""
    try:
        with zipfile.ZipFile(io.BytesIO(project.store.blobs.read(wheel.sha256))) as archive:
            (name,) = (one for one in archive.namelist() if _METADATA.fullmatch(one))
            with archive.open(name) as body:
                text = body.read(MOST_METADATA)
        return tuple(map(str, BytesHeaderParser().parsebytes(text).get_all("Requires-Dist", [])))
    except (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, NotImplementedError, EOFError) as error:
        raise CheckFailedError(f"{where}: {wheel.name}, which was built, is no wheel: {error}") from None


def _newest(package: str, allowed: SpecifierSet, question: Question) -> tuple[Version, IndexFile] | None:
    """Give the newest source archive of a package that is allowed; a final version before others."""
    step = question.step
    with Pages(question.index, question.context.settings) as pages:
        files = pages.of_projects([package])[package]
    found: dict[Version, IndexFile] = {}
    for file in sorted(files, key=lambda file: file.name, reverse=True):  # of one version .zip, then .tar.gz
        if file.is_yanked or (step.as_of and not "" < file.uploaded[:19] < moment_after(step.as_of)[:19]):
            continue
        try:
            name, version = parse_sdist_filename(file.name)
            fits = not file.requires_python or question.python.version in SpecifierSet(file.requires_python)
        except (InvalidSdistFilename, InvalidSpecifier):
            continue
        if name == package and fits:
            found[version] = file
    versions = list(allowed.filter(found))
    return (max(versions), found[max(versions)]) if versions else None


def _build(package: str, version: Version, file: IndexFile, question: Question, project: Project) -> _Built:
    """Fetch an archive, find out what its build needs, and build it."""
    step, context, tree = question.step, question.context, question.context.tree
    where = str(step.where)
    local = Path(file.url.removeprefix("file://")).parent if file.url.startswith("file:") else None
    wanted = Download(
        name=file.name,
        urls=(file.url,),
        sha256=file.sha256,
        where=where,
        trusted=(host_of(file.url),),
        folder=local,
    )
    (fetched,) = fetch_all(context.store, [wanted], tell=context.tell, settings=context.settings)
    archive = Pin(file.name, fetched.size, fetched.digest, {"package": package, "version": str(version)})
    below = [Layer(tree)] if context.growth is None else context.growth.layers
    build = SourceBuild(archive, (), question.python, where)
    needs = list(build_system(build, project).requires)
    build = replace(build, requires=_needed(needs, package, question))
    if further := [one for one in further_requires(build, project, tree, below) if one not in needs]:
        build = replace(build, requires=_needed([*needs, *further], package, question))
    wheel = make_wheel(build, project, tree, below)
    return _Built(archive, build.requires, wheel, version, _needs(wheel, project, where))


def _needed(requirements: list[str], package: str, question: Question) -> tuple[Pin, ...]:
    """Give the wheels that a build needs, fetched."""
    if not requirements:
        return ()
    asked = replace(question.step, requirements=tuple(sorted(set(requirements))), build=False, mirrors=())
    inner = replace(question, step=asked)
    try:
        pins = inner.pins(inner.packages())
    except ReprobuildError as error:
        error.message = f"{error.message}\n  needed to build {package}: {', '.join(requirements)}"
        error.args = (error.message,)
        raise
    from reprobuild.fetch.wheels import downloads

    context = question.context
    missing = [pin for pin in pins if not context.store.blobs.has(pin.sha256)]
    if missing:
        found = downloads(asked, missing, context.settings)
        fetch_all(
            context.store, found, tell=context.tell, jobs=context.settings.jobs, settings=context.settings
        )
    return tuple(sorted(pins, key=lambda pin: pin.name))


def _joined(wheels: Iterable[Pin], built: Iterable[_Built]) -> list[Pin]:
    """Give one pin for each file; what it is for stands in it."""
    every = list(built)
    placed = {pin.name: pin for pin in wheels}
    users: dict[str, list[str]] = {}
    needed: dict[str, Pin] = {}
    for one in every:
        for pin in one.requires:
            needed[pin.name] = pin
            users.setdefault(pin.name, []).append(str(one.archive.hashed["package"]))
    found = [one.archive for one in every]
    found += [pin for name, pin in placed.items() if name not in needed]
    for name, pin in needed.items():
        more: dict[str, object] = {"builds": sorted(users[name])}
        if name in placed:
            more["placed"] = True
        found.append(replace(pin, hashed={**pin.hashed, **more}))
    return found
