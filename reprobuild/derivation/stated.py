"""What a Dockerfile has said up to one of its lines: variables, folder, user, and the image's config.

Knows nothing of files. Words are replaced here, where everything that they may speak of is known.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reprobuild.derivation.dockerfile.expand import TEXT, Rules, WordError, expand, expand_words
from reprobuild.derivation.dockerfile.settings import IN_SHELL
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.steps import Step
from reprobuild.derivation.written import Setting
from reprobuild.errors import RecipeError

SHELL = ("/bin/sh", "-c")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What it is where a base image does not say; as for all commands."""
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PLATFORM = re.compile(r"([a-z0-9]+)/([a-z0-9_]+)(?:/([a-z0-9]+))?")


@dataclass(frozen=True, slots=True)
class Stated:
    """What later instructions of a stage find."""

    env: Mapping[str, str] = field(default_factory=dict)
    """Of the image."""
    workdir: str = "/"
    variables: Mapping[str, str] = field(default_factory=lambda: {"PATH": PATH})
    """What words and commands of the stage can speak of: the image's variables, and arguments. Of an ENV and
    an ARG of one name the later counts."""
    user: str = ""
    shell: tuple[str, ...] = ()
    """What runs a text; empty: ``/bin/sh -c``."""
    base: Mapping[str, Json] = field(default_factory=dict)
    """Fields of the base image's config, which a FROM takes over."""
    config: Mapping[str, Json] = field(default_factory=dict)
    """Fields of the OCI image config (and Docker's ``Healthcheck`` and ``Shell``)."""
    has_cmd: bool = False
    """Whether this stage says what ``Cmd`` is: an ENTRYPOINT takes away that of the base."""

    def folder(self, path: str) -> str:
        """Give the absolute form of a path, as seen from the working folder; ``/`` at its end stays."""
        found = posixpath.normpath(posixpath.join(self.workdir, path))
        found = "/" + found.lstrip("/")
        is_folder = path.endswith(("/", "/.")) or path in (".", "..", "")
        return found + "/" if is_folder and found != "/" else found


def word(step: Step, text: str, stated: Stated, *, is_text: bool = False) -> str:
    """Give a word's value, or that of a here-document, in which quotes mean nothing.

    Raises RecipeError, with the Dockerfile's line.
    """
    rules = TEXT if is_text else Rules(getattr(step, "escape", "\\"))
    try:
        return expand(text, stated.variables, rules)
    except WordError as error:
        raise RecipeError(f"{step.where}: {step.title}: {error}") from None


def after(stated: Stated, step: Setting, platform: str) -> Stated:
    """Give what is said once an instruction has been read."""
    pairs = list(zip(step.values[::2], step.values[1::2], strict=False))
    if step.word == "ARG":
        known = {**platform_arguments(platform), **stated.variables}
        for name, text in pairs:
            known[name] = word(step, text, replace(stated, variables=known))
        said = {name: known[name] for name, _ in pairs}
        return replace(stated, variables={**stated.variables, **said})
    if step.word in ("ENV", "LABEL"):
        said = {word(step, name, stated): word(step, text, stated) for name, text in pairs}
        if step.word == "ENV":
            variables = {**stated.variables, **said}
            return replace(stated, env={**stated.env, **said}, variables=variables)
        return _configured(stated, "Labels", {**stated.config.get("Labels", {}), **said})
    return _SETTERS[step.word](stated, step, platform)


def platform_arguments(platform: str) -> dict[str, str]:
    """Give the arguments that a platform has: ``TARGETARCH`` and its kin."""
    found = _PLATFORM.fullmatch(platform)
    if found is None:
        return {}
    system, architecture, variant = found.groups()
    parts = {"PLATFORM": platform, "OS": system, "ARCH": architecture, "VARIANT": variant or ""}
    return {f"{side}{part}": value for side in ("TARGET", "BUILD") for part, value in parts.items()}


def _configured(stated: Stated, name: str, value: Json, **more: Any) -> Stated:
    config = {**stated.config, name: value}
    if not value:
        del config[name]
    return replace(stated, config=config, **more)


