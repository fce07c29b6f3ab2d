"""The steps of an image as frozen data, and the functions that recipes call to make them.

Knows nothing of how a source is resolved, fetched or placed. A step says what is wanted; pins say
what that came to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from reprobuild.derivation.where import Where
from reprobuild.errors import RecipeError

DEBIAN_ARCHITECTURES = {"linux/amd64": "amd64", "linux/arm64": "arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One entry of an image. What is common to all kinds."""

    kind: ClassVar[str]
    is_source: ClassVar[bool] = True
    """Whether it has pins in the lock."""
    is_per_platform: ClassVar[bool] = False
    """Whether it comes to other files on another platform."""

    where: Where = field(default_factory=Where)

    @property
    def title(self) -> str:
        """What progress and errors call the step: kind and its chief argument."""
        raise NotImplementedError

    @property
    def source_key(self) -> str:
        """What was asked for: everything in the recipe that decides what the step resolves to."""
        return self.title

    def lock_key(self, platform: str) -> str:
        """Give the step's name in the lock: what was asked for and, where that matters, for what platform."""
        return f"{self.source_key} on {platform}" if self.is_per_platform else self.source_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched(Step):
    """A step that fetches: what is common to sources, and in no hash."""

    mirrors: tuple[str, ...] = ()
    licence: str = ""
    redistribute: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Files(Step):
    """The recipe's own files, digested when read, never in the lock."""

    kind: ClassVar[str] = "files"
    is_source: ClassVar[bool] = False

    source: str
    """A path in the recipe's folder: a file, or a folder whose contents are placed."""
    to: str
    """An absolute path in the image; with a trailing slash, the folder that gets it by its name."""
    mode: int | None = None
    """Permission bits for files; by default 0644, or 0755 where executable."""
    uid: int = 0
    gid: int = 0

    @property
    def title(self) -> str:
        return f"files {self.source} to {self.to}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Url(Fetched):
    """One download, by http(s), or ``file:`` inside the recipe's folder."""

    kind: ClassVar[str] = "url"

    url: str
    to: str
    sha256: str = ""
    """64 hex digits, or empty: then the lock's pin alone is checked."""
    unpack: bool = False
    strip: int = 0
    """Leading path components that are dropped from an archive's names."""
    mode: int | None = None

    @property
    def title(self) -> str:
        return f"url {self.url}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Apt(Fetched):
    """Debian packages with all that they depend on."""

    kind: ClassVar[str] = "apt"
    is_per_platform: ClassVar[bool] = True

    suite: str
    packages: tuple[str, ...]
    components: tuple[str, ...] = ("main",)
    arch: str = ""
    """Debian's name of an architecture; empty for the platform's."""
    as_of: str = ""
    """A day (``2024-01-31``) or a moment (``20240131T000000Z``); empty for what is current."""
    configure: bool = False

    @property
    def title(self) -> str:
        return f"apt {self.suite} {' '.join(self.packages)}"

    @property
    def source_key(self) -> str:
        parts = [self.title]
        if self.components != ("main",):
            parts.append(f"components={','.join(self.components)}")
        parts.extend(
            f"{name}={value}" for name, value in (("arch", self.arch), ("as_of", self.as_of)) if value
        )
        return " ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheels(Fetched):
    """Python packages from the configured index, as wheels, with all that they depend on."""

    kind: ClassVar[str] = "wheels"
    is_per_platform: ClassVar[bool] = True

    requirements: tuple[str, ...]
    """PEP 508 requirements."""
    python: str = ""
    """The image's Python, as ``3.11``; empty for the one that the tree below has."""
    as_of: str = ""
    build: bool = False

    @property
    def title(self) -> str:
        return f"wheels {' '.join(self.requirements)}"

    @property
    def source_key(self) -> str:
        named = (("python", self.python), ("as_of", self.as_of))
        return " ".join([self.title, *(f"{name}={value}" for name, value in named if value)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Step):
    """A command that changes the tree, without network or with recorded exchanges."""

    kind: ClassVar[str] = "run"
    is_source: ClassVar[bool] = False

    command: tuple[str, ...]
    """An argument list; a text is run as ``/bin/sh -c text``."""
    env: Mapping[str, str] = field(default_factory=dict)
    network: Literal["", "recorded"] = ""
    owners: bool = False
    threads: int = 1
    workdir: str = ""
    """Empty for the image's."""

    @property
    def title(self) -> str:
        shell = self.command[:2] == ("/bin/sh", "-c")
        text = self.command[2] if shell and len(self.command) == 3 else " ".join(self.command)
        first = text.strip().partition("\n")[0]
        return "run " + (first if len(first) <= 60 else first[:59] + "…")


@dataclass(frozen=True, slots=True, kw_only=True)
class Oci(Fetched):
    """A base image by reference."""

    kind: ClassVar[str] = "oci"
    is_per_platform: ClassVar[bool] = True

    reference: str

    @property
    def title(self) -> str:
        return f"oci {self.reference}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Git(Fetched):
    """A commit of a git repository."""

    kind: ClassVar[str] = "git"

    url: str
    commit: str
    to: str
    submodules: bool = False
    lfs: bool = False

    @property
    def title(self) -> str:
        return f"git {self.url} at {self.commit[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gdrive(Fetched):
    """A file of Google Drive by its id."""

    kind: ClassVar[str] = "gdrive"

    file_id: str
    to: str
    sha256: str = ""
    unpack: bool = False
    strip: int = 0

    @property
    def title(self) -> str:
        return f"gdrive {self.file_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub(Fetched):
    """Files of a model hub's repository at a revision."""

    kind: ClassVar[str] = "hub"

    repository: str
    revision: str
    files: tuple[str, ...] = ()
    layout: str = "huggingface"
    to: str = ""

    @property
    def title(self) -> str:
        return f"hub {self.repository} at {self.revision[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile(Step):
    """A Dockerfile, which expands to other steps."""

    kind: ClassVar[str] = "dockerfile"
    is_source: ClassVar[bool] = False

    path: str
    args: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"dockerfile {self.path}"


STEP_KINDS: Mapping[str, type[Step]] = MappingProxyType(
    {step.kind: step for step in (Files, Url, Apt, Wheels, Run, Oci, Git, Gdrive, Hub, Dockerfile)}
)

# What recipes call. Each checks what can be told without looking at anything, and says where.

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}|\d{8}T\d{6}Z")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=\S+)?")
_SUITE = re.compile(r"[a-z0-9][a-z0-9.-]*")


