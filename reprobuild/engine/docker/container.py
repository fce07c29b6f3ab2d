"""How a container is asked of a daemon, so that a command sees the world of ``docs/sandbox.md`` in it.

Two dialects: Docker's API, and Podman's own, since its Docker-compatible one takes no system call filter
but from a file of its machine, and makes ``/etc/hosts`` by itself. Knows nothing of what they are for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from reprobuild.engine import world
from reprobuild.engine.docker.profile import profile
from reprobuild.value import NOTHING, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from reprobuild.engine.docker.daemon import Daemon

MOST_PROCESSES = 8192
"""Podman wants more than a container around it may have, unless it is told; root's are not counted."""

INITS = ("/sbin/docker-init", "/run/podman-init")
"""Where daemons mount the program that is pid 1."""

GPU_HINT = (
    "on the daemon's machine: install the NVIDIA Container Toolkit, then for Docker "
    "nvidia-ctk runtime configure, for Podman nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
)

_PODMAN_API = "v4.0.0/libpod"
_SYSTEM = "/sys/devices/system"
_PARTS_OF_SYS = {
    "/sys": "block bus class dev devices firmware fs hypervisor kernel module power",
    "/sys/devices": "LNXSYSTM:00 breakpoint faux ibmebus isa kprobe msr pci0000:00 platform pnp0 software "
    "system tracepoint uprobe virtual",
    _SYSTEM: "clockevents clocksource container cpu edac machinecheck memory node xen_memory",
}
"""What Linux has there; a daemon elsewhere may have other hardware than this machine."""

SHELL = "/bin/sh"
NAMED = "HOSTNAME"
_UNWANTED = (NAMED, "TERM", "container")
"""Variables that daemons add of their own accord."""

_PRELUDE = """
unset SHLVL OLDPWD _ {unwanted}
[ ! -x /bin/rm ] || /bin/rm -f {strange} 2>/dev/null || :
"""
"""Run by the tree's shell, where it has one, before it becomes the command: takes away what shells and
daemons leave in every world."""

_BECOME = 'exec "$@"'
_ATTEND = """
exec 3<&0
trap : HUP INT TERM
"$@" <&3 3<&- {joined} &
exec 3<&-
wait $!
"""
"""Stands in for an init where the daemon has none: takes orphans in, and ends with the command."""

_JOINED = "2>&1"
"""Output and errors are one stream: two would come in any order."""


class Asked(Value):
    """A container as it is wanted."""

    name: str
    image: str
    argv: Sequence[str]
    env: Mapping[str, str]
    workdir: str
    labels: Mapping[str, str]
    terminal: bool = False
    stdin: bool = False
    writable: bool = True
    memory: int | None = None
    limits_memory: bool = True
    """Whether the daemon can; else each process is limited by itself."""
    has_init: bool = True
    """Whether the daemon has an init to be pid 1."""
    has_shell: bool = True
    """Whether the tree has a shell to come before the command."""
    strange: Sequence[str] = ()
    """Files that daemons make, as far as the tree has none of the name."""
    is_joined: bool = True
    """Whether output and errors are one stream."""
    network: str = ""
    """The container whose network it shares; empty: it has one of its own, that leads nowhere."""
    capabilities: Sequence[str] = ()
    more: Mapping[str, str] = NOTHING
    """Labels beside."""
    gpus: Sequence[str] = ()
    """UUIDs of GPUs that it may use: nodes and the driver's libraries come from NVIDIA's own runtime."""


def create(daemon: Daemon, asked: Asked) -> None:
    """Have a daemon make a container. Raises ``docker.errors.APIError``."""
    if daemon.is_podman:
        daemon.ask("POST", "/containers/create", api=_PODMAN_API, json=for_podman(asked))
    else:
        config = for_docker(asked, daemon.platform.partition("/")[2])
        daemon.client.create_container_from_config(config, asked.name)


