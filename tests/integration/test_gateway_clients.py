"""What a gateway is for its clients: names, addresses, certificates, and refusals, of hostile ones too."""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.reversename
import pytest

from reprobuild.gateway.gate import refusing, replaying
from reprobuild.gateway.refusal import BAD_HTTP, BROKEN_OFF, LOOKED_UP, NOT_HTTP, TUNNEL, UNTRUSTED, UPGRADE
from tests.doors import ELSEWHERE, Entry, opened, read_all
from tests.gate_scene import Scene, U, make_scene, recorded
from tests.sites.files import FileSite, Page

pytestmark = pytest.mark.once


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with make_scene(tmp_path, monkeypatch) as scene:
        yield scene


def test_a_command_without_a_record_is_refused_by_name(scene: Scene) -> None:
    gate = refusing(scene.store)
    with opened(gate, scene.clients) as entry:
        for _ in range(2):
            said = entry.get("-w", "%{http_code}", "-d", "x" * 100_000, "https://files.test/a?b")
    assert said.endswith(b"403")
    (refused,) = gate.refused
    assert (refused.method, refused.url, refused.count) == ("POST", "https://files.test/a?b", 2)
    assert refused.program == "client of the test"


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
