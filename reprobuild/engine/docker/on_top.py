"""What one command has on top of its tree: files of fixed content, and those of its gateway.

They are sent into its container before it begins. Knows nothing of daemons.
"""

from __future__ import annotations

from collections.abc import Mapping

from reprobuild.digest import Digest
from reprobuild.engine import world
from reprobuild.engine.trust import LARGEST_BUNDLE, OnTop, trust
from reprobuild.tree import Entry, file
from reprobuild.value import NOTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.engine.docker.ground import Ground
    from reprobuild.engine.protocol import Gateway
    from reprobuild.store.blobs import Blobs
    from reprobuild.store.stack import Found


class FilesOnTop:
    """The files on top of a tree, and the variables that go with them."""

    def __init__(self, ground: Ground, gateway: Gateway | None, blobs: Blobs) -> None:
        """``blobs``: where the bytes of the tree's files are."""
        self.files: dict[str, OnTop] = {}
        """By path, without leading slash."""
        self.env: Mapping[str, str] = NOTHING
        """Variables that the gateway brings."""
        etc = ground.tree.get("etc")
        if etc is not None and etc.kind != "d":
            return
        self.files = {path: OnTop(content) for path, content in world.FILES.items()}
        if gateway is not None:

            def read(found: Found) -> bytes | None:
                entry = ground.tree.get(found.path[1:])
                assert entry is not None and entry.digest is not None
                return None if entry.size > LARGEST_BUNDLE else blobs.read(entry.digest)

            self.files["etc/resolv.conf"] = OnTop(world.SERVED_RESOLVER)
            trusted, self.env = trust(ground, read, gateway)
            self.files |= trusted

    @property
    def entries(self) -> dict[str, Entry]:
        """What a tree with them has in their places."""
        return {
            path: file(path, Digest.of(one.content), len(one.content), one.mode)
            for path, one in self.files.items()
        }

    @property
    def new(self) -> Mapping[str, bytes]:
        """Those in which nothing of the tree is."""
        return {path: one.content for path, one in self.files.items() if one.is_new}
