"""A commit of a repository as a tree of the store: fetched, its submodules and large files with it.

What is pinned of it is the tree's listing (``docs/tree-format.md``), so that the same files can be had of any
mirror, packed in any way. Knows nothing of locks, nor of where files are placed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit, urlunsplit

from reprobuild import tree
from reprobuild.derivation.steps import Git as GitStep
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, RecipeError, ReprobuildError, UpstreamError
from reprobuild.events import FetchFinished, FetchProgressed, FetchStarted, Tell, Warned
from reprobuild.fetch.download import Download
from reprobuild.fetch.failures import refuse_offline
from reprobuild.fetch.git_bundle import read_bundle
from reprobuild.fetch.git_lfs import MOST_POINTER, Pointer, bring_large, parse_pointer, server_of
from reprobuild.fetch.git_objects import (
    HostileTreeError,
    Item,
    kind_of,
    link_target,
    parse_config,
    read_commit,
    read_objects,
)
from reprobuild.fetch.git_program import Git
from reprobuild.fetch.git_relay import relay
from reprobuild.fetch.http import Http, UnreachableError, plain
from reprobuild.fetch.transfer import persist
from reprobuild.store.scratch import Scratch
from reprobuild.tree import Entry, Tree

if TYPE_CHECKING:
    from typing import BinaryIO

    from reprobuild.settings import Settings
    from reprobuild.store.store import Store
    from reprobuild.store.transaction import Transaction

DEEPEST = 10
"""Submodules within submodules."""
MOST_SUBMODULES = 500
HEADS = ("+refs/heads/*:refs/found/heads/*", "+refs/tags/*:refs/found/tags/*")
EVERYTHING = ("+refs/*:refs/found/*",)

_OTHER_SCHEMES = re.compile(r"(?:ssh|git)://(?:[^@/]*@)?([^/:]+)(?::\d+)?/(.+)")
_SCP = re.compile(r"(?:[^@/:]*@)?([^:/]+):(?!//)/?(.+)")


@dataclass(slots=True)
class Found:
    """What a commit came to."""

    tree: Tree
    url: str
    """The address that had it."""
    pointers: int = 0
    """Files that are pointers of LFS still."""
    places: int = 0
    """Submodules that were not asked for: empty folders."""


@dataclass(frozen=True, slots=True)
class Work:
    """What bringing one tree needs."""

    step: GitStep
    http: Http
    scratch: Path
    group: Transaction
    tell: Tell
    folder: Path | None
    """The recipe's, for ``file:``."""
    where: str
    entries: list[Entry] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: {"repository": 0, "pointer": 0, "place": 0})


def bring_tree(
    step: GitStep,
    store: Store,
    settings: Settings,
    tell: Tell,
    *,
    folder: Path | None,
    where: str,
    fits: Callable[[Found], None] = lambda _: None,
) -> Found:
    """Bring a commit's tree into the store: every body, and the listing.

    ``fits`` raises for a tree that is not the wanted one: then the next mirror is asked, and the bytes stay.
    Raises UpstreamError where no address has the commit, HostileTreeError, DigestMismatchError.
    """
    failures: list[ReprobuildError] = []
    with Http(os.environ, settings=settings) as http:
        for url in dict.fromkeys((step.url, *step.mirrors)):
            try:
                with Scratch(store.tmp, "git", None) as scratch, store.transaction() as group:
                    work = Work(step, http, Path(scratch.make()), group, tell, folder, where)
                    found = _bring(work, url)
                    group.add_bytes(found.tree.listing)
                fits(found)
                return found
            except (UpstreamError, CheckFailedError) as error:
                failures.append(error)
            if getattr(failures[-1], "network_is_cut", False):
                wanted = Download(name=step.title, urls=(step.url, *step.mirrors), where=where)
                refuse_offline([wanted], "there is no network")
            if url != (step.url, *step.mirrors)[-1]:
                tell(Warned(failures[-1].message, "the next address is tried"))
    chosen = next((error for error in failures if not isinstance(error, UpstreamError)), failures[0])
    others = [error.message for error in failures if error is not chosen]
    place = f"{where}: " if where and not chosen.message.startswith(where) else ""
    chosen.message = "\n".join([place + chosen.message, *(f"  also tried: {one}" for one in others)])
    chosen.args = (chosen.message,)
    raise chosen


