"""A gate: what stands between one command and the network. It refuses, replays, or records.

``refusing(store)``, ``replaying(store, pins)``, ``recording(store, settings, tell=…)`` give one; the engine
opens it when something arrives and closes it when the command has ended; then it tells what happened.
Light on purpose: every run has one, and most never touch the network. Knows nothing of HTTP or sockets.
"""

from __future__ import annotations

from reprobuild.gateway.authority import certificate
from reprobuild.gateway.refusal import Refusal as Refusal
from reprobuild.value import NOTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reprobuild.derivation.pins import Pin
    from reprobuild.engine.protocol import Door
    from reprobuild.events import Tell
    from reprobuild.gateway.service import Service
    from reprobuild.settings import Settings
    from reprobuild.store.store import Store


class Mode:
    """What a gate does with requests; the values that ``Service`` needs."""

    def __init__(
        self,
        *,
        pins: Sequence[Pin] = (),
        settings: Settings | None = None,
        tell: Tell | None = None,
        resets: bool = False,
        word: str = "run",
    ) -> None:
        self.pins = pins
        """Replay: the record. Record: what is answered without asking upstream."""
        self.settings = settings
        """Record alone."""
        self.tell = tell
        self.resets = resets
        self.word = word
        """What the command is in a recipe: ``run`` or ``predictor``."""

    @property
    def is_recording(self) -> bool:
        """Whether upstream is asked."""
        return self.settings is not None


class Gate:
    """Serves one command (``engine.protocol.Gateway``)."""

    def __init__(
        self, store: Store, mode: Mode, ports: Sequence[int] = (), *, has_world: bool = True
    ) -> None:
        self._store = store
        self._mode = mode
        self._service: Service | None = None
        self.word = mode.word
        self.has_answers = mode.is_recording or bool(mode.pins)
        self.ports: Sequence[int] = tuple(ports)
        self.certificate = certificate(store)
        self.env: Mapping[str, str] = NOTHING
        self.files: Mapping[str, bytes] = NOTHING
        if has_world:
            from reprobuild.gateway import world

            self.env = world.ENVIRONMENT
            self.files = world.files(store)
        self._refused: tuple[Refusal, ...] = ()
        self.unused: tuple[Pin, ...] = () if mode.is_recording else tuple(mode.pins)
        """After a replay: recorded exchanges that nobody asked for."""
        self.pins: tuple[Pin, ...] = ()
        """After a recording: the exchanges; their bodies are in the store."""
        self.notes: tuple[str, ...] = ()
        """After a recording: what a person should hear."""
        self.unreached: Mapping[str, str] = NOTHING
        """After a recording: what no server could be asked for (``GET https://…``), and why."""

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """Each distinct attempt that was not answered, once; while it serves, those until now."""
        service = self._service
        return self._refused if service is None else service.refused

    def attend(self, door: Door) -> None:
        """Begin to serve; returns at once."""
        from reprobuild.gateway.service import Service

        self._service = Service(self._store, self._mode, door)
        self._service.start()

    def close(self) -> None:
        """Stop serving; what happened can be read then."""
        service = self._service
        if service is None:
            return
        service.close()
        self._refused = service.refused
        self._service = None
        self.unused = service.unused
        self.pins = service.pins
        self.notes = service.notes
        self.unreached = service.unreached


def refusing(store: Store, *, reset: bool = False, word: str = "run") -> Gate:
    """Give a gate that answers nothing and tells what was tried; ``reset``: by cut connections.

    ``word``: what the command is in a recipe, ``run`` or ``predictor``.
    """
    return Gate(store, Mode(resets=reset, word=word), has_world=False)


def replaying(
    store: Store,
    pins: Sequence[Pin],
    *,
    ports: Sequence[int] = (),
    reset: bool = False,
    word: str = "run",
) -> Gate:
    """Give a gate that answers what is recorded, from the store, and refuses all else."""
    return Gate(store, Mode(pins=pins, resets=reset, word=word), ports)


def recording(
    store: Store,
    settings: Settings,
    *,
    tell: Tell,
    answers: Sequence[Pin] = (),
    ports: Sequence[int] = (),
    reset: bool = False,
    word: str = "run",
) -> Gate:
    """Give a gate that asks upstream and records; ``answers``: exchanges that are answered from the store."""
    mode = Mode(pins=answers, settings=settings, tell=tell, resets=reset, word=word)
    return Gate(store, mode, ports)
