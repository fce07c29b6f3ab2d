"""Settings: ``reprobuild.toml`` of the project, then the environment, then flags; later ones win.

Knows nothing of what the settings are used for. Light on purpose: a ``realize`` with nothing to do
reads them too, so no import here but what Python has loaded anyway.
"""

from __future__ import annotations

import os

from reprobuild.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PROJECT_FILE = "reprobuild.toml"
MIRRORED = ("debian", "hub", "oci")
"""What ``[mirrors]`` can name mirrors of."""
PUBLISHED = ("builder", "source", "to")
"""What ``[publish]`` can say."""
COUNTS = ("jobs", "upload_chunk")
"""Settings that are numbers, at least 1."""
ENGINES = ("auto", "sandbox", "docker")


class Settings:
    """Where things are and how work is done; part of no hash."""

    __slots__ = (
        "allow_private",
        "cache_limit",
        "connect_to",
        "debian_mirrors",
        "engine",
        "hub_mirrors",
        "jobs",
        "oci_mirrors",
        "offline",
        "project",
        "publish_builder",
        "publish_source",
        "publish_to",
        "python_index",
        "recipes",
        "scratch",
        "store",
        "strict_network",
        "substituters",
        "upload_chunk",
    )

    allow_private: tuple[str, ...]
    """Hosts that may be asked although their addresses are not public: names or addresses as a recipe or a
    recorded command writes them; ``*``: all."""
    connect_to: tuple[str, ...]
    """Where to connect instead, for stand-ins and inner networks: ``host:port:address:port``, as curl's
    ``--connect-to`` has it; the name stays what certificates and credentials are for."""
    cache_limit: str
    """How much predictions may take (``20GB``), as ``gc`` enforces it; empty: no limit."""
    strict_network: bool
    """Whether a refused attempt is a failure although the command coped."""
    store: str
    """The store's folder, absolute."""
    recipes: tuple[str, ...]
    """Folders that hold recipes, absolute; the first that has a name wins."""
    project: str
    """The folder with ``reprobuild.toml``, or empty."""
    engine: str
    offline: bool
    jobs: int
    """Downloads, or uploads, at a time."""
    upload_chunk: int
    """MiB of a blob that go to a registry in one request; larger blobs go in several."""
    debian_mirrors: tuple[str, ...]
    """Base addresses (``https://mirror.example/debian``), tried in order; empty: the machine's own."""
    oci_mirrors: tuple[str, ...]
    """Servers that have a registry's repositories, tried before it: ``docker.io=https://mirror.example``."""
    hub_mirrors: tuple[str, ...]
    """Model hubs with the addresses of Hugging Face's (``https://hub.example``), asked before it."""
    substituters: tuple[str, ...]
    """Registries with namespaces (``docker.io/user``) that may have images already, asked in order."""
    publish_builder: str
    """Who builds, for provenance: an URI."""
    publish_source: str
    """Where the recipes are kept: an address; empty: what git says."""
    publish_to: str
    """Where images are published: a registry with a namespace (``docker.io/user``)."""
    python_index: str
    """A simple index; empty: what pip is configured with."""
    scratch: str
    """A local folder for what commands write meanwhile; empty: inside the store."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, values[name])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("settings do not change")

    @property
    def cache_bytes(self) -> int | None:
        """The bytes that predictions may take; None where there is no limit."""
        return byte_size(self.cache_limit) if self.cache_limit else None


def load(
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    directory: str,
    origin: str = "the command line",
) -> Settings:
    """Read the settings that hold in a directory.

    ``flags``: what the command line said, None where it said nothing; ``origin``: who said that instead,
    for errors. Raises UsageError for a file that is no TOML, an unknown name, or a value of the wrong type.
    """
    project = find_project(directory)
    values = _defaults(project, environment)
    if project:
        path = os.path.join(project, PROJECT_FILE)
        _merge(values, _read(path), project, path)
    _merge(values, _from_environment(environment), directory, "the environment")
    said = {name: value for name, value in flags.items() if value is not None}
    _merge(values, said, directory, origin)
    return Settings(values)


def byte_size(text: str) -> int:
    """Read a number of bytes: ``4G``, ``500 MB`` (powers of 1000), ``4GiB`` (of 1024). Raises ValueError."""
    import re

    match = re.fullmatch(r"(\d{1,18}(?:\.\d+)?)\s*([kKmMgGtT]?)(i?)[bB]?", text.strip())
    if match is None or (match[3] and not match[2]):
        raise ValueError(f"{text!r} is no size in bytes")
    power = "kmgt".index(match[2].lower()) + 1 if match[2] else 0
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def find_project(directory: str) -> str:
    """Give the nearest folder at or above a directory that holds ``reprobuild.toml``, or ``""``."""
    here = os.path.abspath(directory)
    while not os.path.isfile(os.path.join(here, PROJECT_FILE)):
        above = os.path.dirname(here)
        if above == here:
            return ""
        here = above
    return here


def _defaults(project: str, environment: Mapping[str, str]) -> dict[str, Any]:
    home = environment.get("HOME") or os.path.expanduser("~")
    data = environment.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    packaged = _packaged_recipes()
    own = (os.path.join(project, "recipes"),) if project else ()
    return {
        "store": os.path.join(project, "store") if project else os.path.join(data, "reprobuild", "store"),
        "recipes": own if packaged in own else (*own, packaged),
        "project": project,
        "engine": "auto",
        "offline": False,
        "jobs": 8,
        "upload_chunk": 64,
        "debian_mirrors": (),
        "oci_mirrors": (),
        "hub_mirrors": (),
        "allow_private": (),
        "connect_to": (),
        "cache_limit": "",
        "strict_network": False,
        "substituters": (),
        **{f"publish_{name}": "" for name in PUBLISHED},
        "python_index": "",
        "scratch": "",
    }


def _packaged_recipes() -> str:
    """Give the recipes that come with the tool; for a clone installed in place, the clone's own."""
    package = os.path.dirname(os.path.abspath(__file__))
    inside = os.path.join(package, "_recipes")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "recipes")


