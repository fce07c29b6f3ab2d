"""Where Python packages come from: the project's setting, else what pip is configured with.

Reads pip's configuration files and variables as pip does (pip documentation, "Configuration"), without
running pip, which need not be installed. Knows nothing of what is on an index.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from reprobuild.errors import UsageError

SECTIONS = ("global", "install")
"""Of a configuration file; the later is stronger."""

_FALSE = ("", "0", "false", "no", "off", "n", "f")


@dataclass(frozen=True, slots=True)
class PythonIndex:
    """The places that are asked for packages; all count alike, as for pip."""

    urls: tuple[str, ...]
    """Simple indexes (PEP 503); may hold credentials, so show them with ``plain`` only."""
    uses_default: bool
    """Whether the public index is asked too, because nothing else was set in its place."""
    find_links: tuple[str, ...] = ()
    """Folders, ``file:`` addresses and pages with links to files."""
    trusted_hosts: tuple[str, ...] = ()
    certificates: str = ""
    """A PEM file with the authorities to trust; empty for the system's."""

    @property
    def is_local(self) -> bool:
        """Whether nothing here needs the network."""
        return not self.uses_default and all(is_local(url) for url in (*self.urls, *self.find_links))


def is_local(url: str) -> bool:
    """Whether an address is a path or ``file:``."""
    return urlsplit(url).scheme not in ("http", "https")


def python_index(setting: str, environment: Mapping[str, str]) -> PythonIndex:
    """Give the places that are asked: ``setting`` alone (``settings.python_index``), else pip's.

    Raises UsageError for a configuration file that cannot be read.
    """
    options = _pip_options(environment)
    certificates = options.get("cert", "")
    trusted = _words(options.get("trusted-host", ""))
    if setting:
        return PythonIndex((_address(setting),), False, (), trusted, certificates)
    find_links = tuple(_address(link) for link in _words(options.get("find-links", "")))
    if options.get("no-index", "").lower() not in _FALSE:
        return PythonIndex((), False, find_links, trusted, certificates)
    own = options.get("index-url") or options.get("pypi-url") or ""
    extra = tuple(_address(url) for url in _words(options.get("extra-index-url", "")))
    first = (_address(own),) if own else ()
    return PythonIndex((*first, *extra), not own, find_links, trusted, certificates)


def configured_certificates(environment: Mapping[str, str]) -> str:
    """Give the bundle that pip's configuration files name, if there is one; never raises."""
    try:
        path = _pip_options(environment).get("cert", "")
    except UsageError:
        return ""
    return path if os.path.exists(path) else ""


def _pip_options(environment: Mapping[str, str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for path in _configuration_files(environment):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
            for section in SECTIONS:
                if parser.has_section(section):
                    options.update((_name(name), value) for name, value in parser.items(section))
        except (configparser.Error, UnicodeDecodeError) as error:
            said = str(error).partition("\n")[0]
            raise UsageError(
                f"{path}: pip's configuration cannot be read: {said}",
                'mend it, or set python_index = "…" in reprobuild.toml',
            ) from None
    for name, value in environment.items():
        if name.startswith("PIP_") and value:
            options[_name(name[len("PIP_") :])] = value
    return options


def _configuration_files(environment: Mapping[str, str]) -> Iterator[Path]:
    """Give the files that pip reads on Linux, weakest first."""
    named = environment.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return
    folders = (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    yield from (Path(folder, "pip", "pip.conf") for folder in folders if folder)
    yield Path("/etc/pip.conf")
    if not (named and os.path.exists(named)):
        home = Path(environment.get("HOME") or os.path.expanduser("~"))
        yield home / ".pip" / "pip.conf"
        yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield Path(environment.get("VIRTUAL_ENV") or sys.prefix) / "pip.conf"
    if named:
        yield Path(named)


def _name(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def _words(value: str) -> tuple[str, ...]:
    return tuple(value.split())


def _address(text: str) -> str:
    """Give an address as it is, a path as a ``file:`` address."""
    if urlsplit(text).scheme in ("http", "https", "file"):
        return text
    return Path(os.path.abspath(os.path.expanduser(text))).as_uri()


def shown(urls: Sequence[str]) -> str:
    """Give addresses as they may be shown: without credentials."""
    return ", ".join(_plain(url) for url in urls)


def _plain(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
