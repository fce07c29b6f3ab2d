"""Keys of predictions, and the run ID: what decides that two predictions are the same one.

Knows nothing of caches. The forms hashed here are specified in ``docs/predictions.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reprobuild.canonical import canonical, canonical_digest
from reprobuild.derivation.predictors import Predictor
from reprobuild.digest import Digest

KEY_SCHEMA = 1
"""Changes whenever equal predictions would get other keys, or other ones equal keys."""
RUN_SCHEMA = 1


def run_id(layers: Sequence[Digest], env: Mapping[str, str], workdir: str, user: str = "0:0") -> Digest:
    """Give the digest of what a command in an image can see.

    ``layers``: the ``diff_id`` of each layer, bottom first; ``env``: the image's variables;
    ``user``: ``uid:gid``.
    """
    return canonical_digest(
        {
            "env": dict(env),
            "layers": [str(layer) for layer in layers],
            "schema": RUN_SCHEMA,
            "user": user,
            "workdir": workdir,
        }
    )


class KeyMaker:
    """Makes the keys of one call: all but the records is hashed once.

    The key is the sha256 of canonical JSON of what the call's predictions share, a newline, and the
    canonical record (item scope) or list of records (batch scope). Canonical JSON holds no newline,
    so that nothing else can give the same bytes.
    """

    def __init__(
        self,
        run: Digest,
        predictor: Predictor,
        parameters: Mapping[str, Any],
        device_class: str,
    ) -> None:
        """Take the parameters filled in (with ``seed`` where there is one)."""
        few: dict[str, str] = {"refusal": predictor.refusal} if predictor.refusal else {}
        if predictor.macro == "corpus":
            few["macro"] = predictor.macro
        self.making = canonical(
            {
                "command": predictor.command,
                "device": device_class,
                "exchanges": [dict(one) for one in predictor.exchanges],
                "inputs": dict(predictor.inputs),
                "outputs": dict(predictor.outputs),
                "parameters": dict(parameters),
                "protocol": predictor.protocol,
                "run_id": str(run),
                "schema": KEY_SCHEMA,
                "scope": predictor.scope,
                "threads": predictor.threads,
                **few,
            }
        )
        """What the predictions of the call share: all of their keys but the record (``makings``)."""
        self._prefix = hashlib.sha256(self.making + b"\n")

    def items(self, records: Iterable[bytes]) -> list[bytes]:
        """Give the key (32 bytes) of each canonical record, for item scope."""
        copy = self._prefix.copy
        keys = []
        for record in records:
            hasher = copy()
            hasher.update(record)
            keys.append(hasher.digest())
        return keys

    def batch(self) -> BatchKey:
        """Begin the key of a whole call, for batch scope."""
        return BatchKey(self._prefix.copy())


class BatchKey:
    """The key of a list of records that comes in parts."""

    def __init__(self, hasher: Any) -> None:
        self._hasher = hasher
        self._opening = b"["

    def add(self, records: Sequence[bytes]) -> None:
        """Take the next canonical records."""
        if records:
            self._hasher.update(self._opening + b",".join(records))
            self._opening = b","

    def digest(self) -> bytes:
        """Give the key (32 bytes) of all records so far."""
        hasher = self._hasher.copy()
        hasher.update(b"]" if self._opening == b"," else b"[]")
        return bytes(hasher.digest())