def _read(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        text = file.read()
    if all(not line.strip() or line.lstrip().startswith(b"#") for line in text.splitlines()):
        return {}
    import tomllib

    try:
        found = tomllib.loads(text.decode())
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    mirrors = found.pop("mirrors", {})
    if not isinstance(mirrors, dict) or set(mirrors) - set(MIRRORED):
        known = " and ".join(map(repr, MIRRORED))
        raise UsageError(f"{path}: [mirrors] knows {known} alone, lists of addresses")
    found |= {f"{name}_mirrors": listed for name, listed in mirrors.items()}
    published = found.pop("publish", {})
    if not isinstance(published, dict) or set(published) - set(PUBLISHED):
        raise UsageError(f"{path}: [publish] knows {', '.join(map(repr, PUBLISHED))} alone")
    found |= {f"publish_{name}": said for name, said in published.items()}
    return found


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    texts = ("store", "recipes", "engine", "python_index", "scratch", "cache_limit")
    for name in (*texts, *(f"publish_{name}" for name in PUBLISHED)):
        if value := environment.get("REPROBUILD_" + name.upper()):
            found[name] = value.split(os.pathsep) if name == "recipes" else value
    for name in (*(f"{name}_mirrors" for name in MIRRORED), "allow_private", "connect_to", "substituters"):
        if value := environment.get("REPROBUILD_" + name.upper()):
            found[name] = value.split()
    for name in ("offline", "strict_network"):
        if value := environment.get("REPROBUILD_" + name.upper()):
            found[name] = value.lower() not in ("0", "false", "no", "off")
    for name in COUNTS:
        if value := environment.get("REPROBUILD_" + name.upper()):
            try:
                found[name] = int(value)
            except ValueError:
                raise UsageError(f"REPROBUILD_{name.upper()}={value}: a number is needed") from None
    return found


def _merge(values: dict[str, Any], found: Mapping[str, Any], base: str, origin: str) -> None:
    """Let what was found win; ``base``: where relative paths begin; ``origin``: what errors name."""
    for name, value in found.items():
        if name not in values or name == "project":
            known = ", ".join(sorted(set(values) - {"project"}))
            raise UsageError(f"{origin}: there is no setting {name!r}", f"known: {known}")
        wanted = values[name]
        if isinstance(wanted, tuple):
            if isinstance(value, str):
                value = (value,)
            if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
                raise UsageError(f"{origin}: the setting {name} is a list of texts, not {value!r}")
            value = tuple(value)
        elif type(value) is not type(wanted):
            raise UsageError(f"{origin}: the setting {name} cannot be {value!r}")
        if name == "engine" and value not in ENGINES:
            raise UsageError(f"{origin}: there is no engine {value!r}", f"one of {', '.join(ENGINES)}")
        if name == "cache_limit" and value:
            try:
                byte_size(value)
            except ValueError as error:
                hint = "for example 20GB or 500MiB"
                raise UsageError(f"{origin}: the setting cache_limit: {error}", hint) from None
        if name in COUNTS and value < 1:
            raise UsageError(f"{origin}: the setting {name} is at least 1, not {value}")
        if "\0" in "".join(map(str, value if isinstance(value, tuple) else [value])) or (
            name == "store" and not value
        ):
            raise UsageError(f"{origin}: the setting {name} cannot be {value!r}", "name a folder")
        if name == "recipes":
            own = tuple(os.path.abspath(os.path.join(base, os.path.expanduser(item))) for item in value)
            value = (*own, values["recipes"][-1]) if own[-1:] != values["recipes"][-1:] else own
        elif name in ("store", "scratch") and value:
            value = os.path.abspath(os.path.join(base, os.path.expanduser(value)))
        values[name] = value