def files(source: str, *, to: str, mode: int | None = None, uid: int = 0, gid: int = 0) -> Files:
    """Place files of the recipe's own folder.

    ``source``: a file, or a folder whose contents go into ``to``; ``to``: an absolute path in the
    image (with a trailing slash: the folder that gets the file by its name); ``mode``: permission
    bits for the files. Raises RecipeError for paths that make no sense.
    """
    where = Where.caller()
    if source.startswith("/") or ".." in source.split("/"):
        raise RecipeError(
            f"{where}: files({source!r}) leads outside the recipe's folder",
            "name a path inside the recipe's folder, or copy the files there",
        )
    return Files(source=source, to=_inside(to, where), mode=_mode(mode, where), uid=uid, gid=gid, where=where)


def url(
    url: str,
    *,
    to: str,
    sha256: str = "",
    unpack: bool = False,
    strip: int = 0,
    mode: int | None = None,
    mirrors: tuple[str, ...] | list[str] = (),
    licence: str = "",
    redistribute: bool = True,
) -> Url:
    """Fetch one file and place it, or what is in it.

    ``to``: an absolute path (with a trailing slash: the folder that gets the file by the last part
    of its URL; with ``unpack``: the folder that gets the archive's contents); ``sha256``: 64 hex
    digits that the bytes must have; ``unpack``: take the file as tar (plain, gz, bz2, xz, zst) or
    zip; ``strip``: leading path components dropped from its names. Raises RecipeError.
    """
    where = Where.caller()
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "file") or (parts.scheme != "file" and not parts.hostname):
        raise RecipeError(f"{where}: url({url!r}): not an http, https or file address")
    if parts.username or parts.password:
        raise RecipeError(
            f"{where}: url() holds a user name or password, which would be kept in the lock",
            "put credentials into ~/.netrc",
        )
    _check_sha256(sha256, where)
    if strip < 0 or (strip and not unpack):
        raise RecipeError(f"{where}: strip={strip} makes sense only as a count, with unpack=True")
    if unpack and mode is not None:
        raise RecipeError(f"{where}: mode= is for one file; with unpack=True the archive's own modes count")
    return Url(
        url=url,
        to=_inside(to, where),
        sha256=sha256,
        unpack=unpack,
        strip=strip,
        mode=_mode(mode, where),
        mirrors=tuple(mirrors),
        licence=licence,
        redistribute=redistribute,
        where=where,
    )


def apt(
    suite: str,
    *packages: str,
    components: tuple[str, ...] | list[str] | str = ("main",),
    arch: str = "",
    as_of: str = "",
    configure: bool = False,
    mirrors: tuple[str, ...] | list[str] = (),
) -> Apt:
    """Place Debian packages, with what they depend on.

    ``suite``: a codename (``bookworm``); ``packages``: names, or ``name=version``; ``components``:
    parts of the archive; ``arch``: Debian's name of an architecture, by default the platform's;
    ``as_of``: a day or a moment of the snapshot archive. Raises RecipeError.
    """
    where = Where.caller()
    if not packages:
        raise RecipeError(f"{where}: apt({suite!r}) names no package")
    if not _SUITE.fullmatch(suite):
        raise RecipeError(f"{where}: apt({suite!r}, …): the first argument is a suite, like 'bookworm'")
    for package in packages:
        if not _PACKAGE.fullmatch(package):
            raise RecipeError(f"{where}: apt(…, {package!r}): not the name of a Debian package")
    _check_day(as_of, where)
    parts = (components,) if isinstance(components, str) else tuple(components)
    return Apt(
        suite=suite,
        packages=tuple(sorted(set(packages))),
        components=parts,
        arch=arch,
        as_of=as_of,
        configure=configure,
        mirrors=tuple(mirrors),
        where=where,
    )


