"""``python -m reprobuild``: the command line, for an interpreter of one's choice."""

from __future__ import annotations

import sys

from reprobuild.cli import start

sys.exit(start())
