"""What a machine has of NVIDIA's: its GPUs, their nodes in ``/dev``, and the driver's libraries.

The libraries have to fit the kernel's module, so no image can bring them: they are found where the
machine's own linker finds them, or in the usual folders. What the GPUs are is asked of the driver. Knows
nothing of how any of it gets into a sandbox.
"""

from __future__ import annotations

import json
import os
import re
import stat
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from reprobuild.engine.protocol import Command, Gpu
from reprobuild.errors import EngineError
from reprobuild.process import run_program
from reprobuild.value import NOTHING, Value, replace

CUDA = "libcuda.so.1"
INSIDE = "/usr/local/nvidia/lib64"
"""Where commands find the driver's libraries; images made for NVIDIA's runtime name it to the linker, too."""
LINKER_PATH = "LD_LIBRARY_PATH"

NEEDED = ("nvidiactl", "nvidia-uvm")
WELCOME = ("nvidia-uvm-tools",)
"""Nodes beside those of the GPUs: what the CUDA driver needs, and what it uses where it is there."""

FOLDERS = (
    "/usr/lib/{machine}-linux-gnu",  # Debian, Ubuntu
    "/usr/lib/{machine}-linux-gnu/nvidia/current",
    "/usr/lib64",  # Fedora, SUSE
    "/usr/lib64/nvidia",
    "/usr/lib",  # Arch
    "/usr/local/nvidia/lib64",  # inside NVIDIA's containers, and on nodes of Kubernetes
    "/run/opengl-driver/lib",  # NixOS
)

PATIENCE = 60.0
"""Seconds for the driver's answer: without its persistence daemon it starts each GPU for the question."""

_LIBRARY = re.compile(r"lib(cuda|cudadebugger|nvidia-(?!container)[a-z0-9-]+)\.so\.[0-9.]+")
_CACHED = re.compile(r"\s*(\S+) \([^)]*\) => (\S+)")
_VERSION = re.compile(r"Module\D*(?:for \S+\s+)?(\d+(?:\.\d+)+)")
_MINOR = re.compile(r"^Device Minor:\s*(\d+)", re.MULTILINE)
_LDCONFIG = "/sbin/ldconfig"
_ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
_NO_GPU = "leave --device out, where the predictor can use the CPU"


class Given(Value):
    """What commands need of the machine to use GPUs."""

    nodes: Mapping[str, Path] = NOTHING
    """Path inside → node here."""
    libraries: Mapping[str, Path] = NOTHING
    """Name in ``folder`` → file here."""
    folder: str = INSIDE
    """Where the libraries are inside."""


