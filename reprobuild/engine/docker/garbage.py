"""Removes from container daemons the trees that a store does not need there any more.

Knows nothing of what needs them: that is ``store.gc``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from reprobuild.engine.docker.context import chosen
from reprobuild.engine.docker.daemon import Daemon, connect
from reprobuild.engine.docker.images import said_in_words
from reprobuild.engine.docker.trees import name_of
from reprobuild.errors import EngineError
from reprobuild.events import Tell, Warned
from reprobuild.store.daemons import KeptTree
from reprobuild.store.store import Store

CONFLICT = 409
"""What the API answers where a container uses an image."""


def collect(
    store: Store, idle: Iterable[KeptTree], cutoff: float, environment: Mapping[str, str], tell: Tell
) -> Iterator[tuple[KeptTree, int]]:
    """Remove trees from the daemons that keep them; give each that went, with its size in bytes.

    ``idle``: as a plan of ``store.gc`` names them; ``cutoff``: what was used later stays. A daemon that
    cannot be reached is told of, and keeps what it has.
    """
    by_host: dict[str, list[KeptTree]] = {}
    for one in idle:
        by_host.setdefault(one.host, []).append(one)
    for host, trees in by_host.items():
        try:
            with connect(_environment_for(host, environment)) as daemon:
                for one in trees:
                    place = store.daemons.locate(host, one.tree)
                    if os.path.exists(place) and os.stat(place).st_ctime < cutoff:
                        size = _remove(daemon, name_of(one.tree, daemon))
                        if size is not None:
                            store.daemons.forget(host, one.tree)
                            yield one, size
        except EngineError as error:
            tell(Warned(f"trees stay in a container daemon: {error.message}", error.hint))


def _environment_for(host: str, environment: Mapping[str, str]) -> Mapping[str, str]:
    """Give variables that lead to a daemon: those that there are, with their certificates, if they do."""
    endpoint = chosen(environment)
    if endpoint is not None and endpoint.host == host:
        return environment
    return {**environment, "DOCKER_HOST": host}


def _remove(daemon: Daemon, name: str) -> int | None:
    """Remove an image; give its size, 0 where it was gone; None where a container uses it."""
    from docker.errors import APIError, NotFound

    with said_in_words(daemon):
        try:
            found = daemon.client.inspect_image(name)
            daemon.client.remove_image(name)
        except NotFound:
            return 0
        except APIError as error:
            if error.status_code == CONFLICT:
                return None
            raise
        return int(found.get("Size") or 0)
