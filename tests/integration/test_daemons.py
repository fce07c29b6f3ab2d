"""The daemons that other tests talk to: each answers, runs a container, and has what was loaded."""

from __future__ import annotations

import io

import pytest

from reprobuild.images.export import write_archive
from tests.daemons import Docker
from tests.images import Sample, sample_image
from tests.require import program

TAG = "models/daemon:1.0-0123456789ab"


@pytest.fixture(scope="module")
def sample() -> Sample:
    program("ldd")
    return sample_image(("cat",))


def test_a_daemon_runs_a_container_of_a_loaded_image(daemon: Docker, sample: Sample) -> None:
    out = io.BytesIO()
    write_archive(sample.image, sample.read_layer, sample.open_blob, out, tag=TAG, docker=True)
    daemon("load", input=out.getvalue())
    assert daemon("run", "--rm", "--network", "none", TAG, "cat", "/app/changed") == "new"
    assert (
        daemon("image", "inspect", "--format", "{{.Id}}", TAG).strip().removeprefix("sha256:")
        == sample.image.image_id.hex
    )
    assert daemon("ps", "--all", "--quiet") == ""


def test_docker_over_tls_wants_a_certificate_of_its_client(docker_over_tls: Docker) -> None:
    bare = Docker(docker_over_tls.client, docker_over_tls.folder, docker_over_tls.host)
    assert docker_over_tls.answers()
    assert not bare.answers()
