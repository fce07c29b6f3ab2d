from __future__ import annotations

import socket
from pathlib import Path

import pytest

from reprobuild import settings
from reprobuild.errors import UsageError
from reprobuild.fetch.reach import NotPublicError, Reach, is_public, parse_connect_to
from reprobuild.settings import Settings


def chosen(folder: Path, **flags: object) -> Settings:
    return settings.load(flags, {"HOME": str(folder)}, str(folder))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:7f00:1::", False),
        ("::7f00:1", False),
        ("not an address", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_a_private_address_is_refused_with_what_allows_it(tmp_path: Path) -> None:
    with pytest.raises(NotPublicError, match=r"the address 127\.0\.0\.1, which is not public") as caught:
        Reach(chosen(tmp_path)).addresses("127.0.0.1", 80)
    assert "--allow-private 127.0.0.1" in caught.value.hint


def test_a_name_with_a_private_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotPublicError, match="localhost has the address"):
        Reach(chosen(tmp_path)).addresses("localhost", 80)


@pytest.mark.parametrize("allowed", ["localhost", "LOCALHOST.", "*"])
def test_what_is_allowed_is_reached(tmp_path: Path, allowed: str) -> None:
    assert ("127.0.0.1", 80) in Reach(chosen(tmp_path, allow_private=(allowed,))).addresses("localhost", 80)


def test_hosts_of_mirrors_of_the_settings_are_reached(tmp_path: Path) -> None:
    reach = Reach(
        chosen(tmp_path, debian_mirrors=("http://localhost:9/debian",), python_index="http://[::1]/")
    )
    assert reach.addresses("localhost", 9)
    assert reach.addresses("::1", 80) == [("::1", 80)]


def test_a_host_that_a_mirror_led_to_is_reached(tmp_path: Path) -> None:
    reach = Reach(chosen(tmp_path))
    reach.trust(["127.0.0.1"])
    assert reach.addresses("127.0.0.1", 80) == [("127.0.0.1", 80)]


def test_a_name_without_an_address_stays_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(socket.gaierror):
        Reach(chosen(tmp_path)).addresses("nothing.invalid", 80)


@pytest.mark.parametrize(
    ("host", "private"),
    [
        *(("127.0.0.1", True), ("[::1]", True), ("localhost", True), ("a.localhost", True)),
        *(
            ("127.1", True),
            ("0x7f000001", True),
            ("2130706433", True),
            ("a.test", False),
            ("93.12184", False),
        ),
    ],
)
def test_what_a_proxy_would_resolve_is_looked_at_as_far_as_it_goes(
    tmp_path: Path, host: str, private: bool
) -> None:
    reach = Reach(chosen(tmp_path))
    if private:
        with pytest.raises(NotPublicError):
            reach.check_literal(host)
    else:
        reach.check_literal(host)


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        pytest.param("files.test:443:127.0.0.1:8443", ("127.0.0.1", 8443), id="whole"),
        pytest.param("FILES.test:443:[::1]:8443", ("::1", 8443), id="IPv6"),
        pytest.param(":443:127.0.0.1:8443", ("127.0.0.1", 8443), id="any host"),
        pytest.param("files.test::127.0.0.1:", ("127.0.0.1", 443), id="any port"),
        pytest.param("files.test:443::8443", ("files.test", 8443), id="another port alone"),
    ],
)
def test_settings_say_where_to_connect_instead(tmp_path: Path, setting: str, place: tuple[str, int]) -> None:
    reach = Reach(chosen(tmp_path, connect_to=(setting,)))
    assert reach.is_redirected("files.test", 443)
    assert reach.addresses("files.test", 443) == [place]
    assert not reach.is_redirected("files.test", 80) or setting.startswith("files.test::")


@pytest.mark.parametrize("text", ["", "a:1", "a:1:b", "a:1:b:c", "a:1:b:99999", "a:1:::1:2"])
def test_a_setting_that_makes_no_sense_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="host:port:address:port"):
        parse_connect_to(text)
