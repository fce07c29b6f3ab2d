"""What a recording must not leave behind: secrets anywhere, the gateway's authority in a layer."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from reprobuild.build.find import find_image
from reprobuild.build.image import read_layers
from reprobuild.digest import Digest
from reprobuild.store.store import Store
from reprobuild.tree import Tree, apply
from tests.clients import DPKG, LARGE, Client
from tests.debian import Archive
from tests.engines import Engines
from tests.recorded import Bench
from tests.require import program
from tests.sites.files import FileSite, FolderSite, Page, SignedLinks
from tests.upstreams import Answer, Request, Upstreams, moved

BUNDLE = "etc/ssl/certs/ca-certificates.crt"
SECRETS = {
    name: f"{name}-Zx81Qk77"
    for name in ("environment", "netrc", "userinfo", "token", "bearer", "cookie", "answered", "redirected")
}


def hidden(name: str) -> str:
    """Give a shell text that writes a secret, and does not hold it."""
    return f"$(echo {SECRETS[name][::-1]} | rev)"


def secretive(request: Request) -> Answer:
    """Lead through addresses with secrets in them, and set one as a cookie."""
    if request.path == "/start":
        cookie = f"session={SECRETS['answered']}; Path=/; Secure"
        return moved(f"https://files.test/next?token={SECRETS['redirected']}", set_cookie=cookie)
    if request.path == "/next":
        return Answer(b"there\n", 200, {"Set-Cookie": f"again={SECRETS['answered']}"})
    if request.path == "/who":
        given = " ".join(f"{request.headers.get(name, '')}" for name in ("authorization", "cookie"))
        return Answer(b"somebody\n" if given.strip() else b"nobody\n")
    return Answer(b"asked\n")


@pytest.mark.once
def test_no_secret_is_left_anywhere(bench: Bench, net: Upstreams, tmp_path: Path) -> None:
    links = SignedLinks("cdn.test", {"/kept/model": LARGE[:5000]})

    def serve(net: Upstreams, folder: Path) -> None:
        net.add("files.test", secretive)
        net.add("cdn.test", links)
        pages = {
            "/model": Page(signed="/kept/model"),
            "/own": Page(b"own\n", password=f"me:{SECRETS['netrc']}"),
        }
        net.add("signed.test", FileSite(pages, links))

    steps = [
        f"curl -fsS https://me:{hidden('userinfo')}@files.test/who",
        f"curl -fsS 'https://files.test/asked?access_token='{hidden('token')}",
        f"curl -fsS -H 'Authorization: Bearer '{hidden('bearer')} https://files.test/who",
        f"curl -fsS -b session={hidden('cookie')} https://files.test/who",
        "curl -fsSL -c /opt/jar https://files.test/start",
        "curl -fsSL -o /opt/model https://signed.test/model",
        "curl -sS https://signed.test/own",
        "wget -q -O /opt/again https://files.test/start",
    ]
    client = Client(" && ".join(steps), serve, {})
    bench.write("secretive", client, net, tmp_path)
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine signed.test login me password {SECRETS['netrc']}\n")
    netrc.chmod(0o600)
    ended = bench.lock("secretive", net, NETRC=str(netrc), HF_TOKEN=SECRETS["environment"])
    assert ended.err.count("somebody") >= 3, "credentials went where they were meant to go"
    told = ended.out + ended.err
    net.stop()
    made = [bench.rebuild("secretive", who) for who in bench.fresh]
    recipe = bench.project.folder / "recipes/secretive"
    assert all(one["image_id"] in (recipe / "recipe.lock").read_text() for one in made)
    signatures = {f"signature {number}": text for number, text in enumerate(links.every)}
    assert signatures
    places = [recipe, bench.project.store, *(project.store for project in bench.fresh.values())]
    found = {f"{name} in {place}" for name, place in _grep({**SECRETS, **signatures}, _texts(told, *places))}
    assert found == set()


@pytest.mark.parametrize("engine", ["sandbox", "docker"])
def test_no_layer_holds_the_gateways_authority(
    request: pytest.FixtureRequest, bench: Bench, net: Upstreams, tmp_path: Path, engine: str
) -> None:
    environment: Mapping[str, str] = {}
    if engine == "docker":
        engines: Engines = request.getfixturevalue("docker_engine")
        engines.there(bench.project)
        environment = engines.environment
    recipe = f"certified_{engine}"
    store = Store.open(bench.project.store)
    base = _tree(bench, store, "base0")
    package = next(line for line in bench.base_lock().split("{") if '"package": "ca-certificates"' in line)
    data = _blob(store, package)

    def serve(net: Upstreams, folder: Path) -> None:
        archive = Archive(folder / "archive")
        path = folder / "real.deb"
        path.write_bytes(data)
        command = [str(program("dpkg-deb")), "--field", str(path)]
        control = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        archive.add_package(control, data)
        archive.publish()
        (folder / "keyring").write_bytes(archive.keyring)
        net.add("deb.test", FolderSite(archive.folder))
        net.add("plain.test", FileSite({"/page": Page(b"page\n")}))

    def keyring(folder: Path) -> Mapping[str, bytes]:
        return {"etc/apt/keyrings/test.gpg": (folder / "keyring").read_bytes()}

    command = (
        f"{DPKG} && export DEBIAN_FRONTEND=noninteractive && apt-get update && "
        "apt-get install -y --reinstall ca-certificates && update-ca-certificates --fresh && "
        "env -u CURL_CA_BUNDLE -u SSL_CERT_FILE curl -fsS https://plain.test/page"
    )
    bench.write(recipe, Client(command, serve, {}, keyring), net, tmp_path)
    told = bench.lock(recipe, net, **environment).err
    assert "page" in told, "the bundle that was made again trusts the gateway"
    net.stop()
    tree = _tree(bench, store, recipe)
    assert store.blobs.read(_digest(tree, BUNDLE)) == store.blobs.read(_digest(base, BUNDLE))
    authority = x509.load_pem_x509_certificate((bench.project.store / "gateway/authority.pem").read_bytes())
    pem = authority.public_bytes(Encoding.PEM).splitlines()
    traces = {"DER": authority.public_bytes(Encoding.DER), "PEM": pem[1], "PEM, later": pem[3]}
    blobs = [store.blobs.path(entry.digest) for entry in tree if entry.digest is not None]
    left = {name for name, trace in traces.items() for path in set(blobs) if trace in path.read_bytes()}
    assert left == set()
    assert not [entry.path for entry in tree if "reprobuild" in entry.path]


def _texts(told: str, *places: Path) -> Iterator[tuple[str, bytes]]:
    yield "what was printed", told.encode()
    for place in places:
        for path in place.rglob("*"):
            yield f"the name of {path}", str(path).encode()
            # What is checked out is what blobs hold; the authority's own files are no secret of anybody's.
            if path.is_file() and not path.is_symlink() and not {"checkouts", "gateway"} & {*path.parts}:
                yield str(path), path.read_bytes()


def _grep(secrets: Mapping[str, str], texts: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, str]]:
    """Give which secret is found where, as it is, escaped for addresses, or as basic credentials."""
    forms = {
        name: (text.encode(), quote(text, safe="").encode(), base64.b64encode(f"me:{text}".encode())[4:-4])
        for name, text in secrets.items()
    }
    for place, data in texts:
        for name, written in forms.items():
            if any(form in data for form in written):
                yield name, place


def _tree(bench: Bench, store: Store, name: str) -> Tree:
    made = bench.project.call("realize", name, "--offline", "--json").json
    image_id = (made if isinstance(made, dict) else made[0])["image_id"]
    tree = Tree()
    for layer in read_layers(store, find_image(store, image_id)):
        tree = apply(tree, layer)
    return tree


def _digest(tree: Tree, path: str) -> Digest:
    entry = tree.get(path)
    assert entry is not None and entry.digest is not None
    return entry.digest


def _blob(store: Store, pin: str) -> bytes:
    digest = pin.partition('"sha256": "')[2][:64]
    return (store.root / "blobs/sha256" / digest[:2] / digest).read_bytes()
