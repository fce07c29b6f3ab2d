"""Alternatives: the links that packages ask ``update-alternatives`` for: ``awk``, ``java``, ``libblas.so.3``.

Knows nothing of other parts of maintainer scripts; runs none of them. Requests are read where they are
written out, and for OpenJDK from the lists that its scripts loop over. What is recorded is what
``update-alternatives`` records, so that it goes on from there in a ``run``. Source of the format:
dpkg's utils/update-alternatives.c, update-alternatives(1).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reprobuild.build.place.debian_archive import Deb
from reprobuild.build.place.debian_merge import Merge
from reprobuild.tree import file, link

if TYPE_CHECKING:
    from reprobuild.store.transaction import Transaction

ADMIN = "var/lib/dpkg/alternatives"
LINKS = "etc/alternatives"

_NAME = re.compile(r"[^/\s]+")
_ENDS = {";", "&&", "||", "|", "&", "(", ")", "then", "fi", "}"}
_VARIABLE = re.compile(r"^([a-z_]+)=('[^'`]*'|\"[^\"`]*\"|[^\s;`'\"]*)[ \t]*$", re.MULTILINE)
_USE = re.compile(r"\$\{?([a-z_]+)\}?")
_OPENJDK_LISTS = ("jre_tools", "jdk_tools")


@dataclass(frozen=True, slots=True)
class Request:
    """What one call of ``update-alternatives --install`` asks for."""

    link: str
    name: str
    path: str
    priority: int
    slaves: tuple[tuple[str, str, str], ...] = ()
    """Link, name and path of each."""


@dataclass(slots=True)
class Group:
    """All choices for one name."""

    link: str
    is_manual: str = "auto"
    slaves: dict[str, str] = field(default_factory=dict)
    """Link by name."""
    choices: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    """Priority and slaves' paths, by path."""

    def add(self, request: Request) -> None:
        """Add a choice, or put it in the place of one with the same path."""
        for slave_link, name, _ in request.slaves:
            self.slaves.setdefault(name, slave_link)
        self.choices[request.path] = (request.priority, {name: path for _, name, path in request.slaves})

    @property
    def best(self) -> str:
        """The path of the highest priority; of equal ones the first by name."""
        return min(self.choices, key=lambda path: (-self.choices[path][0], path))

    def write(self) -> bytes:
        """Give what ``update-alternatives`` keeps of it."""
        names = sorted(self.slaves)
        lines = [self.is_manual, self.link]
        for name in names:
            lines.extend((name, self.slaves[name]))
        lines.append("")
        for path, (priority, paths) in sorted(self.choices.items()):
            lines.extend((path, str(priority), *(paths.get(name, "") for name in names)))
        return ("\n".join(lines) + "\n\n").encode()

    @classmethod
    def read(cls, data: bytes) -> Group:
        """Read what ``write`` gave, or ``update-alternatives``; raises ValueError where it makes no sense."""
        lines = data.decode("utf-8", "replace").split("\n")
        group = cls(link=lines[1], is_manual=lines[0])
        at = 2
        while lines[at]:
            group.slaves[lines[at]] = lines[at + 1]
            at += 2
        at += 1
        names = list(group.slaves)
        while lines[at]:
            paths = dict(zip(names, lines[at + 2 : at + 2 + len(names)], strict=True))
            group.choices[lines[at]] = (
                int(lines[at + 1]),
                {name: path for name, path in paths.items() if path},
            )
            at += 2 + len(names)
        return group


def configure(
    debs: Sequence[Deb], merge: Merge, group: Transaction, files_in: Callable[[str], Mapping[str, bytes]]
) -> None:
    """Make the links that packages ask for; the highest priority wins, those of the tree below take part."""
    requests = [request for deb in debs for request in requests_of(deb)]
    requests = [request for request in requests if merge.has(request.path.lstrip("/"))]
    if not requests:
        return
    below = files_in(ADMIN)
    groups: dict[str, Group] = {}
    for request in requests:
        if request.name not in groups:
            groups[request.name] = _read_below(below.get(request.name), request.link)
        groups[request.name].add(request)
    for name, alternatives in sorted(groups.items()):
        data = alternatives.write()
        merge.add(file(f"{ADMIN}/{name}", group.add_bytes(data), len(data)))
        if alternatives.is_manual == "auto":
            _add_links(name, alternatives, merge, {request.path for request in requests})


