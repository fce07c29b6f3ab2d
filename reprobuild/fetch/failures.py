"""What is said when downloads fail: what is needed from where, and what came instead.

Knows nothing of how downloads are made.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from reprobuild.errors import DigestMismatchError, OfflineError, ReprobuildError, UpstreamError

if TYPE_CHECKING:
    from reprobuild.fetch.download import Download
    from reprobuild.fetch.partial import Partial
    from reprobuild.fetch.transfer import Arrived

SHOWN = 10
"""Downloads that an error names before it says how many more there are."""


def refuse_offline(missing: Sequence[Download], why: str) -> None:
    """Raise OfflineError naming what is needed from where, if any of it needs the network."""
    remote = [download for download in missing if _remote_urls(download)]
    if not remote:
        return
    lines = [f"{why}, and {_count(len(remote))} needed from it:"]
    for download in remote[:SHOWN]:
        from reprobuild.fetch.http import plain

        size = f" ({download.size:,} bytes)" if download.size is not None else ""
        place = f", for {download.where}" if download.where else ""
        lines.append(f"  {download.name}{size} from {plain(_remote_urls(download)[0])}{place}")
    if len(remote) > SHOWN:
        lines.append(f"  and {len(remote) - SHOWN} more")
    raise OfflineError(
        "\n".join(lines),
        "run the same command once with the network, or copy the store of a machine that did",
    )


def _count(number: int) -> str:
    return "1 file is" if number == 1 else f"{number} files are"


def _remote_urls(download: Download) -> list[str]:
    return [url for url in download.urls if not url.startswith("file:")]


def mismatch(download: Download, url: str, arrived: Arrived, partial: Partial) -> DigestMismatchError:
    """Give the error for bytes that are not the pinned ones, with a diagnosis; they lie in the partial."""
    from reprobuild.fetch.diagnosis import Body, diagnose
    from reprobuild.fetch.http import plain

    assert download.sha256 is not None
    body = Body(
        path=partial.path,
        digest=partial.digest,
        size=partial.size,
        url=url,
        content_type=arrived.content_type,
        announced=arrived.announced,
    )
    if partial.digest == download.sha256:
        findings = ["the digest is right, and the pinned size is not: the lock was edited, or mistyped"]
    else:
        findings = diagnose(body, download.sha256, download.size)
    expected_size = f", {download.size:,} bytes" if download.size is not None else ""
    place = f"{download.where}: " if download.where else ""
    kept = " (kept in the store)" if download.take is None else ""
    lines = [
        f"{place}{download.name}: the bytes are not the pinned ones",
        f"  from      {_whence(url, download)}",
        *([f"  which led to {arrived.url}"] if arrived.url not in ("", plain(url)) else []),
        f"  expected  {download.sha256}{expected_size}",
        f"  got       {partial.digest}, {partial.size:,} bytes{kept}",
        *(f"  {finding}" for finding in findings),
    ]
    mend = download.mend or "if the new bytes are right, pin them: reprobuild lock NAME --update SOURCE"
    return DigestMismatchError("\n".join(lines), mend.replace("{got}", partial.digest.hex))


def _whence(url: str, download: Download) -> str:
    """Give where bytes came from: an address, or the path of a file of the recipe."""
    from reprobuild.fetch.http import plain

    if download.folder is None or not url.startswith("file:"):
        return plain(url)
    parts = urlsplit(url)
    path = os.path.relpath(os.path.join(download.folder, unquote(parts.path)))
    return f"{path}#{unquote(parts.fragment)}" if parts.fragment else path


def worst(download: Download, failures: list[ReprobuildError]) -> ReprobuildError:
    """Give the failure to show of all addresses': wrong bytes say more than no bytes."""
    place = f"{download.where}: " if download.where else ""
    if not failures:
        return UpstreamError(f"{place}{download.name} has no address to fetch it from")
    chosen = next((error for error in failures if isinstance(error, DigestMismatchError)), failures[0])
    if not isinstance(chosen, DigestMismatchError):
        chosen.message = f"{place}{download.name}: {chosen.message}"
    others = [error.message for error in failures if error is not chosen]
    chosen.message = "\n".join([chosen.message, *(f"  also tried: {message}" for message in others)])
    chosen.args = (chosen.message,)
    if download.lost and not isinstance(chosen, DigestMismatchError):
        chosen.hint = download.lost
    return chosen
