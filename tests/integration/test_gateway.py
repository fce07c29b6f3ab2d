"""The gateway against real clients and stand-in upstreams, without a sandbox (``tests/doors.py``)."""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dns.message
import dns.query
import dns.reversename
import pytest

from reprobuild import settings
from reprobuild.derivation.exchange import Exchange
from reprobuild.derivation.pins import Pin
from reprobuild.digest import Digest
from reprobuild.events import ignore
from reprobuild.gateway.gate import Gate, recording, refusing, replaying
from reprobuild.gateway.refusal import BAD_HTTP, BROKEN_OFF, LOOKED_UP, NOT_HTTP, TUNNEL, UNTRUSTED, UPGRADE
from reprobuild.store.store import Store
from tests.doors import ELSEWHERE, Entry, opened, read_all
from tests.sites.files import FileSite, Page, SignedLinks
from tests.upstreams import Answer, Request, Upstreams, upstreams

BODY = os.urandom(1_500_000)


@dataclass
class Scene:
    """A store, stand-in upstreams, and gates."""

    folder: Path
    net: Upstreams
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store.open(self.folder / "store")

    def recording(self, *, answers: tuple[Pin, ...] = (), reset: bool = False) -> Gate:
        chosen = settings.load({}, self.net.environment(), str(self.folder))
        return recording(self.store, chosen, tell=ignore, answers=answers, reset=reset)

    @property
    def clients(self) -> Path:
        return self.folder / "clients"


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with upstreams(tmp_path) as net:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(net.authority.path))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("NETRC", raising=False)
        yield Scene(tmp_path, net)


def test_what_was_recorded_is_replayed_without_upstream(scene: Scene) -> None:
    scene.net.add("files.test", FileSite({"/a": Page(BODY), "/old": Page(moved_to="/a")}))
    gate = scene.recording()
    with opened(gate, scene.clients) as entry:
        assert entry.get("-L", "https://files.test/old") == BODY
        assert entry.get("http://files.test/a") == BODY
    names = [pin.name for pin in gate.pins]
    assert names == ["GET http://files.test/a", "GET https://files.test/a", "GET https://files.test/old"]
    scene.net.stop()
    again = replaying(scene.store, gate.pins)
    with opened(again, scene.clients) as entry:
        assert entry.get("-L", "https://files.test/old") == BODY
        refused = entry.get("-w", "%{http_code}", "https://files.test/other")
    assert b"refuses GET https://files.test/other" in refused and refused.endswith(b"403")
    assert [one.url for one in again.refused] == ["https://files.test/other"]
    assert [pin.name for pin in again.unused] == ["GET http://files.test/a"]


def test_a_command_without_a_record_is_refused_by_name(scene: Scene) -> None:
    gate = refusing(scene.store)
    with opened(gate, scene.clients) as entry:
        for _ in range(2):
            said = entry.get("-w", "%{http_code}", "-d", "x" * 100_000, "https://files.test/a?b")
    assert said.endswith(b"403")
    (refused,) = gate.refused
    assert (refused.method, refused.url, refused.count) == ("POST", "https://files.test/a?b", 2)
    assert refused.program == "client of the test"


def recorded(scene: Scene, *clients: Sequence[str]) -> tuple[Gate, list[bytes]]:
    """Record what curl does when called with some arguments each; give what it printed."""
    gate = scene.recording()
    with opened(gate, scene.clients) as entry:
        said = [entry.get(*arguments) for arguments in clients]
    return gate, said


def replayed(scene: Scene, pins: Sequence[Pin], *clients: Sequence[str]) -> tuple[Gate, list[bytes]]:
    """The same from the record, upstream being gone."""
    scene.net.stop()
    gate = replaying(scene.store, pins)
    with opened(gate, scene.clients) as entry:
        said = [entry.get(*arguments) for arguments in clients]
    return gate, said


