"""What a command sees of a network that a gateway answers, in the sandbox and in a daemon."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace

import pytest

from reprobuild.engine.protocol import Command
from reprobuild.engine.sandbox import SandboxEngine
from reprobuild.errors import EngineError, ReprobuildError
from reprobuild.store.checkouts import Checkout
from reprobuild.store.owner import choose_owner
from tests.gateways import AnsweringGateway
from tests.roots import give_to
from tests.sandboxes import Sandboxes


@pytest.fixture
def served(all_worlds: Sandboxes) -> Sandboxes:
    """An engine with a gateway that answers on port 8081 too."""
    return replace(all_worlds, gateway={"ports": (8081,)})


ADDRESSES = {
    "literal": ("93.184.216.34", 80, "http://93.184.216.34/"),
    "port of TLS": ("93.184.216.34", 443, "http://93.184.216.34:443/"),
    "named port": ("10.0.0.1", 8081, "http://10.0.0.1:8081/"),
    "IPv6": ("2001:db8::7", 80, "http://[2001:db8::7]/"),
    "IPv6, named port": ("fd00::1", 8081, "http://[fd00::1]:8081/"),
    "link-local": ("169.254.169.254", 80, "http://169.254.169.254/"),
    "loopback": ("127.0.0.1", 80, "http://127.0.0.1/"),
}


@pytest.mark.parametrize(("address", "port", "url"), ADDRESSES.values(), ids=ADDRESSES)
def test_every_address_is_the_gateways(served: Sandboxes, address: str, port: int, url: str) -> None:
    outcome = served.shell(f"wget -q -O - '{url}'")
    assert outcome.text == f"gateway {address} {port}\n"
    assert outcome.arrived == [("tcp", address, port, served.told(f"wget -q -O - {url}"))]


def test_what_is_asked_of_a_name_server_arrives_and_is_answered(served: Sandboxes) -> None:
    assert served.shell("cat /etc/resolv.conf").text == "nameserver 198.18.0.1\n"
    outcome = served.python(
        "import socket\n"
        "for family, address in (socket.AF_INET, '198.18.0.1'), (socket.AF_INET6, '2001:db8::53'):\n"
        "    asked = socket.socket(family, socket.SOCK_DGRAM)\n"
        "    asked.settimeout(10)\n"
        "    asked.sendto(b'question', (address, 53))\n"
        "    answer, (of, *_) = asked.recvfrom(100)\n"
        "    print(answer.decode(), of)\n"
    )
    assert outcome.text == "question 198.18.0.1\nquestion 2001:db8::53\n"
    assert outcome.arrived == [("udp", "", 53, ""), ("udp", "", 53, "")]


def test_a_command_that_asks_for_nothing_is_never_attended(served: Sandboxes) -> None:
    outcome = served.shell("echo done", capture=True)
    assert (outcome.text, outcome.arrived, outcome.capture.changes) == ("done\n", [], [])


@pytest.mark.parametrize(
    ("listen", "url"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("::", "127.0.0.1")]
)
def test_a_server_of_the_commands_own_is_reached_by_it(served: Sandboxes, listen: str, url: str) -> None:
    outcome = served.shell(
        "mkdir /site; echo mine > /site/page; "
        f"busybox httpd -f -h /site -p '{listen if ':' not in listen else f'[{listen}]'}:8080' & "
        f"until wget -q -O - http://{url}:8080/page 2> /dev/null; do sleep 0.05; done"
    )
    assert outcome.text == "mine\n"
    assert outcome.arrived == []


def test_without_a_gateway_nothing_listens(worlds: Sandboxes) -> None:
    outcome = worlds.shell("cat /etc/resolv.conf; wget -q -O - http://127.0.0.1/ || echo refused")
    assert outcome.text.splitlines()[-1] == "refused"
    assert outcome.text.startswith("# There is no network here.\n")


def test_a_program_with_a_hostile_name_is_shown_as_plain_text(sandboxes: Sandboxes) -> None:
    outcome = replace(sandboxes, gateway={}).python(
        "'\033[2J\u202e'\nimport socket\n"
        "s = socket.create_connection(('1.2.3.4', 80)); s.send(b'x'); s.recv(9)" + " " * 80 + "#" * 80
    )
    ((_, _, _, program),) = outcome.arrived
    assert program.startswith("python3 -ISB -c ' [2J ' import socket ")
    assert program.isprintable()
    assert len(program) == 80


def test_nothing_is_left_when_a_command_ends_by_its_time_limit(served: Sandboxes) -> None:
    outcome = served.shell("wget -q -O - http://1.2.3.4/; sleep 1000", timeout=2)
    assert outcome.result.timed_out
    assert outcome.text == "gateway 1.2.3.4 80\n"
    assert served.leftovers() == []


@pytest.mark.parametrize("program", ["/bin/false", "/there/is/none"], ids=["ends", "is not there"])
def test_without_its_sockets_a_command_does_not_begin(
    all_sandboxes: dict[str, Sandboxes], program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = all_sandboxes["root" if os.geteuid() == 0 else "user"]
    monkeypatch.setattr(sys, "executable", program)
    gateway = AnsweringGateway()
    printed: list[bytes] = []
    with pytest.raises(EngineError, match="gateway's sockets"):
        SandboxEngine(own.home / "scratch", choose_owner()).run(
            Checkout(own.lowers), Command(("/bin/echo", "begun")), gateway=gateway, output=printed.append
        )
    assert (printed, gateway.attended, gateway.closed) == ([], 0, 1)
    assert os.listdir(own.home / "scratch") == []


def test_a_gateway_is_closed_once_where_no_sandbox_can_be_made(all_sandboxes: dict[str, Sandboxes]) -> None:
    own = all_sandboxes["root" if os.geteuid() == 0 else "user"]
    gateway = AnsweringGateway()
    engine = SandboxEngine(own.home / "scratch", choose_owner())
    with pytest.raises(ReprobuildError):
        engine.run(Checkout(own.lowers), Command(("/bin/true",), workdir="/no/such"), gateway=gateway)
    with pytest.raises(ReprobuildError):
        engine.run(Checkout(own.lowers), Command(("/bin/true",), devices=("gpu",)), gateway=gateway)
    assert gateway.closed == 2


def test_ports_beyond_reason_are_refused(all_sandboxes: dict[str, Sandboxes]) -> None:
    own = all_sandboxes["root" if os.geteuid() == 0 else "user"]
    engine = SandboxEngine(own.home / "scratch", choose_owner())
    many = AnsweringGateway(ports=range(10_000, 10_121))
    assert engine.run(Checkout(own.lowers), own.base, gateway=many).exit_code == 0
    more = AnsweringGateway(ports=range(10_000, 10_122))
    with pytest.raises(EngineError, match="124 ports"):
        engine.run(Checkout(own.lowers), own.base, gateway=more)


AUTHORITY = b"-----BEGIN CERTIFICATE-----\nQSBzdHJhbmdlcidz\n-----END CERTIFICATE-----\n"
OWN = "-----BEGIN CERTIFICATE-----\nVGhlIHRyZWUncw==\n-----END CERTIFICATE-----\n"


@pytest.fixture
def trusting(worlds: Sandboxes) -> Sandboxes:
    """An engine with a gateway that has an authority, a file and variables of its own."""
    return replace(
        worlds,
        gateway={
            "certificate": AUTHORITY,
            "files": {"etc/java/keystore": b"keys\n"},
            "env": {"JAVA_TOOL_OPTIONS": "-Dx=y", "PIP_CERT": "/gateway's"},
        },
    )


def test_an_authority_is_trusted_where_a_tree_has_no_bundle(trusting: Sandboxes) -> None:
    outcome = trusting.shell(
        "cat $SSL_CERT_FILE /usr/local/share/ca-certificates/*; echo $JAVA_TOOL_OPTIONS $PIP_CERT "
        "$GIT_SSL_CAINFO; cat /etc/java/keystore; stat -c '%a %u' /etc/ssl/certs $SSL_CERT_FILE",
        env={"GIT_SSL_CAINFO": "/own"},
        capture=True,
    )
    text = AUTHORITY.decode()
    assert outcome.text == f"{text}{text}-Dx=y /gateway's /own\nkeys\n755 0\n644 0\n"
    assert outcome.capture.changes == []


@pytest.mark.parametrize("bundle", ["etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt"])
def test_a_trees_bundle_is_shown_with_the_authority_in_front(trusting: Sandboxes, bundle: str) -> None:
    layer = trusting.home / f"bundle-{bundle.count('/')}-{trusting.identity}"
    (layer / "usr/share/real").mkdir(parents=True)
    (layer / "usr/share/real").chmod(0o711)
    (layer / bundle).parent.mkdir(parents=True)
    (layer / "usr/share/real/bundle").write_text(OWN)
    (layer / "usr/share/real/bundle").chmod(0o664)
    (layer / bundle).symlink_to("/usr/share/real/bundle")
    if os.geteuid() == 0:
        give_to(layer, trusting.uid)
    stacked = replace(trusting, lowers=(layer, *trusting.lowers))
    outcome = stacked.shell(
        f"cat $CURL_CA_BUNDLE; readlink /{bundle}; stat -L -c %a /usr/share/real /{bundle}; "
        f"echo more >> /{bundle}",
        capture=True,
    )
    assert outcome.text == f"{AUTHORITY.decode()}{OWN}/usr/share/real/bundle\n711\n664\n"
    assert outcome.capture.summary() == [
        *((path, "d") for path in ("usr", "usr/share", "usr/share/real")),
        ("usr/share/real/bundle", "f"),
    ]
    shutil.rmtree(layer)


def test_a_link_of_the_tree_shows_no_file_of_the_host(trusting: Sandboxes) -> None:
    """A folder that is a link further down, and a bundle that leads outside."""
    outside = trusting.home / "outside"
    outside.mkdir()
    (outside / "ca-certificates.crt").write_text("secret")
    lower, upper = trusting.home / "links-lower", trusting.home / "links-upper"
    (lower / "etc/ssl").mkdir(parents=True)
    (lower / "etc/ssl/certs").symlink_to(outside)
    (upper / "etc/ssl/certs").mkdir(parents=True)
    (upper / "etc/ssl/cert.pem").symlink_to(f"{'../' * 20}{outside}/ca-certificates.crt")
    if os.geteuid() == 0:
        give_to(lower, trusting.uid)
        give_to(upper, trusting.uid)
    for lowers in ((upper, lower), (lower,)):
        outcome = replace(trusting, lowers=(*lowers, *trusting.lowers)).shell(
            "cat $SSL_CERT_FILE; cat /etc/ssl/*.pem"
        )
        assert "secret" not in outcome.text
        assert AUTHORITY.decode() in outcome.text
    for folder in (outside, lower, upper):
        shutil.rmtree(folder)
