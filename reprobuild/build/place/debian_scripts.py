"""Which maintainer scripts would have done something that placing does not make up for.

Runs none and parses none: what debhelper wrote is taken out, and what is left is searched for commands
that leave something in an image. Packages that somebody has read have a verdict of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reprobuild.build.place.debian_accounts import ACCOUNTS
from reprobuild.build.place.debian_alternatives import has_unread_requests
from reprobuild.build.place.debian_archive import Deb


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SCRIPTS = ("preinst", "postinst")

COMMANDS = _words(
    """addgroup adduser cp fmtutil gdk-pixbuf-query-loaders glib-compile-schemas groupadd
    ln locale-gen localedef luaotfload-tool make mkdir mktexlsr pg_createcluster setcap ssh-keygen tee
    touch ucf update-catalog update-dictcommon-aspell update-dictcommon-hunspell update-fmtutil
    update-mime-database update-texmf update-updmap
    update-xmlcatalog useradd usermod"""
)
"""What leaves something in an image. Not among them: caches that only save time (``ldconfig``, ``fc-cache``,
``mandb``, ``py3compile``), services, owners and modes, removing what an older version left."""

_SEARCHED = re.compile(r"(?:/usr)?/lib(?:/[a-z0-9_]+-linux-gnu[a-z0-9]*)?|/usr/local/lib(?:/.*)?")
"""Folders that the loader searches anyway, and those that no package fills."""

ACCOUNT_COMMANDS = frozenset(("addgroup", "adduser", "groupadd", "useradd", "usermod"))

HARMLESS_SECTIONS = _words(
    """dh_apparmor dh_icons dh_installalternatives dh_installdeb dh_installdebconf dh_installdocs
    dh_installemacsen dh_installinfo dh_installinit dh_installmenu dh_installmime dh_installsystemd
    dh_installsystemduser dh_installudev dh_makeshlibs dh_perl dh_pysupport dh_python2 dh_python3
    dh_strip dh_systemd_enable dh_systemd_start dh_usrlocal
    installdeb dh_installxfonts dh_lintian dh_gconf"""
)
"""debhelper's parts that leave nothing in an image that placing does not make."""

_SECTION = re.compile(
    r"^[ \t]*# Automatically added by ([^\s/]+)\S*[ \t]*$(.*?)^[ \t]*# End automatically added section",
    re.MULTILINE | re.DOTALL,
)
_WORDS = re.compile(r"[\s;()|&\"'`{}!]+")
_TALK = re.compile(r"^[ \t]*(?:echo|printf|log)\b[^;&|]*$", re.MULTILINE)


def notes(debs: Sequence[Deb]) -> tuple[str, ...]:
    """Give a sentence for each package whose scripts would have mattered, in the order of the packages."""
    found = []
    for deb in debs:
        said = VERDICTS.get(deb.name)
        if said is None:
            said = judge(deb)
        said = "; ".join(part for part in (said, _library_folders(deb)) if part)
        if said:
            found.append(f"{deb.name} {deb.version}: {said}")
    return tuple(found)


def judge(deb: Deb) -> str:
    """Say what a package's scripts call that was not done, or nothing."""
    calls: set[str] = set()
    for name in SCRIPTS:
        calls |= commands_of(deb.script(name))
    if has_unread_requests(deb):
        calls.add("update-alternatives")
    if deb.name in ACCOUNTS:
        calls -= ACCOUNT_COMMANDS
    if not calls:
        return ""
    return f"its scripts call {', '.join(sorted(calls))}, which was not done; a run(…) can make up for it"


def _library_folders(deb: Deb) -> str:
    """Say which folders of libraries the loader knows only from ``ldconfig``."""
    texts = [body for path, body in sorted(deb.bodies.items()) if path.startswith("etc/ld.so.conf.d/")]
    lines = (line.strip() for text in texts for line in text.decode("utf-8", "replace").split("\n"))
    folders = [line for line in lines if line.startswith("/") and not _SEARCHED.fullmatch(line)]
    if not folders:
        return ""
    return f"libraries in {', '.join(folders)} are found after run('ldconfig') alone"


def commands_of(script: str) -> set[str]:
    """Give the commands of ``COMMANDS`` that a shell script names outside debhelper's harmless parts."""
    text = _SECTION.sub(lambda found: "" if found[1] in HARMLESS_SECTIONS else found[2], script)
    text = _TALK.sub("", text.replace("\\\n", " "))
    lines = (line.partition("#")[0] for line in text.split("\n"))
    words = {word.rpartition("/")[2] for line in lines for word in _WORDS.split(line)}
    return words & COMMANDS


_NOTHING = _words(
    """adduser base-files base-passwd bash ca-certificates coreutils cron-daemon-common dash dbus
    dbus-daemon debianutils dictionaries-common dpkg emacsen-common fontconfig fontconfig-config git
    golang-go hunspell-en-us init-system-helpers iputils-ping java-common less libc-bin libc6
    libglib2.0-0 libgssapi-krb5-2 libgstreamer1.0-0 libibverbs1 libpam-modules libpam-runtime
    libpaper1 libsensors5 login man-db mawk mysql-common netbase ocaml-base openssl passwd perl
    perl-doc procps python3 python3-minimal r-base-core readline-common redis-tools tzdata ucf
    unixodbc-common usr-is-merged usrmerge util-linux"""
)
_MECAB = (
    "its dictionary was not compiled; run('/usr/lib/mecab/mecab-dict-index -d /usr/share/mecab/dic/ipadic "
    "-o /var/lib/mecab/dic/{1} -f EUC-JP -t {0}') does that"
)
_OPENJDK = "openjdk-{}-jre-headless"

VERDICTS: Mapping[str, str] = {
    **dict.fromkeys(sorted(_NOTHING), ""),
    **{_OPENJDK.format(version): "" for version in (8, 11, 17, 21, 25)},
    **{f"python3.{minor}-minimal": "" for minor in range(7, 16)},
    "ca-certificates-java": (
        "Java's own bundle, /etc/ssl/certs/java/cacerts, was not made, so Java trusts no server; "
        "a run(…) of keytool can make it"
    ),
    "locales": "no locale but C.UTF-8 was made; run('localedef -i de_DE -f UTF-8 de_DE.UTF-8') makes one",
    "mecab-ipadic": _MECAB.format("EUC-JP", "ipadic"),
    "mecab-ipadic-utf8": _MECAB.format("UTF-8", "ipadic-utf8"),
    "shared-mime-info": "run('update-mime-database /usr/share/mime') makes its database, which was not made",
    "tex-common": (
        "TeX's file index, font maps and formats were not made; "
        "run('mktexlsr && updmap-sys && fmtutil-sys --all') makes them"
    ),
    "texlive-base": "",
}
"""What reading a package's scripts came to: empty where nothing that counts is missing in an image."""