U = "https://files.test"


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(["-I", f"{U}/a"], id="HEAD"),
        pytest.param(["-i", "-H", "If-None-Match: *", f"{U}/a"], id="a conditional request"),
        pytest.param(["-i", "-H", "Expect: 100-continue", "-d", "x" * 2000, f"{U}/a"], id="100-continue"),
        pytest.param(
            ["-i", "-H", "Transfer-Encoding: chunked", "-d", "abc", f"{U}/a"], id="a chunked request"
        ),
        pytest.param(["-i", f"{U}/chunked"], id="a chunked answer"),
        pytest.param(["-i", "--http1.0", f"{U}/chunked"], id="HTTP/1.0"),
        pytest.param(["-i", "--http1.0", "http://files.test/a"], id="HTTP/1.0 in the clear"),
        pytest.param(["-i", "-H", "Accept-Encoding: gzip", f"{U}/packed"], id="gzip, as it is"),
        pytest.param(["-i", "--compressed", f"{U}/packed"], id="gzip, unpacked"),
        pytest.param(["-i", f"{U}/none"], id="404"),
        pytest.param(["-i", "-L", f"{U}/moved"], id="a redirect"),
        pytest.param(["-i", "-L", f"{U}/cookie"], id="a cookie that the server wants"),
        pytest.param(["-i", "-r", "100-199", f"{U}/a"], id="a range"),
        pytest.param(["-i", "-r", "-100", f"{U}/a"], id="the end"),
        pytest.param(["-i", "-r", "100-", f"{U}/a"], id="the rest"),
        pytest.param(["-i", "-r", "100-", f"{U}/chunked"], id="a range of what has no length"),
        pytest.param(["-i", "-H", 'If-Range: "x"', "-r", "0-9", f"{U}/a"], id="a range of another version"),
        pytest.param(
            ["-i", "-H", "Upgrade: h2c", "-H", "Connection: Upgrade", f"{U}/a"], id="an offer of h2c"
        ),
        pytest.param(["-i", "-X", "PUT", "-T", "/etc/passwd", f"{U}/a"], id="PUT"),
        pytest.param(["-i", "--request-target", "http://files.test/a", "http://x.test/"], id="absolute form"),
        pytest.param(["-i", f"{U}/a%2Fb?q=%7E&x=a%20b"], id="escapes"),
        pytest.param(["-i", f"{U}/empty"], id="an empty body"),
        pytest.param(["-i", "-u", "me:password", f"{U}/closed"], id="credentials"),
    ],
)
def test_a_replay_gives_what_the_recording_gave(scene: Scene, client: list[str]) -> None:
    site = FileSite(
        {
            "/a": Page(BODY),
            "/chunked": Page(BODY, is_chunked=True),
            "/packed": Page(b"text " * 10_000, is_packed=True),
            "/moved": Page(moved_to="/a"),
            "/cookie": Page(b"cookie", cookie="session=c00kie"),
            "/a/b": Page(b"slash"),
            "/empty": Page(),
            "/closed": Page(b"closed", password="me:password"),
        }
    )
    scene.net.add("files.test", site)
    gate, first = recorded(scene, client)
    again, second = replayed(scene, gate.pins, client)
    if client[1:3] == ["-r", "100-"] and client[-1].endswith("chunked"):
        assert first[0].endswith(BODY) and second[0].endswith(BODY[100:])
    elif client[-1].endswith("/chunked"):  # how long it is, is known the second time
        assert first[0].endswith(BODY) and second[0].endswith(BODY)
    else:
        assert first == second
    assert not again.refused
    assert not list(again.unused)


def test_a_range_records_the_whole_and_comes_once(scene: Scene) -> None:
    scene.net.add("files.test", FileSite({"/a": Page(BODY)}))
    parts = [["-r", f"{start}-{start + 99_999}", f"{U}/a"] for start in range(0, 1_500_000, 300_000)]
    gate, said = recorded(scene, *parts)
    assert said == [BODY[start : start + 100_000] for start in range(0, 1_500_000, 300_000)]
    assert len(scene.net.log) == 1
    (pin,) = gate.pins
    assert (pin.size, pin.hashed["status"]) == (len(BODY), 200)
    _, said = replayed(
        scene,
        gate.pins,
        ["-r", "7-7", f"{U}/a"],
        ["-r", "0-1,5-6", f"{U}/a"],
        ["-o", "/dev/null", "-w", "%{http_code} %header{content-range}", "-r", "1500000-", f"{U}/a"],
        [f"{U}/a"],
    )
    assert said == [BODY[7:8], BODY, b"416 bytes */1500000", BODY]


def test_a_small_range_of_a_large_body_is_recorded_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reprobuild.gateway.record.LARGE", 1_000_000)
    scene.net.add("files.test", FileSite({"/a": Page(BODY)}))
    gate, said = recorded(scene, ["-r", "5-8", f"{U}/a"], ["-r", "0-1000000", f"{U}/a"])
    assert said == [BODY[5:9], BODY[:1_000_001]]
    assert [(pin.size, pin.hashed.get("request")) for pin in gate.pins] == [
        (len(BODY), None),
        (4, {"range": "bytes=5-8"}),
    ]
    _, again = replayed(scene, gate.pins, ["-i", "-r", "5-8", f"{U}/a"], ["-r", "9-10", f"{U}/a"])
    assert b"206 Partial Content" in again[0] and b"bytes 5-8/1500000" in again[0]
    assert again[1] == BODY[9:11]


