"""Projects whose commands run in a daemon, with what gateways there need.

Knows nothing of what is run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from reprobuild import settings
from reprobuild.build.gateway_python import LOCK, STEP, gateway_python
from reprobuild.build.project import Project as Opened
from reprobuild.build.project import host_platform
from reprobuild.derivation.lockfile import read_lock
from reprobuild.errors import OutsideError
from tests.daemons import Docker
from tests.projects import Project
from tests.require import require


def fetch_packages(store: Path) -> list[Path]:
    """Give the packages of gateways' containers, which come into a store of their own."""
    project = Opened(settings.load({"store": str(store)}, os.environ, str(store)))
    try:
        gateway_python(project, host_platform())
    except OutsideError as error:
        require("registries", error.message.partition("\n")[0])
        raise
    pins = read_lock(LOCK.read_text(), LOCK.name).sources[STEP.lock_key(host_platform())]
    return [store / "blobs" / "sha256" / pin.sha256.hex[:2] / pin.sha256.hex for pin in pins]


@dataclass(frozen=True)
class Engines:
    """A daemon for projects."""

    daemon: Docker
    packages: list[Path]

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which commands run in the daemon."""
        return {**self.daemon.environment, "REPROBUILD_ENGINE": "docker"}

    def there(self, project: Project) -> Project:
        """Give a project that runs its commands in the daemon."""
        project.call("import", *map(str, self.packages))
        return replace(project, environment={**project.environment, **self.environment})
