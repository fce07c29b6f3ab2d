"""A host of git repositories: git's own ``http-backend`` behind a site, both versions of its protocol.

``repository`` makes one whose commits are the same each time. Knows nothing of sockets.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.require import program
from tests.upstreams import Answer, Request

IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": "2020-02-03T04:05:06Z",
    "GIT_COMMITTER_NAME": "C",
    "GIT_COMMITTER_EMAIL": "c@example.org",
    "GIT_COMMITTER_DATE": "2020-02-03T04:05:06Z",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


@dataclass(frozen=True)
class GitSite:
    """Bare repositories of a folder, to be cloned by anybody."""

    folder: Path
    any_commit: bool = True
    """Whether commits are given that no branch or tag names, as public hosts do."""

    def __call__(self, request: Request) -> Answer:
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_CONFIG_KEY_1": "uploadpack.allowAnySHA1InWant",
            "GIT_CONFIG_VALUE_1": str(self.any_commit).lower(),
            "PATH_INFO": request.path,
            "QUERY_STRING": urlsplit(request.target).query,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(request.body)),
            "REMOTE_ADDR": "127.0.0.1",
        }
        for name in ("content-encoding", "accept", "accept-encoding", "git-protocol"):
            if name in request.headers:
                environment["HTTP_" + name.upper().replace("-", "_")] = request.headers[name]
        environment["GIT_PROTOCOL"] = request.headers.get("git-protocol", "")
        done = subprocess.run(
            [str(program("git")), "http-backend"],
            input=request.body,
            env=environment,
            capture_output=True,
            timeout=60,
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(fields.pop("Status", "200").split()[0])
        return Answer(body, status, fields)


def repository(folder: Path, files: Mapping[str, bytes], *, message: str = "first") -> str:
    """Commit files to a bare repository, made where there is none; give the commit's name.

    ``folder``: ``…/name.git``. Its default branch is ``main``; each commit gets a tag, ``v1``, ``v2``, ….
    """
    if not folder.exists():
        _git("init", "--quiet", "--bare", "--initial-branch=main", str(folder))
    work = folder.with_name(folder.name + "-work")
    if not work.exists():
        _git("init", "--quiet", "--initial-branch=main", str(work))
    for path, body in files.items():
        target = work / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    _git("add", "--all", at=work)
    _git("commit", "--quiet", "--message", message, at=work)
    number = int(_git("rev-list", "--count", "HEAD", at=work))
    _git("tag", f"v{number}", at=work)
    _git("push", "--quiet", str(folder), "main", f"v{number}", at=work)
    return _git("rev-parse", "HEAD", at=work).strip()


def _git(*arguments: str, at: Path | None = None) -> str:
    command = [str(program("git")), *arguments]
    environment = {"PATH": os.environ["PATH"], **IDENTITY}
    done = subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return done.stdout