def test_requests_are_told_apart_by_what_selects_an_answer(scene: Scene) -> None:
    def site(request: Request) -> Answer:
        said = f"{request.body.decode()}|{request.headers.get('accept')}|{request.headers.get('x-kind')}"
        return Answer(said.encode(), 200, {"Vary": "X-Kind"})

    scene.net.add("files.test", site)
    clients = [
        ["-d", "one", f"{U}/"],
        ["-d", "two", f"{U}/"],
        ["-H", "Accept: a/b", f"{U}/"],
        ["-H", "Accept: c/d", f"{U}/"],
        ["-H", "X-Kind: 1", f"{U}/"],
        ["-H", "X-Kind: 2", f"{U}/"],
        [f"{U}/"],
    ]
    gate, first = recorded(scene, *clients)
    _, second = replayed(scene, gate.pins, *reversed(clients))
    assert first == second[::-1]
    assert len(set(first)) == 7


def test_the_same_request_is_answered_in_turn_and_the_last_stays(scene: Scene) -> None:
    numbers = iter(range(100))
    scene.net.add("files.test", lambda _: Answer(str(min(next(numbers), 2)).encode()))
    gate, first = recorded(scene, *([f"{U}/"] for _ in range(5)))
    assert first == [b"0", b"1", b"2", b"2", b"2"]
    assert len(gate.pins) == 3
    _, again = replayed(scene, gate.pins, *([f"{U}/"] for _ in range(5)))
    assert again == first


def test_a_server_that_was_busy_first_is_not_recorded_as_such(scene: Scene) -> None:
    busy = [Answer(b"later", 503), Answer(b"slower", 429)]
    scene.net.add(
        "files.test", FileSite({"/a": Page(b"there", before=busy), "/b": Page(before=[Answer(status=500)])})
    )
    gate, said = recorded(scene, *([f"{U}/a"] for _ in range(3)), [f"{U}/b"])
    assert said[:3] == [b"later", b"slower", b"there"]
    assert [(pin.name, pin.hashed["status"]) for pin in gate.pins] == [
        (f"GET {U}/a", 200),
        (f"GET {U}/b", 500),
    ]


def test_connections_are_kept_and_requests_may_be_sent_ahead(scene: Scene) -> None:
    scene.net.add("files.test", FileSite({"/a": Page(b"first"), "/b": Page(b"second")}))
    gate, _ = recorded(scene, ["http://files.test/a"], ["http://files.test/b"])
    scene.net.stop()
    again = replaying(scene.store, gate.pins)
    with opened(again, scene.clients) as entry:
        ahead = b"".join(
            b"GET /%s HTTP/1.1\r\nHost: files.test\r\n\r\n" % name for name in (b"a", b"b", b"c")
        )
        said = entry.say(ahead + b"GET /a HTTP/1.1\r\nHost: files.test\r\nConnection: close\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200", b"200", b"403", b"200"]
    assert [one.url for one in again.refused] == ["http://files.test/c"]


def test_a_request_without_a_name_means_the_address(scene: Scene) -> None:
    gate = refusing(scene.store)
    with opened(gate, scene.clients) as entry:
        assert b"403" in entry.say(b"GET /x HTTP/1.0\r\n\r\n")
        with entry.secure("", name=False) as connection:
            connection.sendall(b"GET /y HTTP/1.0\r\n\r\n")
            assert b"403" in read_all(connection)
    assert [one.url for one in gate.refused] == [f"http://{ELSEWHERE}/x", f"https://{ELSEWHERE}/y"]


def test_a_certificate_is_of_the_name_that_an_address_was_given_for(scene: Scene) -> None:
    gate = refusing(scene.store)
    with opened(gate, scene.clients) as entry:
        address = ask(entry, "files.test", "A")
        entry.listeners[443].address = (address, 443)
        with entry.secure("", name=False) as connection:
            certificate = connection.getpeercert()
            assert certificate is not None
            assert certificate["subjectAltName"] == (("DNS", "files.test"),)
            assert connection.selected_alpn_protocol() is None
        other = ssl.create_default_context(cadata=gate.certificate.decode())
        other.set_alpn_protocols(["h2", "http/1.1"])
        with other.wrap_socket(entry.connect(443), server_hostname="files.test") as connection:
            assert connection.selected_alpn_protocol() == "http/1.1"


