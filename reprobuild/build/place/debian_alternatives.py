"""Alternatives: the links that packages ask ``update-alternatives`` for: ``awk``, ``java``, ``libblas.so.3``.

Knows nothing of other parts of maintainer scripts; runs none of them. Requests are read where they are
written out, and in loops over plain words. What is recorded is what
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

MOST_REQUESTS = 1000
"""Requests of one script that are read."""
LONGEST_VALUE = 10_000
"""Characters of a shell variable that are looked at."""

_NAME = re.compile(r"[^/\s]+")
_PATH = re.compile(r"/(?!\.\.(?:/|$))(?:[^/\s]+/(?!\.\.(?:/|$)))*[^/\s]+")
_ENDS = {";", "&&", "||", "|", "&", "(", ")", "then", "fi", "}"}
_ASSIGNMENT = re.compile(
    r"""^[ \t]*([A-Za-z_]\w*)=('[^'`]*'|"[^"`]*"|[^\s;`'"()]*)[ \t]*(?:;.*)?$""", re.MULTILINE
)
_LOOP = re.compile(r"\bfor[ \t]+(\w+)[ \t]+in[ \t]+([^;\n]*?)[ \t]*(?:;|\n)\s*do\b")
_USE = re.compile(r"\$\{?([A-Za-z_]\w*)\}?")


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
    return [*parse_requests(deb.script("postinst"))[0], *REQUESTS.get(deb.name, ())]


def has_unread_requests(deb: Deb) -> bool:
    """Tell whether a package asks for alternatives that nobody has read."""
    return parse_requests(deb.script("postinst"))[1] and deb.name not in REQUESTS


def parse_requests(script: str) -> tuple[list[Request], bool]:
    """Read the requests of a script; tell also whether there are some that cannot be read.

    Variables are filled in where the script gives them one plain value, or loops over plain words.
    """
    script = script.replace("\\\n", " ")
    found: list[Request] = []
    unread = False
    variables = _plain_variables(script)
    for words, at in _calls(script):
        for values in _loop_values(script, at, words, variables):
            if len(found) == MOST_REQUESTS:
                return found, True
            filled = (_fill(_fill(word, values), values) for word in words)
            request = _read_call([part for word in filled for part in word.split()])
            if request is None:
                unread = True
            else:
                found.append(request)
    return found, unread


def _plain_variables(script: str) -> dict[str, str]:
    """Give the variables that have one value throughout, with other such variables filled in."""
    values: dict[str, set[str]] = {}
    for name, value in _ASSIGNMENT.findall(script):
        values.setdefault(name, set()).add(value.strip("'\"")[:LONGEST_VALUE])
    plain = {name: one for name, (one, *more) in values.items() if not more}
    return {name: _fill(value, plain)[:LONGEST_VALUE] for name, value in plain.items()}


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _USE.sub(lambda use: values.get(use[1], use[0]), text)


def _loop_values(
    script: str, at: int, words: list[str], variables: Mapping[str, str]
) -> list[dict[str, str]]:
    """Give the values of variables for each turn of the loop that a call stands in."""
    used = {use[1] for word in words for use in _USE.finditer(word)} - set(variables)
    loops = [loop for loop in _LOOP.finditer(script, 0, at) if loop[1] in used]
    if not loops:
        return [dict(variables)]
    name, listed = loops[-1][1], _fill(loops[-1][2], variables).replace('"', " ")
    return [{**variables, name: word} for word in listed.split() if "$" not in word]


def _calls(script: str) -> Iterator[tuple[list[str], int]]:
    """Give the words after ``--install`` of each call up to the end of the command, and where it stands."""
    at = 0
    for line in script.split("\n"):
        begin, at = at, at + len(line) + 1
        if "update-alternatives" not in line or "--install" not in line or line.lstrip().startswith("#"):
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.wordchars += "$*?[]%@{},:+"
        lexer.commenters = ""
        try:
            words = list(lexer)
        except ValueError:
            words = line.split()
        while "--install" in words:
            words = words[words.index("--install") + 1 :]
            ends = (n for n, word in enumerate(words) if word in _ENDS or word.startswith("#"))
            yield words[: next(ends, len(words))], begin


def _read_call(words: list[str]) -> Request | None:
    """Read a call's words; slaves that stand in variables are left out: they are manual pages."""
    words = [word.removeprefix("$DPKG_ROOT") for word in words]
    if len(words) < 4 or any("$" in word or "`" in word for word in words[:4]):
        return None
    place, name, path, priority = words[:4]
    rest = [word for word in words[4:] if not _USE.fullmatch(word)]
    slaves = []
    while rest:
        if rest[0] != "--slave" or len(rest) < 4 or any("$" in word or "`" in word for word in rest):
            return None
        slaves.append((rest[1], rest[2], rest[3]))
        rest = rest[4:]
    names = [name, *(slave[1] for slave in slaves)]
    paths = [place, path, *(text for slave in slaves for text in (slave[0], slave[2]))]
    fits = all(map(_NAME.fullmatch, names)) and all(map(_PATH.fullmatch, paths))
    if not fits or not re.fullmatch(r"-?[0-9]{1,9}", priority):
        return None
    return Request(place, name, path, int(priority), tuple(slaves))


def _xz_request() -> Request:
    tools = ("cat", "more", "less", "diff", "cmp", "grep", "egrep", "fgrep")
    names = [("unlzma", "unxz"), *((f"lz{tool}", f"xz{tool}") for tool in tools)]
    programs = ((f"/usr/bin/{name}", name, f"/usr/bin/{path}") for name, path in names)
    manual = "/usr/share/man/man1"
    pages = (
        (f"{manual}/{name}.1.gz", f"{name}.1.gz", f"{manual}/{path}.1.gz")
        for name, path in [("lzma", "xz"), *names]
    )
    return Request("/usr/bin/lzma", "lzma", "/usr/bin/xz", 20, (*programs, *pages))


REQUESTS: Mapping[str, tuple[Request, ...]] = {"xz-utils": (_xz_request(),)}
"""What scripts ask for in ways that cannot be read, by package."""