def masked_of_sys() -> list[str]:
    """Give all of ``/sys`` that is not shown: as far as it is known, of this machine's too."""
    found = []
    shown = [f"/sys/{name}" for name in world.SYS_SHOWN]
    for folder, names in _PARTS_OF_SYS.items():
        own = [name for name in _names(folder) if os.path.isdir(f"{folder}/{name}")]
        paths = sorted({f"{folder}/{name}" for name in (*names.split(), *own)})
        found += [path for path in paths if not any(f"{one}/".startswith(f"{path}/") for one in shown)]
    return found


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def for_docker(asked: Asked, architecture: str) -> dict[str, Any]:
    """Write it as Docker's API has it (``POST /containers/create``)."""
    env = [f"{name}={value}" for name, value in asked.env.items()]
    # A name alone takes the daemon's variable away.
    env += [name for name in _UNWANTED if name not in asked.env]
    limits = [{"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in _limits(asked).items()]
    host: dict[str, Any] = {
        "NetworkMode": f"container:{asked.network}" if asked.network else "none",
        "Init": asked.has_init,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "ShmSize": world.SHM_SIZE,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true", f"seccomp={profile(architecture)}"],
        "MaskedPaths": [*(f"/proc/{name}" for name in world.PROC_MASKED), *masked_of_sys()],
        "ReadonlyPaths": [f"/proc/{name}" for name in world.PROC_READ_ONLY],
        "ReadonlyRootfs": not asked.writable,
        "Ulimits": limits,
        "LogConfig": {"Type": "none"},
    }
    if asked.capabilities:
        host["CapAdd"] = list(asked.capabilities)
    own: dict[str, Any] = {}
    if not asked.network:
        host["Sysctls"] = _SYSCTLS
        # Without it Docker makes /etc/hosts and /etc/resolv.conf of its own. Who shares this network
        # has neither of Docker's either, and the same host name.
        own = {"NetworkDisabled": True, "Hostname": world.HOSTNAME}
    if asked.memory is not None and asked.limits_memory:
        host |= {"Memory": asked.memory, "MemorySwap": asked.memory}
    if asked.gpus:
        wanted = [["gpu", "compute", "utility"]]
        host["DeviceRequests"] = [{"Driver": "nvidia", "DeviceIDs": list(asked.gpus), "Capabilities": wanted}]
    return {
        "Image": asked.image,
        "Entrypoint": [],
        "Cmd": list(_argv(asked)),
        "User": "0:0",
        "WorkingDir": asked.workdir,
        "Env": env,
        "AttachStdout": True,
        "AttachStderr": True,
        "AttachStdin": asked.stdin,
        "OpenStdin": asked.stdin,
        "StdinOnce": asked.stdin,
        "Tty": asked.terminal,
        "Labels": {**asked.labels, **asked.more},
        "HostConfig": host,
        **own,
    }


def for_podman(asked: Asked) -> dict[str, Any]:
    """Write it as Podman's API has it (``POST /libpod/containers/create``); the image brings the filter."""
    limits = _limits(asked) | {"nproc": (MOST_PROCESSES, MOST_PROCESSES)}
    spec: dict[str, Any] = {
        "name": asked.name,
        "image": asked.image,
        "entrypoint": [],
        "command": list(_argv(asked)),
        "hostname": world.HOSTNAME,
        "user": "0:0",
        "work_dir": asked.workdir,
        "env": dict(asked.env),
        "unsetenv": [name for name in _UNWANTED if name not in asked.env],
        "env_host": False,
        "httpproxy": False,
        "netns": {"nsmode": "container", "value": asked.network} if asked.network else {"nsmode": "none"},
        "use_image_hosts": True,
        "use_image_resolve_conf": True,
        "manage_password": False,
        "ipcns": {"nsmode": "private"},
        "cgroupns": {"nsmode": "private"},
        "shm_size": world.SHM_SIZE,
        "cap_drop": ["ALL"],
        "no_new_privileges": True,
        "seccomp_policy": "image",
        "mask": [*(f"/proc/{name}" for name in world.PROC_MASKED), *masked_of_sys()],
        "read_only_filesystem": not asked.writable,
        "r_limits": [
            {"type": name.upper(), "soft": soft, "hard": hard} for name, (soft, hard) in limits.items()
        ],
        "log_configuration": {"driver": "none"},
        "init": asked.has_init,
        "stdin": asked.stdin,
        "terminal": asked.terminal,
        "sysctl": {} if asked.network else _SYSCTLS,
        "labels": {**asked.labels, **asked.more},
    }
    if asked.capabilities:
        spec["cap_add"] = list(asked.capabilities)
    if asked.memory is not None and asked.limits_memory:
        spec["resource_limits"] = {"memory": {"limit": asked.memory, "swap": asked.memory}}
    if asked.gpus:  # by their names in the Container Device Interface
        spec["devices"] = [{"path": f"nvidia.com/gpu={gpu}"} for gpu in asked.gpus]
    return spec


_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "1024", "net.ipv4.ping_group_range": "1 0"}
"""As a new network namespace has them; Docker gives others."""


def _limits(asked: Asked) -> dict[str, tuple[int, int]]:
    limits = {"core": (0, 0), "nofile": world.OPEN_FILES}
    if asked.memory is not None and not asked.limits_memory:
        limits["data"] = (asked.memory, asked.memory)
    return limits


def _argv(asked: Asked) -> Sequence[str]:
    if not asked.has_shell:
        return asked.argv
    joined = _JOINED if asked.is_joined else ""
    text = _PRELUDE.format(unwanted="" if NAMED in asked.env else NAMED, strange=" ".join(asked.strange))
    text += f"{_BECOME} {joined}" if asked.has_init else _ATTEND.format(joined=joined)
    return (SHELL, "-c", text, "sh", *asked.argv)
