"""Evaluate a recipe in a child of the sandbox engine, and remember the result.

Knows nothing of locks. The child has no network, an empty environment, and sees the recipe's
folder, this package's lowest floors and Python's standard library, all read-only.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import reprobuild
from reprobuild.build.project import Project
from reprobuild.canonical import NotCanonicalError, canonical, canonical_digest
from reprobuild.derivation.codec import recipe_from_json, recipe_to_json
from reprobuild.derivation.folder import LOCK_FILE, RECORDED, folder_digests, is_left_out
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.recipe import Recipe
from reprobuild.derivation.verify import recipe_from_stranger
from reprobuild.digest import Digest
from reprobuild.engine.protocol import Command
from reprobuild.errors import EngineError, OutsideError, RecipeError, UsageError
from reprobuild.events import Warned
from reprobuild.process import run_program
from reprobuild.store.checkouts import Checkout

STAGED = ("__init__.py", "canonical.py", "digest.py", "errors.py", "value.py", "derivation")
"""Parts of the package that evaluation imports."""
LARGEST_ANSWER = 16 * 1024 * 1024
"""Bytes: far more than any recipe comes to, and little enough to read."""
TIME_LIMIT = 60.0
"""Seconds that an evaluation may take: it computes nothing."""
MEMORY_LIMIT = 2 * 1024**3
WORK = "a recipe only says what is wanted; work belongs into run(…)"
PROGRAM = (
    "import sys; sys.path.insert(0, '{package}'); "
    "from reprobuild.derivation.evaluation import main; main(*sys.argv[1:])"
)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A recipe with where it came from."""

    recipe: Recipe
    folder: Path
    content: Digest
    """Of what evaluation and ``files`` can read of the folder."""


def evaluate(project: Project, name: str, options: Mapping[str, Json], *, trust: bool = False) -> Evaluated:
    """Evaluate a recipe by name with options (values, or their texts).

    Raises UsageError for an unknown name, RecipeError for a recipe that does not evaluate, and
    EngineError where no sandbox can be had for a recipe that is not the user's own.
    """
    folder = project.recipe_folder(name)
    content = Digest(folder_digests(str(folder))[0])
    key = _key(name, content, options)
    record = project.store.realisations.get(key)
    if record is not None:
        return Evaluated(recipe_from_json(record["recipe"]), folder, content)
    with project.store.scratch("evaluate") as scratch:
        recipe, is_isolated = _evaluate_afresh(project, folder, content, scratch, name, options, trust=trust)
    # In the order of keys that it will have when remembered, so that nothing depends on which it was.
    recipe = recipe_from_json(json.loads(canonical(recipe_to_json(recipe))))
    if is_isolated:  # else it may have seen anything of this machine
        record = {"kind": "evaluation", "blobs": [], "recipe": recipe_to_json(recipe)}
        project.store.realisations.put(key, record)
    return Evaluated(recipe, folder, content)


def _key(name: str, content: Digest, options: Mapping[str, Json]) -> Digest:
    """Give the key of an evaluation: all that a child without network and environment can see."""
    package = Path(__file__).resolve().parent.parent
    program = {
        part: folder_digests(str(package / part))[0]
        if (package / part).is_dir()
        else Digest.of((package / part).read_bytes()).hex
        for part in STAGED
    }
    try:
        return canonical_digest(
            {
                "evaluation": reprobuild.__version__,
                "program": program,
                "python": f"{sys.version} {os.uname().machine}",
                "name": name,
                "folder": content.hex,
                "options": dict(options),
            }
        )
    except NotCanonicalError as error:
        raise UsageError(f"options of {name}: {error}", "options are plain texts and numbers") from None


def _evaluate_afresh(
    project: Project,
    folder: Path,
    content: Digest,
    scratch: Path,
    name: str,
    options: Mapping[str, Json],
    *,
    trust: bool,
) -> tuple[Recipe, bool]:
    """Give the recipe, and whether it was evaluated in isolation."""
    for part in ("package/reprobuild", "recipe", "out", "root"):
        (scratch / part).mkdir(parents=True)
    _stage(folder, scratch)
    if folder_digests(str(folder))[0] != content.hex:
        raise RecipeError(f"{folder} changed while it was read", "run the command again")
    isolation = project.sandbox.probe()
    if isolation.available:
        _in_sandbox(project, scratch, name, options)
    elif trust or project.is_own(folder):
        project.tell(Warned(f"{name} is evaluated without a sandbox: {isolation.missing}", isolation.hint))
        _unisolated(scratch, name, options)
    else:
        raise EngineError(
            f"{name} is no recipe of your project, and cannot be isolated here: {isolation.missing}",
            f"{isolation.hint}; or, if you trust its author: --trust",
        )
    answer = _answer(name, scratch / "out" / "answer.json")
    if "error" in answer:
        raise RecipeError(
            f"{folder / 'recipe.py'}: {answer['error']}".replace(": recipe.py:", ":"),
            str(answer.get("hint", "")),
        )
    return recipe_from_stranger(answer.get("recipe"), name), isolation.available