def _read_below(data: bytes | None, path: str) -> Group:
    try:
        return Group(path) if data is None else Group.read(data)
    except (ValueError, IndexError):
        return Group(path)


def _add_links(name: str, group: Group, merge: Merge, placed: set[str]) -> None:
    best = group.best
    _add_link(merge, group.link, name, best)
    for slave, path in sorted(group.choices[best][1].items()):
        if best not in placed or merge.has(path.lstrip("/")):
            _add_link(merge, group.slaves[slave], slave, path)


def _add_link(merge: Merge, place: str, name: str, path: str) -> None:
    """``/usr/bin/awk -> /etc/alternatives/awk -> /usr/bin/mawk``; a package's own file stays."""
    there = place.lstrip("/")
    merge.add(link(f"{LINKS}/{name}", path))
    if not merge.has(there):
        merge.add(link(there, f"/{LINKS}/{name}"))


def requests_of(deb: Deb) -> list[Request]:
    """Give the alternatives that a package's ``postinst`` asks for, as far as they can be read."""
    return list(parse_requests(deb.script("postinst")))


def parse_requests(script: str) -> Iterator[Request]:
    """Read the requests of a script; those with a variable in them only where OpenJDK's way is known."""
    for words in _calls(script):
        request = _parse_call(words)
        if request is not None:
            yield request
    variables: dict[str, str] = {}
    for name, value in _VARIABLE.findall(script):
        expanded = _USE.sub(lambda use: variables.get(use[1], ""), value.strip("'\""))
        variables.setdefault(name, expanded[:10_000])
    folder, priority = variables.get("basedir", ""), variables.get("priority", "")
    if "/jvm/" in folder and priority.isdigit():
        manuals = variables.get("mandir", "")
        packed, shown = variables.get("srcext", ""), variables.get("dstext", "")
        for tool in (tool for name in _OPENJDK_LISTS for tool in variables.get(name, "").split()):
            page = f"{tool}.{shown}"
            slaves = (
                ((f"/usr/share/man/man1/{page}", page, f"{manuals}/man1/{tool}.{packed}"),) if manuals else ()
            )
            yield Request(f"/usr/bin/{tool}", tool, f"{folder}/bin/{tool}", int(priority), slaves)


def unread_requests(script: str) -> bool:
    """Tell whether a script asks for alternatives that ``parse_requests`` cannot read."""
    asked = [words for words in _calls(script) if _parse_call(words) is None]
    return bool(asked) and not any("/jvm/" in request.path for request in parse_requests(script))


def _calls(script: str) -> Iterator[list[str]]:
    """Give the words after ``--install`` of each call, up to the end of the command."""
    for line in script.replace("\\\n", " ").split("\n"):
        if "update-alternatives" not in line or "--install" not in line or line.lstrip().startswith("#"):
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.wordchars += "$*?[]%@{}"
        try:
            words = list(lexer)
        except ValueError:
            words = line.split()
        while "--install" in words:
            words = words[words.index("--install") + 1 :]
            end = next((at for at, word in enumerate(words) if word in _ENDS), len(words))
            yield words[:end]


def _parse_call(words: list[str]) -> Request | None:
    words = [word.removeprefix("$DPKG_ROOT") for word in words]
    if len(words) < 4 or any("$" in word or "`" in word for word in words):
        return None
    place, name, path, priority = words[:4]
    rest = words[4:]
    slaves = []
    while rest:
        if rest[0] != "--slave" or len(rest) < 4:
            return None
        slaves.append((rest[1], rest[2], rest[3]))
        rest = rest[4:]
    names = [name, *(slave[1] for slave in slaves)]
    paths = [place, path, *(text for slave in slaves for text in (slave[0], slave[2]))]
    fits = all(map(_NAME.fullmatch, names)) and all(
        text.startswith("/") and ".." not in text for text in paths
    )
    if not fits or not re.fullmatch(r"-?[0-9]{1,9}", priority):
        return None
    return Request(place, name, path, int(priority), tuple(slaves))
