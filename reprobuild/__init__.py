"""reprobuild: published machine-learning models, pinned, built hermetically, rerun offline.

A recipe imports its words from here: ``from reprobuild import apt, files, image, predictor, recipe``.
``load("tutorial")`` gives a model to predict with.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.predict.model import load as load
    from reprobuild.recipe.predictors import File as File
    from reprobuild.recipe.predictors import predictor as predictor
    from reprobuild.recipe.recipe import image as image
    from reprobuild.recipe.recipe import recipe as recipe
    from reprobuild.recipe.steps import apt as apt
    from reprobuild.recipe.steps import dockerfile as dockerfile
    from reprobuild.recipe.steps import files as files
    from reprobuild.recipe.steps import gdrive as gdrive
    from reprobuild.recipe.steps import git as git
    from reprobuild.recipe.steps import hub as hub
    from reprobuild.recipe.steps import oci as oci
    from reprobuild.recipe.steps import run as run
    from reprobuild.recipe.steps import url as url
    from reprobuild.recipe.steps import wheels as wheels

_HOMES = {
    "File": "reprobuild.recipe.predictors",
    "predictor": "reprobuild.recipe.predictors",
    "image": "reprobuild.recipe.recipe",
    "recipe": "reprobuild.recipe.recipe",
    "load": "reprobuild.predict.model",
    **dict.fromkeys(
        ("apt", "dockerfile", "files", "gdrive", "git", "hub", "oci", "run", "url", "wheels"),
        "reprobuild.recipe.steps",
    ),
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: a plain ``import reprobuild`` stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'reprobuild' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
