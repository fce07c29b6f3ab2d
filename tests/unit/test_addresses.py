from __future__ import annotations

import ipaddress

from reprobuild.gateway.addresses import Addresses


def test_each_name_has_addresses_of_its_own_both_ways() -> None:
    addresses = Addresses()
    names = [f"host{number}.test" for number in range(500)]
    given = [addresses.of(name) for name in names]
    assert len(set(given)) == 500
    assert given == [addresses.of(name.upper() + ".") for name in names]
    for name, pair in zip(names, given, strict=True):
        assert pair is not None
        assert [addresses.name(one) for one in pair] == [name, name]


def test_addresses_pass_for_the_open_internets() -> None:
    """Clients that guard against requests to private networks ask ``ipaddress`` or a list like its own."""
    addresses = Addresses()
    for number in range(500):
        for text in addresses.of(f"host{number}.test") or ():
            address = ipaddress.ip_address(text)
            assert address.is_global and not address.is_multicast and not address.is_reserved
            assert not getattr(address, "sixtofour", None) and not getattr(address, "teredo", None)
