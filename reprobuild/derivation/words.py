"""The words of a recipe's steps: what recipes call. Each checks what can be told without looking.

Knows nothing of how a source is resolved, fetched or placed; errors say where in the recipe a word stands.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from reprobuild.derivation.arguments import (
    check_day,
    checked_environment,
    checked_mode,
    fetched_fields,
    file_fields,
    path_inside,
)
from reprobuild.derivation.drive_id import check_drive_id
from reprobuild.derivation.git_address import check_commit, check_repository
from reprobuild.derivation.hub_layouts import checked_hub
from reprobuild.derivation.image_reference import LocalReference, read_reference
from reprobuild.derivation.predictors import check_network
from reprobuild.derivation.served import checked_answers, checked_ports
from reprobuild.derivation.steps import Apt, Fetched, Files, Gdrive, Git, Hub, Oci, Run, Step, Url, Wheels
from reprobuild.derivation.typed import typed, typed_but
from reprobuild.derivation.where import Where
from reprobuild.errors import RecipeError

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=\S+)?")
_SUITE = re.compile(r"[a-z0-9][a-z0-9.-]*")


@typed
def files(source: str, *, to: str, mode: int | None = None, uid: int = 0, gid: int = 0) -> Files:
    """Place files of the recipe's own folder.

    ``source``: a file, or a folder whose contents go into ``to``; ``to``: an absolute path in the
    image (with a trailing slash: the folder that gets the file by its name); ``mode``: permission
    bits for the files. Raises RecipeError for paths that make no sense.
    """
    where = Where.caller()
    if source.startswith("/") or ".." in source.split("/"):
        raise RecipeError(
            f"{where}: files({source!r}) leads outside the recipe's folder",
            "name a path inside the recipe's folder, or copy the files there",
        )
    return Files(
        source=source,
        to=path_inside(to, where),
        mode=checked_mode(mode, where),
        uid=uid,
        gid=gid,
        where=where,
    )


@typed
def url(
    url: str,
    *,
    to: str = "",
    sha256: str = "",
    unpack: bool = False,
    strip: int = 0,
    mode: int | None = None,
    mirrors: tuple[str, ...] | list[str] = (),
    licence: str = "",
    redistribute: bool = True,
) -> Url:
    """Fetch one file and place it, or what is in it.

    ``to``: an absolute path (with a trailing slash: the folder that gets the file by the last part
    of its URL; with ``unpack``: the folder that gets the archive's contents), needed but in ``answers=``;
    ``sha256``: 64 hex digits that the bytes must have; ``unpack``: take the file as tar (plain, gz, bz2,
    xz, zst) or zip; ``strip``: leading path components dropped from its names. Raises RecipeError.
    """
    where = Where.caller()
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "file") or (parts.scheme != "file" and not parts.hostname):
        raise RecipeError(f"{where}: url({url!r}): not an http, https or file address")
    if parts.username or parts.password:
        raise RecipeError(
            f"{where}: url() holds a user name or password, which would be kept in the lock",
            "put credentials into ~/.netrc",
        )
    return Url(
        url=url,
        **file_fields(to, sha256, unpack, strip, mode, where),
        **fetched_fields(mirrors, licence, redistribute, where),
    )


@typed
def apt(
    suite: str,
    *packages: str,
    components: tuple[str, ...] | list[str] | str = ("main",),
    arch: str = "",
    as_of: str = "",
    configure: bool = False,
    mirrors: tuple[str, ...] | list[str] = (),
    licence: str = "",
    redistribute: bool = True,
) -> Apt:
    """Place Debian packages, with what they depend on.

    ``suite``: a codename (``bookworm``); ``packages``: names, or ``name=version``; ``components``:
    parts of the archive; ``arch``: Debian's name of an architecture, by default the platform's;
    ``as_of``: a day or a moment of the snapshot archive. Raises RecipeError.
    """
    where = Where.caller()
    if not packages:
        raise RecipeError(f"{where}: apt({suite!r}) names no package")
    if not _SUITE.fullmatch(suite):
        raise RecipeError(f"{where}: apt({suite!r}, …): the first argument is a suite, like 'bookworm'")
    for package in packages:
        if not _PACKAGE.fullmatch(package):
            raise RecipeError(f"{where}: apt(…, {package!r}): not the name of a Debian package")
    check_day(as_of, where)
    parts = (components,) if isinstance(components, str) else tuple(components)
    return Apt(
        suite=suite,
        packages=tuple(sorted(set(packages))),
        components=parts,
        arch=arch,
        as_of=as_of,
        configure=configure,
        **fetched_fields(mirrors, licence, redistribute, where),
    )


@typed
def wheels(
    *requirements: str,
    python: str = "",
    as_of: str = "",
    build: bool = False,
    mirrors: tuple[str, ...] | list[str] = (),
    licence: str = "",
    redistribute: bool = True,
) -> Wheels:
    """Place Python packages, as wheels, with what they depend on.

    ``requirements``: PEP 508 texts; ``python``: the image's version (``3.11``), by default that of
    the tree below; ``as_of``: versions as the index stood on that day; ``mirrors``: folders on servers that
    have the pinned files by their names. Raises RecipeError.
    """
    where = Where.caller()
    if not requirements:
        raise RecipeError(f"{where}: wheels() names no requirement")
    for requirement in requirements:
        if requirement.startswith("-") or "\n" in requirement or not requirement.strip():
            raise RecipeError(f"{where}: wheels({requirement!r}): not a requirement")
    if python and not re.fullmatch(r"3\.\d+", python):
        raise RecipeError(f"{where}: python={python!r}: a version like '3.11' is needed")
    check_day(as_of, where)
    return Wheels(
        requirements=tuple(sorted(set(requirements))),
        python=python,
        as_of=as_of,
        build=build,
        **fetched_fields(mirrors, licence, redistribute, where),
    )


@typed
def run(
    command: str | list[str] | tuple[str, ...],
    *,
    env: Mapping[str, str] | None = None,
    network: Literal["", "recorded"] = "",
    owners: bool = False,
    threads: int = 1,
    workdir: str = "",
    ports: tuple[int, ...] | list[int] = (),
    answers: Mapping[str, Fetched] | None = None,
    refusal: Literal["", "reset"] = "",
) -> Run:
    """Run a command in the tree so far; what it changes is the step's layer.

    ``command``: a text for ``/bin/sh -c``, or an argument list; ``env``: variables beside the
    image's; ``network``: nothing, or ``"recorded"``: ``lock`` records what the command fetches, and
    every build replays exactly that; ``owners``: a range of uids, so that ``chown`` counts;
    ``threads``: what numeric libraries are told; ``ports``: of servers that are recorded beside those
    at 80 and 443; ``answers``: URL → a source of one file (``url``, ``gdrive``, ``hub``) that answers
    it in the place of a server that is gone; ``refusal``: ``"reset"`` cuts connections that are
    refused, for libraries that use their own copies only then. Raises RecipeError.
    """
    where = Where.caller()
    argv = ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(command)
    if not all(isinstance(part, str) and part and "\0" not in part for part in argv):
        raise RecipeError(f"{where}: run() needs a command")
    check_network(network, refusal, where)
    if (ports or answers) and not network:
        raise RecipeError(
            f"{where}: run(): ports= and answers= are for what is recorded", 'add network="recorded"'
        )
    return Run(
        command=argv,
        env=checked_environment(env, where),
        network=network,
        owners=owners,
        threads=threads,
        workdir=workdir and path_inside(workdir, where),
        ports=checked_ports(ports, where),
        answers=checked_answers(answers or {}, where),
        refusal=refusal,
        where=where,
    )


@typed
def oci(
    reference: str,
    *,
    mirrors: tuple[str, ...] | list[str] = (),
    licence: str = "",
    redistribute: bool = True,
) -> Oci:
    """Begin with a base image: ``oci("python:3.7-slim")``; it can be the first step alone.

    ``reference``: as container engines write it, or ``oci-layout:PATH``, ``oci-archive:PATH``,
    ``docker-archive:PATH`` in the recipe's folder; ``mirrors``: repositories that have the same image.
    Raises RecipeError.
    """
    where = Where.caller()
    for text in (reference, *mirrors):
        try:
            found = read_reference(text)
        except ValueError as error:
            raise RecipeError(f"{where}: oci({text!r}): {error}") from None
        if text in mirrors and isinstance(found, LocalReference):
            raise RecipeError(f"{where}: oci(…, mirrors=[{text!r}]): a mirror is a repository of a registry")
    return Oci(
        reference=reference,
        mirrors=tuple(mirrors),
        licence=licence,
        redistribute=redistribute,
        where=where,
    )


@typed_but("commit")
def git(
    url: str,
    commit: str,
    *,
    to: str,
    submodules: bool = False,
    lfs: bool = False,
    mirrors: tuple[str, ...] | list[str] = (),
    licence: str = "",
    redistribute: bool = True,
) -> Git:
    """Place the files of a commit of a git repository, without its history.

    ``url``: an http(s) address, or ``file:`` and the path of a bundle in the recipe's folder;
    ``commit``: its whole name, 40 hex digits; ``to``: the folder of the image that gets the files;
    ``submodules``: theirs too; ``lfs``: the files that pointers of Git LFS stand for. Raises RecipeError.
    """
    where = Where.caller()
    for address in (url, *mirrors):
        check_repository(address, where)
    check_commit(commit, url, where)
    return Git(
        url=url,
        commit=commit,
        to=path_inside(to, where),
        submodules=submodules,
        lfs=lfs,
        mirrors=tuple(mirrors),
        licence=licence,
        redistribute=redistribute,
        where=where,
    )


@typed
def gdrive(
    file_id: str,
    *,
    to: str = "",
    sha256: str = "",
    unpack: bool = False,
    strip: int = 0,
    mode: int | None = None,
    mirrors: tuple[str, ...] | list[str] = (),
    licence: str = "",
    redistribute: bool = True,
) -> Gdrive:
    """Fetch one file of Google Drive and place it, or what is in it.

    ``file_id``: what stands between ``/d/`` and ``/view`` in the address to share; ``mirrors``: addresses
    that have the same bytes; all else as for ``url``. Raises RecipeError.
    """
    where = Where.caller()
    check_drive_id(file_id, where)
    return Gdrive(
        file_id=file_id,
        **file_fields(to, sha256, unpack, strip, mode, where),
        **fetched_fields(mirrors, licence, redistribute, where),
    )


@typed
def hub(
    repository: str,
    *,
    revision: str,
    files: tuple[str, ...] | list[str] = (),
    layout: str = "huggingface",
    to: str = "",
    kind: str = "model",
    mirrors: tuple[str, ...] | list[str] = (),
    licence: str = "",
    redistribute: bool = True,
) -> Hub:
    """Place files of a model hub's repository in the layout that a library looks for.

    ``revision``: the full commit; ``files``: paths and patterns (``*.json``), none for all; ``layout``: one
    of ``hub_layouts.LAYOUTS``; ``to``: a folder instead of the layout's own; ``kind``: ``model``, ``dataset``
    or ``space``; ``mirrors``: hubs with the same addresses. Raises RecipeError.
    """
    where = Where.caller()
    if isinstance(files, str):
        raise RecipeError(f"{where}: files={files!r}: a list is needed", f"files=[{files!r}]")
    return checked_hub(
        Hub,
        repository,
        revision=revision,
        files=tuple(sorted(set(files))),
        layout=layout,
        to=to and path_inside(to, where),
        repository_kind=kind,
        **fetched_fields(mirrors, licence, redistribute, where),
    )


@typed
def dockerfile(
    path: str, *, args: Mapping[str, str] | None = None, target: str = "", context: str | None = None
) -> tuple[Step, ...]:
    """Begin with what a Dockerfile makes: its steps, to be the first of ``image``.

    ``path``: of the Dockerfile, in the recipe's folder; ``args``: values of its arguments; ``target``: the
    stage to end with, by default the last; ``context``: the folder that COPY reads, by default the
    Dockerfile's. Raises RecipeError, with the Dockerfile's line where there is one.
    """
    from reprobuild.derivation.dockerfile.reading import read_dockerfile

    where = Where.caller()
    # The recipe's frame, past the one that checks the arguments.
    folder = os.path.dirname(sys._getframe(2).f_code.co_filename)
    for name, value in (args or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise RecipeError(f"{where}: dockerfile(): args={{{name!r}: {value!r}}}: texts are needed")
    return read_dockerfile(path, dict(args or {}), target, context, where, folder)
