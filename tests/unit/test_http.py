from __future__ import annotations

from pathlib import Path

import pytest

from reprobuild.errors import UsageError
from reprobuild.fetch.credentials import is_loopback
from reprobuild.fetch.http import Http, is_network_cut, plain, without_query


@pytest.mark.parametrize(
    ("url", "shown", "shorter"),
    [
        pytest.param("https://a.test/x?y=1#z", "https://a.test/x?y=1", "https://a.test/x", id="fragment"),
        pytest.param(
            "https://me:secret@a.test:8443/x", "https://a.test:8443/x", "https://a.test:8443/x", id="user"
        ),
        pytest.param("https://me:p@ss@a.test/x", "https://a.test/x", "https://a.test/x", id="an @ in it"),
    ],
)
def test_what_of_an_address_is_shown(url: str, shown: str, shorter: str) -> None:
    assert (plain(url), without_query(url)) == (shown, shorter)


@pytest.mark.parametrize(
    ("host", "is_it"),
    [("localhost", True), ("127.1.2.3", True), ("::1", True), ("127.evil.test", False), ("10.0.0.1", False)],
)
def test_which_host_is_this_machine(host: str, is_it: bool) -> None:
    assert is_loopback(host) is is_it


HEADER = "Iface\tDestination\tGateway\n"


@pytest.mark.parametrize(
    ("routes", "routes6", "cut"),
    [
        pytest.param(HEADER, "", True, id="nothing"),
        pytest.param(HEADER, "00 00 lo\n", True, id="itself alone"),
        pytest.param(HEADER + "eth0\t00000000\t0102A8C0\n", "", False, id="IPv4"),
        pytest.param(HEADER, "00 00 lo\nfe80 40 eth0\n", False, id="IPv6"),
    ],
)
def test_whether_there_is_a_way_out(tmp_path: Path, routes: str, routes6: str, cut: bool) -> None:
    (tmp_path / "route").write_text(routes)
    (tmp_path / "route6").write_text(routes6)
    assert is_network_cut(str(tmp_path / "route"), str(tmp_path / "route6")) is cut


def test_without_routes_to_look_at_nothing_is_claimed(tmp_path: Path) -> None:
    assert not is_network_cut(str(tmp_path / "gone"), str(tmp_path / "gone"))


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        pytest.param("https://a.test/x", True, id="its host"),
        pytest.param("https://sub.a.test/x", False, id="a host below it"),
        pytest.param("http://a.test/x", False, id="not in the clear"),
        pytest.param("https://b.test/x", False, id="another host"),
        pytest.param("https://me:p@b.test/x", True, id="in the address"),
    ],
)
def test_who_gets_credentials(tmp_path: Path, url: str, credentials: bool) -> None:
    (tmp_path / ".netrc").write_text("machine a.test login me password p\ndefault login x password y\n")
    with Http({"HOME": str(tmp_path)}) as http:
        assert http.has_credentials(url) is credentials


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        pytest.param({"PIP_CERT": "/does/not/exist"}, "PIP_CERT=/does/not/exist", id="no bundle"),
        pytest.param({"NETRC": "netrc"}, "netrc: .* near line", id="a netrc that is none"),
        pytest.param({"https_proxy": "socks5://h:1"}, "neither http nor https", id="a proxy of another kind"),
    ],
)
def test_settings_that_make_no_sense_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "netrc").write_text("nonsense\n")
    with (
        pytest.raises(UsageError, match=message) as caught,
        Http({"HOME": "", **variables}) as http,
        http.open("https://a.invalid/"),
    ):
        pass
    assert caught.value.hint
