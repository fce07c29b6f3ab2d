"""Steps that only Dockerfiles have, as frozen data: settings, copies, ends of stages.

Knows nothing of how Dockerfiles are read, nor of the trees that these steps make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from reprobuild.derivation.steps import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Written(Step):
    """An instruction of a Dockerfile; words are kept as they are written there, variables still in them."""

    @property
    def is_source(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(Written):
    """An instruction of a Dockerfile that changes no file: what later ones and the image's config see."""

    kind: ClassVar[str] = "setting"

    word: str
    """The instruction, in capitals: ``ENV``, ``WORKDIR``, ``CMD``."""
    values: tuple[str, ...]
    """Names and values in turn for ENV, ARG and LABEL."""
    escape: str = "\\"
    """What takes a character's meaning away in that Dockerfile."""

    @property
    def title(self) -> str:
        shown = list(filter(None, self.values[1:] if self.word in ("CMD", "ENTRYPOINT") else self.values))
        if self.word in ("ENV", "ARG", "LABEL"):
            shown = [
                f"{name}={value}" for name, value in zip(self.values[::2], self.values[1::2], strict=True)
            ]
        text = " ".join([self.word, *shown]).partition("\n")[0]
        return text if len(text) <= 60 else text[:59] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Written):
    """``COPY`` and ``ADD`` of a Dockerfile: files of the recipe's folder, or of another stage."""

    kind: ClassVar[str] = "copy"

    sources: tuple[str, ...]
    """Of the context: paths and globs; of a stage: as they are written, variables still in them."""
    to: str
    """As it is written."""
    stage: str = ""
    """The stage that they come from; empty: the context."""
    context: str = ""
    """A folder of the recipe's folder; empty: that itself."""
    ignore: tuple[str, ...] = ()
    """What ``.dockerignore`` says."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Here-documents: name → content."""
    expands: tuple[str, ...] = ()
    """Names of those in which variables are replaced."""
    exclude: tuple[str, ...] = ()
    """Patterns of what is left out of the sources."""
    chown: str = ""
    chmod: str = ""
    unpack: bool = False
    """Whether archives are unpacked (``ADD``)."""
    escape: str = "\\"

    @property
    def title(self) -> str:
        whence = f"--from={self.stage} " if self.stage else ""
        named = " ".join([*self.sources, *(f"<<{name}" for name in self.texts), self.to])
        return f"{'ADD' if self.unpack else 'COPY'} {whence}{named}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Written):
    """The end of a Dockerfile's stage: what there is so far is set aside, and another begins."""

    kind: ClassVar[str] = "stage"

    name: str
    """By which ``Copy`` and ``Run`` speak of the stage that ends."""
    begin: str = ""
    """The stage whose files and settings the next begins with; empty: nothing."""

    @property
    def title(self) -> str:
        return f"stage {self.name}"
