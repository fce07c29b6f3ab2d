"""What predictions are made with: an image that is there, and the engine that runs it, as one value.

Knows nothing of recipes, locks and how images are built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprobuild.derivation.predictors import Predictor
from reprobuild.digest import Digest
from reprobuild.engine.protocol import Command, Engine, Ground, Result
from reprobuild.errors import PredictionFailedError, UsageError
from reprobuild.predict.key import run_id
from reprobuild.value import Value

if TYPE_CHECKING:
    from reprobuild.build.image import Realised
    from reprobuild.build.project import Project
    from reprobuild.gateway.gate import Gate
    from reprobuild.tree import Layer

DEFAULT = "default"


class Target(Value, kw_only=True):
    """An image to predict with; ``engine`` is called only to compute something."""

    recipe: str
    """The recipe's name, for people."""
    input_hash: Digest
    image_id: Digest
    run_id: Digest
    """See ``key.run_id``."""
    env: Mapping[str, str]
    workdir: str
    predictors: Mapping[str, Predictor]
    store: Path
    """The store's root."""
    layers: Sequence[Layer | Digest]
    """Of the image, lowest first: themselves, or the digests of their listings."""
    engine: Callable[[], Engine]
    scratch: Callable[[str], AbstractContextManager[Path]]
    """Makes a private folder, by a prefix for its name, and removes it at the end."""
    gateway: Callable[[Predictor], Gate]
    """Gives what answers on the network of one run: what was recorded of the predictor, or nothing."""
    strict_network: bool = False
    """Whether a refused attempt is a failure although the command coped."""
    tag: str = ""
    """The image's."""

    def predictor(self, name: str) -> Predictor:
        """Give a predictor by its name; raises UsageError, naming those that there are."""
        if name in self.predictors:
            return self.predictors[name]
        known = ", ".join(f"{self.recipe}/{other}" for other in self.predictors)
        if not known:
            raise UsageError(f"{self.recipe} has no predictors", "add predictors={…} to its image(…)")
        raise UsageError(f"{self.recipe} has no predictor {name!r}", f"one of {known}")

    def run(
        self, name: str, engine: Engine, ground: Ground, command: Command, gate: Gate, **how: Any
    ) -> Result:
        """Run a predictor's command on ``ground``, the image; ``how``: as ``Engine.run`` takes it.

        Raises what that raises, and PredictionFailedError for a command that cannot start.
        """
        from reprobuild.engine.program import obstacle

        if problem := obstacle(ground, command):
            raise PredictionFailedError(
                f"the predictor {self.recipe}/{name} cannot start: {problem} in its image",
                f"add what it needs to its recipe: reprobuild show {self.recipe}",
            )
        return engine.run(ground, command, gateway=gate, **how)


def make_target(project: Project, realised: Realised) -> Target:
    """Give what a realised image predicts with; the engine is asked for when something must be computed."""
    store = project.store

    def gateway(predictor: Predictor) -> Gate:
        from reprobuild.gateway.gate import refusing, replaying

        reset, word = predictor.refusal == "reset", "predictor"
        if not predictor.network:
            return refusing(store, reset=reset, word=word)
        from reprobuild.derivation.lockfile import pin_from_json

        return replaying(store, [pin_from_json(one) for one in predictor.exchanges], reset=reset, word=word)

    layers = [layer.diff_id for layer in realised.layers]
    return Target(
        recipe=realised.recipe,
        input_hash=realised.input_hash,
        image_id=realised.image_id,
        run_id=run_id(layers, realised.env, realised.workdir),
        env=realised.env,
        workdir=realised.workdir,
        predictors=realised.predictors,
        store=store.root,
        layers=[layer.listing for layer in realised.layers],
        engine=lambda: project.engine,
        scratch=store.scratch,
        gateway=gateway,
        strict_network=project.settings.strict_network,
        tag=realised.tag,
    )


def find_target(project: Project, name: str, options: Mapping[str, str | int | float | bool]) -> Target:
    """Give what to predict with by the name of a recipe, built first if need be, or by a built image's tag.

    ``options``: the recipe's. Raises UsageError, and what ``realize`` raises.
    """
    from reprobuild.build.find import find_image, is_reference
    from reprobuild.build.realize import realize

    if not is_reference(project, name):
        return make_target(project, realize(project, name, options))
    if options:
        raise UsageError(f"{name} is a built image: it has no options", "name its recipe instead")
    return make_target(project, find_image(project.store, name))


def split_name(name: str) -> tuple[str, str]:
    """Take ``NAME/PREDICTOR`` apart; ``NAME`` alone means the predictor ``default``.

    The name may be a tag, which has slashes and colons of its own.
    """
    before, colon, last = name.rpartition(":")
    image, _, predictor = last.partition("/")
    return f"{before}{colon}{image}", predictor or DEFAULT
