"""What the docker engine is made of, without a daemon: frames, archives in and out, the filter's profile."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.engine import seccomp
from reprobuild.engine.docker.container import Asked, for_docker, for_podman, masked_of_sys
from reprobuild.engine.docker.inputs import NOBODY, archive, size_of
from reprobuild.engine.docker.outputs import unpack
from reprobuild.engine.docker.profile import profile
from reprobuild.engine.docker.streams import Frames
from reprobuild.engine.trust import OnTop
from reprobuild.errors import BuildFailedError, EngineError
from reprobuild.images.archive import ArchiveError
from reprobuild.value import replace
from tests.archives import END, member, symlink, tar

# Streams.


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40))), st.integers(1, 17))
def test_frames_come_out_whatever_pieces_they_come_in(sent: list[tuple[int, bytes]], size: int) -> None:
    stream = b"".join(struct.pack(">BxxxL", number, len(data)) + data for number, data in sent)
    frames, got = Frames(), dict[int, bytes]()
    for start in range(0, len(stream), size):
        for number, data in frames.feed(stream[start : start + size]):
            got[number] = got.get(number, b"") + data
    expected = {number: b"".join(data for one, data in sent if one == number) for number in (1, 2)}
    assert {number: got.get(number, b"") for number in (1, 2)} == expected


# What goes in.


def members(folder: Path) -> dict[str, tarfile.TarInfo]:
    stream = io.BytesIO(b"".join(archive(["made"], {"etc/x": OnTop(b"fixed")}, {"in": folder})))
    with tarfile.open(fileobj=stream) as opened:
        return {one.name: one for one in opened}


def test_inputs_are_nobodys_so_that_nobody_writes_to_them(tmp_path: Path) -> None:
    (tmp_path / "open").write_text("x")
    (tmp_path / "open").chmod(0o666)
    (tmp_path / "private").write_text("x")
    (tmp_path / "private").chmod(0o600)
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    tmp_path.chmod(0o755)
    found = members(tmp_path)
    assert set(found) == {"made", "etc/x", "in", "in/open", "in/private", "in/link"}
    assert (found["in/open"].uid, found["in/open"].mode) == (NOBODY, 0o664)
    assert (found["in/private"].uid, found["in/private"].mode) == (0, 0o600)
    assert found["in"].uid == NOBODY
    assert found["in/link"].linkname == "/etc/passwd"
    assert size_of(tmp_path) == 2 + len("/etc/passwd")


def test_an_input_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="absent"):
        list(archive([], {}, {"in": tmp_path / "absent"}))


# What comes out.


def test_plain_files_and_folders_come_out(tmp_path: Path) -> None:
    hard = member("out/second", tarfile.LNKTYPE, "out/a")
    infos = [
        member("out/d", tarfile.DIRTYPE),
        symlink("out/l", "/etc/passwd"),
        member("out/f", tarfile.FIFOTYPE),
    ]
    unpack(io.BytesIO(tar({"out/a": b"one"}, infos=[*infos, hard])), tmp_path / "to")
    found = sorted(path.name for path in (tmp_path / "to").iterdir())
    assert found == ["a", "d", "second"]
    assert (tmp_path / "to" / "second").read_bytes() == b"one"


HOSTILE = {
    "upwards": (tar({"out/../../x": b"x"}), ArchiveError),
    "through a link of the host": (tar({"out/linked/x": b"x"}), OSError),
    "onto a link of the host": (tar({"out/file": b"x"}), OSError),
    "a second name of what is not there": (
        tar(infos=[member("out/h", tarfile.LNKTYPE, "out/none")]),
        OSError,
    ),
    "a second name of what is elsewhere": (
        tar(infos=[member("out/h", tarfile.LNKTYPE, "../x")]),
        ArchiveError,
    ),
    "far too deep": (tar({"out/" + "d/" * 300 + "x": b""}), BuildFailedError),
    "cut off": (tar({"out/x": b"x" * 5000})[:2048], ArchiveError),
    "no archive": (b"x" * 512 + END, ArchiveError),
}


@pytest.mark.parametrize(("stream", "error"), HOSTILE.values(), ids=HOSTILE)
def test_nothing_is_written_elsewhere(tmp_path: Path, stream: bytes, error: type[Exception]) -> None:
    to, precious = tmp_path / "to", tmp_path / "precious"
    to.mkdir()
    precious.mkdir()
    (precious / "file").write_text("precious")
    (to / "linked").symlink_to(precious)
    (to / "file").symlink_to(precious / "file")
    with pytest.raises(error):
        unpack(io.BytesIO(stream), to)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "to"]
    assert [path.read_text() for path in precious.iterdir()] == ["precious"]


# The filter, and how a container is asked for.


def test_the_profile_says_what_the_filter_says() -> None:
    found = json.loads(profile("amd64"))
    assert (found["defaultAction"], found["architectures"]) == ("SCMP_ACT_ALLOW", ["SCMP_ARCH_X86_64"])
    plain = {
        name: rule["errnoRet"] for rule in found["syscalls"] if not rule["args"] for name in rule["names"]
    }
    assert plain == {
        **dict.fromkeys(seccomp.OWNERSHIP, 0),
        **dict.fromkeys(seccomp.REFUSED, errno.EPERM),
        **dict.fromkeys(seccomp.ABSENT, errno.ENOSYS),
    }
    bits = {
        name: sum(one["args"][0]["value"] for one in found["syscalls"] if one["names"] == [name])
        for name in ("clone", "unshare")
    }
    assert bits == {"clone": seccomp.NEW_NAMESPACES_OF_CLONE, "unshare": seccomp.NEW_NAMESPACES}


def test_no_profile_for_what_has_no_table() -> None:
    with pytest.raises(KeyError):
        profile("riscv64")


ASKED = Asked("name", "image", ("true",), {"A": "b"}, "/", {"mark": "store"}, memory=64 << 20)


def test_a_container_is_cut_off_and_nothing_is_mounted_in_either_dialect() -> None:
    docker, podman = for_docker(ASKED, "amd64"), for_podman(ASKED)
    host = docker["HostConfig"]
    assert (host["NetworkMode"], docker["NetworkDisabled"]) == ("none", True)
    assert podman["netns"] == {"nsmode": "none"}
    assert not {"Binds", "Mounts", "VolumesFrom", "Privileged", "CapAdd", "Devices"} & set(host)
    assert not {"mounts", "volumes", "privileged", "cap_add", "devices"} & set(podman)
    assert "DeviceRequests" not in host
    assert host["CapDrop"] == podman["cap_drop"] == ["ALL"]
    assert host["Memory"] == host["MemorySwap"] == 64 << 20
    assert "HOSTNAME" in docker["Env"]
    assert "A=b" in docker["Env"]


def test_gpus_are_asked_for_by_their_uuids() -> None:
    asked = replace(ASKED, gpus=("GPU-1", "GPU-2"))
    requests = for_docker(asked, "amd64")["HostConfig"]["DeviceRequests"]
    wanted = [["gpu", "compute", "utility"]]
    assert requests == [{"Driver": "nvidia", "DeviceIDs": ["GPU-1", "GPU-2"], "Capabilities": wanted}]
    assert for_podman(asked)["devices"] == [
        {"path": "nvidia.com/gpu=GPU-1"},
        {"path": "nvidia.com/gpu=GPU-2"},
    ]


def test_who_shares_a_network_has_no_power_over_it() -> None:
    asked = replace(ASKED, network="other")
    docker, podman = for_docker(asked, "amd64"), for_podman(asked)
    host = docker["HostConfig"]
    assert (host["NetworkMode"], podman["netns"]) == (
        "container:other",
        {"nsmode": "container", "value": "other"},
    )
    # Docker takes none of these for it.
    assert not {"NetworkDisabled", "Hostname"} & set(docker) and "Sysctls" not in host
    assert "CapAdd" not in host and "cap_add" not in podman
    assert podman["sysctl"] == {}
    given = replace(ASKED, capabilities=("NET_ADMIN",))
    assert for_docker(given, "amd64")["HostConfig"]["CapAdd"] == for_podman(given)["cap_add"] == ["NET_ADMIN"]


def test_processors_are_not_masked() -> None:
    masked = masked_of_sys()
    assert "/sys/class" in masked
    for shown in (
        "/sys/devices",
        "/sys/devices/system",
        "/sys/devices/system/cpu",
        "/sys/devices/system/node",
    ):
        assert shown not in masked
