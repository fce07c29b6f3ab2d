"""The data of NLTK: an index and a zip archive for each package, at the address that NLTK has built in.

Knows nothing of sockets.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping

from tests.sites.files import FileSite, Page

HOST = "raw.githubusercontent.com"
BASE = "/nltk/nltk_data/gh-pages"


def nltk_site(packages: Mapping[str, Mapping[str, bytes]]) -> FileSite:
    """Give a site with packages: ``{"corpora/words": {"words/en": b"…"}}``."""
    pages, lines = {}, []
    for name, files in packages.items():
        folder, _, identity = name.rpartition("/")
        body = _zip(files)
        path = f"{BASE}/packages/{name}.zip"
        pages[path] = Page(body, "application/zip")
        unzipped = sum(map(len, files.values()))
        checksums = f'checksum="{hashlib.md5(body, usedforsecurity=False).hexdigest()}" '
        checksums += f'sha256_checksum="{hashlib.sha256(body).hexdigest()}"'
        lines.append(
            f'<package id="{identity}" name="{identity}" subdir="{folder}" unzip="1" size="{len(body)}" '
            f'unzipped_size="{unzipped}" {checksums} url="https://{HOST}{path}"/>'
        )
    index = (
        "<?xml version='1.0'?>\n<nltk_data><packages>\n" + "\n".join(lines) + "\n</packages><collections/>"
    )
    pages[f"{BASE}/index.xml"] = Page((index + "</nltk_data>\n").encode(), "text/plain", is_packed=True)
    return FileSite(pages)


def _zip(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, body in files.items():
            member = zipfile.ZipInfo(path, (2020, 2, 3, 4, 5, 6))
            member.external_attr = 0o100644 << 16
            archive.writestr(member, body, zipfile.ZIP_DEFLATED)
    return made.getvalue()
