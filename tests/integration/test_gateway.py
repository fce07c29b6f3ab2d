"""What a gateway records of real clients, and replays to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reprobuild.derivation.exchange import Exchange
from reprobuild.digest import Digest
from reprobuild.gateway.gate import replaying
from tests.doors import opened
from tests.gate_scene import BODY, Scene, U, make_scene, recorded, replayed
from tests.sites.files import FileSite, Page, SignedLinks
from tests.upstreams import Answer, Request

pytestmark = pytest.mark.once


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with make_scene(tmp_path, monkeypatch) as scene:
        yield scene


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


def test_secrets_that_are_answered_differently_are_told(scene: Scene) -> None:
    busy = [Answer(status=503)]

    def site(request: Request) -> Answer:
        if request.path == "/busy" and busy:
            return busy.pop()
        is_open = request.path in ("/same", "/busy")
        return Answer(b"the same\n" if is_open else request.query.get("token", "").encode())

    scene.net.add("files.test", site)
    asked = [f"{U}/{path}?token=s3cr3t-{who}" for path in ("mine", "same", "busy") for who in ("one", "two")]
    gate, said = recorded(scene, *([one] for one in asked), [f"{U}/same?token=s3cr3t-one"])
    assert said[:3] == [b"s3cr3t-one", b"s3cr3t-two", b"the same\n"]
    (note,) = [note for note in gate.notes if "ambiguous" in note]
    assert note.startswith(f"GET {U}/mine?token=*** is ambiguous: 2 different secrets")
    assert "s3cr3t" not in repr((gate.pins, gate.notes))


def test_a_range_is_cut_from_what_its_own_secret_was_given(scene: Scene) -> None:
    scene.net.add("files.test", lambda request: Answer(request.query["token"].encode() * 1000))
    clients = [[f"{U}/a?token=one"], ["-r", "0-2", f"{U}/a?token=two"], ["-r", "0-2", f"{U}/a?token=one"]]
    gate, said = recorded(scene, *clients)
    assert said == [b"one" * 1000, b"two", b"one"]
    assert len(scene.net.asked()) == 2, "the last is cut from what was recorded"
    assert any("ambiguous" in note for note in gate.notes)


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
