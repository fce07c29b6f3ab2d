"""The folders that a sandbox is made of: the tree's, between two of the engine's, and what goes in and out.

Below the tree lie the folders and mount points that must be there even if a tree lacks them; above it
the files of fixed content. So nothing that the engine needs is made in what the command writes to.
Knows nothing of how they are mounted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from reprobuild.engine import world
from reprobuild.engine.bubblewrap import Mounts
from reprobuild.engine.exchange import inside_path, readable_input
from reprobuild.engine.launcher import Places
from reprobuild.engine.protocol import ENVIRONMENT, Command, Gateway
from reprobuild.engine.trust import LARGEST_BUNDLE, OnTop, trust
from reprobuild.value import NOTHING

_NORMAL_TIME = int(ENVIRONMENT["SOURCE_DATE_EPOCH"])

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.engine.nvidia import Given
    from reprobuild.store.checkouts import Checkout
    from reprobuild.store.stack import Found


class Layout:
    """The folders of one command: the tree's between two of the engine's, and what goes in and out."""

    def __init__(
        self,
        folder: Path,
        checkout: Checkout,
        command: Command,
        gateway: Gateway | None,
        owner: int | None,
        given: Given | None = None,
        *,
        staged: bool,
    ) -> None:
        """Make them below ``folder``; ``given``: for GPUs; ``staged``: as ``Places`` has it.

        Raises EngineError for an input that is not there.
        """
        self._owner = owner
        self.ours: set[str] = set()
        """Paths inside that are there for the engine's sake, whatever the tree holds."""
        self.shown: dict[str, bytes] = {}
        """Files that the gateway brings, by path inside: as they are, no command has left them."""
        self.env: Mapping[str, str] = NOTHING
        """Variables that the gateway brings."""
        self.left: list[tuple[Path, Path]] = []
        """Folders that hold what the command leaves, each with where that goes."""
        self.upper = self._folder(folder / "upper")
        work = self._folder(folder / "work")
        bottom = self._folder(folder / "bottom")
        for name, mode in world.FOLDERS.items():
            self._folder(bottom / name, mode)
            self.ours.add(name)
        top = self._files_on_top(self._folder(folder / "top"), checkout, gateway)
        self.places = Places(staged=staged)
        name_inside = self.places.name(folder)
        inputs = {}
        for inside, source in command.inputs.items():
            readable = readable_input(source, folder, owner)
            self._mount_point(bottom, inside, is_folder=readable.is_dir())
            inputs[inside_path(inside)] = self.places.name(readable)
        devices, shown = {}, {}
        if given is not None:
            self._mount_point(bottom, given.folder, is_folder=True)
            shown[given.folder] = {name: self.places.name(path) for name, path in given.libraries.items()}
            devices = {inside: self.places.name(node) for inside, node in given.nodes.items()}
        outputs = {}
        for number, (inside, to) in enumerate(command.outputs.items()):
            left = self._folder(folder / f"output-{number}")
            self._mount_point(bottom, inside, is_folder=True)
            outputs[inside_path(inside)] = f"{name_inside}/{left.name}"
            self.left.append((left, to))
        for number, inside in enumerate(command.empty):
            emptied = self._folder(folder / f"empty-{number}")
            self._mount_point(bottom, inside, is_folder=True)
            outputs[inside_path(inside)] = f"{name_inside}/{emptied.name}"
        lowers = [f"{name_inside}/top"] if top else []
        lowers += [self.places.name(lower) for lower in checkout.lowers]
        lowers.append(f"{name_inside}/bottom")
        if len(lowers) == 1:
            lowers.append(f"{name_inside}/{self._folder(folder / 'empty').name}")
        self.mounts = Mounts(
            lowers,
            f"{name_inside}/{self.upper.name}" if command.writable else "",
            f"{name_inside}/{work.name}",
            inputs,
            outputs,
            devices,
            shown,
        )

    def _folder(self, path: Path, mode: int = 0o755) -> Path:
        path.mkdir()
        path.chmod(mode)
        self._settle(path)
        return path

    def _settle(self, path: Path) -> None:
        if self._owner is not None:
            os.chown(path, self._owner, self._owner)
        os.utime(path, (_NORMAL_TIME, _NORMAL_TIME))

    def _files_on_top(self, top: Path, checkout: Checkout, gateway: Gateway | None) -> bool:
        """Lay out the files of fixed content and the gateway's, unless the tree's /etc is no folder."""
        etc = checkout.look("etc")
        if etc is None or etc.path != "/etc" or not (etc.mode is None or stat.S_ISDIR(etc.mode)):
            return False
        files = {path: OnTop(content) for path, content in world.FILES.items()}
        if gateway is not None:
            files["etc/resolv.conf"] = OnTop(world.SERVED_RESOLVER)
            trusted, self.env = trust(checkout, _read, gateway)
            files |= trusted
        modes: dict[Path, int] = {}
        for path, file in files.items():
            folder = top
            for part in path.split("/")[:-1]:
                folder /= part
                if folder not in modes:
                    folder.mkdir()
                    found = checkout.look(str(folder.relative_to(top)))
                    modes[folder] = 0o755 if found is None or found.mode is None else stat.S_IMODE(found.mode)
            (top / path).write_bytes(file.content)
            (top / path).chmod(file.mode)
            self._settle(top / path)
            if file.is_new:
                self.shown[path] = file.content
        for folder, mode in reversed(modes.items()):
            folder.chmod(mode)
            self._settle(folder)
            self.ours.add(str(folder.relative_to(top)))
        return True

    def _mount_point(self, bottom: Path, inside: str, *, is_folder: bool) -> None:
        here = bottom
        parts = inside_path(inside).strip("/").split("/")
        for position, part in enumerate(parts):
            here /= part
            if here.exists():
                continue
            if is_folder or position < len(parts) - 1:
                self._folder(here)
            else:
                here.touch(0o644)
                self._settle(here)
            self.ours.add("/".join(parts[: position + 1]))


def _read(found: Found) -> bytes | None:
    """Give a file's bytes, unless they are too many."""
    if os.path.getsize(found.outside) > LARGEST_BUNDLE:
        return None
    return Path(found.outside).read_bytes()
