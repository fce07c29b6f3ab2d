"""What verbs work with: settings, the store, an engine, and whom to tell.

Knows nothing of any verb. The store and the engine are opened when first asked for.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from reprobuild.build import recipes
from reprobuild.engine.protocol import Engine
from reprobuild.errors import UsageError
from reprobuild.events import Tell, ignore
from reprobuild.settings import Settings
from reprobuild.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.engine.docker.helper import Python

ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def host_platform() -> str:
    """Give this machine's platform as OCI writes it: ``linux/amd64``. Raises UsageError for others."""
    here = os.uname()
    system, architecture = here.sysname.lower(), ARCHITECTURES.get(here.machine.lower())
    if system != "linux" or architecture is None:
        raise UsageError(
            f"images are built for linux/amd64 and linux/arm64, and this is {system}/{here.machine}"
        )
    return f"linux/{architecture}"


class Project:
    """Settings with what they lead to."""

    def __init__(self, settings: Settings, tell: Tell = ignore, platform: str = "") -> None:
        """``platform``: as OCI writes it; empty: this machine's."""
        self.settings = settings
        self.tell = tell
        self.platform = platform or host_platform()
        self.silent: set[str] = set()
        """Registries that did not answer as substituters, and are asked no more."""

    @cached_property
    def store(self) -> Store:
        """The store, made if it is not there."""
        return Store.open(Path(self.settings.store))

    @cached_property
    def engine(self) -> Engine:
        """The engine that the settings ask for; its ``run`` raises EngineError where it cannot isolate.

        Raises EngineError where that is left open and none can.
        """
        if self.settings.engine == "docker":
            return self.docker
        if self.settings.engine == "sandbox":
            return self.sandbox
        from reprobuild.build.engines import choose

        return choose(self.store, self.sandbox, lambda: self.docker, self.tell)

    @cached_property
    def sandbox(self) -> Engine:
        """The embedded engine, whether it works here or not."""
        from reprobuild.engine.sandbox import SandboxEngine

        scratch = Path(self.settings.scratch) if self.settings.scratch else self.store.root / "tmp"
        return SandboxEngine(scratch, self.store.owner, self.store.checkouts)

    @cached_property
    def docker(self) -> Engine:
        """The engine for daemons, whether one is there or not."""
        from reprobuild.engine.docker.engine import DockerEngine

        def python(platform: str) -> Python:
            from reprobuild.build.gateway_python import gateway_python

            return gateway_python(self, platform)

        return DockerEngine(self.store, self.platform, python=python, tell=self.tell)

    @cached_property
    def other_engine(self) -> Engine | None:
        """The engine beside the one that is used, for checks; None where it does not work."""
        other = self.sandbox if self.engine.name == "docker" else self.docker
        return other if other.probe().available else None

    def recipe_folder(self, name: str) -> Path:
        """Give the folder of a recipe. Raises UsageError for a name that there is not."""
        return Path(recipes.find(self.settings.recipes, name))

    def is_own(self, folder: Path) -> bool:
        """Tell whether a recipe is the user's own: in the project, or part of this package."""
        package = Path(__file__).resolve().parent.parent
        homes = [package, *([Path(self.settings.project)] if self.settings.project else [])]
        return any(folder.resolve().is_relative_to(home.resolve()) for home in homes)
