"""Real clients, what each is asked to do, and the stand-ins that they meet: one entry a client.

``CLIENTS["git"]`` is a command as people write it, unchanged, and the site that answers it. The image that
holds them is ``BASE``, and where they want more, ``RUNTIMES`` on top. Knows nothing of recording.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tests.debian import Archive, Content, control_text
from tests.sites.drive import DriveFile, DriveSite
from tests.sites.files import FileSite, FolderSite, Page, SignedLinks
from tests.sites.git import GitSite, repository
from tests.sites.hub import HubSite, Model
from tests.sites.nltk import HOST, nltk_site
from tests.sites.packages import PackageSite, source_archive
from tests.upstreams import Answer, Upstreams
from tests.wheels import wheel

BASE = """\
        apt("bookworm", "apt", "ca-certificates", "curl", "git", "wget"),
"""
"""Steps that give an image with clients that need no runtime of a language."""
RUNTIMES = """\
        apt("bookworm", "nodejs", "openjdk-17-jre-headless", "python3-pip"),
        wheels("gdown", "huggingface_hub", "nltk"),
"""
"""Steps that add the others: 500 MB, of which Java is 180."""

LARGE = bytes(range(256)) * 8192
"""2 MiB: more than what is kept beside a lock."""
SMALL = b"".join(b"line %d\n" % number for number in range(1000))
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DPKG = (
    "for f in /var/lib/dpkg/status.d/*; do case $f in *.md5sums) ;; *) cat $f; echo ;; esac; done "
    "> /var/lib/dpkg/status && "
    "echo 'deb [signed-by=/etc/apt/keyrings/test.gpg] http://deb.test bookworm main' "
    "> /etc/apt/sources.list.d/test.list"
)
"""What lets dpkg know packages that were placed, and apt the archive of the test."""
JAVA = Path(__file__).parent / "java" / "Fetch.class"


@dataclass(frozen=True)
class Client:
    """What a client is asked to do, and by whom it is answered."""

    command: str
    serve: Callable[[Upstreams, Path], None]
    """Adds hosts; the folder is the client's own."""
    found: Mapping[str, bytes]
    """Path in the image → what is there afterwards."""
    files: Callable[[Path], Mapping[str, bytes]] = lambda folder: {}
    """Path in the image → what a step places there before; asked after ``serve``."""
    more: tuple[str, ...] = field(default_factory=tuple)
    """Texts that the command prints."""
    base: str = BASE
    """Steps that give the image that holds it."""


def _git(net: Upstreams, folder: Path) -> None:
    path = folder / "repositories/org/model.git"
    many = {f"data/part{number}.txt": b"%d\n" % number * number for number in range(300)}
    repository(path, {"README": b"one\n", "weights.bin": LARGE, **many})
    repository(path, {"README": b"two\n"}, message="second")
    net.add("git.test", GitSite(folder / "repositories"))


def _files(net: Upstreams, folder: Path) -> None:
    links = SignedLinks("cdn.test", {"/kept/model": LARGE})
    pages = {
        "/large.bin": Page(LARGE),
        "/small.txt": Page(SMALL, "text/plain", is_packed=True),
        "/pieces": Page(SMALL, is_chunked=True),
        "/old": Page(moved_to="/small.txt", status=301),
        "/model": Page(signed="/kept/model"),
        "/cookie": Page(SMALL, cookie="session=of-the-test"),
        "/busy": Page(SMALL, before=[Answer(status=503, headers={"Retry-After": "0"})]),
        "/post": Page(b"thanks\n"),
    }
    net.add("files.test", FileSite(pages, links))
    net.add("cdn.test", links)


def _index(net: Upstreams, folder: Path) -> None:
    files = {
        "tool-1.0-py3-none-any.whl": wheel(
            "tool", "1.0", {"tool/__init__.py": b"from leaf import VALUE\n"}, requires=["leaf>=2"]
        ),
        "tool-0.9-py3-none-any.whl": wheel("tool", "0.9", {"tool/__init__.py": b""}),
        "leaf-2.1.tar.gz": source_archive("leaf", "2.1", {"leaf.py": b"VALUE = 21\n"}),
    }
    net.add("index.test", PackageSite(files))


def _debian(net: Upstreams, folder: Path) -> None:
    # Past its Valid-Until already, as every archive is some years after it was recorded.
    archive = Archive(folder / "archive", valid_for=timedelta(days=-30))
    archive.add(
        control_text("greeting", "1.2-3", maintainer="T <t@example.org>", description="says hello"),
        Content({"usr/bin/greet": b"#!/bin/sh\necho hello\n"}, modes={"usr/bin/greet": 0o755}),
        {"postinst": "#!/bin/sh\nset -e\necho configured >/etc/greeting\n"},
    )
    archive.publish()
    (folder / "keyring").write_bytes(archive.keyring)
    net.add("deb.test", FolderSite(archive.folder))


def _drive(net: Upstreams, folder: Path) -> None:
    DriveSite({"1aBcDeFgHiJkLmNoPqRsTuVwXyZ": DriveFile("weights.bin", LARGE)}).join(net)


def _hub(net: Upstreams, folder: Path) -> None:
    files = {"config.json": b'{"size": 1}\n', "weights.bin": LARGE, "sub/vocabulary.txt": SMALL[:3000]}
    HubSite({"org/model": Model(COMMIT, files)}).join(net)


