"""Debian packages and signed archives made by code: bytes for tests, and a folder for a web server.

Knows nothing of what the tests do with them. Keys are made anew each time and trusted by nobody else.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import zstandard
from pysequoia import SignatureMode, Tsk, sign

from reprobuild.derivation.pins import Pin
from reprobuild.digest import Digest

PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


@dataclass(frozen=True)
class Content:
    """What is in a package, by path; what else a tar archive can hold, as members."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, int] = field(default_factory=dict)
    members: Sequence[tarfile.TarInfo] = ()
    modes: Mapping[str, int] = field(default_factory=dict)


def data_tar(content: Content) -> bytes:
    """Make a ``data.tar`` as dpkg does: ``./`` before each path, parents before what is in them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        paths = {*content.files, *content.links, *content.folders}
        parents = {"/".join(path.split("/")[:n]) for path in paths for n in range(1, path.count("/") + 1)}
        for path in sorted(parents | paths):
            info = tarfile.TarInfo("./" + path)
            if path in content.files:
                info.size = len(content.files[path])
                info.mode = content.modes.get(path, 0o644)
                archive.addfile(info, io.BytesIO(content.files[path]))
            elif path in content.links:
                info.type, info.linkname = tarfile.SYMTYPE, content.links[path]
                archive.addfile(info)
            else:
                info.type, info.mode = tarfile.DIRTYPE, content.folders.get(path, 0o755)
                archive.addfile(info)
        for info in content.members:
            archive.addfile(info)
    return out.getvalue()


def control_text(name: str, version: str = "1", **fields: str) -> str:
    """Write a control stanza; ``pre_depends="a"`` is ``Pre-Depends: a``."""
    named = {"Package": name, "Version": version, "Architecture": "amd64"}
    named.update((key.replace("_", "-").title(), value) for key, value in fields.items())
    return "".join(f"{key}: {value}\n" for key, value in named.items())


def ar(members: Mapping[str, bytes]) -> bytes:
    """Make an ``ar`` archive."""
    out = b"!<arch>\n"
    for name, body in members.items():
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n".encode()
        out += head + body + b"\n" * (len(body) % 2)
    return out


def deb(
    control: str,
    content: Content | None = None,
    scripts: Mapping[str, str] | None = None,
    *,
    packing: str = ".xz",
    data: bytes | None = None,
) -> bytes:
    """Make a ``.deb``; ``data`` stands for the packed ``data.tar``, whatever it holds."""
    files = {"control": control.encode(), **{name: text.encode() for name, text in (scripts or {}).items()}}
    pack = PACKERS[packing]
    if data is None:
        data = pack(data_tar(content or Content()))
    return ar(
        {
            "debian-binary": b"2.0\n",
            f"control.tar{packing}": pack(data_tar(Content(files))),
            f"data.tar{packing}": data,
        }
    )


def pin(name: str, data: bytes, version: str = "1", arch: str = "amd64") -> Pin:
    """Give the pin of a package."""
    return Pin(
        name=f"{name}_{version}_{arch}.deb",
        size=len(data),
        sha256=Digest.of(data),
        hashed={"package": name, "version": version, "arch": arch},
    )


@dataclass
class Archive:
    """An archive of one suite in a folder, signed with its own key."""

    folder: Path
    suite: str = "bookworm"
    codename: str = "bookworm"
    date: datetime = field(default_factory=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    valid_for: timedelta | None = None
    """From now on; None: for ever."""
    by_hash: bool = True
    key: Tsk = field(default_factory=lambda: Tsk.generate("Test archive <archive@example.org>"))
    stanzas: list[str] = field(default_factory=list)

    @property
    def keyring(self) -> bytes:
        """What to trust."""
        return bytes(self.key.extract_certificate())

    def add(
        self, control: str, content: Content | None = None, scripts: Mapping[str, str] | None = None
    ) -> None:
        """Put a package into the pool."""
        self.add_package(control, deb(control, content, scripts))

    def add_package(self, control: str, data: bytes) -> None:
        """Put a package that is made already into the pool."""
        fields = dict(line.split(": ", 1) for line in control.splitlines() if ": " in line and line[0] != " ")
        name = fields["Package"]
        path = f"pool/main/{name[0]}/{name}/{name}_{fields['Version'].rpartition(':')[2]}_amd64.deb"
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        self.stanzas.append(f"{control}Filename: {path}\nSize: {len(data)}\nSHA256: {digest}\n")

    def publish(self, extra: str = "") -> Path:
        """Write indexes and the signed ``InRelease``; give the path of the latter."""
        dists = self.folder / "dists" / self.suite
        folder = dists / "main" / "binary-amd64"
        folder.mkdir(parents=True, exist_ok=True)
        plain = "\n".join(self.stanzas).encode()
        lines = []
        for packing in ("", ".xz"):
            data = PACKERS[packing](plain)
            digest = hashlib.sha256(data).hexdigest()
            lines.append(f" {digest} {len(data)} main/binary-amd64/Packages{packing}")
            (folder / f"Packages{packing}").write_bytes(data)
            if self.by_hash:
                hashed = folder / "by-hash" / "SHA256"
                hashed.mkdir(parents=True, exist_ok=True)
                (hashed / digest).write_bytes(data)
        release = self.release_text(lines, extra)
        path = dists / "InRelease"
        path.write_bytes(self.sign(release))
        return path

    def release_text(self, lines: Sequence[str], extra: str = "") -> bytes:
        """Write what is to be signed."""
        until = ""
        if self.valid_for is not None:
            until = f"Valid-Until: {format_datetime(datetime.now(UTC) + self.valid_for)}\n"
        return (
            f"Origin: Test\nSuite: {self.suite}\nCodename: {self.codename}\n"
            f"Date: {format_datetime(self.date)}\n"
            f"{until}Acquire-By-Hash: {'yes' if self.by_hash else 'no'}\n"
            "Architectures: all amd64\nNo-Support-for-Architecture-all: Packages\nComponents: main\n"
            f"{extra}SHA256:\n" + "\n".join(lines) + "\n"
        ).encode()

    def sign(self, text: bytes) -> bytes:
        """Sign a text in the clear."""
        return bytes(sign(self.key.signer(), text, mode=SignatureMode.CLEAR))


class _Quiet(SimpleHTTPRequestHandler):
    asked: list[str]

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep the terminal clean."""

    def do_GET(self) -> None:
        """Write down what is asked for, then answer."""
        self.asked.append(self.path)
        super().do_GET()


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder over HTTP; give its address, and a list that grows by each path asked for."""
    asked: list[str] = []
    handler = type("Handler", (_Quiet,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()
