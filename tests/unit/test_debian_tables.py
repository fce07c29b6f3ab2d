from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.build.place import apt as place_apt
from reprobuild.build.place.debian_accounts import ACCOUNTS
from reprobuild.build.place.debian_alternatives import Group, Request, parse_requests
from reprobuild.build.place.debian_certificates import subject_hash
from reprobuild.build.place.debian_scripts import commands_of
from reprobuild.derivation.words import apt
from reprobuild.store.store import Store
from reprobuild.tree import Tree, overlay
from tests.debian import Content, control_text, deb, pin
from tests.golden import assert_golden

STEP = apt("bookworm", "tool")

CERTIFICATE = b"""\
-----BEGIN CERTIFICATE-----
MIIB5DCCAYmgAwIBAgIUC+h7gtVhIhKhpDeo+1zjeZywzdUwCgYIKoZIzj0EAwIw
RjELMAkGA1UEBhMCREUxHzAdBgNVBAoMFkV4YW1wbGUgIMOcbsOvY29kZSBPcmcx
FjAUBgNVBAMMDVRlc3QgIFJPT1QgY2EwIBcNMjYxMTIyMTgxNzQyWhgPMjEyNjEw
MjkxODE3NDJaMEYxCzAJBgNVBAYTAkRFMR8wHQYDVQQKDBZFeGFtcGxlICDDnG7D
r2NvZGUgT3JnMRYwFAYDVQQDDA1UZXN0ICBST09UIGNhMFkwEwYHKoZIzj0CAQYI
KoZIzj0DAQcDQgAEXz0TcR8UEzNm/Lebsl9R9TYvruCAcHF2KVAfX3qiB9PVq0AT
Ud6YmvTCS0u8sU5jh2zMQJSikD4zKCGFNYqM7qNTMFEwHQYDVR0OBBYEFIcT5/8y
z0CYneig+ZFt4hjDVQ/ZMB8GA1UdIwQYMBaAFIcT5/8yz0CYneig+ZFt4hjDVQ/Z
MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAOr5buyloD4wjbWQ
O5fSW/A9+Rx29deEfNaHZ6N4z6yuAiEApPAK7Xt7FkrSEUGKK3xeIc12FdqEY9Yr
LYcyF/YqE5c=
-----END CERTIFICATE-----
"""
"""Subject: C = DE, O = "Example  Ünïcode Org", CN = "Test  ROOT ca"; `openssl x509 -hash` says 5bf76cf6."""

PASSWD = b"root:*:0:0:root:/root:/bin/bash\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
GROUP = b"root:*:0:\nnogroup:*:65534:\n"
BASE = {
    "base-passwd": deb(
        control_text("base-passwd"),
        Content({"usr/share/base-passwd/passwd.master": PASSWD, "usr/share/base-passwd/group.master": GROUP}),
    )
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("store"))


def place(store: Store, debs: Mapping[str, bytes], below: Tree | None = None) -> tuple[Tree, tuple[str, ...]]:
    below = below or Tree()
    facts = place_apt.facts(STEP, below, store)
    with store.transaction() as group:
        for data in debs.values():
            group.add_bytes(data)
    with store.transaction() as group:
        pins = [pin(name, data) for name, data in debs.items()]
        placement = place_apt.place(STEP, pins, facts, store, group)
    return overlay(below, placement.entries), placement.notes


def read(store: Store, tree: Tree, path: str) -> bytes:
    entry = tree.get(tree.resolve(path))
    assert entry is not None, f"there is no {path}"
    assert entry.digest is not None
    return store.blobs.read(entry.digest)


def target(tree: Tree, path: str) -> str:
    entry = tree.get(path)
    assert entry is not None, f"there is no {path}"
    return entry.target


# Accounts


def test_accounts_begin_with_those_of_base_passwd(store: Store) -> None:
    tree, _ = place(store, BASE)
    assert read(store, tree, "etc/passwd") == PASSWD
    assert read(store, tree, "etc/group") == GROUP
    assert tree.get("etc/shadow") is None


