"""Dockerfiles: the files of an image are those that docker build gives."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.dockerfiles import (
    BASE,
    built_by_docker,
    built_by_us,
    busybox_archive,
    make_project,
    write_context,
)
from tests.projects import require_sandbox
from tests.servers import Docker


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
