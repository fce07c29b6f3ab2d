"""Answers to DNS questions, inside a sandbox: every name has an address, and nothing else is known.

Knows nothing of sockets: takes a message, gives a message. dnspython reads and writes them.
"""

from __future__ import annotations

from collections.abc import Callable

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset

from reprobuild.gateway.addresses import Addresses

SECONDS = 300
"""How long an answer may be remembered; it never changes."""

LONGEST = 65535


def answer(wire: bytes, addresses: Addresses, looked_up: Callable[[str], None]) -> bytes | None:
    """Answer one message; None for what is no question at all.

    ``looked_up`` hears the names of which an address was asked.
    """
    try:
        query = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return None
    if query.flags & dns.flags.QR:
        return None
    reply = dns.message.make_response(query, recursion_available=True)
    if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
        reply.set_rcode(dns.rcode.NOTIMP)
    else:
        _fill(reply, query.question[0], addresses, looked_up)
    try:
        return reply.to_wire()
    except (dns.exception.DNSException, ValueError):
        return None


def _fill(
    reply: dns.message.Message,
    question: dns.rrset.RRset,
    addresses: Addresses,
    looked_up: Callable[[str], None],
) -> None:
    name, kind = question.name, question.rdtype
    if kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
        text = name.to_text(omit_final_dot=True)
        if name == dns.name.root or not _is_host(text):
            reply.set_rcode(dns.rcode.NXDOMAIN)
            return
        looked_up(text.lower())
        given = addresses.of(text)
        if given is None:
            reply.set_rcode(dns.rcode.REFUSED)
            return
        kind_name, address = ("A", given[0]) if kind == dns.rdatatype.A else ("AAAA", given[1])
        reply.answer.append(dns.rrset.from_text(name, SECONDS, "IN", kind_name, address))
    elif kind == dns.rdatatype.PTR:
        try:
            found = addresses.name(dns.reversename.to_address(name))
        except (dns.exception.DNSException, ValueError):
            found = ""
        if found:
            reply.answer.append(dns.rrset.from_text(name, SECONDS, "IN", "PTR", found + "."))
        else:
            reply.set_rcode(dns.rcode.NXDOMAIN)


def _is_host(name: str) -> bool:
    """Whether a name could be a host's: what else is asked for gets no address."""
    return all(character.isascii() and (character.isalnum() or character in "-_.") for character in name)