def test_a_package_adds_its_accounts_in_the_same_step_and_later(store: Store) -> None:
    more = {"openssh-server": deb(control_text("openssh-server"))}
    at_once, _ = place(store, {**BASE, **more})
    first, _ = place(store, BASE)
    later, _ = place(store, more, first)
    added = b"sshd:x:103:65534::/run/sshd:/usr/sbin/nologin\n"
    for tree in (at_once, later):
        assert read(store, tree, "etc/passwd") == PASSWD + added
        assert read(store, tree, "etc/group") == GROUP + b"sshd:x:103:\n"


def test_an_account_that_is_there_is_not_added_again(store: Store) -> None:
    more = {"redis-tools": deb(control_text("redis-tools"))}
    first, _ = place(store, {**BASE, **more})
    again, _ = place(store, {**more, "tool": deb(control_text("tool"))}, first)
    assert read(store, again, "etc/passwd") == read(store, first, "etc/passwd")


def test_passwd_brings_shadows_that_nobody_can_log_in_with(store: Store) -> None:
    tree, _ = place(store, {**BASE, "passwd": deb(control_text("passwd"))})
    assert read(store, tree, "etc/passwd").startswith(b"root:x:0:0:")
    assert read(store, tree, "etc/shadow").startswith(b"root:*:3653:0:99999:7:::\nnobody:*:")
    shadow = tree.get("etc/shadow")
    assert shadow is not None
    assert shadow.mode == 0o640


def test_numbers_of_accounts_do_not_clash() -> None:
    accounts = {account.name: account for group in ACCOUNTS.values() for account in group}
    numbers = [account.number for account in accounts.values()]
    assert len(set(numbers)) == len(numbers)
    assert all(account == accounts[account.name] for group in ACCOUNTS.values() for account in group)


# Alternatives

SCRIPTS: dict[str, tuple[str, list[Request], bool]] = {
    "mawk": (
        "        update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n"
        "            --slave /usr/bin/nawk nawk /usr/bin/mawk\n",
        [Request("/usr/bin/awk", "awk", "/usr/bin/mawk", 5, (("/usr/bin/nawk", "nawk", "/usr/bin/mawk"),))],
        False,
    ),
    "quiet, in a condition": (
        'if [ "$1" = "" ]; then update-alternatives --quiet --install /usr/bin/cc cc /usr/bin/gcc 20; fi',
        [Request("/usr/bin/cc", "cc", "/usr/bin/gcc", 20)],
        False,
    ),
    "a slave that is commented out": (
        "update-alternatives --install /usr/bin/c++ c++ /usr/bin/g++ 20 \\\n    #--slave /a a /b\nexit 0\n",
        [Request("/usr/bin/c++", "c++", "/usr/bin/g++", 20)],
        False,
    ),
    "variables": (
        "basedir=/usr/share/maven\npriority=300\n"
        "update-alternatives --install /usr/bin/mvn mvn $basedir/bin/mvn ${priority}\n",
        [Request("/usr/bin/mvn", "mvn", "/usr/share/maven/bin/mvn", 300)],
        False,
    ),
    "a loop over a variable, as OpenJDK has it": (
        "basedir=/usr/lib/jvm/j\njre_tools='java keytool'\nfor i in $jre_tools; do\n"
        "  unset slave1\n"
        '  slave1="--slave /m/$i.1.gz $i.1.gz $basedir/$i.1.gz"\n'
        "  update-alternatives --install /usr/bin/$i $i $basedir/bin/$i 1 $slave1 $slave2\ndone\n",
        [
            Request(
                f"/usr/bin/{i}", i, f"/usr/lib/jvm/j/bin/{i}", 1,
                ((f"/m/{i}.1.gz", f"{i}.1.gz", f"/usr/lib/jvm/j/{i}.1.gz"),),
            )
            for i in ("java", "keytool")
        ],
        False,
    ),
    "two values": (
        "p=1\np=2\nupdate-alternatives --install /usr/bin/x x /usr/bin/y $p\n",
        [],
        True,
    ),
    "a value that is not plain": (
        'p="$(date)"\nupdate-alternatives --install /usr/bin/x x /usr/bin/y $p\n',
        [],
        True,
    ),
    "removal": ("update-alternatives --remove rename /usr/bin/prename\n", [], False),
    "a comment": ("# update-alternatives --install /a a /b 1\n", [], False),
    "a path upwards": ("update-alternatives --install /usr/../x x /usr/bin/y 1\n", [], True),
    "a name with a slash": ("update-alternatives --install /usr/bin/x ../x /usr/bin/y 1\n", [], True),
    "an open quote": ("update-alternatives --install '/usr/bin/x x /usr/bin/y 1\n", [], True),
    "too few words": ("update-alternatives --install /usr/bin/x\n", [], True),
}  # fmt: skip


