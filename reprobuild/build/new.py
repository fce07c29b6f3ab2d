"""Start a recipe: its folder, from a template or drafted from a Dockerfile.

Knows nothing of what a person sees. Nothing that is there is ever written over.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reprobuild.build import template
from reprobuild.build.recipes import RECIPE_FILE, is_name
from reprobuild.build.template import About
from reprobuild.derivation.dockerfile.draft import ROOT, Draft, Finding, draft
from reprobuild.derivation.dockerfile.patterns import Ignored, PatternError, ignore_patterns
from reprobuild.derivation.folder import is_left_out
from reprobuild.errors import OutsideError, UsageError

LARGEST_LIST = 1024 * 1024
"""Bytes of a list of requirements."""
IGNORE = ".dockerignore"
NOT_SAID = About()


@dataclass(frozen=True, slots=True)
class Started:
    """A recipe's folder that was made."""

    folder: Path
    files: tuple[str, ...]
    """Paths in it, sorted."""
    findings: tuple[Finding, ...] = ()
    """What a person should look at in the Dockerfile."""
    is_whole: bool = False
    """Whether the recipe takes the Dockerfile as it is."""


def start(folder: Path, name: str, folders: Sequence[str] = (), about: About = NOT_SAID) -> Started:
    """Start a recipe that locks and predicts as it is.

    ``folders``: where names lead to recipes. Raises UsageError for a name that is none, or
    taken, OutsideError.
    """
    demand_free(folder, name, folders)
    function = _function(name)
    written = {
        "recipe.py": template.recipe(name, function, about),
        "src/run.py": template.PROGRAM,
        f"tests/test_{function}.py": template.tests(name),
        "tests/regression/inputs.jsonl": template.INPUTS,
        "tests/regression/outputs.jsonl": template.OUTPUTS,
        "README.md": template.readme(name, about),
    }
    return _write(folder / name, written, {})


def start_from_dockerfile(
    folder: Path, name: str, dockerfile: Path, folders: Sequence[str] = (), about: About = NOT_SAID
) -> Started:
    """Draft a recipe from a Dockerfile; what it copies of its folder is copied to the recipe's ``src``.

    ``folders``: where names lead to recipes. Raises UsageError, OutsideError, and RecipeError, with the line,
    for a Dockerfile that cannot be read.
    """
    demand_free(folder, name, folders)
    try:
        text = dockerfile.read_bytes().decode()
    except FileNotFoundError:
        raise UsageError(f"there is no {dockerfile}", "name a Dockerfile") from None
    except IsADirectoryError:
        raise UsageError(f"{dockerfile} is a folder", f"name the file: {dockerfile / 'Dockerfile'}") from None
    except OSError as error:
        raise UsageError(f"{dockerfile} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{dockerfile} is no Dockerfile: it is not text in UTF-8") from None
    context = dockerfile.absolute().parent
    here = list(_files(context, _ignored(context, dockerfile.name), context / name))
    lists = {path: said for path in here if path.endswith(".txt") and (said := _list(context / path))}
    made = draft(text, name, here, lists)
    kept = [path for path in here if _is_copied(path, made.copies)]
    if made.is_whole:
        kept = sorted({*kept, *(path for path in (IGNORE,) if (context / path).is_file())})
    written = {
        "recipe.py": _with_about(made.recipe, about),
        "README.md": template.readme_of_draft(name, about),
    }
    if made.is_whole:
        written[f"{ROOT}/Dockerfile"] = text
    copied = {f"{ROOT}/{path}": context / path for path in kept}
    return _write(folder / name, written, copied, made)


def demand_free(folder: Path, name: str, folders: Sequence[str]) -> None:
    """Raise UsageError for what is no name, and for one that leads to a recipe elsewhere."""
    _function(name)
    for other in folders:
        path = Path(other) / name
        if (path / RECIPE_FILE).is_file() and path != folder / name:
            here = shlex.quote(str(folder))
            copy = f"mkdir -p {here} && cp -r {shlex.quote(str(path))} {here}"
            raise UsageError(
                f"there is a recipe {name} in {other}, and a new one would take its place",
                f"choose another name; or, to change that one: {copy}",
            )


def _with_about(recipe: str, about: About) -> str:
    """Put what is known of a model into a draft in place of what stands for it there."""
    first, end, rest = recipe.partition("\n")
    title = template.docstring(about.title) if about.title else first
    version = about.version or template.FIRST_VERSION
    return f"{title}{end}{rest}".replace('@recipe(version="0.1")', f'@recipe(version="{version}")', 1)


def _function(name: str) -> str:
    function = name.replace("-", "_")
    if not name or not is_name(name) or not function.isidentifier():
        raise UsageError(
            f"{name!r} is no name of a recipe", "letters, digits, - and _, a letter first: smith2024"
        )
    return function


def _ignored(context: Path, name: str) -> Ignored:
    for file in (f"{name}{IGNORE}", IGNORE):
        try:
            return Ignored(ignore_patterns((context / file).read_text(encoding="utf-8")))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, PatternError) as error:
            raise UsageError(f"{context / file}: {error}") from None
    return Ignored()


def _files(context: Path, ignored: Ignored, new: Path) -> Iterator[str]:
    """Give the paths of the files and links of a context, sorted within each folder."""
    for above, folders, names in os.walk(context):
        below = Path(above).relative_to(context)
        links = [name for name in folders if os.path.islink(os.path.join(above, name))]
        folders[:] = sorted(
            name
            for name in folders
            if not is_left_out(name) and name not in links and Path(above, name) != new
        )
        for name in sorted([*names, *links]):
            path = (below / name).as_posix()
            if not is_left_out(name) and not ignored(path):
                yield path


def _list(path: Path) -> str:
    try:
        if path.is_file() and path.stat().st_size <= LARGEST_LIST:
            return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        pass
    return ""


def _is_copied(path: str, copies: Sequence[str]) -> bool:
    return any(one == "." or path == one or path.startswith(one + "/") for one in copies)


def _write(
    folder: Path, written: dict[str, str], copied: dict[str, Path], made: Draft | None = None
) -> Started:
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} is there already", "choose another name, or remove it")
    try:
        folder.mkdir(parents=True)
        for name, source in copied.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
        for name, text in written.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutsideError(f"{error.filename or folder} cannot be written: {error.strerror}") from None
    files = tuple(sorted({*written, *copied}))
    if made is None:
        return Started(folder, files)
    return Started(folder, files, made.findings, made.is_whole)
