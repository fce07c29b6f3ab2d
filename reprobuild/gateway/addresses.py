"""Names and the addresses that they are given inside a sandbox: each name its own, both ways.

Knows nothing of DNS or sockets. The addresses look like the open internet's: clients that guard against
requests to private networks (nltk does) refuse what is not globally routable, and every address inside is
the gateway's anyway. They are from parts of 11.0.0.0/8 and 3ffe::/16, where nobody serves anything (the first
is a ministry's own, the second was given back in 2006, RFC 3701). Which address a name gets follows from the
name, so that a program that shows or hashes it does the same each time; where two names meet, the one that
came first has it and the other takes the next.
"""

from __future__ import annotations

import hashlib
import ipaddress
import threading

FIRST = int(ipaddress.IPv4Address("11.18.0.0"))
COUNT = 2**17
RESERVED = frozenset({0, 1, COUNT - 1})
"""The network itself, its first and its last address: what is no host's by habit."""
PREFIX = int(ipaddress.IPv6Address("3ffe:b01d:6a7e::"))

MOST = 65536
"""Names; a command that asks for more gets no answer for them."""


class Addresses:
    """Gives addresses to names and names to addresses; for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def of(self, name: str) -> tuple[str, str] | None:
        """Give a name's addresses, IPv4 and IPv6; None where there are too many names already."""
        name = name.rstrip(".").lower()
        with self._lock:
            number = self._numbers.get(name)
            if number is None:
                if len(self._numbers) >= MOST:
                    return None
                number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % COUNT
                while number in self._names or number in RESERVED:
                    number = (number + 1) % COUNT
                self._numbers[name] = number
                self._names[number] = name
        return str(ipaddress.IPv4Address(FIRST + number)), str(ipaddress.IPv6Address(PREFIX + number))

    def name(self, address: str) -> str:
        """Give the name that has an address, or ``""``."""
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return ""
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        number = int(parsed) - (FIRST if parsed.version == 4 else PREFIX)
        with self._lock:
            return self._names.get(number, "")