@pytest.mark.parametrize(("script", "requests", "unread"), SCRIPTS.values(), ids=SCRIPTS.keys())
def test_requests_are_read(script: str, requests: list[Request], unread: bool) -> None:
    assert parse_requests(script) == (requests, unread)


def test_a_loop_of_variables_ends() -> None:
    parse_requests("a=$b$b\nb=$a$a\nupdate-alternatives --install /usr/bin/x x $a 1\n")


@given(st.text(alphabet="a=$b{}'\"`\\ \n;/x1", max_size=60))
def test_any_script_is_read(text: str) -> None:
    begun = "update-alternatives --install /usr/bin/x x /usr/bin/y 1 "
    requests, _ = parse_requests("for a in " + text + "; do\n" + begun + text)
    assert all(request.path.startswith("/") and ".." not in request.path for request in requests)


def awk(name: str, priority: int) -> bytes:
    script = (
        f"update-alternatives --install /usr/bin/awk awk /usr/bin/{name} {priority}"
        f" --slave /usr/share/man/awk.1 awk.1 /usr/share/man/{name}.1\n"
    )
    files = {f"usr/bin/{name}": b"", f"usr/share/man/{name}.1": b""}
    return deb(control_text(name), Content(files), {"postinst": script})


def test_the_highest_priority_wins_in_one_step_and_over_two(store: Store) -> None:
    mawk, gawk = awk("mawk", 5), awk("gawk", 10)
    at_once, _ = place(store, {"gawk": gawk, "mawk": mawk})
    first, _ = place(store, {"mawk": mawk})
    later, _ = place(store, {"gawk": gawk}, first)
    lower, _ = place(store, {"mawk": mawk}, place(store, {"gawk": gawk})[0])
    assert target(first, "etc/alternatives/awk") == "/usr/bin/mawk"
    for tree in (at_once, later, lower):
        assert target(tree, "usr/bin/awk") == "/etc/alternatives/awk"
        assert target(tree, "etc/alternatives/awk") == "/usr/bin/gawk"
        assert target(tree, "etc/alternatives/awk.1") == "/usr/share/man/gawk.1"
        # As update-alternatives of dpkg 1.21 writes it.
        assert read(store, tree, "var/lib/dpkg/alternatives/awk") == (
            b"auto\n/usr/bin/awk\nawk.1\n/usr/share/man/awk.1\n\n"
            b"/usr/bin/gawk\n10\n/usr/share/man/gawk.1\n/usr/bin/mawk\n5\n/usr/share/man/mawk.1\n\n"
        )


def test_an_alternative_without_its_file_is_none(store: Store) -> None:
    script = "update-alternatives --install /usr/bin/awk awk /usr/bin/gone 5\n"
    tree, _ = place(store, {"tool": deb(control_text("tool"), None, {"postinst": script})})
    assert tree.get("etc/alternatives/awk") is None


def test_a_choice_by_hand_stays() -> None:
    group = Group.read(b"manual\n/usr/bin/awk\n\n/usr/bin/mawk\n5\n\n")
    group.add(Request("/usr/bin/awk", "awk", "/usr/bin/gawk", 10))
    assert group.write().startswith(b"manual\n/usr/bin/awk\n\n/usr/bin/gawk\n10\n")


