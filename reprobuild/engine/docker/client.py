"""The SDK's client as we need it. Imported where a daemon is talked to: half of what it loads is slow.

Knows nothing of how a daemon is chosen.
"""

from __future__ import annotations

from typing import Any

from docker import APIClient


class Client(APIClient):
    """Trusts, over TLS, the authority that was named for the daemon, whatever the environment trusts."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Keep the daemon's own authority: requests takes REQUESTS_CA_BUNDLE instead of a session's."""
        chosen = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, chosen, cert)