def _answer(name: str, path: Path) -> Mapping[str, Json]:
    """Read what the child wrote, which may be anything."""
    size = path.stat().st_size
    try:
        if size > LARGEST_ANSWER:
            raise ValueError(f"{size:,} bytes")
        answer = json.loads(path.read_bytes())
        if not isinstance(answer, dict):
            raise ValueError(type(answer).__name__)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{name}: evaluating recipe.py gave no recipe, but {error}", WORK) from None
    return answer


def _stage(folder: Path, scratch: Path) -> None:
    """Copy what the child reads, so that whoever the sandbox runs as can read it."""
    package = Path(__file__).resolve().parent.parent
    skipped = shutil.ignore_patterns("__pycache__", "*.pyc")
    for part in STAGED:
        source, target = package / part, scratch / "package" / "reprobuild" / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=skipped, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, target)
    try:
        shutil.copytree(
            folder,
            scratch / "recipe",
            symlinks=True,
            ignore=_not_content(folder),
            copy_function=shutil.copyfile,
            dirs_exist_ok=True,
        )
    except shutil.Error as error:
        source, _, reason = error.args[0][0]
        raise OutsideError(f"{source} cannot be copied: {reason}") from None
    for path in (scratch, *scratch.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def _not_content(folder: Path) -> Callable[[str, list[str]], set[str]]:
    """Tell ``copytree`` what to leave out: what ``folder_digests`` does not count, or cannot read."""

    def left_out(place: str, names: list[str]) -> set[str]:
        own = (LOCK_FILE, RECORDED) if place == str(folder) else ()
        return {name for name in names if is_left_out(name) or name in own or _is_special(f"{place}/{name}")}

    return left_out


def _is_special(path: str) -> bool:
    mode = os.lstat(path).st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


def _in_sandbox(project: Project, scratch: Path, name: str, options: Mapping[str, Json]) -> None:
    base = Path(sys.base_prefix)
    inputs = {
        str(path): path for path in map(Path, ("/usr", "/lib", "/lib64", "/nix", "/gnu")) if path.exists()
    }
    if not base.is_relative_to("/usr"):
        inputs[str(base)] = base
    inputs |= {"/package": scratch / "package", "/recipe": scratch / "recipe"}
    program = PROGRAM.format(package="/package")
    result = project.sandbox.run(
        Checkout((scratch / "root",)),
        Command(
            argv=(
                _interpreter(),
                "-ISB",
                "-c",
                program,
                "/recipe",
                name,
                json.dumps(dict(options)),
                "/out/answer.json",
            ),
            inputs=inputs,
            outputs={"/out": scratch / "out"},
            workdir="/recipe",
            timeout=TIME_LIMIT,
            memory=MEMORY_LIMIT,
        ),
    )
    if not (scratch / "out" / "answer.json").is_file():
        if result.out_of_memory:
            raise RecipeError(
                f"{name}: evaluating recipe.py took more than {MEMORY_LIMIT >> 30} GiB of memory", WORK
            )
        _fail(name, result.exit_code, result.timed_out, result.tail)


def _unisolated(scratch: Path, name: str, options: Mapping[str, Json]) -> None:
    program = PROGRAM.format(package=scratch / "package")
    output = scratch / "out" / "answer.json"
    argv = [_interpreter(), "-ISB", "-c", program, str(scratch / "recipe"), name, json.dumps(dict(options))]
    try:
        ended = run_program([*argv, str(output)], env={}, limit=TIME_LIMIT, folder=scratch / "recipe")
    except TimeoutError:
        _fail(name, 137, True, ())
    if not output.is_file():
        _fail(name, ended.code, False, tuple(ended.messages.decode(errors="replace").splitlines()[-20:]))


def _interpreter() -> str:
    """Give the interpreter behind a virtual environment: the standard library is all that is needed."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    return str(Path(base).resolve())


def _fail(name: str, exit_code: int, timed_out: bool, tail: tuple[str, ...]) -> None:
    if timed_out:
        raise RecipeError(f"{name}: evaluating recipe.py was stopped after {TIME_LIMIT:.0f} seconds", WORK)
    shown = "\n".join(f"  {line}" for line in tail[-20:])
    raise RecipeError(f"{name}: evaluating recipe.py ended with exit code {exit_code}\n{shown}".rstrip())
