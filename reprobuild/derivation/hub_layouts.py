"""The layouts of ``hub`` steps: where libraries look for models, and what tells them not to ask a server.

Knows nothing of files, which ``build.place.hub`` puts there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from reprobuild.derivation.steps import Hub
from reprobuild.derivation.where import Where
from reprobuild.errors import RecipeError

_OFFLINE = {
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
REPOSITORY_KINDS = ("model", "dataset", "space")
_NAME = r"[A-Za-z0-9][\w.-]*"


@dataclass(frozen=True, slots=True)
class Layout:
    """How one family of libraries keeps what it fetched."""

    folder: str
    """The library's own folder, which ``to`` takes the place of; empty where ``to`` has to be said."""
    env: Mapping[str, str] = field(default_factory=dict)
    """What lets its libraries do without a server."""
    folder_variables: tuple[str, ...] = ()
    """Variables that name another folder than its own."""
    knows_repository: bool = False
    """Whether the repository's name and revision are part of where files lie."""


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "huggingface": Layout("/root/.cache/huggingface", _OFFLINE, ("HF_HOME",), knows_repository=True),
        "plain": Layout(""),
        "nltk": Layout("/root/nltk_data", {}, ("NLTK_DATA",)),
        "torch": Layout("/root/.cache/torch", {}, ("TORCH_HOME",)),
        "transformers-old": Layout(
            "/root/.cache",
            {},
            ("PYTORCH_TRANSFORMERS_CACHE", "TRANSFORMERS_CACHE"),
            knows_repository=True,
        ),
    }
)


def environment_of(step: Hub) -> dict[str, str]:
    """Give the variables by which libraries find what a step places, and ask nobody."""
    layout = LAYOUTS[step.layout]
    return {**layout.env, **(dict.fromkeys(layout.folder_variables, step.to) if step.to else {})}


def checked_hub(make: Callable[..., Hub], repository: str, **given: object) -> Hub:
    """Give a step if it can be one. Raises RecipeError, saying where it stands."""
    step = make(repository=repository, **given)
    _check_revision(step, step.where)
    call = f"{step.where}: hub({repository!r}, …)"
    if not re.fullmatch(rf"{_NAME}(/{_NAME})?", repository) or ".." in repository or "--" in repository:
        raise RecipeError(f"{call}: not the name of a repository", "it is like 'organisation/name'")
    if step.repository_kind not in REPOSITORY_KINDS:
        raise RecipeError(f"{call}: kind={step.repository_kind!r}: one of {', '.join(REPOSITORY_KINDS)}")
    if step.layout not in LAYOUTS:
        raise RecipeError(f"{call}: layout={step.layout!r}: one of {', '.join(LAYOUTS)}")
    if step.layout == "transformers-old" and step.repository_kind != "model":
        raise RecipeError(f"{call}: layout='transformers-old' is for models")
    if not step.to and not LAYOUTS[step.layout].folder:
        raise RecipeError(f"{call}: layout={step.layout!r} needs a folder", "say where: to='/app/model'")
    _check_files(step.files, call)
    return step


def _check_revision(step: Hub, where: Where) -> None:
    if re.fullmatch(r"[0-9a-f]{40}", step.revision):
        return
    prefix = {"dataset": "datasets/", "space": "spaces/"}.get(step.repository_kind, "")
    raise RecipeError(
        f"{where}: hub({step.repository!r}, revision={step.revision!r}): branches and tags move; the full "
        "commit (40 hex digits) is needed",
        f"git ls-remote https://huggingface.co/{prefix}{step.repository} {step.revision or 'main'} gives it",
    )


def _check_files(files: Sequence[str], call: str) -> None:
    for pattern in files:
        parts = pattern.split("/")
        if not pattern or pattern.startswith("/") or ".." in parts or "\0" in pattern:
            raise RecipeError(f"{call}: files={list(files)!r}: paths or patterns inside the repository")