def _nltk(net: Upstreams, folder: Path) -> None:
    net.add(HOST, nltk_site({"corpora/words": {"words/en": SMALL, "words/README": b"words\n"}}))


def _plain(net: Upstreams, folder: Path) -> None:
    net.add("plain.test", FileSite({"/page": Page(SMALL, "text/plain"), "/": Page(moved_to="/page")}))


CLIENTS = {
    "git": Client(
        "git -c protocol.version=0 clone -q --depth 1 https://git.test/org/model.git /opt/old && "
        "git clone https://git.test/org/model.git /opt/model && cd /opt/model && git checkout -q v1 && "
        'git switch -q -c mine && test -z "$(git status --porcelain)"',
        _git,
        {"opt/old/README": b"two\n", "opt/model/README": b"one\n", "opt/model/weights.bin": LARGE},
    ),
    "wget": Client(
        "mkdir /opt/w && cd /opt/w && wget https://files.test/large.bin http://files.test/small.txt && "
        "wget -q --content-disposition -O model https://files.test/model && "
        "wget -q -c -O large.bin https://files.test/large.bin && "
        "wget -q --tries=3 --waitretry=0 --retry-on-http-error=503 https://files.test/busy",
        _files,
        {"opt/w/large.bin": LARGE, "opt/w/small.txt": SMALL, "opt/w/model": LARGE, "opt/w/busy": SMALL},
    ),
    "curl": Client(
        "mkdir /opt/c && cd /opt/c && curl -fsSO https://files.test/large.bin -o small.txt "
        "https://files.test/small.txt && curl -fsS --compressed -o packed https://files.test/small.txt && "
        "curl -fsS -r 100-199 -o part https://files.test/large.bin && "
        "curl -fsS -r -50 -o end https://files.test/large.bin && "
        "curl -fsSI https://files.test/old | head -1 && "
        "curl -fsSL -o moved http://files.test/old && curl -fsSL -o model https://files.test/model && "
        "curl -fsS -o pieces https://files.test/pieces && head -c 1500000 large.bin > again && "
        "curl -fsS -C - -o again https://files.test/large.bin && curl -fsS -d a=b https://files.test/post",
        _files,
        {
            "opt/c/large.bin": LARGE,
            "opt/c/small.txt": SMALL,
            "opt/c/packed": SMALL,
            "opt/c/part": LARGE[100:200],
            "opt/c/end": LARGE[-50:],
            "opt/c/moved": SMALL,
            "opt/c/model": LARGE,
            "opt/c/pieces": SMALL,
            "opt/c/again": LARGE,
        },
        more=("HTTP/1.1 301", "thanks"),
    ),
    "pip": Client(
        "pip install --break-system-packages --no-build-isolation "
        "--index-url https://index.test/simple/ tool && "
        "python3 -c 'import tool; print(tool.VALUE)' > /opt/value",
        _index,
        {"opt/value": b"21\n"},
        base=BASE + RUNTIMES,
    ),
    "apt": Client(
        f"{DPKG} && apt-get update && apt-get install -y greeting && greet",
        _debian,
        {"etc/greeting": b"configured\n"},
        files=lambda folder: {"etc/apt/keyrings/test.gpg": (folder / "keyring").read_bytes()},
        more=("hello",),
    ),
    "gdown": Client(
        "gdown 'https://drive.google.com/uc?id=1aBcDeFgHiJkLmNoPqRsTuVwXyZ' -O /opt/weights.bin",
        _drive,
        {"opt/weights.bin": LARGE},
        base=BASE + RUNTIMES,
    ),
    "nltk": Client(
        "python3 -c \"import nltk; nltk.download('words', raise_on_error=True)\"",
        _nltk,
        {"root/nltk_data/corpora/words/en": SMALL},
        base=BASE + RUNTIMES,
    ),
    "huggingface_hub": Client(
        "python3 -c \"from huggingface_hub import snapshot_download as s; print(s('org/model'))\"",
        _hub,
        {
            f"root/.cache/huggingface/hub/models--org--model/snapshots/{COMMIT}/{name}": body
            for name, body in {"config.json": b'{"size": 1}\n', "weights.bin": LARGE}.items()
        },
        base=BASE + RUNTIMES,
    ),
    "java": Client(
        "java -cp /opt/java Fetch https://plain.test/ /opt/page",
        _plain,
        {"opt/page": SMALL},
        files=lambda folder: {"opt/java/Fetch.class": JAVA.read_bytes()},
        base=BASE + RUNTIMES,
    ),
    "urllib": Client(
        'python3 -c "from urllib.request import urlretrieve as get; '
        "get('https://files.test/large.bin', '/opt/large'); get('http://files.test/old', '/opt/moved')\"",
        _files,
        {"opt/large": LARGE, "opt/moved": SMALL},
        base=BASE + RUNTIMES,
    ),
    "node": Client(
        "node -e \"fetch('https://plain.test/').then(a => a.text())"
        ".then(t => require('fs').writeFileSync('/opt/page', t))\"",
        _plain,
        {"opt/page": SMALL},
        base=BASE + RUNTIMES,
    ),
}
