"""Keeps what a call computed: sealed, in groups as it comes, and says what differs from what was kept.

Knows nothing of how it was computed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

from reprobuild.errors import ReprobuildError
from reprobuild.events import Note, Tell, Warned
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.parameters import driver_of
from reprobuild.predict.sealed import provenance
from reprobuild.predict.target import Target

NAMED = 5
"""Records named where many are concerned."""


class Keeper:
    """Keeps the outputs of one call; what can't be kept is still given out, with one warning."""

    def __init__(
        self,
        cache: PredictionCache | None,
        target: Target,
        *,
        tag: str,
        device: str,
        device_class: str,
        making: bytes,
        samples: bool,
        refreshes: bool,
        tell: Tell,
    ) -> None:
        """``cache``: None where nothing is to be kept; ``tag``: what a person calls the predictor;
        ``making``: what the keys share; ``samples``: whether inputs may be kept for audits;
        ``refreshes``: whether outputs take the place of those that are there."""
        self.replaced: set[bytes] = set()
        """Keys of predictions that give way in any case."""
        self._cache = cache
        self._target = target
        self._tag = tag
        self._device = device
        self._device_class = device_class
        self._making = making
        self._samples = samples
        self._refreshes = refreshes
        self._tell = tell
        self._changed: list[str] = []
        self._changed_count = 0

    def keep(
        self,
        outputs: Sequence[tuple[bytes, bytes]],
        records: Callable[[], Iterable[bytes]],
        labels: Callable[[int], str],
        *,
        items: int,
        seconds: float,
        refused: int,
    ) -> None:
        """Keep outputs by their keys, all or none.

        ``records``: gives what entered their keys; ``labels``: says what one of them is called; the
        rest: how many records took how long, and how many things were refused meanwhile.
        """
        if self._cache is None:
            return
        try:
            if self._refreshes:
                self._compare(self._cache, outputs, labels)
            self._cache.put_many(
                outputs,
                provenance(
                    self._device_class,
                    self._target.engine().name,
                    seconds=seconds,
                    items=items,
                    run=self._target.run_id.short,
                    refused=refused,
                    making=self._making,
                    driver=self._driver,
                ),
                tag=self._tag,
                replace=self._refreshes or not self.replaced.isdisjoint(key for key, _ in outputs),
                making=self._making,
                records=records() if self._samples else (),
            )
        except ReprobuildError as error:
            self._cache = None
            self._tell(Warned(f"outputs of {self._tag} are not kept: {error.message}", error.hint))

    @functools.cached_property
    def _driver(self) -> str:
        return driver_of(self._device, self._target.engine)

    def tell_changed(self) -> None:
        """Say which outputs differ from those that were kept, if any do."""
        if count := self._changed_count:
            more = f" and {count - len(self._changed)} more" if count > len(self._changed) else ""
            self._tell(
                Note(f"the output differs from the one that was kept: {', '.join(self._changed)}{more}")
            )

    def _compare(
        self, cache: PredictionCache, outputs: Sequence[tuple[bytes, bytes]], labels: Callable[[int], str]
    ) -> None:
        before = cache.get_many([key for key, _ in outputs]).outputs
        for place, (key, output) in enumerate(outputs):
            if before.get(key, output) != output:
                self._changed_count += 1
                if len(self._changed) < NAMED:
                    self._changed.append(labels(place))
