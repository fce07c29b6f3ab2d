"""The images of a daemon: which it has, which layers it shares with one of ours, how one gets there.

Knows nothing of stores, nor of how an archive comes about. What a daemon says is told in words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from reprobuild.digest import Digest
from reprobuild.engine.docker.daemon import Daemon
from reprobuild.errors import EngineError, ReprobuildError

OUR_LABELS = "org.reprobuild."
"""What the labels of our images begin with; images made ``FROM`` them inherit those."""
_LOOK = "try again; reprobuild doctor tells whether it answers"
_NO_SPACE = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


class RefusedByDaemonError(EngineError):
    """A daemon said no, for another reason than a full disk."""


def image_id(daemon: Daemon, name: str) -> Digest | None:
    """Give the ID under which a daemon has an image, by a tag or an ID; None: it has none."""
    found = _inspect(daemon, name)
    with said_in_words(daemon):
        return None if found is None else Digest(str(found.get("Id")).removeprefix("sha256:"))


def layers_there(daemon: Daemon, layers: Sequence[Digest]) -> frozenset[Digest]:
    """Give those of an image's layers (lowest first) that an archive for this daemon may leave out.

    Docker's own storage opens a layer's file only where it does not have the chain that the layer ends
    (moby, image/tarexport/load.go); Podman reads such an archive as an OCI layout, and only the layers that
    it has nowhere (containers/image, copy/single.go). Where containerd keeps Docker's images all are needed.
    Looks at images of ours, and at those made from them, alone.
    """
    with said_in_words(daemon):
        if daemon.has_snapshotter:
            return frozenset()
        listed = daemon.client.images(all=True)
    there: set[Digest] = set()
    chain = 0
    for one in listed:
        if not any(name.startswith(OUR_LABELS) for name in one.get("Labels") or {}):
            continue
        theirs = _layers_of(daemon, str(one["Id"]))
        there.update(theirs)
        common = 0
        while common < min(len(layers), len(theirs)) and layers[common] == theirs[common]:
            common += 1
        chain = max(chain, common)
        if chain == len(layers):
            break
    if daemon.is_podman:
        return frozenset(there.intersection(layers))
    # One that comes again above is another chain there.
    return frozenset(layers[:chain]) - frozenset(layers[chain:])


def send_archive(daemon: Daemon, chunks: Iterable[bytes], sent: Callable[[int], object]) -> None:
    """Send an archive for ``docker load``; ``sent`` gets the number of bytes of each piece that goes out.

    Raises EngineError for what the daemon says against it, and whatever ``chunks`` raises.
    """
    count = 0

    def counted() -> Iterator[bytes]:
        nonlocal count
        for chunk in chunks:
            yield chunk
            count += len(chunk)
            sent(len(chunk))

    with said_in_words(daemon, lambda: f" after {count:,} bytes"):
        for said in daemon.client.load_image(counted(), quiet=True):
            problem = isinstance(said, dict) and (said.get("error") or said.get("message"))
            if problem:
                raise refusal(daemon, str(problem))


def give_name(daemon: Daemon, image: Digest, tag: str) -> None:
    """Give an image that a daemon has one name more; another image that had it loses it."""
    repository, _, version = tag.rpartition(":")
    with said_in_words(daemon):
        daemon.client.tag(str(image), repository, version)


def refusal(daemon: Daemon, said: str) -> EngineError:
    """Give the error for what a daemon says against what it was asked."""
    text = " ".join(said.split())
    if _NO_SPACE.search(text):
        return EngineError(
            f"{daemon.name}: its disk is full: {text}",
            "docker system prune gives space back there, reprobuild gc what this store keeps there",
        )
    return RefusedByDaemonError(
        f"{daemon.name} refuses: {text}", "reprobuild doctor shows which daemon is used"
    )


@contextmanager
def said_in_words(daemon: Daemon, when: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Raise EngineError for what the SDK raises; ``when``: how far the work had gone."""
    import requests
    from docker.errors import APIError, DockerException

    try:
        yield
    except ReprobuildError:
        raise
    except APIError as error:
        raise refusal(daemon, str(error.explanation or error)) from error
    except (requests.Timeout, TimeoutError) as error:
        raise EngineError(f"{daemon.name} did not answer in time{when()}", _LOOK) from error
    except ValueError as error:
        raise EngineError(f"{daemon.name}: its answer makes no sense: {error}", _LOOK) from error
    except (requests.RequestException, DockerException, OSError) as error:
        raise EngineError(
            f"{daemon.name}: the connection was cut{when()}: {_reason(error)}", _LOOK
        ) from error


def _inspect(daemon: Daemon, name: str) -> dict[str, Any] | None:
    from docker.errors import NotFound

    with said_in_words(daemon):
        try:
            found: dict[str, Any] = daemon.client.inspect_image(name)
        except NotFound:
            return None
    return found


def _layers_of(daemon: Daemon, name: str) -> list[Digest]:
    """Give the layers of a daemon's image, lowest first; none where there is no such image."""
    found = _inspect(daemon, name) or {}
    with said_in_words(daemon):
        layers = (found.get("RootFS") or {}).get("Layers") or []
        return [Digest.parse(str(layer)) for layer in layers]


def _reason(error: BaseException) -> str:
    """Give the innermost reason: what lies around it repeats it, wrapped in names of classes."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error)
