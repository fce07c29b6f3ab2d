"""The config of an image that somebody else made: what counts of it for what is built on it.

Reads the OCI image specification (config.md), which Docker's configs fit too. Knows nothing of where a
config comes from.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError

Json = Any
"""A JSON value, as Python's json module gives it."""


@dataclass(frozen=True, slots=True)
class BaseConfig:
    """What a config says."""

    platform: str
    """``linux/amd64``, with a variant where the config names one."""
    diff_ids: tuple[Digest, ...]
    """Digests of the layers' uncompressed tar streams, lowest first."""
    said: Mapping[str, Json]
    """What commands see of it, as a pin's hashed fields: ``env``, ``workdir``, ``user``, ``entrypoint``,
    ``cmd``, ``shell``, ``labels``, ``ports``; what it is silent about is left out."""

    def fits(self, platform: str) -> bool:
        """Tell whether this is an image for a platform, whatever the variant."""
        return self.platform.split("/")[:2] == platform.split("/")[:2]


def read_base_config(body: bytes, what: str) -> BaseConfig:
    """Read a config; ``what``: what errors call it. Raises CheckFailedError for what makes no sense."""
    try:
        value = json.loads(body)
        parts = (value["os"], value["architecture"], value.get("variant", ""))
        if value["rootfs"]["type"] != "layers":
            raise ValueError(f"its root is of type {value['rootfs']['type']!r}")
        return BaseConfig(
            platform="/".join(_text(part) for part in parts if part),
            diff_ids=tuple(map(Digest.parse, value["rootfs"]["diff_ids"] or ())),
            said=_said(value.get("config") or {}),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckFailedError(f"{what}: its config makes no sense: {error!r}") from None


def _said(config: Mapping[str, Any]) -> dict[str, Json]:
    workdir = _text(config.get("WorkingDir") or "")
    said: dict[str, Json] = {
        "env": _environment(config.get("Env") or ()),
        "workdir": posixpath.normpath("/" + workdir.lstrip("/")) if workdir else "",
        "user": _text(config.get("User") or ""),
        "entrypoint": _texts(config.get("Entrypoint")),
        "cmd": _texts(config.get("Cmd")),
        "shell": _texts(config.get("Shell")),
        "labels": {_text(name): _text(item) for name, item in sorted((config.get("Labels") or {}).items())},
        "ports": sorted(map(_text, config.get("ExposedPorts") or {})),
    }
    return {name: item for name, item in said.items() if item}


def _environment(listed: Any) -> dict[str, str]:
    """Read ``NAME=value`` texts; of two with one name the later one counts, as it does for runc."""
    found = {}
    for item in _texts(listed):
        name, separator, value = item.partition("=")
        if separator and name:
            found[name] = value
    return dict(sorted(found.items()))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        raise TypeError(f"a text where a list should be: {value!r}")
    return [_text(item) for item in value or ()]


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError(f"no text: {value!r}")
    value.encode()
    return value
