"""Dockerfiles: the files of an image are those that docker build gives."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from reprobuild.digest import Digest
from tests.daemons import Docker
from tests.dockerfiles import (
    BASE,
    built_by_docker,
    built_by_us,
    busybox_archive,
    make_project,
    write_context,
)
from tests.projects import require_sandbox


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    return busybox_archive(tmp_path_factory.mktemp("busybox"))


def archive(**files: str) -> bytes:
    """Give a gzipped tar archive."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as made:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(text)
            member.mode = 0o640
            made.addfile(member, io.BytesIO(text.encode()))
    return whole.getvalue()


FILES: Mapping[str, str | bytes | None] = {
    "a.txt": "a",
    "b.txt": "b",
    "run.sh": "#!/bin/sh\necho hi\n",
    "src/one.py": "1",
    "src/two.md": "2",
    "src/deep/three.py": "3",
    "src/deep/.hidden": "h",
    "link": "->a.txt",
    "folder-link": "->src",
    "src/up": "->../a.txt",
    "packed.tar.gz": archive(x="x", d__y="y"),
    "plain.gz": b"\x1f\x8bno archive",
}

CASES = {
    # The daemon leaves the points where it mounts behind; here they are there before.
    "mounts": (
        "FROM scratch AS other\nCOPY src /s\n"
        + BASE
        + "RUN mkdir -p /ctx /d /root/.cache /var/t\n"
        + "RUN --mount=type=cache,target=/root/.cache echo c > /root/.cache/x && ls /root/.cache > /seen\n"
        + "RUN --mount=target=/ctx --mount=type=bind,from=other,source=/s/deep,target=/d "
        + "cat /ctx/a.txt /d/three.py > /both && ls -a /d > /names\n"
        + "RUN --mount=type=tmpfs,target=/var/t echo 1 > /var/t/x && ls /var > /v\n"
    ),
    "homes": (
        BASE
        + "RUN chmod 1777 /tmp\nUSER guest\nRUN echo $HOME > /tmp/home\n"
        + "USER 1234\nRUN echo $HOME > /tmp/other\n"
        + "USER root\nRUN chown 0:0 /tmp/home /tmp/other\n"
    ),
    "a file to a name": ("FROM scratch\nCOPY a.txt /x/y\n"),
    "a file to a folder": ("FROM scratch\nCOPY a.txt /x/y/\n"),
    "a folder's contents": ("FROM scratch\nCOPY src /x\nCOPY src/ /z/\n"),
    "everything": ("FROM scratch\nCOPY . /all\n"),
    "globs": ("FROM scratch\nCOPY *.txt /x/\nCOPY src/d*/*.py src/t?o.md /y/\n"),
    "files into what is there": (
        "FROM scratch\nCOPY src /x\nCOPY a.txt /x\nCOPY b.txt /x/deep\nCOPY a.txt /x/one.py\n"
    ),
    "links in the context": (
        "FROM scratch\nCOPY link /x\nCOPY folder-link /y\nCOPY folder-link/one.py /z/\n"
    ),
    "modes and owners": ("FROM scratch\nCOPY --chown=12:34 src /x/y/\nCOPY --chown=5 a.txt /z/a\n"),
    "relative targets": (
        "FROM scratch\nWORKDIR /w/v\nCOPY a.txt .\nCOPY b.txt sub/\nWORKDIR ../u\nCOPY a.txt b\n"
    ),
    "archives": (
        "FROM scratch\nADD packed.tar.gz /x\nADD packed.tar.gz plain.gz /y/\nCOPY packed.tar.gz /z/\n"
    ),
    "variables": (
        'FROM scratch\nARG D=dir\nENV E="$D/e" F=${D:-x}${NONE:+y}\nWORKDIR /w/$E\nCOPY a.txt $F-\\$x/\n'
    ),
    "the exec form": ('FROM scratch\nCOPY ["a.txt", "b.txt", "/with blank/"]\n'),
    "stages": (
        "FROM scratch AS one\n"
        "COPY src /s\n"
        "COPY --chown=7:8 a.txt /s/\n"
        "FROM scratch AS two\n"
        "COPY b.txt /b\n"
        "FROM scratch\n"
        "COPY --from=one /s /t\n"
        "COPY --from=one /s/*.py /u/\n"
        "COPY --from=1 /b /v/\n"
    ),
    "a stage on a stage": (
        "FROM scratch AS one\nENV D=/d\nWORKDIR /w\nCOPY a.txt .\nFROM one\nCOPY b.txt .\nCOPY a.txt $D/\n"
    ),
    "commands": (
        BASE + 'RUN echo a > /a && mkdir -p /m/n && chmod 700 /m\nRUN ["/bin/sh", "-c", "echo $0 > /b"]\n'
    ),
    "variables of commands": (
        BASE + "ARG A=1\n"
        'ENV B="x y" PATH=/opt:$PATH\n'
        'RUN echo "$A $B $PATH $HOME $C" > /v\n'
        "ARG C=c\n"
        "ENV A=env\n"
        "RUN echo $A $C > /w\n"
        "FROM base\n"
        "ARG B\n"
        'RUN echo "$A|$B" > /x\n'
    ),
    "a shell": (BASE + 'SHELL ["/bin/sh", "-e", "-c"]\nRUN true || echo never > /n\nRUN echo $- > /flags\n'),
    "folders of work": (
        BASE + "WORKDIR /w/v\nRUN pwd > p\nWORKDIR x\nRUN pwd > q\nUSER guest\nWORKDIR /g/h\n"
    ),
    "links of the tree": (
        BASE + "RUN mkdir /real && ln -s real /soft && ln -s /real/f /soft-file && echo 1 > /real/f\n"
        "COPY a.txt /soft/\n"
        "COPY b.txt /soft-file\n"
        "COPY src /soft\n"
        "WORKDIR /soft/w\n"
    ),
    "owners by name": (BASE + "COPY --chown=guest a.txt /g/\nCOPY --chown=root:1000 src /h\n"),
    "what a copy meets": (
        BASE + "RUN mkdir -p /x/deep && chmod 700 /x /x/deep && ln -s /etc/passwd /x/one.py\nCOPY src /x\n"
    ),
    "removed files": (BASE + "COPY src /x\nRUN rm -r /x/deep /x/one.py && echo n > /x/new\n"),
    "comments in between": ("# c\nFROM scratch\n\n# d\nCOPY a.txt \\\n  # in between\n\n  b.txt /x/\n"),
}


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_the_files_are_those_of_docker_build(text: str, tmp_path: Path, docker: Docker, root: bytes) -> None:
    context = tmp_path / "context"
    write_context(context, text, {**FILES, "root.tar": root})
    ours = built_by_us(make_project(tmp_path / "project", context, {}))
    ours.pop("all/recipe.py", None)  # the recipe is in the context of the one alone
    assert ours == built_by_docker(docker, context)