def _bring(work: Work, url: str) -> Found:
    _repository(work, [url], work.step.commit, "", 0)
    counts = work.counts
    return Found(Tree(work.entries), url, counts["pointer"], counts["place"])


def _repository(work: Work, urls: list[str], commit: str, prefix: str, depth: int) -> None:
    """Add the files of one repository's commit below a prefix."""
    work.counts["repository"] += 1
    if depth > DEEPEST or work.counts["repository"] > MOST_SUBMODULES:
        raise HostileTreeError(f"/{prefix}: submodules within submodules without end")
    scratch = work.scratch / str(work.counts["repository"])
    scratch.mkdir()
    git, url = _fetched(work, urls, commit, scratch)
    items = read_commit(git, commit, scratch)
    pointers = _add_files(work, git, items, prefix, scratch)
    if pointers and work.step.lfs:
        settings = _settings(git, items, ".lfsconfig", scratch)
        bring_large(work.http, server_of(url, settings), pointers, work.group, work.tell)
        by_path = {one.path: one for one in pointers}
        for index, entry in enumerate(work.entries):
            if (one := by_path.get(entry.path)) is not None:
                work.entries[index] = entry._replace(digest=one.sha256, size=one.size)
    else:
        work.counts["pointer"] += len(pointers)
    places = [item for item in items if item.kind == "commit"]
    if not work.step.submodules:
        work.counts["place"] += len(places)
        return
    modules = _modules(git, items, scratch) if places else {}
    for item in places:
        named = modules.get(item.path)
        if not named:
            raise UpstreamError(
                f"{plain(url)}: /{item.path} is a submodule, and .gitmodules names no address for it",
                "without submodules=True its folder stays empty",
            )
        found = [resolved for base in dict.fromkeys((url, *urls)) if (resolved := submodule_url(base, named))]
        if not found:
            raise UpstreamError(
                f"{plain(url)}: the submodule /{item.path} is at {named!r}, which is no https address"
            )
        _repository(work, list(dict.fromkeys(found)), item.name, _joined(prefix, item.path), depth + 1)


def _fetched(work: Work, urls: list[str], commit: str, scratch: Path) -> tuple[Git, str]:
    """Bring a commit from the first address that has it."""
    failure: UpstreamError | None = None
    for number, url in enumerate(urls):
        folder = scratch / f"git-{number}"
        folder.mkdir()
        git = Git(folder, os.environ, sha256=len(commit) == 64)
        try:
            if url.startswith("file:"):
                read_bundle(git, url, work.folder, work.where)
            else:
                _fetch(work, git, url, commit)
            _check_kind(git, url, commit)
            return git, url
        except UpstreamError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _fetch(work: Work, git: Git, url: str, commit: str) -> None:
    name = f"{repository_name(url)} at {commit[:12]}"
    work.tell(FetchStarted(name, None))
    received = persist(
        lambda: _ask(work, git, url, commit, name), wait=time.sleep, progress=lambda: 0, attempts=3
    )
    work.tell(FetchFinished(name, received))


def _ask(work: Work, git: Git, url: str, commit: str, name: str) -> int:
    """Ask for the commit alone; where a server gives only what it advertises, for all that it has."""
    with relay(work.http, url) as through:

        def fetch(*arguments: str) -> bool:
            through.failure = None
            try:
                git.run(
                    *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"),
                    *arguments,
                    beat=lambda: work.tell(FetchProgressed(name, through.received)),
                )
                return True
            except UpstreamError as error:
                if isinstance(through.failure, UnreachableError) or not through.received:
                    raise through.failure or error from None
                said.append(error)
                return False

        said: list[UpstreamError] = []
        if not fetch("--depth=1", through.door, commit):
            for refs in (HEADS, EVERYTHING):
                if fetch(through.door, *refs) and kind_of(git, commit):
                    break
            else:
                if len(said) == 3:
                    said[-1].message = f"{plain(url)}: {said[-1].message.replace(through.door, plain(url))}"
                    raise through.failure or said[-1]
        return through.received


