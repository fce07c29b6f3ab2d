"""A Dockerfile that fetches: from it to a prediction, rebuilt offline, with the files of docker build."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemons import Docker
from tests.dockerfiles import built_by_docker, busybox_archive, files_of, make_project, write_context
from tests.projects import Project, require_sandbox
from tests.require import require

ADDRESS = "127.0.0.77"
"""Of the loopback network, so that port 80 is nobody else's."""
HOST = f"files.test:{ADDRESS}"

DOCKERFILE = """\
FROM scratch
ADD root.tar /
ENV DATA=/data
WORKDIR $DATA
RUN wget -q -O weights.bin http://files.test/weights.bin && wget -q http://files.test/vocab.txt
RUN wget -q -O - http://files.test/list.txt | tr a-z A-Z > upper.txt
COPY run.sh /app/run.sh
RUN cat weights.bin $DATA/vocab.txt > /app/both && mkdir -p /app/out
WORKDIR /app
CMD ["sh", "run.sh"]
"""
SERVED = {"weights.bin": bytes(range(256)) * 9, "vocab.txt": b"one\ntwo\n", "list.txt": b"first\nsecond\n"}


@contextmanager
def upstream(folder: Path) -> Iterator[None]:
    """Serve the files at port 80 of an address of their own."""
    folder.mkdir()
    for name, body in SERVED.items():
        (folder / name).write_bytes(body)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    try:
        server = http.server.ThreadingHTTPServer(
            (ADDRESS, 80), functools.partial(Quiet, directory=str(folder))
        )
    except OSError as error:
        require("port 80", f"{ADDRESS}:80: {error.strerror}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reaching(project: Project) -> Project:
    """Give the project with a way to the upstream."""
    settings = {"REPROBUILD_CONNECT_TO": f"files.test:80:{ADDRESS}:80", "REPROBUILD_ALLOW_PRIVATE": ADDRESS}
    return Project(project.folder, project.store, {**project.environment, **settings})


def predicts(project: Project) -> bool:
    """Tell whether the recipe's predictor answers."""
    ended = project.call("predict", "made", "--input", "-", "--output", "-", stdin='{"text": "abc"}\n')
    return ended.out == '{"text":"abc"}\n'


@pytest.mark.parametrize("way", ["drafted", "as it is"])
def test_from_a_dockerfile_to_a_prediction_and_again_offline(
    way: str, tmp_path: Path, docker: Docker
) -> None:
    require_sandbox(tmp_path / "trial")
    context = tmp_path / "context"
    files: dict[str, str | bytes | None] = {
        "root.tar": busybox_archive(tmp_path / "busybox"),
        "run.sh": "echo hi\n",
    }
    write_context(context, DOCKERFILE, files)
    if way == "drafted":
        (tmp_path / "project").mkdir()
        (tmp_path / "project" / "reprobuild.toml").write_text("")
        project = reaching(Project(tmp_path / "project", tmp_path / "project" / "store"))
        said = project.call("new", "made", "--from-dockerfile", str(context / "Dockerfile")).out
        assert "line 6: | hides a failure of: wget -q -O - http://files.test/list.txt" in said
        recipe = (project.folder / "recipes" / "made" / "recipe.py").read_text()
        assert 'url("http://files.test/weights.bin", to="/data/weights.bin")' in recipe
    else:
        fields = 'inputs={"text": str}, outputs={"text": str}'
        predictor = f'predictors={{"default": predictor("cp {{input}} {{output}}", {fields})}}'
        project = reaching(make_project(tmp_path / "project", context, {}))
        path = project.folder / "recipes" / "made" / "recipe.py"
        text = path.read_text().replace("import dockerfile", "import dockerfile, predictor")
        path.write_text(text.replace("args={}))", f"args={{}}), {predictor})"))
    with upstream(tmp_path / "served"):
        project.call("lock", "made")
        expected = built_by_docker(docker, context, network="host", host=HOST)
    assert files_of(project) == expected
    assert predicts(project)
    image = project.call("realize", "made", "--json").json["image_id"]

    fresh = Project(project.folder, tmp_path / "fresh", project.environment)
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "served", kept)
    fresh.call("import", *map(str, sorted(kept.iterdir())))
    assert fresh.call("realize", "made", "--offline", "--json").json["image_id"] == image