class Machine:
    """A machine's GPUs; asked for when first needed, and then remembered."""

    def __init__(
        self,
        root: Path = Path("/"),
        environment: Mapping[str, str] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """``root``: where its file system begins; ``environment``: None: this process's own; ``patience``:
        seconds for the driver's answer."""
        self._root = root
        self._environment = os.environ if environment is None else environment
        self._patience = patience
        self._found: list[tuple[Gpu, str]] = []
        """Each GPU with its place on the bus."""

    def gpu(self, number: str) -> Gpu:
        """Tell of a GPU. Raises EngineError, with the reason, where it can't be used."""
        return self._look_up(number)[0]

    def gpus(self) -> list[Gpu]:
        """Tell of all GPUs; none without a driver of NVIDIA's. Raises EngineError for one that fails."""
        if self._has_driver():
            self._look_up("0")
        return [gpu for gpu, _ in self._found]

    def give(self, numbers: tuple[str, ...], owner: int | None = None) -> Given:
        """Find what has to be shown to commands that use GPUs.

        ``owner``: the uid that they run as, if it is another than the caller's. Raises EngineError as
        ``gpu`` does, and for a node that they could not open.
        """
        if not numbers:
            return Given()
        found = [self._look_up(number) for number in numbers]
        # Only now: asking the driver makes nodes that are missing.
        nodes = {f"/dev/{name}": self._node(name) for name in NEEDED}
        for gpu, bus in found:
            name = f"nvidia{self._minor(gpu, bus)}"
            nodes[f"/dev/{name}"] = self._node(name)
        for inside, node in nodes.items():
            if not _may_open(node, owner):
                raise EngineError(
                    f"{inside} can't be opened by whom commands run as",
                    f"give it to all (as root: chmod 0666 {inside}), or call reprobuild as a user who may",
                )
        for name in WELCOME:
            path = self._root / "dev" / name
            if _is_device(path) and _may_open(path, owner):
                nodes[f"/dev/{name}"] = path.resolve()
        return Given(nodes, self.libraries())

    def libraries(self) -> dict[str, Path]:
        """Give the driver's libraries, by the names by which programs load them.

        Those beside ``libcuda.so.1`` first: one version of a driver, not parts of two. Raises EngineError
        where that one is not found.
        """
        known = dict(self._cached())
        places = (known.get(CUDA), *(folder / CUDA for folder in self._folders()))
        cuda = next((place for place in places if place is not None and self._fits(place)), None)
        if cuda is None:
            raise EngineError(
                f"the library of NVIDIA's driver ({CUDA}) is not on this machine",
                f"install the driver with its libraries (Debian: libcuda1), or {_NO_GPU}",
            )
        beside = {path.name: path for path in sorted(cuda.parent.iterdir())}
        return {
            name: path.resolve()
            for name, path in {**known, **beside, CUDA: cuda}.items()
            if _LIBRARY.fullmatch(name) and self._fits(path)
        }

    def _look_up(self, number: str) -> tuple[Gpu, str]:
        if not self._found:
            self._found = list(self._ask())
        if not number.isdecimal() or int(number) >= len(self._found):
            there = ", ".join(f"{gpu.number} ({gpu.name})" for gpu, _ in self._found)
            raise EngineError(
                f"there is no GPU {number} here, but {there}", f"name one of those, or {_NO_GPU}"
            )
        return self._found[int(number)]

    def _ask(self) -> Iterator[tuple[Gpu, str]]:
        if not self._has_driver():
            raise EngineError(
                "there is no GPU here that can be used: no driver of NVIDIA's is loaded (/dev/nvidiactl)",
                f"go to a machine that has one (reprobuild doctor names them), or {_NO_GPU}",
            )
        library = self.libraries()[CUDA]
        program = str(Path(__file__).with_name("ask_driver.py"))
        # As ``nvidia-smi`` counts them, unless the user, or a cluster's scheduler, has said otherwise.
        env = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **self._environment}
        try:
            ended = run_program([sys.executable, "-IS", program, str(library)], env=env, limit=self._patience)
            answer = json.loads(ended.output or b"null")
        except (OSError, ValueError) as error:
            raise _silent(str(error)) from error
        if not isinstance(answer, dict):
            last = ended.messages.decode(errors="replace").strip().splitlines()[-1:]
            raise _silent(last[0] if last else f"it ended the program that asked, with {ended.code}")
        if "error" in answer:
            raise _silent(str(answer["error"]))
        if not answer["gpus"]:
            raise EngineError("NVIDIA's driver knows no GPU that this process may use", _NO_GPU)
        version = self._version()
        for number, one in enumerate(answer["gpus"]):
            yield Gpu(str(number), one["capability"], one["name"], one["uuid"], version), one["bus"]

    def _has_driver(self) -> bool:
        return any((self._root / place).exists() for place in ("dev/nvidiactl", "proc/driver/nvidia"))

    def _version(self) -> str:
        plain = _read(self._root / "sys/module/nvidia/version").strip()
        if plain:
            return plain
        found = _VERSION.search(_read(self._root / "proc/driver/nvidia/version"))
        return found[1] if found else ""

    def _minor(self, gpu: Gpu, bus: str) -> str:
        """Give the number of a GPU's node, which is not always the one that it is counted by."""
        found = _MINOR.search(_read(self._root / "proc/driver/nvidia/gpus" / bus.lower() / "information"))
        return found[1] if found else gpu.number

    def _node(self, name: str) -> Path:
        path = self._root / "dev" / name
        if not _is_device(path):
            raise EngineError(
                f"NVIDIA's driver has no node /dev/{name} here", "as root: nvidia-modprobe -u -c 0; or reboot"
            )
        return path.resolve()

    def _cached(self) -> Iterator[tuple[str, Path]]:
        """Give what the machine's linker knows of the driver's libraries."""
        cache = self._root / "etc/ld.so.cache"
        if not cache.exists():
            return
        try:
            ended = run_program(
                [_LDCONFIG, "-p", "-C", str(cache)], env={"LC_ALL": "C"}, limit=self._patience
            )
        except OSError:  # systems that keep it elsewhere have their folders below
            return
        for line in ended.output.decode(errors="replace").splitlines():
            found = _CACHED.match(line)
            if found and _LIBRARY.fullmatch(found[1]) and self._fits(path := self._here(found[2])):
                yield found[1], path

    def _folders(self) -> Iterator[Path]:
        for folder in self._environment.get(LINKER_PATH, "").split(":"):
            if folder.startswith("/"):
                yield Path(folder)
        for folder in FOLDERS:
            yield self._here(folder.format(machine=os.uname().machine))

    def _here(self, path: str) -> Path:
        place = Path(path)
        return place if place.is_relative_to(self._root) else self._root / path.lstrip("/")

    def _fits(self, path: Path) -> bool:
        """Tell whether a file is a library for this processor (ELF-64, System V ABI: e_ident, e_machine)."""
        try:
            with open(path, "rb") as file:
                head = file.read(20)
        except OSError:
            return False
        if len(head) < 20 or head[:6] != b"\x7fELF\x02\x01":
            return False
        (machine,) = struct.unpack_from("<H", head, 18)
        return bool(machine == _ELF_MACHINES.get(os.uname().machine))


def told_where(command: Command) -> Command:
    """Tell a command's linker where the driver's libraries are, before all that the image names to it."""
    if not command.devices:
        return command
    path = ":".join(filter(None, (INSIDE, command.env.get(LINKER_PATH, ""))))
    return replace(command, env={**command.env, LINKER_PATH: path})


def _silent(why: str) -> EngineError:
    return EngineError(f"NVIDIA's driver does not answer: {why}", f"see what nvidia-smi says; or {_NO_GPU}")


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False


def _may_open(node: Path, owner: int | None) -> bool:
    """Tell whether whoever runs commands may read and write a node."""
    if owner is None:
        return os.access(node, os.R_OK | os.W_OK)
    about = node.stat()
    return about.st_mode & 0o006 == 0o006 or about.st_uid == owner


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
