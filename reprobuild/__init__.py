"""reprobuild: published machine-learning models, pinned, built hermetically, rerun offline.

A recipe imports its words from here: ``from reprobuild import apt, files, image, predictor, recipe``.
``load("tutorial")`` gives a model to predict with.
"""

from __future__ import annotations

__version__ = "0.1.0"

# The words of recipes; ``load`` and ``aggregate`` are for those who predict.
__all__ = [
    "File",
    "apt",
    "dockerfile",
    "files",
    "gdrive",
    "git",
    "hub",
    "image",
    "oci",
    "predictor",
    "recipe",
    "run",
    "url",
    "wheels",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.derivation.predictors import File as File
    from reprobuild.derivation.predictors import predictor as predictor
    from reprobuild.derivation.recipe import image as image
    from reprobuild.derivation.recipe import recipe as recipe
    from reprobuild.derivation.words import apt as apt
    from reprobuild.derivation.words import dockerfile as dockerfile
    from reprobuild.derivation.words import files as files
    from reprobuild.derivation.words import gdrive as gdrive
    from reprobuild.derivation.words import git as git
    from reprobuild.derivation.words import hub as hub
    from reprobuild.derivation.words import oci as oci
    from reprobuild.derivation.words import run as run
    from reprobuild.derivation.words import url as url
    from reprobuild.derivation.words import wheels as wheels
    from reprobuild.predict.metrics import Evaluation as Evaluation
    from reprobuild.predict.metrics import aggregate as aggregate
    from reprobuild.predict.model import Model as Model
    from reprobuild.predict.model import load as load

_HOMES = {
    "File": "reprobuild.derivation.predictors",
    "predictor": "reprobuild.derivation.predictors",
    "image": "reprobuild.derivation.recipe",
    "recipe": "reprobuild.derivation.recipe",
    "load": "reprobuild.predict.model",
    "Model": "reprobuild.predict.model",
    "Evaluation": "reprobuild.predict.metrics",
    "aggregate": "reprobuild.predict.metrics",
    **dict.fromkeys(
        ("apt", "dockerfile", "files", "gdrive", "git", "hub", "oci", "run", "url", "wheels"),
        "reprobuild.derivation.words",
    ),
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: a plain ``import reprobuild`` stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'reprobuild' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
