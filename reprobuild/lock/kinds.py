"""Which module resolves a kind of source, imported when first needed.

Knows nothing of what resolving means for any one kind.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Step
from reprobuild.lock.resolver import Context


class Resolver(Protocol):
    """A module of ``lock`` that pins a kind of source."""

    def resolve(self, step: Step, context: Context) -> tuple[Pin, ...]:
        """Ask upstream what a source is now; give its pins. Raises UpstreamError, OfflineError,
        UsageError for what there is not, and CheckFailedError for what cannot be verified."""


def resolver(kind: str) -> Resolver:
    """Give the module that resolves a kind of source."""
    return cast(Resolver, importlib.import_module(f"reprobuild.lock.{kind}"))
