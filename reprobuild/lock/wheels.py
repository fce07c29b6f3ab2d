"""Resolve ``wheels`` steps: uv finds versions for the image's Python and platform, we pick each wheel.

The lock gets file names, sizes and digests, and nothing that names an index. Knows nothing of placing.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from reprobuild.build.place.python import Python, find_python
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Wheels
from reprobuild.digest import Digest
from reprobuild.errors import OfflineError, RecipeError
from reprobuild.events import Note
from reprobuild.fetch.python_index import PythonIndex, python_index
from reprobuild.fetch.uv import Answer, index_arguments, run_uv
from reprobuild.lock.image_platform import libc_of, python_patch_level
from reprobuild.lock.resolver import Context
from reprobuild.lock.wheel_tags import ARCHITECTURES, Target
from reprobuild.lock.wheel_trouble import UNDATED, explain, moment_after, undated


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The wheel that was picked for a package."""

    package: str
    version: str
    name: str
    url: str
    is_direct: bool
    """Whether the recipe names the address itself, so that the lock may keep it."""
    size: int | None
    sha256: Digest | None


def resolve(step: Wheels, context: Context) -> tuple[Pin, ...]:
    """Find the wheels that a step comes to; give their pins, sorted by name.

    With ``build=True`` what has no wheel is pinned as its source archive, with what its build needs.
    Raises RecipeError, in uv's words, where no set of versions
    fits or a package has no wheel for the image; UpstreamError where the index does not answer, or
    has no dates and ``as_of`` is asked for; OfflineError where the index may not be asked.
    """
    where = str(step.where)
    for requirement in step.requirements:
        _check_requirement(requirement, where)
    python = find_python(context.tree, step.python, where)
    target = _target(python, context, where)
    index = python_index(context.settings.python_index, os.environ)
    if context.settings.offline and not index.is_local:
        raise OfflineError(
            f"{where}: finding wheels needs the Python index, and this run may not use the network",
            f"reprobuild lock {context.recipe_folder.name}, with the network",
        )
    question = Question(step, context, python, target, index)
    if step.build:
        from reprobuild.lock.sdists import resolve_with_sources

        pins = resolve_with_sources(question)
    else:
        pins = question.pins(question.packages())
    return tuple(sorted(pins, key=lambda pin: pin.name))


@dataclass(frozen=True, slots=True)
class Question:
    """What uv is asked, and for what image."""

    step: Wheels
    context: Context
    python: Python
    target: Target
    index: PythonIndex

    def ask(self, built: Mapping[str, Path]) -> tuple[Answer, list[Mapping[str, Any]] | None]:
        """Give uv's answer, and the packages that it chose, None where it found none.

        ``built``: package → a wheel of it that was built from source, which counts instead of the index.
        """
        with self.context.store.scratch("wheels") as scratch:
            return _ask_uv(self, built, scratch)

    def packages(self) -> list[Mapping[str, Any]]:
        """Give the packages that uv chooses of those that have wheels. Raises what ``explain`` makes."""
        answer, packages = self.ask({})
        if packages is None:
            raise explain(self.step, answer, self.target, self.index, self.context.settings)
        self.check_dates(packages, answer)
        return packages

    def pins(self, packages: Sequence[Mapping[str, Any]]) -> list[Pin]:
        """Give the pins of the wheels that fit best. Raises RecipeError for a package that has none."""
        chosen = [_choose(package, self.target, str(self.step.where)) for package in packages]
        return _pins(self.step, chosen, self.context)

    def check_dates(self, packages: Sequence[Mapping[str, Any]], answer: Answer) -> None:
        """Raise UpstreamError where the index did not say when files were uploaded, and it matters."""
        _check_dates(self.step, packages, answer, self.index, self.context)


def _check_requirement(text: str, where: str) -> None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        said = str(error).partition("\n")[0]
        raise RecipeError(
            f"{where}: wheels({text!r}): {said}", 'requirements look like "numpy==1.26.4"'
        ) from None
    if not requirement.url:
        return
    parts = urlsplit(requirement.url)
    if parts.scheme not in ("http", "https") or not parts.path.endswith(".whl"):
        raise RecipeError(
            f"{where}: wheels({text!r}): an address has to be that of a wheel, by http or https",
            "name the package and its version, so that it comes from the Python index",
        )
    if parts.username:
        raise RecipeError(
            f"{where}: wheels() holds a user name or password, which would be kept in the lock",
            "put credentials into ~/.netrc",
        )


def _target(python: Python, context: Context, where: str) -> Target:
    architecture = ARCHITECTURES.get(context.platform)
    if architecture is None:
        raise RecipeError(f"{where}: wheels() does not know the platform {context.platform}")
    libc, version = libc_of(context.tree, context.store, architecture)
    return Target(python.version, architecture, libc, version)


