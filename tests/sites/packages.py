"""A Python package index: simple pages as HTML and JSON (PEP 503, PEP 691), wheels and source archives.

Knows nothing of sockets; ``tests.wheels`` makes wheels.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.sites.files import whole_or_part
from tests.upstreams import Answer, Request
from tests.wheels import Index, html_page, json_page

JSON = "application/vnd.pypi.simple.v1+json"
SETUP = """\
from setuptools import setup
setup(name={name!r}, version={version!r}, py_modules={modules!r})
"""


@dataclass
class PackageSite:
    """Files by name; an index page for each project at ``/simple/NAME/``."""

    files: dict[str, bytes] = field(default_factory=dict)

    def __call__(self, request: Request) -> Answer:
        place, _, rest = request.path.lstrip("/").partition("/")
        if place == "files" and rest in self.files:
            return whole_or_part(request, self.files[rest])
        project = rest.strip("/")
        names = sorted(name for name in self.files if _project(name) == project)
        if place != "simple" or not names:
            return Answer(b"not found\n", 404, {"Content-Type": "text/plain"})
        index = Index("", self.files)
        write = json_page if JSON in request.headers.get("accept", "") else html_page
        body, kind = write(index, project, names)
        return whole_or_part(request, body, Content_Type=kind, Vary="Accept")


def source_archive(name: str, version: str, files: Mapping[str, bytes]) -> bytes:
    """Make a source archive that setuptools builds; ``files``: modules at its top, ``name.py``."""
    modules = sorted(path.removesuffix(".py") for path in files)
    members = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        "setup.py": SETUP.format(name=name, version=version, modules=modules).encode(),
        **files,
    }
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path, body in members.items():
            info = tarfile.TarInfo(f"{name}-{version}/{path}")
            info.size, info.mtime = len(body), 1_600_000_000
            archive.addfile(info, io.BytesIO(body))
    return gzip.compress(made.getvalue(), mtime=0)


def _project(name: str) -> str:
    return name.partition("-")[0].lower().replace("_", "-")
