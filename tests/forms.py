"""Records read through ``Sources`` from files of any form, for tests.

Knows nothing of predictors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reprobuild.predict.beside import Beside
from reprobuild.predict.fields import Fields
from reprobuild.predict.forms import Form, form_of, said_form
from reprobuild.predict.intake import Intake
from reprobuild.predict.sources import Sources


class Read:
    """What came of inputs: canonical records, what went past, what was ignored, what each is called."""

    def __init__(
        self,
        types: Mapping[str, str],
        *paths: Path,
        form: str = "",
        limit: int | None = None,
        has_columns: bool = False,
        **intake: Any,
    ) -> None:
        self.beside = Beside(None, has_columns=has_columns)
        made = Intake(Fields(types), keep=self.beside.add, **intake)
        said = said_form(form, "--format") if form else None
        places: list[tuple[str, Form]] = [
            (str(path), said or form_of(str(path), "--format")) for path in paths
        ]
        sources = Sources(places, made, staged=None, folder=None, hint="")
        self.chunks = list(sources.chunks(limit))
        self.records = [record for chunk in self.chunks for record in chunk]
        self.labels = [sources.label(index) for index in range(len(self.records))]
        self.carried = [line.decode() for line in self.beside.lines() or ()]
        self.ignored = list(made.ignored)