def ask(entry: Entry, name: str, kind: str) -> str:
    """Ask the gateway's DNS over UDP."""
    query = dns.message.make_query(name, kind, use_edns=True)
    answer = dns.query.udp(query, "127.0.0.1", port=entry.datagram.getsockname()[1], timeout=20)
    return " ".join(item.to_text() for section in answer.answer for item in section)


def test_names_have_addresses_of_their_own_and_are_reported_if_nothing_follows(scene: Scene) -> None:
    gate = refusing(scene.store)
    with opened(gate, scene.clients) as entry:
        first, second = ask(entry, "a.test", "A"), ask(entry, "b.test", "A")
        assert first.startswith("11.") and first != second
        assert ask(entry, "A.TEST", "A") == first
        assert ask(entry, "a.test", "AAAA").startswith("3ffe:")
        assert ask(entry, "a.test", "MX") == ""
        assert ask(entry, dns.reversename.from_address(first).to_text(), "PTR") == "a.test."
        query = dns.message.make_query("a.test", "A")
        over_tcp = dns.query.tcp(query, "127.0.0.1", port=entry.port(53), timeout=20)
        assert over_tcp.answer[0][0].to_text() == first
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as garbage:
            for data in (b"", b"x", b"\xff" * 600):
                garbage.sendto(data, entry.datagram.getsockname())
        entry.get("http://b.test/")
        ask(entry, "localhost", "A")
        ask(entry, "_srv.test", "A")
    assert [(one.host, one.why) for one in gate.refused] == [("b.test", ""), ("a.test", LOOKED_UP)]


@pytest.mark.parametrize(
    ("data", "wanted", "why"),
    [
        pytest.param(b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", 80, TUNNEL, id="CONNECT"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            80,
            UPGRADE,
            id="websocket",
        ),
        pytest.param(b"\x00\x01\x02\x03", 80, NOT_HTTP, id="no text"),
        pytest.param(b"\x03\x00\x00\x13", 443, NOT_HTTP, id="neither TLS nor HTTP"),
        pytest.param(b"SSH-2.0-OpenSSH_9\r\n\r\n", 80, BAD_HTTP, id="another protocol's greeting"),
        pytest.param(
            b"GET /\x01\x1b[31m HTTP/1.1\r\nHost: a.test\r\n\r\n", 80, BAD_HTTP, id="control characters"
        ),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 80, BAD_HTTP, id="no host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: [9]\r\n\r\n", 80, BAD_HTTP, id="no address"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a.test\r\n" + b"X: y\r\n" * 100_000, 80, BAD_HTTP, id="endless headers"
        ),
        pytest.param(b"\x16\x03\x01\x00\x05hello", 443, NOT_HTTP, id="broken TLS"),
    ],
)
def test_what_cannot_be_served_is_named(scene: Scene, data: bytes, wanted: int, why: str) -> None:
    gate = refusing(scene.store)
    with opened(gate, scene.clients) as entry:
        entry.say(data, wanted)
    assert [one.why for one in gate.refused] == [why]
    assert gate.refused[0].host == ELSEWHERE or why in (TUNNEL, UPGRADE)


def test_a_client_that_does_not_trust_the_authority_is_named(scene: Scene) -> None:
    gate = refusing(scene.store)
    with opened(gate, scene.clients) as entry:
        with pytest.raises(ssl.SSLCertVerificationError):
            entry.secure("pins.test", trusts=False)
        assert entry.curl(
            "--pinnedpubkey", "sha256//" + "A" * 43 + "=", "https://two.test/", check=False
        ).returncode
    assert {(one.host, one.why) for one in gate.refused} == {
        ("pins.test", UNTRUSTED),
        ("two.test", BROKEN_OFF),
    }


def test_connections_to_loopback_are_cut(scene: Scene) -> None:
    gate = refusing(scene.store)
    with opened(gate, scene.clients) as entry:
        entry.listeners[80].address = ("127.8.8.8", 80)
        with entry.connect(80) as connection, pytest.raises(ConnectionResetError):
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while connection.recv(10):
                pass
    assert gate.refused == ()


