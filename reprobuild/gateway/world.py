"""What a recorded command's world has beside the network: variables and files, the same when replayed.

Knows nothing of sockets. Time-bound checks are met (apt's Valid-Until), what phones home is turned off, Java
trusts the authority: the other programs' trust is the engine's. A command without a record has none of these.
"""

from __future__ import annotations

from collections.abc import Mapping

from reprobuild.gateway.authority import TRUSTSTORE_PASSWORD, truststore
from reprobuild.store.store import Store

FOLDER = "usr/local/share/reprobuild-gateway"
"""Where our files lie inside, on top of the tree."""

APT = """\
Acquire::Check-Valid-Until "false";
APT::Sandbox::User "root";
"""

ENVIRONMENT: Mapping[str, str] = {
    "APT_CONFIG": f"/{FOLDER}/apt.conf",
    "CHECKPOINT_DISABLE": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",
    "JAVA_TOOL_OPTIONS": (
        f"-Djavax.net.ssl.trustStore=/{FOLDER}/authority.p12 -Djavax.net.ssl.trustStoreType=PKCS12 "
        f"-Djavax.net.ssl.trustStorePassword={TRUSTSTORE_PASSWORD}"
    ),
    "NO_UPDATE_NOTIFIER": "1",
    "NPM_CONFIG_AUDIT": "false",
    "NPM_CONFIG_FUND": "false",
    "NPM_CONFIG_UPDATE_NOTIFIER": "false",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


def files(store: Store) -> dict[str, bytes]:
    """Give the files: path without leading slash → content."""
    return {f"{FOLDER}/apt.conf": APT.encode(), f"{FOLDER}/authority.p12": truststore(store)}