# Certificates


def test_the_hash_of_a_subject_is_openssls() -> None:
    assert subject_hash(CERTIFICATE) == "5bf76cf6"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
    ],
    ids=["empty", "hollow", "cut off", "no base64"],
)
def test_what_is_no_certificate_has_no_hash(data: bytes) -> None:
    assert subject_hash(data) == ""


def test_the_bundle_holds_all_certificates_and_links_find_them(store: Store) -> None:
    folder = "usr/share/ca-certificates/mozilla"
    other = b"-----BEGIN CERTIFICATE-----\nnot really\n-----END CERTIFICATE-----"
    content = Content(
        {f"{folder}/B (x).crt": CERTIFICATE, f"{folder}/A.crt": other, f"{folder}/README": b"no"}
    )
    tree, _ = place(store, {"ca-certificates": deb(control_text("ca-certificates"), content)})
    assert read(store, tree, "etc/ssl/certs/ca-certificates.crt") == other + b"\n" + CERTIFICATE
    assert target(tree, "etc/ssl/certs/B_=x=.pem") == f"/{folder}/B (x).crt"
    assert read(store, tree, "etc/ssl/certs/5bf76cf6.0") == CERTIFICATE
    assert read(store, tree, "etc/ca-certificates.conf") == b"mozilla/A.crt\nmozilla/B (x).crt\n"


def test_a_later_step_adds_to_the_bundle(store: Store) -> None:
    one = deb(control_text("one"), Content({"usr/share/ca-certificates/one/1.crt": b"first\n"}))
    two = deb(control_text("two"), Content({"usr/share/ca-certificates/two/2.crt": b"second\n"}))
    tree, _ = place(store, {"two": two}, place(store, {"one": one})[0])
    assert read(store, tree, "etc/ssl/certs/ca-certificates.crt") == b"first\nsecond\n"


# Defaults


def test_templates_become_files_unless_a_package_has_them(store: Store) -> None:
    libc = Content({"usr/share/libc-bin/nsswitch.conf": b"passwd: files\n"})
    base = Content(
        {"usr/share/base-files/profile": b"umask 022\n", "usr/share/base-files/motd": b"hello\n"},
        folders={"var/run": 0o755, "var/run/x": 0o700, "root": 0o700},
    )
    other = Content({"etc/motd": b"its own\n"})
    debs = {"libc-bin": libc, "base-files": base, "other": other}
    tree, notes = place(store, {name: deb(control_text(name), content) for name, content in debs.items()})
    assert read(store, tree, "etc/nsswitch.conf") == b"passwd: files\n"
    assert read(store, tree, "etc/profile") == b"umask 022\n"
    assert read(store, tree, "etc/motd") == b"its own\n"
    assert target(tree, "var/run") == "/run"
    assert tree.get("run/x") is not None
    assert notes == ()


def test_shells_are_listed_with_their_twins_below_usr(store: Store) -> None:
    folder = "usr/share/debianutils"
    debs = {
        "bash": deb(control_text("bash"), Content({f"{folder}/shells.d/bash": b"/bin/bash\n/bin/rbash\n"})),
        "debianutils": deb(
            control_text("debianutils"), Content({f"{folder}/shells": b"# shells\n/bin/sh\n"})
        ),
    }
    tree, _ = place(store, debs)
    listed = read(store, tree, "etc/shells").decode().splitlines()
    assert listed == ["# shells", "/bin/sh", "/bin/bash", "/usr/bin/bash", "/bin/rbash", "/usr/bin/rbash"]


def test_the_clock_of_tzdata_is_utc(store: Store) -> None:
    tree, _ = place(store, {"tzdata": deb(control_text("tzdata"))})
    assert target(tree, "etc/localtime") == "/usr/share/zoneinfo/Etc/UTC"
    assert read(store, tree, "etc/timezone") == b"Etc/UTC\n"


# Notes