HEREDOCS = """\
FROM scratch
ADD root.tar /
ENV WHO=me
RUN <<EOF
set -e
echo "$WHO" > /one
EOF
RUN sh <<-'EOF' > /two
\tcat /one
\tEOF
RUN <<EOF
#!/bin/sh
echo $0 | wc -w > /three
EOF
COPY <<A <<-"B" /here/
it's "$WHO" \\$WHO
A
\t$WHO
B
CMD echo $WHO
EXPOSE 80
"""


def test_here_documents_and_the_config(tmp_path: Path, root: bytes) -> None:
    write_context(tmp_path / "context", HEREDOCS, {"root.tar": root})
    project = make_project(tmp_path / "project", tmp_path / "context", {})
    seen = built_by_us(project)
    expected = {
        "one": "me\n",
        "two": "me\n",
        "three": "1\n",
        "here/A": 'it\'s "me" $WHO\n',
        "here/B": "$WHO\n",
    }
    assert {path: seen[path].content for path in expected} == {
        path: str(Digest.of(said.encode())) for path, said in expected.items()
    }
    image = project.call("realize", "made", "--json").json["image_id"]
    digits = image.removeprefix("sha256:")
    config = json.loads((project.store / "blobs" / "sha256" / digits[:2] / digits).read_bytes())["config"]
    assert config["Cmd"] == ["/bin/sh", "-c", "echo $WHO"]
    assert config["ExposedPorts"] == {"80/tcp": {}}
    assert "WHO=me" in config["Env"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM scratch\n\nCOPY none /x", "Dockerfile:3: COPY none /x: there is no none in the context"),
        ("FROM scratch\nCOPY --chown=who a.txt /x", "Dockerfile:2: COPY a.txt /x: there is no user 'who'"),
        (
            "FROM scratch\nARG M=u+x\nCOPY --chmod=$M a.txt /x",
            "Dockerfile:3: COPY a.txt /x: --chmod=u+x: permission bits in octal digits are needed",
        ),
        ("FROM scratch\nCOPY a.txt /x\nWORKDIR /x", "Dockerfile:3: WORKDIR /x: the directory /x"),
        ("FROM scratch\nENV A=${B:?needed}", "Dockerfile:2: ENV: B: needed"),
        ("FROM scratch\nRUN true", "Dockerfile:2: run true: "),
    ],
)
def test_what_cannot_be_made_is_said_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    write_context(tmp_path / "context", text, {"a.txt": "a"})
    ended = make_project(tmp_path / "project", tmp_path / "context", {}).call("lock", "made", check=False)
    assert ended.code in (1, 2)
    assert said in ended.err


def test_a_base_image_says_what_the_dockerfile_does_not(tmp_path: Path, root: bytes) -> None:
    base = (
        BASE
        + 'ENV PATH=/opt:$PATH LIB=/lib\nWORKDIR /srv\nSHELL ["/bin/sh", "-ec"]\nUSER guest\nCMD ["one"]\n'
    )
    write_context(tmp_path / "base", base, {"root.tar": root})
    below = make_project(tmp_path / "below", tmp_path / "base", {})
    below.call("lock", "made")
    below.call("export", "made", "--to", str(tmp_path / "base.tar"))
    text = (
        "FROM oci-archive:base.tar\nARG LIB=arg\nENV PATH=/mine:$PATH\nCOPY a.txt $LIB/\n"
        'RUN echo "$PATH|$LIB|$HOME|$-" > said && pwd >> said\nENTRYPOINT ["two"]\n'
    )
    files: dict[str, str | bytes | None] = {"a.txt": "a", "base.tar": (tmp_path / "base.tar").read_bytes()}
    write_context(tmp_path / "context", text, files)
    project = make_project(tmp_path / "project", tmp_path / "context", {})
    seen = built_by_us(project)
    path = "/mine:/opt:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    said = seen["srv/said"].content
    blob = project.store / "blobs" / "sha256" / said[7:9] / said[7:]
    first, folder = blob.read_text().splitlines()
    assert first.split("|")[:2] == [path, "arg"]
    assert "e" in first.rpartition("|")[2]
    assert folder == "/srv"
    assert "srv/arg/a.txt" in seen
    image = project.call("realize", "made", "--json").json["image_id"].removeprefix("sha256:")
    config = json.loads((project.store / "blobs" / "sha256" / image[:2] / image).read_bytes())["config"]
    assert (config["User"], config["Entrypoint"], config.get("Cmd")) == ("guest", ["two"], None)
