"""Servers that could not be asked: what a library's exception means, in a sentence.

Knows nothing of how requests are made.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    SSLError,
)

from reprobuild.errors import UpstreamError


class UnreachableError(UpstreamError):
    """A server could not be asked, or stopped answering in the middle."""

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        network_is_cut: bool = False,
        final: bool = False,
        is_untrusted: bool = False,
    ) -> None:
        super().__init__(message, hint)
        self.network_is_cut = network_is_cut
        """This machine has no way out at all: asking again makes no sense, nor does asking another."""
        self.final = final
        """Asking the same address again makes no sense."""
        self.is_untrusted = is_untrusted
        """The server's certificate is not to be trusted: to go on without TLS makes even less sense."""


def unreachable(url: str, error: Exception) -> UnreachableError:
    """Say what a library's exception means in a sentence."""
    host = urlsplit(url).netloc
    cause: BaseException = error
    while inner := _inner(cause):
        cause = inner
    if isinstance(error, SSLError) or isinstance(cause, ssl.SSLError):
        verification = isinstance(cause, ssl.SSLCertVerificationError)
        if getattr(cause, "reason", "") == "WRONG_VERSION_NUMBER":
            return UnreachableError(
                f"{url}: no secure connection: {host} does not speak TLS there", final=True
            )
        return UnreachableError(
            f"{url}: no secure connection: {getattr(cause, 'verify_message', '') or cause}",
            "SSL_CERT_FILE names the authorities to trust" if verification else "",
            final=verification,
            is_untrusted=verification,
        )
    unresolved = isinstance(error, NameResolutionError) or isinstance(cause, socket.gaierror)
    no_way = isinstance(cause, OSError) and cause.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    cut = (unresolved or no_way) and is_network_cut()
    if unresolved:
        known_not_to_exist = getattr(cause, "errno", None) == socket.EAI_NONAME
        return UnreachableError(
            f"{url}: no address is known for {host}", network_is_cut=cut, final=known_not_to_exist
        )
    if isinstance(error, ConnectTimeoutError | NewConnectionError):
        return UnreachableError(f"{url}: no connection to {host}: {_words(cause)}", network_is_cut=cut)
    return UnreachableError(f"{url}: {_words(cause)}", network_is_cut=cut)


def _inner(error: BaseException) -> BaseException | None:
    """Give the exception that urllib3 wrapped in another."""
    candidates = (error.__cause__, getattr(error, "reason", None), *error.args)
    return next((one for one in candidates if isinstance(one, BaseException)), None)


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def is_network_cut(routes: str = "/proc/net/route", routes6: str = "/proc/net/ipv6_route") -> bool:
    """Whether this machine has no route but to itself (Linux; elsewhere False)."""
    try:
        lines = Path(routes).read_text().splitlines()[1:]
        six = Path(routes6).read_text().splitlines() if os.path.exists(routes6) else []
    except OSError:
        return False
    interfaces = {line.split()[0] for line in lines if line.strip()}
    interfaces.update(line.split()[-1] for line in six if line.strip())
    return interfaces <= {"lo"}