def _check_kind(git: Git, url: str, commit: str) -> None:
    kind = kind_of(git, commit)
    if kind == "commit":
        return
    if not kind:
        raise UpstreamError(
            f"{plain(url)} has no commit {commit}",
            "was it pushed, and not removed since? a fork that has it is a mirror: mirrors=[…]",
        )
    hint = ""
    if kind == "tag":
        inner = git.run("rev-parse", "--verify", commit + "^{commit}").decode().strip()
        hint = f"the tag's commit is {inner}"
    raise RecipeError(f"{plain(url)}: {commit} is a {kind} and no commit", hint)


def _add_files(work: Work, git: Git, items: list[Item], prefix: str, scratch: Path) -> list[Pointer]:
    """Add a commit's folders, links and files; give those that are pointers of LFS."""
    blobs = dict.fromkeys(item.name for item in items if item.kind in ("file", "program", "link"))
    links = {item.name: item.path for item in items if item.kind == "link"}
    bodies: dict[str, tuple[Digest, int]] = {}
    targets: dict[str, str] = {}
    small: dict[str, Pointer] = {}
    for name, body in read_objects(git, blobs, "blob", scratch):
        if name in links or body.size <= MOST_POINTER:
            if name in links and body.size > MOST_POINTER * 4:
                raise HostileTreeError(f"/{links[name]} is a link to what is no path")
            data = body.read()
            if name in links:
                targets[name] = link_target(data, _joined(prefix, links[name]))
            bodies[name] = work.group.add_bytes(data), len(data)
            if pointer := parse_pointer("", data):
                small[name] = pointer
        else:
            bodies[name] = work.group.add_stream(cast("BinaryIO", body))
    pointers = []
    for item in items:
        path = _joined(prefix, item.path)
        if item.kind in ("folder", "commit"):
            work.entries.append(tree.directory(path))
        elif item.kind == "link":
            work.entries.append(tree.link(path, targets[item.name]))
        else:
            digest, size = bodies[item.name]
            work.entries.append(tree.file(path, digest, size, 0o755 if item.kind == "program" else 0o644))
            if (known := small.get(item.name)) is not None:
                pointers.append(Pointer(path, known.sha256, known.size))
    return pointers


def _settings(git: Git, items: list[Item], path: str, scratch: Path) -> Mapping[str, str]:
    """Read a file of the commit's root that has the form of git's settings."""
    for item in items:
        if item.path == path and item.kind in ("file", "program"):
            for _, body in read_objects(git, [item.name], "blob", scratch):
                return parse_config(git, body.read(), scratch)
    return {}


def _modules(git: Git, items: list[Item], scratch: Path) -> dict[str, str]:
    """Give the addresses of submodules, as ``.gitmodules`` writes them, by path."""
    settings = _settings(git, items, ".gitmodules", scratch)
    found = {}
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        if section.startswith("submodule.") and key == "path":
            found[value.strip("/")] = settings.get(f"{section}.url", "")
    return found


def submodule_url(base: str, named: str) -> str:
    """Give the http(s) address of a submodule that ``.gitmodules`` calls ``named``, or ``""``.

    Relative ones are resolved as git does. Addresses for ssh and for git's own protocol become https ones
    of the same host: the commit says whether the right files came.
    """
    if named.startswith(("./", "../")):
        parts = urlsplit(base)
        path = parts.path.rstrip("/").split("/")
        rest = named
        while rest.startswith(("./", "../")):
            if rest.startswith("../"):
                if len(path) < 2:
                    return ""
                path.pop()
            rest = rest.partition("/")[2]
        named = urlunsplit(parts._replace(path="/".join([*path, rest])))
    if (other := _OTHER_SCHEMES.fullmatch(named) or _SCP.fullmatch(named)) is not None:
        named = f"https://{other[1]}/{other[2]}"
    parts = urlsplit(named)
    return plain(named) if parts.scheme in ("http", "https") and parts.hostname else ""


def repository_name(url: str) -> str:
    """Give what a person calls a repository: the last part of its address."""
    name = urlsplit(url).path.rstrip("/").rpartition("/")[2].removesuffix(".git").removesuffix(".bundle")
    return re.sub(r"[^\w.+-]", "-", name).strip(".-") or "repository"


def _joined(prefix: str, path: str) -> str:
    return f"{prefix}/{path}" if prefix else path