COMMANDS: dict[str, tuple[str, set[str]]] = {
    "nothing": ("#!/bin/sh\nset -e\nexit 0\n", set()),
    "an account": ("adduser --system --group tool\n", {"adduser"}),
    "a path": ("/usr/sbin/update-xmlcatalog --add\n", {"update-xmlcatalog"}),
    "in a condition": ("[ -d /x ] || mkdir /x; if which ucf; then ucf a b; fi\n", {"mkdir", "ucf"}),
    "said, not done": ('echo "call mkdir yourself"\n', set()),
    "a comment": ("true # mkdir\n", set()),
    "a cache": ("ldconfig\nfc-cache -f\n", set()),
    "debhelper's harmless part": (
        "# Automatically added by dh_python3\nmkdir x\n# End automatically added section\n", set(),
    ),
    "debhelper's other part": (
        "# Automatically added by dh_ucf/13\nucf a b\n# End automatically added section\n", {"ucf"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("script", "commands"), COMMANDS.values(), ids=COMMANDS.keys())
def test_commands_of_a_script(script: str, commands: set[str]) -> None:
    assert commands_of(script) == commands


NOTES: dict[str, tuple[str, str, str]] = {
    "unknown": ("tool", "setcap cap_net_raw+ep /x\n", "tool 1: its scripts call setcap, which was not done"),
    "a known account": ("openssh-server", "adduser --system sshd\n", ""),
    "known, harmless": ("bash", "ln -s a b\n", ""),
    "known, with what to do": ("tex-common", "mktexlsr\n", "run('mktexlsr && updmap-sys && fmtutil-sys"),
    "an alternative that cannot be read": (
        "tool", "update-alternatives --install $a $b $c 1\n", "its scripts call update-alternatives",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "script", "note"), NOTES.values(), ids=NOTES.keys())
def test_notes(store: Store, name: str, script: str, note: str) -> None:
    _, notes = place(store, {name: deb(control_text(name), None, {"postinst": script})})
    if note:
        assert note in notes[0]
    assert len(notes) == bool(note)


def test_folders_of_libraries_that_need_ldconfig_are_named(store: Store) -> None:
    conf = {"etc/ld.so.conf.d/tool.conf": b"# where\n/usr/lib/x86_64-linux-gnu\n/opt/tool/lib\n"}
    _, notes = place(store, {"tool": deb(control_text("tool"), Content(conf))})
    assert notes == ("tool 1: libraries in /opt/tool/lib are found after run('ldconfig') alone",)


def test_the_machines_own_certificates_hash_as_openssl_does() -> None:
    found = 0
    for path in sorted(Path("/etc/ssl/certs").glob("*.0")):
        if path.is_file() and (data := path.read_bytes()).startswith(b"-----BEGIN CERTIFICATE-----"):
            assert subject_hash(data) == path.name.removesuffix(".0")
            found += 1
    if not found:
        pytest.skip("this machine has no hashed certificates")


# All of it together


def test_what_is_placed_is_what_this_assembler_version_places(store: Store) -> None:
    base = Content(
        {f"usr/share/base-files/{name}": name.encode() for name in ("profile", "motd", "dot.bashrc")},
        folders={"var/run": 0o755, "tmp": 0o1777, "root": 0o700},
    )
    debs = {
        **BASE,
        "mawk": awk("mawk", 5),
        "base-files": deb(control_text("base-files"), base),
        "ca-certificates": deb(
            control_text("ca-certificates"), Content({"usr/share/ca-certificates/x/X.crt": CERTIFICATE})
        ),
        "libpam-runtime": deb(control_text("libpam-runtime"), None, {"md5sums": "0  x\n"}),
        "openssh-client": deb(control_text("openssh-client")),
        "passwd": deb(control_text("passwd")),
        "python3.11-minimal": deb(control_text("python3.11-minimal"), Content({"bin/python3.11": b"py"})),
        "tzdata": deb(control_text("tzdata")),
    }
    tree, _ = place(store, debs)
    assert_golden("apt/placed", tree.listing.decode().splitlines())
