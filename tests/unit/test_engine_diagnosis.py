from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from reprobuild.engine.diagnosis import explain, is_container, kernel_version

DENIED = "No permissions to create a new namespace, likely because the kernel does not allow it"

MACHINES = {
    "none allowed": (
        {"proc/sys/user/max_user_namespaces": "0\n"},
        "user.max_user_namespaces is 0",
        "sysctl -w user.max_user_namespaces=",
    ),
    "Debian": (
        {"proc/sys/user/max_user_namespaces": "9\n", "proc/sys/kernel/unprivileged_userns_clone": "0\n"},
        "for root alone",
        "sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    "Ubuntu 24.04": (
        {"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
        "AppArmor",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    "Docker": ({".dockerenv": ""}, "container denies user namespaces", "--security-opt seccomp=unconfined"),
    "podman": ({"run/.containerenv": ""}, "container denies user namespaces", "--security-opt"),
    "nothing known": ({}, "user namespaces are denied", "ask who runs this machine"),
}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("container", raising=False)
    return tmp_path


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


@pytest.mark.parametrize(("files", "why", "mend"), MACHINES.values(), ids=MACHINES)
def test_denied_namespaces_are_explained(machine: Path, files: dict[str, str], why: str, mend: str) -> None:
    write(machine, files)
    message, hint = explain(DENIED, machine, machine)
    assert why in message
    assert mend in hint


def test_a_network_file_system_can_not_be_written_to(machine: Path) -> None:
    scratch = machine / "home/ada/store/tmp"
    write(machine, {"proc/self/mounts": f"/dev/a / ext4 rw 0 0\nserver:/x {machine}/home nfs4 rw 0 0\n"})
    message, hint = explain("Can't make overlay mount on /newroot/: Invalid argument", scratch, machine)
    assert f"can't lie on nfs4 ({scratch})" in message
    assert "REPROBUILD_SCRATCH" in hint


def test_hidden_parts_of_proc_are_a_containers(machine: Path) -> None:
    message, hint = explain("Can't mount proc on /newroot/proc: Operation not permitted", machine, machine)
    assert "hidden" in message
    assert "systempaths=unconfined" in hint


def test_another_failure_is_told_as_it_is(machine: Path) -> None:
    assert explain("out of luck", machine, machine) == ("out of luck", "")


def test_a_container_is_known_by_its_environment_too(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_container(machine)
    monkeypatch.setenv("container", "lxc")
    assert is_container(machine)


RELEASES = {
    "6.18.44-fc-v595": (6, 18),
    "5.10.0-28-amd64": (5, 10),
    "4.18.0-553.el8_10.x86_64": (4, 18),
    "5.15-rc1": (5, 15),
    "strange": (0, 0),
}


@pytest.mark.parametrize(("release", "version"), RELEASES.items(), ids=RELEASES)
def test_the_version_of_a_kernel_is_read(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version
