"""What other tools make of our images: skopeo, Docker, podman."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprobuild.images.export import export_archive, export_layout, write_archive
from tests.daemons import Docker
from tests.images import CAPABILITY, FIND, Sample, found_line, sample_image
from tests.require import program, require
from tests.servers import docker_registry, run, short_folder, skopeo

TAG = "models/sample:1.0-0123456789ab"


@pytest.fixture(scope="module")
def sample() -> Sample:
    program("ldd")
    return sample_image(("find", "cat", "env"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with docker_registry(tmp_path) as address:
        yield address


@pytest.fixture(scope="module")
def exported(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the image in all forms."""
    folder = tmp_path_factory.mktemp("exported")
    export_layout(sample.image, sample.read_layer, sample.open_blob, folder / "layout", tag=TAG)
    for name, docker in (("oci.tar", False), ("docker.tar", True)):
        export_archive(
            sample.image, sample.read_layer, sample.open_blob, folder / name, tag=TAG, docker=docker
        )
    return folder


@pytest.mark.parametrize(
    "source",
    ["oci:{}/layout", f"oci:{{}}/layout:{TAG}", "oci-archive:{}/oci.tar", "oci-archive:{}/docker.tar"],
    ids=["folder", "folder and tag", "archive", "docker archive as layout"],
)
def test_skopeo_finds_the_image(source: str, sample: Sample, exported: Path) -> None:
    found = json.loads(skopeo("inspect", source.format(exported)))
    assert found["Digest"] == str(sample.image.manifest_digest)
    assert found["Layers"] == [str(layer.diff_id) for layer in sample.image.layers]
    assert found["Created"] == "1980-01-02T00:00:00Z"
    assert 'WITH=a "quoted" = value' in found["Env"]
    raw = skopeo("inspect", "--raw", "--config", source.format(exported))
    assert raw.encode() == sample.image.config


def test_skopeo_reads_the_docker_archive(sample: Sample, exported: Path) -> None:
    raw = skopeo("inspect", "--raw", "--config", f"docker-archive:{exported}/docker.tar")
    assert raw.encode() == sample.image.config


@pytest.mark.parametrize("source", ["oci:{}/layout", "docker-archive:{}/docker.tar"])
def test_skopeo_copies_layers_byte_for_byte(
    source: str, sample: Sample, exported: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copied"
    skopeo("copy", source.format(exported), f"dir:{target}")
    for layer in sample.image.layers:
        assert (target / layer.diff_id.hex).stat().st_size == layer.size
    assert (target / sample.image.image_id.hex).read_bytes() == sample.image.config


def test_skopeo_pushes_the_layout_and_the_image_id_stays(
    sample: Sample, exported: Path, registry: str
) -> None:
    target = f"docker://{registry}/{TAG}"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{exported}/layout", target)
    raw = skopeo("inspect", "--raw", "--config", "--tls-verify=false", target)
    assert raw.encode() == sample.image.config
    manifest = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", target))
    assert manifest["config"]["digest"] == str(sample.image.image_id)
    assert manifest["annotations"]["org.opencontainers.image.title"] == "sample"


def test_docker_loads_the_archive_under_our_image_id(sample: Sample, exported: Path, docker: Docker) -> None:
    loaded = docker("load", "--input", str(exported / "docker.tar"))
    assert TAG in loaded
    (found,) = json.loads(docker("image", "inspect", TAG))
    assert found["Id"] == str(sample.image.image_id)
    assert found["RootFS"]["Layers"] == [str(layer.diff_id) for layer in sample.image.layers]
    assert found["Config"]["WorkingDir"] == "/app"
    assert json.loads(found["Config"]["Labels"]["org.reprobuild.predictors"]) == {
        "default": {"command": "cat {input} > {output}"}
    }
    assert docker("history", "--format", "{{.CreatedBy}}", TAG).split() == ["reprobuild"] * 3


def test_docker_loads_a_stream(sample: Sample, docker: Docker) -> None:
    out = io.BytesIO()
    write_archive(sample.image, sample.read_layer, sample.open_blob, out, tag="models/piped:1", docker=True)
    docker("load", input=out.getvalue())
    assert docker("image", "inspect", "--format", "{{.Id}}", "models/piped:1").strip() == str(
        sample.image.image_id
    )


OF_THE_ENGINE = ("/.dockerenv", "/dev", "/etc", "/proc", "/sys")


def test_a_container_has_the_files_of_the_tree(sample: Sample, exported: Path, docker: Docker) -> None:
    docker("load", "--input", str(exported / "docker.tar"))
    printed = docker("run", "--rm", "--network", "none", TAG, *FIND).splitlines()
    found = [line for line in printed if not line.split(" ")[5].startswith(OF_THE_ENGINE)]
    assert sorted(found) == sorted(map(found_line, sample.tree))


def test_a_container_has_the_bytes_and_the_environment(exported: Path, docker: Docker) -> None:
    docker("load", "--input", str(exported / "docker.tar"))
    command = ["run", "--rm", "--network", "none", TAG]
    assert docker(*command, "cat", "changed", "becomes-a-file", "link") == "newa file nowgrüße"
    variables = set(docker(*command, "env").splitlines())
    assert {line for line in variables if not line.startswith("HOSTNAME=")} == {
        "PATH=/usr/bin",
        "HOME=/root",
        "TZ=UTC",
        'WITH=a "quoted" = value',
    }


def test_docker_keeps_capabilities(exported: Path, docker: Docker) -> None:
    docker("load", "--input", str(exported / "docker.tar"))
    (found,) = json.loads(docker("image", "inspect", TAG))
    data = found["GraphDriver"]["Data"]
    folders = [data.get("UpperDir", ""), *data.get("LowerDir", "").split(":")]
    pings = [Path(folder, "app/ping") for folder in folders if folder and Path(folder, "app/ping").exists()]
    if not pings:
        pytest.skip("this daemon keeps layers elsewhere than in folders")
    assert os.getxattr(pings[0], "security.capability") == CAPABILITY


def test_podman_loads_the_archive_under_our_image_id(sample: Sample, exported: Path) -> None:
    podman = str(program("podman"))
    require("podman", "" if os.geteuid() == 0 else "podman needs root, or a range of uids")
    with short_folder() as folder:
        command = [
            podman,
            "--root",
            f"{folder}/root",
            "--runroot",
            f"{folder}/run",
            "--storage-driver",
            "vfs",
        ]
        run([*command, "load", "--input", str(exported / "docker.tar")])
        found = run([*command, "image", "inspect", "--format", "{{.Id}}", TAG])
    assert found.strip() == sample.image.image_id.hex
