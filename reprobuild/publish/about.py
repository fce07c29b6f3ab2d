"""What a publisher says of images: where their recipes are kept, and who builds them.

Part of no identity. Knows nothing of images.
"""

from __future__ import annotations

from reprobuild.publish.origin import origin
from reprobuild.settings import Settings
from reprobuild.value import Value


class About(Value):
    """What is said of every image of a project."""

    source: str = ""
    """Where the recipe is kept: an address."""
    builder: str = ""
    """Who builds: an URI."""


def about(settings: Settings) -> About:
    """Give what the settings say, or else git."""
    return About(settings.publish_source or origin(settings.project), settings.publish_builder)
