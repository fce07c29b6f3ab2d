"""Run uv: a clean environment, a scratch folder for all that it writes, no configuration of its own.

Knows nothing of what it is asked. uv reads no pip configuration, so the index is passed to it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from reprobuild.errors import OutsideError, UpstreamError
from reprobuild.fetch.python_index import PythonIndex
from reprobuild.process import run_program

PASSED_ON = (
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir", "netrc"),
    *("uv_http_timeout", "uv_http_retries"),
)
"""Variables that say how the network is reached, in either case; nothing else of the environment counts."""

TIME_LIMIT = 900.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How uv ended."""

    exit_code: int
    output: str
    messages: str
    """What it printed to standard error."""


def run_uv(
    arguments: Sequence[str], *, scratch: Path, index: PythonIndex, environment: Mapping[str, str]
) -> Answer:
    """Run uv and give what it answered, whatever that is.

    ``scratch``: a private folder; ``environment``: that of the caller, of which only PASSED_ON and
    the home folder's ``.netrc`` are used. Raises OutsideError where uv is not installed or does not end.
    """
    try:
        ended = run_program(
            [_program(), *arguments],
            env=_environment(scratch, index, environment),
            limit=TIME_LIMIT,
            folder=scratch,
        )
    except TimeoutError:
        raise UpstreamError(f"uv did not find versions within {TIME_LIMIT:.0f} seconds") from None
    except OSError as error:
        raise OutsideError(f"uv cannot be started: {error}", "pip install --force-reinstall uv") from None
    return Answer(ended.code, ended.output.decode(errors="replace"), ended.messages.decode(errors="replace"))


def index_arguments(index: PythonIndex) -> list[str]:
    """Give the arguments that make uv ask where pip would, all indexes counting alike."""
    arguments = ["--no-config", "--index-strategy", "unsafe-best-match"]
    urls = list(index.urls)
    if not index.uses_default and urls:
        arguments += ["--default-index", urls.pop(0)]
    elif not index.uses_default:
        arguments.append("--no-index")
    for url in urls:
        arguments += ["--index", url]
    for link in index.find_links:
        arguments += ["--find-links", link]
    for host in index.trusted_hosts:
        arguments += ["--allow-insecure-host", host]
    return arguments


@cache
def default_index() -> str:
    """Give the public index's address, as uv knows it. Raises OutsideError."""
    arguments = ["pip", "compile", "-", "--no-config", "--no-header", "--emit-index-url", "--offline"]
    arguments += ["--python", sys.executable]
    with TemporaryDirectory(prefix="reprobuild-") as folder:
        answer = run_uv(arguments, scratch=Path(folder), index=PythonIndex((), True), environment={})
    for line in answer.output.splitlines():
        option, _, url = line.strip().partition(" ")
        if option == "--index-url" and urlsplit(url).scheme in ("http", "https"):
            return url
    raise OutsideError(
        f"uv does not say which index it asks: {answer.messages.strip()}",
        'set python_index = "…" in reprobuild.toml',
    )


def _program() -> str:
    try:
        from uv import find_uv_bin
    except ImportError:
        raise OutsideError("the package uv, which finds wheels, is not installed", "pip install uv") from None
    return os.fspath(find_uv_bin())


def _environment(scratch: Path, index: PythonIndex, environment: Mapping[str, str]) -> dict[str, str]:
    passed = {name: value for name, value in environment.items() if name.lower() in PASSED_ON and value}
    netrc = Path(environment.get("HOME") or os.path.expanduser("~"), ".netrc")
    if "NETRC" not in passed and netrc.is_file():
        passed["NETRC"] = str(netrc)
    if "SSL_CERT_FILE" not in passed and (bundle := index.certificates or _system_bundle()):
        passed["SSL_CERT_FILE"] = bundle
    folder = str(scratch)
    return passed | {
        "HOME": folder,
        "NO_COLOR": "1",
        "PATH": os.defpath,
        "TMPDIR": folder,
        "TZ": "UTC",
        "UV_CACHE_DIR": os.path.join(folder, "cache"),
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_PYTHON_INSTALL_DIR": os.path.join(folder, "python"),
    }


def _system_bundle() -> str:
    import ssl

    return ssl.get_default_verify_paths().cafile or ""
