from __future__ import annotations

import ipaddress

import dns.message
import dns.rcode
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.gateway import addresses
from reprobuild.gateway import dns as answers
from reprobuild.gateway.addresses import Addresses


def asked(name: str, kind: str, given: Addresses, heard: list[str]) -> dns.message.Message:
    reply = answers.answer(dns.message.make_query(name, kind).to_wire(), given, heard.append)
    assert reply is not None
    return dns.message.from_wire(reply)


def test_each_name_has_its_own_address_which_follows_from_it() -> None:
    names = [f"host{number}.test" for number in range(3000)]
    one, other = Addresses(), Addresses()
    found = {name: one.of(name) for name in names}
    assert len(set(found.values())) == len(names)
    assert {name: other.of(name) for name in names} == found
    for name, given_ in found.items():
        assert given_ is not None
        four, six = given_
        assert all(ipaddress.ip_address(address).is_global for address in (four, six))
        assert one.name(four) == one.name(six) == one.name(f"::ffff:{four}") == name


def test_names_are_the_same_in_any_case_and_bounded() -> None:
    given_ = Addresses()
    assert given_.of("A.Test.") == given_.of("a.test")
    assert given_.name("not an address") == given_.name("203.0.113.1") == given_.name("::1") == ""


def test_more_names_than_there_may_be_get_none() -> None:
    given_ = Addresses()
    given_._numbers = dict.fromkeys(map(str, range(addresses.MOST)), 0)
    assert given_.of("one.more") is None
    assert asked("one.more", "A", given_, []).rcode() == dns.rcode.REFUSED


def test_other_questions_are_answered_with_nothing() -> None:
    given_, heard = Addresses(), list[str]()
    for kind in ("MX", "TXT", "HTTPS", "SRV", "ANY"):
        reply = asked("a.test", kind, given_, heard)
        assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])
    assert heard == []
    assert asked(".", "A", given_, heard).rcode() == dns.rcode.NXDOMAIN
    assert asked("a\\032b.test", "A", given_, heard).rcode() == dns.rcode.NXDOMAIN
    assert asked("1.2.0.192.in-addr.arpa", "PTR", given_, heard).rcode() == dns.rcode.NXDOMAIN


@given(st.binary(max_size=300))
def test_anything_may_come(data: bytes) -> None:
    answers.answer(data, Addresses(), lambda _: None)
