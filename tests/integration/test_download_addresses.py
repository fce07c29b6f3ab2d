"""Where downloads are asked for: mirrors, redirects, credentials, proxies, authorities."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.errors import UpstreamError
from reprobuild.events import Event, Warned
from reprobuild.fetch.http import Http
from reprobuild.store.store import Store
from tests.downloads import BODY, DIGEST, OTHER, bring, wanted
from tests.misbehaving import Answer, Misbehaving, certificate
from tests.servers import free_port

pytestmark = pytest.mark.once


def test_the_next_address_is_tried(server: Misbehaving, store: Store) -> None:
    server.answers["/c"] = [Answer(BODY)]
    urls = (f"http://127.0.0.1:{free_port()}/a", f"{server.url}/b", f"{server.url}/c")
    assert bring(store, wanted(*urls)).url == f"{server.url}/c"


def test_a_mirror_with_wrong_bytes_is_passed_by_with_a_warning(server: Misbehaving, store: Store) -> None:
    server.answers["/a"], server.answers["/b"] = [Answer(OTHER)], [Answer(BODY)]
    events: list[Event] = []
    bring(store, wanted(f"{server.url}/a", f"{server.url}/b"), events=events)
    assert [event.hint for event in events if isinstance(event, Warned)] == ["the next address is tried"]
    assert store.blobs.has(DIGEST) and store.blobs.has(Digest.of(OTHER))


@pytest.mark.parametrize(
    ("status", "moved"), [pytest.param(301, True, id="for good"), pytest.param(302, False, id="for now")]
)
def test_redirects_are_followed_and_moves_are_noted(
    server: Misbehaving, store: Store, status: int, moved: bool
) -> None:
    server.answers["/old"] = [Answer(status=status, headers={"Location": "/new"})]
    server.answers["/new"] = [Answer(BODY)]
    fetched = bring(store, wanted(f"{server.url}/old"))
    assert (fetched.url, fetched.moved_to) == (f"{server.url}/new", f"{server.url}/new" if moved else "")


@pytest.mark.parametrize("location", ["http://[1", "http://a.test:99999/", "http://a.test:x/"])
def test_a_redirect_to_what_is_no_address_is_told(server: Misbehaving, store: Store, location: str) -> None:
    server.answers["/old"] = [Answer(status=302, headers={"Location": location})]
    with pytest.raises(UpstreamError, match="redirects to what is no address"):
        bring(store, wanted(f"{server.url}/old"))


def environment(folder: Path, text: str = "", **more: str) -> dict[str, str]:
    (folder / "netrc").write_text(text)
    return {"NETRC": str(folder / "netrc"), "HOME": str(folder), **more}


def test_credentials_go_to_their_host_and_to_no_other(
    server: Misbehaving, store: Store, tmp_path: Path
) -> None:
    with Misbehaving() as other:
        server.answers["/private"] = [Answer(status=302, headers={"Location": f"{other.url}/f?signature=s"})]
        other.answers["/f?signature=s"] = [Answer(BODY)]
        netrc = "machine 127.0.0.1 login me password hidden\ndefault login x password y\n"
        with Http(environment(tmp_path, netrc)) as http:
            fetched = bring(store, wanted(f"{server.url}/private"), http=http)
    assert server.requests[0].headers["authorization"] == "Basic bWU6aGlkZGVu"
    assert "authorization" not in other.requests[0].headers
    assert "signature" not in fetched.url


def test_credentials_of_an_address_are_sent_and_not_shown(server: Misbehaving, store: Store) -> None:
    url = f"http://me:hidden@{server.host}/f"
    with pytest.raises(UpstreamError) as caught:
        bring(store, wanted(url))
    assert server.requests[0].headers["authorization"] == "Basic bWU6aGlkZGVu"
    assert "hidden" not in caught.value.message + caught.value.hint


def test_a_default_entry_of_netrc_goes_nowhere(server: Misbehaving, store: Store, tmp_path: Path) -> None:
    server.answers["/f"] = [Answer(BODY)]
    with Http(environment(tmp_path, "default login x password y\n")) as http:
        bring(store, wanted(f"{server.url}/f"), http=http)
    assert "authorization" not in server.requests[0].headers


def test_a_proxy_of_the_environment_is_used_but_for_its_exceptions(
    server: Misbehaving, store: Store, tmp_path: Path
) -> None:
    with Misbehaving() as proxy:
        proxy.answers["http://model.test/f"] = [Answer(BODY)]
        server.answers["/g"] = [Answer(OTHER)]
        proxied = environment(
            tmp_path, http_proxy=f"http://u:p@{proxy.host}", no_proxy="example.org,127.0.0.1"
        )
        with Http(proxied) as http:
            bring(store, wanted("http://model.test/f"), http=http)
            bring(store, wanted(f"{server.url}/g", sha256=None), http=http)
        assert [request.path for request in proxy.requests] == ["http://model.test/f"]
        assert proxy.requests[0].headers["proxy-authorization"] == "Basic dTpw"


def test_https_is_verified_against_the_named_authorities(store: Store, tmp_path: Path) -> None:
    with certificate(tmp_path) as pem, Misbehaving(pem) as secure:
        secure.answers["/f"] = [Answer(BODY)]
        with Http(environment(tmp_path, REQUESTS_CA_BUNDLE=str(pem))) as http:
            assert bring(store, wanted(f"{secure.url}/f"), http=http).digest == DIGEST
        with (
            Http(environment(tmp_path)) as http,
            pytest.raises(UpstreamError, match="no secure connection") as caught,
        ):
            bring(store, wanted(f"{secure.url}/f", sha256=None), http=http)
    assert "SSL_CERT_FILE" in caught.value.hint
    assert len(secure.requests) == 1


def test_https_does_not_lead_to_http(server: Misbehaving, store: Store, tmp_path: Path) -> None:
    server.answers["/f"] = [Answer(BODY)]
    with certificate(tmp_path) as pem, Misbehaving(pem) as secure:
        secure.answers["/f"] = [Answer(status=302, headers={"Location": f"{server.url}/f"})]
        with (
            Http(environment(tmp_path, CURL_CA_BUNDLE=str(pem))) as http,
            pytest.raises(UpstreamError, match="redirects from https to plain http"),
        ):
            bring(store, wanted(f"{secure.url}/f"), http=http)
    assert server.requests == []
