"""The steps of an image as frozen data; ``words`` has the functions that recipes call to make them.

``written`` has those that only Dockerfiles have. Knows nothing of how a source is resolved, fetched or
placed. A step says what is wanted; pins say what that came to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from reprobuild.canonical import canonical_digest
from reprobuild.derivation.where import Where

DEBIAN_ARCHITECTURES = {"linux/amd64": "amd64", "linux/arm64": "arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One entry of an image. What is common to all kinds."""

    kind: ClassVar[str]
    is_per_platform: ClassVar[bool] = False
    """Whether it comes to other files on another platform."""
    pins_trees: ClassVar[bool] = False
    """Whether its pins are listings of trees, of no use without the bodies that they name."""

    where: Where = field(default_factory=Where)

    @property
    def title(self) -> str:
        """What progress and errors call the step: kind and its chief argument."""
        raise NotImplementedError

    @property
    def is_source(self) -> bool:
        """Whether it has pins in the lock."""
        return True

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

    @property
    def is_source(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedFile(Fetched):
    """One file from somewhere, placed as it is, or what is in it."""

    to: str
    sha256: str = ""
    """64 hex digits, or empty: then the lock's pin alone is checked."""
    unpack: bool = False
    strip: int = 0
    """Leading path components that are dropped from an archive's names."""
    mode: int | None = None

    @property
    def has_name_of_its_own(self) -> bool:
        """Tell whether the file's own name decides where it is placed."""
        return self.to.endswith("/") and not self.unpack


@dataclass(frozen=True, slots=True, kw_only=True)
class Url(FetchedFile):
    """One download, by http(s), or ``file:`` inside the recipe's folder."""

    kind: ClassVar[str] = "url"

    url: str

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
        parts = [self.title, *(f"{name}={value}" for name, value in named if value)]
        return " ".join([*parts, "build=True"] if self.build else parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Step):
    """A command that changes the tree, without network or with recorded exchanges."""

    kind: ClassVar[str] = "run"
    is_per_platform: ClassVar[bool] = True

    command: tuple[str, ...]
    """An argument list; a text is run as ``/bin/sh -c text``."""
    env: Mapping[str, str] = field(default_factory=dict)
    network: Literal["", "recorded"] = ""
    owners: bool = False
    threads: int = 1
    workdir: str = ""
    """Empty for the image's."""
    ports: tuple[int, ...] = ()
    """TCP ports that are recorded beside 80 and 443, ascending."""
    answers: Mapping[str, Fetched] = field(default_factory=dict)
    """URL → the source whose one file answers it, whatever upstream would say."""
    refusal: Literal["", "reset"] = ""
    """How refused requests end: an HTTP 403, or a connection that is cut."""
    shell: bool = False
    """Whether the image's own shell, where it names one, takes the place of ``/bin/sh -c``."""
    mounts: tuple[str, ...] = ()
    """Of a Dockerfile's ``RUN --mount``: as they are written there."""
    context: str = ""
    """Of its mounts: a folder of the recipe's folder; empty: that itself."""
    ignore: tuple[str, ...] = ()
    """Of its mounts: what ``.dockerignore`` says."""
    setting: str = ""
    """What tells it from an equal command of the same Dockerfile, in another stage or setting."""

    @property
    def is_source(self) -> bool:
        return self.network == "recorded"

    @property
    def source_key(self) -> str:
        """The title, and 12 hex digits of the sha256 over all of the step that decides what it fetches."""
        decides = {
            "command": list(self.command),
            "env": dict(self.env),
            "owners": self.owners,
            "threads": self.threads,
            "workdir": self.workdir,
            "ports": list(self.ports),
            "refusal": self.refusal,
            **({"setting": self.setting} if self.setting else {}),
            "answers": {
                url: [source.source_key, getattr(source, "sha256", "")]
                for url, source in self.answers.items()
            },
        }
        return f"{self.title} #{canonical_digest(decides).short}"

    @property
    def which(self) -> str:
        """The part of the step's key in a lock that no other has: ``#0123456789ab``."""
        return self.source_key.rpartition(" ")[2]

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
    pins_trees: ClassVar[bool] = True

    url: str
    """http(s), or ``file:`` for a bundle inside the recipe's folder."""
    commit: str
    """The whole name: 40 hex digits, or 64 in a repository of sha256 objects."""
    to: str
    submodules: bool = False
    lfs: bool = False

    @property
    def title(self) -> str:
        return f"git {self.url} at {self.commit[:12]}"

    @property
    def source_key(self) -> str:
        flags = (("submodules", self.submodules), ("lfs", self.lfs))
        return " ".join([f"git {self.url} at {self.commit}", *(name for name, is_set in flags if is_set)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Gdrive(FetchedFile):
    """A file of Google Drive by its id."""

    kind: ClassVar[str] = "gdrive"

    file_id: str

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
    """Paths, or patterns as the shell has them; none for all."""
    layout: str = "huggingface"
    to: str = ""
    """The folder that takes the place of the layout's own; empty for that."""
    repository_kind: str = "model"
    """``model``, ``dataset`` or ``space``."""

    @property
    def title(self) -> str:
        return f"hub {self.repository} at {self.revision[:12]}"

    @property
    def source_key(self) -> str:
        parts = [f"hub {self.repository} at {self.revision}"]
        if self.repository_kind != "model":
            parts.append(f"kind={self.repository_kind}")
        if self.files:
            parts.append(f"files={','.join(self.files)}")
        return " ".join(parts)