def _ask_uv(
    question: Question, built: Mapping[str, Path], scratch: Path
) -> tuple[Answer, list[Mapping[str, Any]] | None]:
    """Give uv's answer, and the packages of the ``pylock.toml`` that it wrote, None where it wrote none."""
    step, context, python = question.step, question.context, question.python
    target, index = question.target, question.index
    source = scratch / "requirements.in"
    source.write_text("".join(f"{requirement}\n" for requirement in step.requirements), encoding="utf-8")
    result = scratch / "pylock.toml"
    patch_level = python_patch_level(context.tree, context.store, python)
    arguments = ["pip", "compile", source.name, "--output-file", result.name, "--format", "pylock.toml"]
    arguments += ["--no-header", "--python", sys.executable]
    arguments += ["--python-version", patch_level, "--python-platform", target.uv_platform]
    arguments += ["--only-binary", ":all:", *index_arguments(index)]
    if built:
        constraints = scratch / "built.txt"
        lines = (f"{package} @ {path.as_uri()}\n" for package, path in sorted(built.items()))
        constraints.write_text("".join(lines), encoding="utf-8")
        arguments += ["--constraint", constraints.name]
    if step.as_of:
        arguments += ["--exclude-newer", moment_after(step.as_of)]
    if context.settings.offline:
        arguments.append("--offline")
    answer = run_uv(arguments, scratch=scratch, index=index, environment=os.environ)
    if answer.exit_code or not result.is_file():
        return answer, None
    return answer, list(tomllib.loads(result.read_text(encoding="utf-8")).get("packages", []))


def _choose(package: Mapping[str, Any], target: Target, where: str) -> _Chosen:
    """Pick the wheel of a package that fits best. Raises RecipeError where it has none that fits."""
    title = f"{package['name']} {package.get('version', '')}".strip()
    direct = package.get("archive")
    files = [direct] if direct else package.get("wheels", [])
    by_name = {_name(file): file for file in files}
    best = target.best(by_name)
    if best is None:
        raise RecipeError(
            f"{where}: {title} has no wheel for Python {target.python} on {target.architecture} "
            f"({target.libc} {'.'.join(map(str, target.libc_version))})"
            + (f"; there is: {', '.join(sorted(by_name))}" if by_name else ""),
            "name another version, or another python=",
        )
    file = by_name[best]
    sha256 = file.get("hashes", {}).get("sha256")
    return _Chosen(
        package=canonicalize_name(str(package["name"])),
        version=str(package.get("version") or best.split("-")[1]),
        name=best,
        url=str(file.get("url", "")),
        is_direct=bool(direct),
        size=file.get("size"),
        sha256=Digest(sha256) if sha256 else None,
    )


def _name(file: Mapping[str, Any]) -> str:
    return str(file.get("name") or unquote(urlsplit(str(file.get("url", ""))).path).rpartition("/")[2])


def _check_dates(
    step: Wheels,
    packages: Sequence[Mapping[str, Any]],
    answer: Answer,
    index: PythonIndex,
    context: Context,
) -> None:
    if not step.as_of:
        return
    for package in packages:
        if any("upload-time" not in file for file in package.get("wheels", [])):
            raise undated(step, index)
    skipped = set(re.findall(r"`([^`]+)` " + UNDATED, answer.messages))
    if skipped:
        context.tell(
            Note(
                f"{step.where}: {len(skipped)} files that one of the Python indexes has without a date "
                f"are left out, since as_of={step.as_of} is asked for"
            )
        )


def _pins(step: Wheels, chosen: Sequence[_Chosen], context: Context) -> list[Pin]:
    """Make pins; what an index gives without size or digest is fetched to learn them."""
    unknown = [wheel for wheel in chosen if wheel.size is None or wheel.sha256 is None]
    learnt: dict[str, tuple[Digest, int]] = {}
    if unknown:
        from reprobuild.fetch.download import Download, fetch_all
        from reprobuild.fetch.reach import host_of

        wanted = []
        for wheel in unknown:
            parts = urlsplit(wheel.url)
            folder = Path(unquote(parts.path)).parent if parts.scheme == "file" else None
            wanted.append(
                Download(
                    name=wheel.name,
                    urls=(wheel.url,),
                    sha256=wheel.sha256,
                    where=str(step.where),
                    trusted=() if wheel.is_direct else (host_of(wheel.url),),
                    folder=folder,
                )
            )
        fetched = fetch_all(
            context.store,
            wanted,
            tell=context.tell,
            offline=context.settings.offline,
            jobs=context.settings.jobs,
            settings=context.settings,
        )
        learnt = {wheel.name: (got.digest, got.size) for wheel, got in zip(unknown, fetched, strict=True)}
    return [_pin(wheel, learnt.get(wheel.name)) for wheel in chosen]


def _pin(wheel: _Chosen, learnt: tuple[Digest, int] | None) -> Pin:
    sha256, size = learnt or (wheel.sha256, wheel.size)
    assert sha256 is not None and size is not None
    return Pin(
        name=wheel.name,
        size=size,
        sha256=sha256,
        hashed={"package": wheel.package, "version": wheel.version},
        found={"url": wheel.url} if wheel.is_direct else {},
    )
