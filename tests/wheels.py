"""Wheels made by tests, well-formed or hostile, and an index that serves them.

``wheel("pkg", "1.0", {"pkg/__init__.py": b""})`` gives bytes; ``simple_index({...})`` serves files as PEP 503
or PEP 691 says. Knows nothing of what the package does with them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from reprobuild.derivation.pins import Pin
from reprobuild.digest import Digest
from reprobuild.store.store import Store


def record_hash(body: bytes, algorithm: str = "sha256") -> str:
    """Give a hash as RECORD has it."""
    digest = hashlib.new(algorithm, body).digest()
    return f"{algorithm}=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def wheel(
    name: str,
    version: str,
    files: Mapping[str, bytes],
    *,
    requires: Sequence[str] = (),
    requires_python: str = "",
    entry_points: str = "",
    is_pure: bool = True,
    executable: Sequence[str] = (),
    record: Mapping[str, str | None] | None = None,
    more: Sequence[tuple[str, bytes]] = (),
    algorithm: str = "sha256",
    date: tuple[int, int, int, int, int, int] = (2020, 2, 3, 4, 5, 6),
) -> bytes:
    """Make a wheel.

    ``record``: path → its whole RECORD line instead of the true one, None to leave it out; ``more``:
    members that are added as they are, also under names that are there.
    """
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    metadata += [f"Requires-Dist: {requirement}\n" for requirement in requires]
    metadata += [f"Requires-Python: {requires_python}\n"] if requires_python else []
    pure = "true" if is_pure else "false"
    members = {
        **files,
        f"{info}/METADATA": "".join(metadata).encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: {pure}\n".encode(),
    }
    if entry_points:
        members[f"{info}/entry_points.txt"] = entry_points.encode()
    lines = {path: f"{path},{record_hash(body, algorithm)},{len(body)}" for path, body in members.items()}
    lines[f"{info}/RECORD"] = f"{info}/RECORD,,"
    lines.update((path, line or "") for path, line in (record or {}).items())
    members[f"{info}/RECORD"] = "".join(f"{line}\n" for line in lines.values() if line).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that is there twice
        for path, body in (*members.items(), *more):
            member = zipfile.ZipInfo(path, date)
            member.external_attr = (0o100755 if path in executable else 0o100644) << 16
            archive.writestr(member, body, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def keep(store: Store, name: str, body: bytes) -> Pin:
    """Put a wheel into a store and give its pin."""
    with store.transaction() as group:
        digest = group.add_bytes(body)
    package, version = name.split("-")[:2]
    return Pin(name, len(body), digest, {"package": package.lower(), "version": version})


@dataclass
class Index:
    """A simple index on this machine."""

    url: str
    files: dict[str, bytes]
    dates: dict[str, str] = field(default_factory=dict)
    """File name → ``upload-time``; only JSON pages have them."""
    is_json: bool = True
    has_digests: bool = True
    asked: list[str] = field(default_factory=list)
    """Paths that were asked for, in order."""


@contextmanager
def simple_index(
    files: Mapping[str, bytes], *, is_json: bool = True, has_digests: bool = True
) -> Iterator[Index]:
    """Serve files as an index does; ``url`` ends in ``/simple``."""
    server = _Server(("127.0.0.1", 0), _Handler)
    address = f"http://127.0.0.1:{server.server_address[1]}/simple"
    index = Index(address, dict(files), is_json=is_json, has_digests=has_digests)
    server.index = index
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    index: Index


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        index = self.server.index
        index.asked.append(self.path)
        place, _, rest = self.path.lstrip("/").partition("/")
        if place == "files" and rest in index.files:
            self._answer(index.files[rest], "application/octet-stream")
        elif place == "simple" and (named := self._named(index, rest.strip("/"))):
            self._answer(*(json_page if index.is_json else html_page)(index, rest.strip("/"), named))
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815 - as above

    def _named(self, index: Index, project: str) -> list[str]:
        return sorted(
            name for name in index.files if name.partition("-")[0].lower().replace("_", "-") == project
        )

    def _answer(self, body: bytes, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def json_page(index: Index, project: str, names: Sequence[str]) -> tuple[bytes, str]:
    files = []
    for name in names:
        body = index.files[name]
        entry: dict[str, object] = {"filename": name, "url": f"../../files/{name}", "hashes": {}}
        if index.has_digests:
            entry |= {"hashes": {"sha256": Digest.of(body).hex}, "size": len(body)}
        if name in index.dates:
            entry["upload-time"] = index.dates[name]
        files.append(entry)
    page = {"meta": {"api-version": "1.1"}, "name": project, "versions": [], "files": files}
    return json.dumps(page).encode(), "application/vnd.pypi.simple.v1+json"


def html_page(index: Index, project: str, names: Sequence[str]) -> tuple[bytes, str]:
    links = []
    for name in names:
        fragment = f"#sha256={Digest.of(index.files[name]).hex}" if index.has_digests else ""
        links.append(f'<a href="../../files/{name}{fragment}">{name}</a><br>')
    return ("<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>").encode(), "text/html"
