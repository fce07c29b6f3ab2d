"""The stand-ins themselves, asked by curl and git of this machine: what recorded tests build on."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.require import program
from tests.servers import nginx
from tests.sites.drive import DriveFile, DriveSite
from tests.sites.files import FileSite, FolderSite, Page, SignedLinks
from tests.sites.git import GitSite, repository
from tests.sites.hub import HubSite, Model
from tests.sites.nltk import BASE, HOST, nltk_site
from tests.sites.packages import PackageSite, source_archive
from tests.upstreams import Answer, Upstreams
from tests.wheels import wheel

pytestmark = pytest.mark.once

BODY = bytes(range(256)) * 100
Curl = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def curl(net: Upstreams) -> Curl:
    """curl, with the stand-ins as the whole world."""
    binary = program("curl")

    def ask(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        where = [part for one in net.connect_to() for part in ("--connect-to", one)]
        command = [str(binary), "--silent", "--show-error", "--cacert", str(net.authority.path), *where]
        done = subprocess.run([*command, *arguments], capture_output=True, timeout=60)
        assert not check or done.returncode == 0, done.stderr
        return done

    return ask


def test_a_file_by_name_over_tls_and_in_the_clear(net: Upstreams, curl: Curl) -> None:
    net.add("files.test", FileSite({"/a": Page(BODY), "/pieces": Page(BODY, is_chunked=True)}))
    net.add("other.test", FileSite({"/a": Page(b"other")}))
    assert curl("https://files.test/a").stdout == BODY
    assert curl("http://files.test/a").stdout == BODY
    assert curl("https://files.test/pieces").stdout == BODY
    assert curl("https://other.test/a").stdout == b"other"
    assert net.asked("files.test") == [
        "GET https://files.test/a",
        "GET http://files.test/a",
        "GET https://files.test/pieces",
    ]


def test_ranges_heads_and_one_connection(net: Upstreams, curl: Curl) -> None:
    net.add("files.test", FileSite({"/a": Page(BODY)}))
    assert curl("--range", "10-19", "https://files.test/a").stdout == BODY[10:20]
    assert curl("--range", "-5", "https://files.test/a").stdout == BODY[-5:]
    assert f"content-length: {len(BODY)}".encode() in curl("--head", "https://files.test/a").stdout.lower()
    done = curl("--verbose", "https://files.test/a", "https://files.test/a", "--output", "/dev/null")
    assert b"Re-using existing connection" in done.stderr


def test_gone_and_there_again(net: Upstreams, curl: Curl) -> None:
    net.add("files.test", FileSite({"/a": Page(BODY)}))
    net.stop()
    assert curl("https://files.test/a", check=False).returncode == 7
    net.start()
    assert curl("https://files.test/a").stdout == BODY


def test_signed_links_expire(net: Upstreams, curl: Curl) -> None:
    links = SignedLinks("cdn.test", {"/kept": BODY})
    net.add("files.test", FileSite({"/model": Page(signed="/kept")}, links))
    net.add("cdn.test", links)
    assert curl("--location", "https://files.test/model").stdout == BODY
    signed = net.log[-1].url
    assert links.every[0] in signed
    links.expire()
    assert b"AccessDenied" in curl(signed).stdout


def test_who_asks_how(net: Upstreams, curl: Curl) -> None:
    busy = [Answer(status=503), Answer(status=429, headers={"Retry-After": "0"})]
    site = FileSite(
        {
            "/secret": Page(BODY, password="me:hidden"),
            "/cookie": Page(BODY, cookie="session=1234"),
            "/packed": Page(BODY, is_packed=True),
            "/busy": Page(BODY, before=busy),
        }
    )
    net.add("files.test", site)
    assert curl("https://files.test/secret").stdout == b"who are you?\n"
    assert curl("--user", "me:hidden", "https://files.test/secret").stdout == BODY
    assert curl("--location", "--cookie", "", "https://files.test/cookie").stdout == BODY
    assert gzip.decompress(curl("-H", "Accept-Encoding: gzip", "https://files.test/packed").stdout) == BODY
    assert curl("--compressed", "https://files.test/packed").stdout == BODY
    status = [curl("-w", "%{http_code}", "-o", "-", "https://files.test/busy").stdout[-3:] for _ in range(3)]
    assert status == [b"503", b"429", b"200"]


def test_nginx_behind_a_name(net: Upstreams, curl: Curl, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/a").write_bytes(BODY)
    with nginx(tmp_path, tmp_path / "web", certificate=net.authority.issue("nginx.test")) as address:
        net.add_elsewhere("nginx.test", address.removeprefix("https://"))
        assert curl("https://nginx.test/a").stdout == BODY


@pytest.mark.parametrize("version", ["0", "2"])
def test_git_clones(net: Upstreams, tmp_path: Path, version: str) -> None:
    git = program("git")
    many = {f"file{number}": b"x" * number for number in range(300)}
    repository(tmp_path / "git/model.git", many)
    commit = repository(tmp_path / "git/model.git", {"file1": b"changed"}, message="second")
    net.add("git.test", GitSite(tmp_path / "git"))
    address = f"https://git.test:{net.ports['https']}/model.git"
    environment = {**os.environ, "GIT_SSL_CAINFO": str(net.authority.path)}
    command = [str(git), "-c", f"protocol.version={version}"]
    command += ["-c", f"http.curloptResolve=git.test:{net.ports['https']}:127.0.0.1"]
    command += ["clone", "-q", address, str(tmp_path / "out")]
    subprocess.run(command, check=True, timeout=60, env=environment)
    assert (tmp_path / "out/file1").read_bytes() == b"changed"
    done = subprocess.run([str(git), "rev-parse", "HEAD"], cwd=tmp_path / "out", capture_output=True)
    assert done.stdout.decode().strip() == commit
    assert {one.method for one in net.log} == {"GET", "POST"}


def test_repositories_are_the_same_each_time(tmp_path: Path) -> None:
    commits = {repository(tmp_path / name / "a.git", {"a": b"1"}) for name in ("one", "two")}
    assert len(commits) == 1


def test_an_index_in_both_forms(net: Upstreams, curl: Curl) -> None:
    files = {
        "tool-1.0-py3-none-any.whl": wheel("tool", "1.0", {"tool.py": b""}),
        "old-0.1.tar.gz": source_archive("old", "0.1", {"old.py": b""}),
    }
    net.add("index.test", PackageSite(files))
    listed = curl("https://index.test/simple/tool/").stdout.decode()
    assert re.search(r'href="../../files/tool-1.0-py3-none-any.whl#sha256=[0-9a-f]{64}"', listed)
    accept = "Accept: application/vnd.pypi.simple.v1+json"
    assert json.loads(curl("-H", accept, "https://index.test/simple/old/").stdout)["name"] == "old"
    assert curl("https://index.test/files/old-0.1.tar.gz").stdout == files["old-0.1.tar.gz"]


def test_a_folder_and_nothing_above_it(net: Upstreams, curl: Curl, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/a").write_bytes(BODY)
    (tmp_path / "outside").write_bytes(b"")
    net.add("deb.test", FolderSite(tmp_path / "pool"))
    assert curl("http://deb.test/a").stdout == BODY
    assert curl("--path-as-is", "http://deb.test/../outside").stdout == b"not found\n"


def test_a_file_host_asks_for_confirmation(net: Upstreams, curl: Curl) -> None:
    drive = DriveSite({"big": DriveFile("w.bin", BODY), "full": DriveFile("w.bin", BODY, state="quota")})
    drive.join(net)
    asked = curl("https://drive.google.com/uc?id=big").stdout.decode()
    hidden = dict(re.findall(r'name="(\w+)" value="([^"]*)"', asked))
    assert hidden["uuid"] in drive.cookies
    query = "&".join(f"{name}={value}" for name, value in hidden.items())
    assert curl(f"https://drive.usercontent.google.com/download?{query}").stdout == BODY
    assert b"Too many users have viewed" in curl("https://drive.google.com/uc?id=full").stdout


def test_a_hub_of_models(net: Upstreams, curl: Curl) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    hub = HubSite({"org/model": Model(commit, {"config.json": b"{}", "weights.bin": BODY})})
    hub.join(net)
    about = json.loads(curl("https://huggingface.co/api/models/org/model/revision/main").stdout)
    assert about["sha"] == commit
    listed = json.loads(curl(f"https://huggingface.co/api/models/org/model/tree/{commit}").stdout)
    assert [one["path"] for one in listed] == ["config.json", "weights.bin"]
    assert curl("https://huggingface.co/org/model/resolve/main/config.json").stdout == b"{}"
    address = f"https://huggingface.co/org/model/resolve/{commit}/weights.bin"
    assert b"x-linked-size: 25600" in curl("--head", address).stdout.lower()
    assert curl("--location", address).stdout == BODY


def test_the_data_of_nltk(net: Upstreams, curl: Curl) -> None:
    net.add(HOST, nltk_site({"corpora/words": {"words/en": b"a\nb\n"}}))
    listed = curl(f"https://{HOST}{BASE}/index.xml").stdout.decode()
    address = re.search(r'url="([^"]+)"', listed)
    assert address is not None
    assert curl(address[1]).stdout.startswith(b"PK")