def _from(stated: Stated, step: Setting, platform: str) -> Stated:
    wanted = step.values[1] if len(step.values) > 1 else ""
    if wanted and platform and wanted != platform:
        raise RecipeError(
            f"{step.where}: {step.title}: the Dockerfile is for {wanted}, and this builds for {platform}",
            "take --platform away where the image is for other platforms too",
        )
    return replace(stated, config={**stated.base, **stated.config})


def _workdir(stated: Stated, step: Setting, platform: str) -> Stated:
    path = word(step, step.values[0], stated)
    if not path:
        raise RecipeError(f"{step.where}: {step.title}: comes to nothing")
    return replace(stated, workdir=stated.folder(path).rstrip("/") or "/")


def _user(stated: Stated, step: Setting, platform: str) -> Stated:
    user = word(step, step.values[0], stated)
    return _configured(stated, "User", user, user=user)


def _stopsignal(stated: Stated, step: Setting, platform: str) -> Stated:
    return _configured(stated, "StopSignal", word(step, step.values[0], stated))


def _maintainer(stated: Stated, step: Setting, platform: str) -> Stated:
    labels = stated.config.get("Labels", {})
    return _configured(stated, "Labels", {**labels, "maintainer": step.values[0]})


def _ports(stated: Stated, step: Setting, platform: str) -> Stated:
    ports = dict(stated.config.get("ExposedPorts", {}))
    for text in step.values:
        for one in _expanded_words(step, text, stated):
            found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?(/tcp|/udp|/sctp)?", one.lower())
            low, high = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
            if found is None or not 0 < low <= high < 65536:
                raise RecipeError(f"{step.where}: {step.title}: {one!r} is no port")
            ports |= {f"{port}{found[3] or '/tcp'}": {} for port in range(low, high + 1)}
    return _configured(stated, "ExposedPorts", ports)


def _volumes(stated: Stated, step: Setting, platform: str) -> Stated:
    said: dict[str, Json] = {word(step, text, stated): {} for text in step.values}
    return _configured(stated, "Volumes", {**stated.config.get("Volumes", {}), **said})


def _shell(stated: Stated, step: Setting, platform: str) -> Stated:
    return _configured(stated, "Shell", list(step.values), shell=step.values)


def _command(stated: Stated, values: Sequence[str]) -> list[str]:
    if values[:1] == (IN_SHELL,):
        return [*(stated.shell or SHELL), *values[1:]]
    return list(values[1:])


def _cmd(stated: Stated, step: Setting, platform: str) -> Stated:
    return _configured(stated, "Cmd", _command(stated, step.values), has_cmd=True)


def _entrypoint(stated: Stated, step: Setting, platform: str) -> Stated:
    said = _configured(stated, "Entrypoint", _command(stated, step.values))
    return said if said.has_cmd else _configured(said, "Cmd", None)


def _health(stated: Stated, step: Setting, platform: str) -> Stated:
    if step.values == ("NONE",):
        return _configured(stated, "Healthcheck", {"Test": ["NONE"]})
    names = {
        "interval": "Interval",
        "timeout": "Timeout",
        "start-period": "StartPeriod",
        "start-interval": "StartInterval",
        "retries": "Retries",
    }
    check: dict[str, Json] = {}
    at = step.values.index("CMD") if "CMD" in step.values else len(step.values)
    for flag in step.values[:at]:
        name, _, value = flag.partition("=")
        if name in names:
            check[names[name]] = int(value) if name == "retries" else _nanoseconds(value)
    kind, *command = step.values[at + 1 :] or ("exec",)
    check["Test"] = ["CMD-SHELL" if kind == IN_SHELL else "CMD", *command]
    return _configured(stated, "Healthcheck", check)


def _nanoseconds(text: str) -> int:
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", text)
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def _expanded_words(step: Setting, text: str, stated: Stated) -> list[str]:
    try:
        return expand_words(text, stated.variables, Rules(step.escape))
    except WordError as error:
        raise RecipeError(f"{step.where}: {step.title}: {error}") from None


_SETTERS: Mapping[str, Callable[[Stated, Setting, str], Stated]] = {
    "FROM": _from,
    "WORKDIR": _workdir,
    "USER": _user,
    "STOPSIGNAL": _stopsignal,
    "MAINTAINER": _maintainer,
    "EXPOSE": _ports,
    "VOLUME": _volumes,
    "SHELL": _shell,
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "HEALTHCHECK": _health,
}
