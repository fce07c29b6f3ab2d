"""What every verb is handed: the global options, the settings they lead to, where to print.

Knows nothing of any verb.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reprobuild import settings
from reprobuild.errors import OutsideError, UsageError
from reprobuild.value import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reprobuild.build.project import Project
    from reprobuild.cli.ui import Screen


class Session:
    """One call of the command line."""

    def __init__(self, flags: Mapping[str, Any] = NOTHING) -> None:
        self.flags = dict(flags)
        """Global options as they were given, before the verb or after it."""

    @property
    def json(self) -> bool:
        """Whether stdout gets JSON."""
        return bool(self.flags.get("json"))

    @property
    def quiet(self) -> bool:
        """Whether stderr gets errors and warnings alone."""
        return bool(self.flags.get("quiet"))

    @property
    def debug(self) -> bool:
        """Whether an error shows its traceback."""
        return bool(self.flags.get("debug"))

    @cached_property
    def settings(self) -> settings.Settings:
        """The settings that hold here. Raises UsageError."""
        named = {name: self.flags.get(name) for name in ("store", "engine")}
        for name in ("offline", "strict_network"):
            if self.flags.get(name):
                named[name] = True
        for name in ("recipes", "substituters"):
            if self.flags.get(name):
                named[name] = self.flags[name]
        if self.flags.get("no_pull"):
            named["substituters"] = []
        for folder in self.flags.get("recipes", ()):
            if not os.path.isdir(folder):
                raise UsageError(f"--recipes {folder}: there is no such folder")
        try:
            here = os.getcwd()
        except FileNotFoundError:
            raise OutsideError("the current folder is gone", "change to another one: cd") from None
        found = settings.load(named, os.environ, here)
        if self.flags.get("allow_private"):
            named["allow_private"] = [*found.allow_private, *self.flags["allow_private"]]
            found = settings.load(named, os.environ, here)
        return found

    @contextmanager
    def working(self) -> Iterator[Project]:
        """Give the project, with a screen that draws what it tells while the block lasts."""
        from reprobuild.build.project import Project

        with self.screen() as screen:
            yield Project(self.settings, screen.tell)

    def project(self) -> Project:
        """Give the project where nothing is drawn but what the verb prints."""
        from reprobuild.build.project import Project

        return Project(self.settings)

    def screen(self) -> Screen:
        """Give the screen that work is drawn on, to be used in a ``with`` block."""
        from reprobuild.cli.ui import screen_for

        return screen_for(sys.stderr, os.environ, quiet=self.quiet)