def test_with_reset_a_refused_host_is_cut_off_before_the_handshake(scene: Scene) -> None:
    scene.net.add("files.test", FileSite({"/a": Page(b"there")}))
    gate, _ = recorded(scene, [f"{U}/a"])
    again = replaying(scene.store, gate.pins, reset=True)
    with opened(again, scene.clients) as entry:
        assert entry.get(f"{U}/a") == b"there"
        with pytest.raises(ConnectionResetError):
            entry.secure("other.test")
        assert entry.curl(f"{U}/b", check=False).returncode == 56
        assert entry.curl("http://other.test/", check=False).returncode == 56
    assert [(one.host, one.url) for one in again.refused] == [
        ("other.test", ""),
        ("files.test", f"{U}/b"),
        ("other.test", "http://other.test/"),
    ]


def test_an_address_that_is_not_public_is_refused_with_its_reason(scene: Scene) -> None:
    gate = scene.recording()
    with opened(gate, scene.clients) as entry:
        said = entry.get("-w", "%{http_code}", "http://169.254.169.254/latest")
    assert said.endswith(b"403") and b"not public" in said
    (refused,) = gate.refused
    assert refused.url == "http://169.254.169.254/latest" and "not public" in refused.why


def test_an_upstream_that_fails_is_a_502_and_a_note(scene: Scene) -> None:
    gate = scene.recording()
    with opened(gate, scene.clients) as entry:
        assert b"502" in entry.get("-i", "https://nowhere.invalid/x")
    assert gate.pins == ()
    assert "nowhere.invalid" in gate.notes[0]


def test_a_body_that_breaks_off_is_not_recorded(scene: Scene) -> None:
    def body() -> Iterator[bytes]:
        yield BODY[:1000]
        raise OSError("the server falls over")

    scene.net.add("files.test", lambda _: Answer(body(), 200, {"Content-Length": "5000"}))
    gate = scene.recording()
    with opened(gate, scene.clients) as entry:
        assert entry.curl("http://files.test/a", check=False).returncode
    assert gate.pins == ()
    assert "did not come whole" in gate.notes[0]


