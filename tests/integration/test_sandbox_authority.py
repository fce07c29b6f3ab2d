"""Nothing of a gateway's authority comes into what a command leaves, whatever Debian's tools make of it."""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reprobuild.build.capture import StoreCapture
from reprobuild.engine.protocol import Command
from reprobuild.gateway.authority import certificate
from reprobuild.store.store import Store
from reprobuild.tree import Tree
from tests.require import require
from tests.roots import give_to
from tests.sandboxes import Sandboxes

PROGRAMS = ("/bin", "/lib", "/lib64", "/usr/bin", "/usr/lib", "/usr/sbin")


@pytest.fixture
def debian(sandboxes: Sandboxes) -> Sandboxes:
    """A tree with the authorities of the host's Debian, not yet in a bundle; its programs are the host's."""
    for program in ("update-ca-certificates", "openssl", "run-parts"):
        require(program, "" if shutil.which(program, path="/usr/sbin:/usr/bin:/bin") else f"no {program}")
    layer = sandboxes.home / f"debian-{os.urandom(4).hex()}"
    for folder in ("etc/ssl/certs", "tmp", "usr/share"):
        (layer / folder).mkdir(parents=True)
    (layer / "tmp").chmod(0o1777)
    shutil.copytree("/usr/share/ca-certificates", layer / "usr/share/ca-certificates")
    shutil.copy("/etc/ca-certificates.conf", layer / "etc/ca-certificates.conf")
    if os.geteuid() == 0:
        give_to(layer, sandboxes.uid)
    inputs = {place: Path(place) for place in PROGRAMS if Path(place).exists()}
    return replace(sandboxes, lowers=(layer,), base=Command(("/bin/true",), timeout=100, inputs=inputs))


def left(made: Sandboxes, store: Store, text: str, authority: bytes) -> Tree:
    """Give what a text leaves on the tree."""
    outcome = made.shell(text, capture=True)
    assert outcome.result.exit_code == 0, outcome.text
    with store.transaction() as group:
        capture = StoreCapture(group, authority=authority)
        for change in outcome.capture.changes:
            body = outcome.capture.bodies.get(change.path)
            capture.add(change, None if body is None else io.BytesIO(body))
        return capture.normal_form(Tree(), owners=False).tree


TEXTS = {
    "a bundle made": "update-ca-certificates",
    "a bundle with one more": (
        "mkdir -p /usr/local/share/ca-certificates; "
        "cp /usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt /usr/local/share/ca-certificates/own.crt; "
        "update-ca-certificates; update-ca-certificates --fresh"
    ),
    "modes": "update-ca-certificates; chmod -R go-w /etc",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_is_left_is_what_would_be_without_it(debian: Sandboxes, store: Store, text: str) -> None:
    authority = certificate(store)
    plain = left(debian, store, text, b"")
    served = replace(debian, gateway={"certificate": authority})
    with_authority = left(served, store, text, authority)
    assert with_authority == plain
    assert len(plain) > 100
    shutil.rmtree(debian.lowers[0])


def test_a_made_bundle_holds_the_authority_while_the_command_runs(debian: Sandboxes, store: Store) -> None:
    authority = certificate(store)
    served = replace(debian, gateway={"certificate": authority})
    outcome = served.shell(
        "update-ca-certificates > /dev/null 2>&1; cat /etc/ssl/certs/reprobuild-gateway.pem; "
        "tail -n 3 $SSL_CERT_FILE; wc -l < $SSL_CERT_FILE"
    )
    assert outcome.text.startswith(authority.decode() + "".join(authority.decode().splitlines(True)[-3:]))
    assert int(outcome.text.splitlines()[-1]) > 1000
    shutil.rmtree(debian.lowers[0])
