"""The files of records that verbs other than ``predict`` take, read as that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reprobuild.cli.arguments import pairs
from reprobuild.value import Value

if TYPE_CHECKING:
    from reprobuild.derivation.predictors import Predictor
    from reprobuild.predict.staging import StagedFiles


class Records(Value):
    """A file of records, as it was named."""

    path: str
    """``-``: standard input."""
    form: str | None = None
    """``--format``; None: as the path's ending says."""
    mapping: Sequence[str] = ()
    """``--map``, each."""


class Given(NamedTuple):
    """Records that were given, to be read once."""

    chunks: Iterator[list[bytes]]
    """Canonical."""
    label: Callable[[int], str]
    """What to call one, by its index."""
    staged: StagedFiles | None
    """The files that they name."""


def read(records: Records, predictor: Predictor, tag: str, limit: int | None = None) -> Given:
    """Give the canonical records of a file as ``predict`` reads it, what to call each, and their files.

    Raises UsageError for a form that there is not; reading raises InputError, UsageError.
    """
    from reprobuild.predict.fields import Fields
    from reprobuild.predict.forms import form_of, said_form
    from reprobuild.predict.intake import Intake
    from reprobuild.predict.sources import Sources
    from reprobuild.predict.staging import StagedFiles

    fields = Fields(predictor.inputs)
    hint = f"{tag} takes " + ", ".join(f"{name} ({kind})" for name, kind in fields.types.items())
    staged = StagedFiles(fields) if fields.files else None
    form = form_of(records.path, "--format")
    if records.form is not None and form.format != "dataset":
        form = said_form(records.form, "--format")
    intake = Intake(fields, predictor.outputs, pairs(records.mapping, "--map"))
    sources = Sources([(records.path, form)], intake, staged=staged, folder=None, hint=hint)
    return Given(sources.chunks(limit), sources.label, staged)