def wheels(*requirements: str, python: str = "", as_of: str = "", build: bool = False) -> Wheels:
    """Place Python packages, as wheels, with what they depend on.

    ``requirements``: PEP 508 texts; ``python``: the image's version (``3.11``), by default that of
    the tree below; ``as_of``: versions as the index stood on that day. Raises RecipeError.
    """
    where = Where.caller()
    if not requirements:
        raise RecipeError(f"{where}: wheels() names no requirement")
    for requirement in requirements:
        if requirement.startswith("-") or "\n" in requirement or not requirement.strip():
            raise RecipeError(f"{where}: wheels({requirement!r}): not a requirement")
    if python and not re.fullmatch(r"3\.\d+", python):
        raise RecipeError(f"{where}: python={python!r}: a version like '3.11' is needed")
    _check_day(as_of, where)
    return Wheels(
        requirements=tuple(sorted(set(requirements))), python=python, as_of=as_of, build=build, where=where
    )


def run(
    command: str | list[str] | tuple[str, ...],
    *,
    env: Mapping[str, str] | None = None,
    network: Literal["", "recorded"] = "",
    owners: bool = False,
    threads: int = 1,
    workdir: str = "",
) -> Run:
    """Run a command in the tree so far; what it changes is the step's layer.

    ``command``: a text for ``/bin/sh -c``, or an argument list; ``env``: variables beside the
    image's; ``network``: nothing, or ``"recorded"``; ``owners``: a range of uids, so that
    ``chown`` counts; ``threads``: what numeric libraries are told. Raises RecipeError.
    """
    where = Where.caller()
    argv = ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(command)
    if not all(isinstance(part, str) and part and "\0" not in part for part in argv):
        raise RecipeError(f"{where}: run() needs a command")
    if network not in ("", "recorded"):
        raise RecipeError(f"{where}: network={network!r}: only 'recorded' is known")
    return Run(
        command=argv,
        env=_environment(env, where),
        network=network,
        owners=owners,
        threads=threads,
        workdir=workdir and _inside(workdir, where),
        where=where,
    )


def oci(reference: str) -> Oci:
    """Begin with a base image: ``oci("python:3.7-slim")``."""
    return Oci(reference=reference, where=Where.caller())


def git(url: str, commit: str, *, to: str, submodules: bool = False, lfs: bool = False) -> Git:
    """Place the files of a commit (40 hex digits) of a git repository. Raises RecipeError."""
    where = Where.caller()
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit):
        raise RecipeError(f"{where}: git(): {commit!r} is no full commit", "git rev-parse HEAD gives one")
    return Git(url=url, commit=commit, to=_inside(to, where), submodules=submodules, lfs=lfs, where=where)


def gdrive(file_id: str, *, to: str, sha256: str = "", unpack: bool = False, strip: int = 0) -> Gdrive:
    """Place a file of Google Drive by its id. Raises RecipeError."""
    where = Where.caller()
    _check_sha256(sha256, where)
    return Gdrive(
        file_id=file_id, to=_inside(to, where), sha256=sha256, unpack=unpack, strip=strip, where=where
    )


def hub(
    repository: str,
    *,
    revision: str,
    files: tuple[str, ...] | list[str] = (),
    layout: str = "huggingface",
    to: str = "",
) -> Hub:
    """Place files of a model hub's repository in the layout that a library looks for."""
    return Hub(
        repository=repository,
        revision=revision,
        files=tuple(files),
        layout=layout,
        to=to,
        where=Where.caller(),
    )


def dockerfile(path: str, *, args: Mapping[str, str] | None = None) -> Dockerfile:
    """Take the steps of a Dockerfile."""
    return Dockerfile(path=path, args=dict(args or {}), where=Where.caller())


def _inside(path: str, where: Where) -> str:
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise RecipeError(f"{where}: {path!r} is no absolute path in the image")
    return path


def _environment(env: Mapping[str, str] | None, where: Where) -> dict[str, str]:
    for name, value in (env or {}).items():
        fits = isinstance(name, str) and isinstance(value, str) and "\0" not in name + value
        if not fits or not name or "=" in name:
            raise RecipeError(f"{where}: env={{{name!r}: {value!r}}}: no process can have such a variable")
    return dict(env or {})


def _mode(mode: int | None, where: Where) -> int | None:
    if mode is not None and not 0 <= mode <= 0o7777:
        raise RecipeError(f"{where}: mode={mode!r}: permission bits like 0o755 are needed")
    return mode


def _check_sha256(sha256: str, where: Where) -> None:
    if sha256 and not _SHA256.fullmatch(sha256):
        raise RecipeError(f"{where}: sha256={sha256!r}: 64 lower-case hex digits are needed")


def _check_day(as_of: str, where: Where) -> None:
    if as_of and not _DAY.fullmatch(as_of):
        raise RecipeError(f"{where}: as_of={as_of!r}: a day like '2024-01-31' is needed")
