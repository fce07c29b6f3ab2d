"""Commands in an image, with folders that they share with the caller: ``DockerContainer``, on our engines.

Nothing is mounted: what is in a folder of the caller's goes in before a command, and what the command
left comes back after it. Knows nothing of models and recipes' predictors.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from reprobuild import settings
from reprobuild.errors import EngineError, PredictionFailedError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.build.project import Project
    from reprobuild.engine.protocol import Engine, Result
    from reprobuild.gateway.gate import Gate
    from reprobuild.predict.target import Target

GIVEN = "/in"
TAIL_LINES = 20
"""Of what a command printed, in an error."""
PREPARE = """\
set -e
for file in {given}/folders/*.path; do
    [ -e "$file" ] || continue
    read -r folder < "$file"
    cp -R "${{file%.path}}/." "$folder"
done
set +e
command=$1
shift
{{ eval "$command"; }}{silenced}
"""
"""Brings the folders to where the command looks for them. The command's exit code is the last one."""
PYTHON = '#!/bin/sh\nexec python3 "$@"\n'
"""Stands last in ``PATH``: Debian's Python alone is called ``python3``."""

_log = logging.getLogger("reprobuild.compat")


def make_volume_map(*volumes: str) -> dict[str, str]:
    """Give a folder inside for each folder of the host."""
    return {volume: f"/tmp{number}" for number, volume in enumerate(volumes)}


def image_exists(image: str) -> bool:
    """Tell whether the store has an image with a tag. No daemon is asked, whatever the engine."""
    from reprobuild.build.find import find_image

    try:
        find_image(_project().store, image)
    except UsageError:
        return False
    return True


def run_command(
    image: str,
    command: str,
    volume_map: Mapping[str, str] | None = None,
    stdout: bool = True,
    stderr: bool = True,
    silent: bool = False,
    network_disabled: bool = False,
    cuda: bool = False,
) -> str:
    """Run a shell text in an image, and give what it printed, both streams as they came.

    ``image``: the tag of a built image, or a recipe's name; ``volume_map``: folder of the host → folder
    inside, copied in before and back after (made where it is not there); ``stdout``, ``stderr``: which
    streams count; ``silent``: do not show them meanwhile; ``network_disabled``: there is never a network,
    and what asks for it is named; ``cuda``: with the GPUs of this machine. Raises PredictionFailedError
    where the command ends with another code than 0, RefusedFetchError where that is for want of the
    network, UsageError for an image that is not there, EngineError.
    """
    for folder in volume_map or {}:
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder} can't be a folder of a command: {error.strerror}") from None
    project = _project()
    return _run(project, _target(project, image), command, volume_map or {}, stdout, stderr, silent, cuda)


class DockerContainer:
    """An image to run commands in, for a ``with`` block.

    ``host_dir`` is a folder of this machine and ``container_dir`` what commands see of it: what is in it
    goes in before each command and comes back after it. It is gone when the block ends.
    """

    def __init__(self, image: str) -> None:
        """``image``: the tag of a built image (``load("tutorial").image``), or a recipe's name."""
        self.image = image
        self.host_dir = ""
        self.container_dir = ""
        self.volume_map: dict[str, str] = {}
        self._open = contextlib.ExitStack()

    def __enter__(self) -> DockerContainer:
        self._project = _project()
        self._target = _target(self._project, self.image)
        self.host_dir = str(self._open.enter_context(self._project.store.scratch("compat")))
        self.volume_map = make_volume_map(self.host_dir)
        self.container_dir = self.volume_map[self.host_dir]
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def run_command(
        self,
        command: str,
        stdout: bool = True,
        stderr: bool = True,
        silent: bool = False,
        network_disabled: bool = False,
        cuda: bool = False,
    ) -> str:
        """Do what the function ``run_command`` does, with ``host_dir`` as ``container_dir``."""
        if not self.host_dir:
            raise UsageError("a DockerContainer runs commands within its `with` block")
        return _run(self._project, self._target, command, self.volume_map, stdout, stderr, silent, cuda)


def _project() -> Project:
    from reprobuild.build.project import Project

    return Project(settings.load({}, os.environ, os.getcwd()))


def _target(project: Project, image: str) -> Target:
    from reprobuild.predict.target import find_target

    return find_target(project, image, {})


def _run(
    project: Project,
    target: Target,
    command: str,
    volumes: Mapping[str, str],
    stdout: bool,
    stderr: bool,
    silent: bool,
    cuda: bool,
) -> str:
    from reprobuild.engine.program import obstacle
    from reprobuild.engine.protocol import Command
    from reprobuild.gateway.gate import refusing
    from reprobuild.predict.runner import plain

    if not stdout and not stderr:
        raise UsageError("of stdout and stderr, at least one has to count")
    silenced = "" if stdout and stderr else (" 2>/dev/null" if stdout else " >/dev/null")
    printed: list[bytes] = []

    def output(line: bytes) -> None:
        printed.append(line)
        if not silent:
            sys.stdout.write(plain(line.decode("utf-8", "replace").rstrip("\r\n")) + "\n")

    engine = project.engine
    with target.scratch("compat-run") as scratch:
        given = scratch / "in"
        _stage(given, volumes, scratch.stat().st_uid)
        left = {inside: scratch / f"out-{number}" for number, inside in enumerate(volumes.values())}
        for folder in left.values():
            folder.mkdir(mode=0o755)
        path = target.env.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        asked = Command(
            argv=("/bin/sh", "-c", PREPARE.format(given=GIVEN, silenced=silenced), "sh", command),
            env={**target.env, "PATH": f"{path}:{GIVEN}/bin"},
            workdir=target.workdir,
            inputs={GIVEN: given},
            outputs=left,
            devices=_devices(engine) if cuda else (),
        )
        with engine.ground(target.layers) as ground:
            if problem := obstacle(ground, asked):
                raise PredictionFailedError(
                    f"{target.tag}: {problem}", f"reprobuild show {target.recipe} says what is in it"
                )
            gate = refusing(project.store)
            result = engine.run(ground, asked, gateway=gate, output=output)
        for host, inside in volumes.items():
            _take_back(left[inside], Path(host), is_whole=not result.exit_code)
    _check(target, command, result, gate)
    return b"".join(printed).decode("utf-8", "replace")


def _devices(engine: Engine) -> tuple[str, ...]:
    """Give all GPUs that the engine has, counted as the command counts them. Raises EngineError for none."""
    found = [engine.gpu("0").number]
    with contextlib.suppress(EngineError):
        while True:
            found.append(engine.gpu(str(len(found))).number)
    return tuple(found)


def _stage(given: Path, volumes: Mapping[str, str], owner: int) -> None:
    """Lay out what goes in: each folder, and beside it a file that says where it goes."""
    (given / "folders").mkdir(parents=True)
    for number, (host, inside) in enumerate(volumes.items()):
        shutil.copytree(host, given / "folders" / str(number), symlinks=True)
        (given / "folders" / f"{number}.path").write_text(f"{inside}\n")
    (given / "bin").mkdir()
    (given / "bin" / "python").write_text(PYTHON)
    (given / "bin" / "python").chmod(0o755)
    for path in (given, *given.rglob("*")):
        if owner != os.geteuid():
            os.chown(path, owner, owner, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))


def _take_back(left: Path, host: Path, *, is_whole: bool) -> None:
    """Put what a command left in the place of what was there; ``is_whole``: what it removed goes, too.

    Links stay as they are: none comes back.
    """
    entries = sorted(left.rglob("*"))
    kept = {path.relative_to(left) for path in entries}
    if is_whole:
        for path in sorted(host.rglob("*"), reverse=True):
            if path.is_symlink() or path.relative_to(host) in kept:
                continue
            if not path.is_dir():
                path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()
    for source in entries:
        path = host / source.relative_to(left)
        if source.is_dir():
            if path.is_symlink() or path.is_file():
                path.unlink()
            path.mkdir(exist_ok=True)
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        shutil.move(source, path)


def _check(target: Target, command: str, result: Result, gate: Gate) -> None:
    """Raise what a failed command raises; log what was refused to one that coped."""
    from reprobuild.predict.runner import plain

    what = f"the command in {target.tag}"
    lines = [plain(line) for line in result.tail[-TAIL_LINES:]]
    tail = "\nthe last lines it printed:\n  " + "\n  ".join(lines) if lines else "\nit printed nothing"
    ended = f"it ended with exit code {result.exit_code}{tail}"
    if gate.refused:
        from reprobuild.build.refusals import refused_error

        error = refused_error(what, gate, ended if result.exit_code else "it coped without")
        if result.exit_code:
            raise error
        _log.warning("%s", error.message)
    if result.exit_code:
        shown = plain(command.strip())
        raise PredictionFailedError(
            f"{what} ended with exit code {result.exit_code}: {shown[:200]}{tail}",
            f"reprobuild shell {target.tag} opens a shell in it",
        )