def test_a_client_that_goes_early_has_the_whole_recorded(scene: Scene) -> None:
    large = BODY * 20
    scene.net.add("files.test", FileSite({"/a": Page(large)}))
    gate = scene.recording()
    with opened(gate, scene.clients) as entry, entry.connect(80) as connection:
        connection.sendall(b"GET /a HTTP/1.1\r\nHost: files.test\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert [(pin.size, pin.sha256) for pin in gate.pins] == [(len(large), Digest.of(large))]


def test_a_large_body_that_its_client_leaves_is_let_go_and_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reprobuild.gateway.conversation.LARGE", 1_000_000)
    scene.net.add("files.test", FileSite({"/a": Page(BODY * 20)}))
    gate = scene.recording()
    with opened(gate, scene.clients) as entry:
        with entry.connect(80) as connection:
            connection.sendall(b"GET /a HTTP/1.1\r\nHost: files.test\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert entry.get("-r", "0-9", f"{U}/a") == BODY[:10]
    assert gate.notes == ("GET http://files.test/a: not recorded: the command left before its end",)
    assert [pin.name for pin in gate.pins] == [f"GET {U}/a"]


def test_answers_stand_in_for_dead_links(scene: Scene) -> None:
    with scene.store.transaction() as group:
        digest = group.add_bytes(b"from elsewhere")
    headers = {"content-length": "14", "content-type": "a/b"}  # as the lock has those of sources
    given = Exchange("GET", "https://dead.test/x.bin", 200, 14, digest, headers).pin
    gate = scene.recording(answers=(given,))
    with opened(gate, scene.clients) as entry:
        assert entry.get("https://dead.test/x.bin") == b"from elsewhere"
        assert entry.get("-r", "0-3", "https://dead.test/x.bin") == b"from"
        assert b"Content-Length: 14\r\n" in entry.get("-I", "https://dead.test/x.bin")
    assert gate.pins == (given,)


SECRETS = ["s3cr3t-token", "s3cr3t-cookie", "s3cr3t-pass", "s3cr3t-netrc", "s3cr3t-query", "s3cr3t-set"]


def test_no_secret_is_in_the_record_or_the_store(scene: Scene) -> None:
    links = SignedLinks("cdn.test", {"/blob": BODY})
    closed = FileSite({"/n": Page(b"netrc", password="me:s3cr3t-netrc"), "/s": Page(signed="/blob")}, links)
    scene.net.add("cdn.test", links)
    scene.net.add("closed.test", closed)

    def site(request: Request) -> Answer:
        headers = {"Set-Cookie": "id=s3cr3t-set", "X-Request-Id": "s3cr3t-token", "Date": "today"}
        headers |= {"Strict-Transport-Security": "max-age=1", "Alt-Svc": "h3", "X-Xet-Hash": "s3cr3t-token"}
        headers["Link"] = '<https://x.test/?token=s3cr3t-token>; rel="xet-auth", </next>; rel="next", '
        headers["Link"] += '<https://files.test/4?a=1&token=s3cr3t-token>; rel="last"'
        headers |= {"Vary": "Private-Token", "Content-Location": "/1?token=s3cr3t-token"}
        return Answer(f"{request.query.get('token')} {len(request.headers)}".encode()[-2:], 200, headers)

    scene.net.add("files.test", site)
    (scene.folder / ".netrc").write_text("machine closed.test login me password s3cr3t-netrc\n")
    clients = [
        [
            *("-i", "-H", "Authorization: Bearer s3cr3t-token", "-H", "Cookie: a=s3cr3t-cookie"),
            *("-H", "Private-Token: s3cr3t-token", f"{U}/1"),
        ],
        ["-i", "-u", "me:s3cr3t-pass", f"{U}/2"],
        ["-i", f"{U}/3?token=s3cr3t-query&a=b"],
        ["-i", "https://closed.test/n"],
        ["-i", "-L", "https://closed.test/s"],
    ]
    gate, first = recorded(scene, *clients)
    assert first[3].endswith(b"netrc") and first[4].endswith(BODY)
    assert b'Link: </next>; rel="next", <https://files.test/4?a=1>; rel="last"' in first[0]
    everything = repr((gate.pins, gate.notes, gate.refused)).encode() + b"".join(first[:4])
    everything += first[4][: -len(BODY)]
    everything += b"".join(path.read_bytes() for path in scene.store.root.rglob("*") if path.is_file())
    for secret in (*SECRETS, *links.every, "X-Amz"):
        assert secret.encode() not in everything, secret
    for header in (b"set-cookie", b"x-request-id", b"strict-transport", b"alt-svc", b"xet", b"date:"):
        assert header not in b"".join(first[:4]).lower()
    flags = {pin.name: pin.hashed.get("request") for pin in gate.pins}
    assert flags[f"GET {U}/1"] == {"authorization": True, "cookie": True, "private-token": True}
    assert flags[f"GET {U}/3?token=***&a=b"] is None
    assert flags["GET https://closed.test/n"] == {"credentials": True}
    assert flags["GET https://cdn.test/blob"] == {"signed": True}
    assert len(gate.notes) == 5
    links.expire()
    _, second = replayed(scene, gate.pins, *clients)
    assert first == second


def test_hostile_clients_stop_nobody_and_nothing_hangs(scene: Scene) -> None:
    scene.net.add("files.test", FileSite({"/a": Page(b"there")}))
    gate = scene.recording()
    held: list[socket.socket] = []
    with opened(gate, scene.clients) as entry:
        for number in range(60):
            slow = entry.connect(443 if number % 2 else 80)
            slow.sendall(b"\x16\x03" if number % 2 else b"GET /a HTTP/1.1\r\nHost: fi")
            held.append(slow)
        body = entry.connect(80)
        body.sendall(
            b"POST /a HTTP/1.1\r\nHost: files.test\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFF\r\nx"
        )
        held.append(body)
        for garbage in (
            os.urandom(5000),
            b"A" * 300_000,
            b"\x16" + os.urandom(3000),
            b"GET " + b"/" * 200_000,
        ):
            entry.say(garbage)
        assert entry.get(f"{U}/a") == b"there"
        assert len([thread for thread in threading.enumerate() if thread.name == "gateway-client"]) >= 60
    assert [pin.name for pin in gate.pins] == [f"GET {U}/a"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gateway")]
    for connection in held:
        connection.close()


def test_a_gate_that_nobody_came_to_closes(scene: Scene) -> None:
    gate = refusing(scene.store)
    gate.close()
    assert (gate.refused, gate.unused, gate.pins, gate.notes) == ((), (), (), ())
    assert not gate.env and not gate.files and b"BEGIN CERTIFICATE" in gate.certificate
    world = replaying(scene.store, ())
    assert world.env["APT_CONFIG"].lstrip("/") in world.files
