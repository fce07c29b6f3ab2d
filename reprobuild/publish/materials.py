"""Everything that an image is made of and that was pinned, each with the address that the world knows it by.

Packages have package URLs (purl-spec); what else is fetched has the address that the recipe names. Knows
nothing of the documents that list it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote, unquote, urlsplit

from packageurl import PackageURL
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)

from reprobuild.build.derive import Derived
from reprobuild.derivation.image_reference import RegistryReference, read_reference
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.recorded import PREDICTOR, predictor_key, url_of
from reprobuild.derivation.steps import Apt, Fetched, Gdrive, Git, Hub, Oci, Run, Step, Url
from reprobuild.derivation.world import MANIFEST
from reprobuild.fetch.hub import ENDPOINT, address
from reprobuild.value import Value

DRIVE = "https://drive.google.com/uc?id="
_DEB = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]+)_(?P<version>[^_]+)_(?P<arch>[a-z0-9-]+)\.deb")
_FORGE = re.compile(r"https?://(?P<forge>github|bitbucket)\.(?:com|org)/(?P<path>[^/]+/[^/]+?)(?:\.git)?/?")


class Material(Value):
    """One pinned file (or git tree)."""

    kind: str
    """Of its source: ``apt``, ``wheels``, …; ``predictor`` for what a recorded predictor fetches."""
    source: str
    """The source's key in the lock."""
    pin: Pin
    uri: str
    """Where the world has it: a package URL, or an address."""
    package: PackageURL | None = None
    """What package it is, or is a part of."""
    licence: str = ""
    """As the recipe says it; empty: nothing is said."""
    commit: str = ""
    """Of a git tree, whose pin is the digest of its listing."""


def materials(derived: Derived) -> Iterator[Material]:
    """Give what a derivation pins: of its steps in order, then of its predictors."""
    for one in derived.steps:
        key = one.step.lock_key(derived.platform)
        for pin in one.pins:
            yield _of_step(one.step, key, pin, one.pins)
    for name, pins in derived.exchanges.items():
        key = predictor_key(name, derived.recipe.image.predictors[name], derived.platform)
        for pin in pins:
            yield Material(PREDICTOR, key, pin, url_of(pin), _package_in(url_of(pin)))


def sources(derived: Derived) -> Iterator[Fetched]:
    """Give the sources of a derivation: its steps that fetch, and what answers its recorded commands."""
    for one in derived.steps:
        if isinstance(one.step, Fetched):
            yield one.step
        elif isinstance(one.step, Run):
            yield from one.step.answers.values()


def _of_step(step: Step, key: str, pin: Pin, pins: Sequence[Pin]) -> Material:
    if isinstance(step, Run):
        url = url_of(pin)
        licence = step.answers[url].licence if url in step.answers else ""
        return Material(step.kind, key, pin, url, _package_in(url), licence)
    assert isinstance(step, Fetched)
    uri, package = _address(step, pin, pins)
    return Material(step.kind, key, pin, uri, package, step.licence, getattr(step, "commit", ""))


def _address(step: Fetched, pin: Pin, pins: Sequence[Pin]) -> tuple[str, PackageURL | None]:
    """Give the address of a source's file, and the package that it is, or is a part of."""
    package: PackageURL | None
    match step:
        case Apt():
            package = _debian(pin, step.suite)
        case Hub():
            package = PackageURL("huggingface", *_split(step.repository), step.revision)
            return address(ENDPOINT, step, pin.name), package
        case Git():
            return f"git+{step.url}@{step.commit}", _commit(step)
        case Oci():
            package = _base(step, pins)
            return f"{package}#{quote(pin.name)}" if package else f"{step.reference}#{pin.name}", package
        case Url():
            return step.url, None
        case Gdrive():
            return f"{DRIVE}{step.file_id}", None
        case _:
            package = _python(pin.name)
    return (str(package) if package is not None else pin.name), package


def _debian(pin: Pin, suite: str) -> PackageURL:
    said = pin.hashed
    qualifiers = {"arch": str(said["arch"]), "distro": suite}
    return PackageURL("deb", "debian", str(said["package"]), str(said["version"]), qualifiers)


def _python(name: str) -> PackageURL | None:
    """Give the package of a wheel or a source archive by its file's name."""
    try:
        if name.endswith(".whl"):
            package, version = parse_wheel_filename(name)[:2]
        else:
            package, version = parse_sdist_filename(name)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
    return PackageURL("pypi", None, package, str(version), {"file_name": name})


def _commit(step: Git) -> PackageURL:
    """Give the package of a commit: those of well-known forges have types of their own."""
    if forge := _FORGE.fullmatch(step.url):
        return PackageURL(forge["forge"], *_split(forge["path"]), step.commit)
    name = posixpath.basename(urlsplit(step.url).path).removesuffix(".git") or "repository"
    return PackageURL("generic", None, name, step.commit, {"vcs_url": f"git+{step.url}@{step.commit}"})


def _base(step: Oci, pins: Sequence[Pin]) -> PackageURL | None:
    """Give the package of a base image of a registry that has a manifest; None for one of local files."""
    reference = read_reference(step.reference)
    manifest = next((pin for pin in pins if pin.name == MANIFEST), None)
    if not isinstance(reference, RegistryReference) or manifest is None:
        return None
    qualifiers = {"repository_url": reference.name, "tag": reference.tag}
    qualifiers = {name: value for name, value in qualifiers.items() if value}
    return PackageURL("oci", None, posixpath.basename(reference.repository), str(manifest.sha256), qualifiers)


def _package_in(url: str) -> PackageURL | None:
    """Give the package that a recorded download is, where its name says that it is one."""
    name = unquote(posixpath.basename(urlsplit(url).path))
    if name.endswith(".whl"):
        return _python(name)
    if deb := _DEB.fullmatch(name):
        return PackageURL("deb", "debian", deb["name"], deb["version"], {"arch": deb["arch"]})
    return None


def _split(path: str) -> tuple[str | None, str]:
    namespace, _, name = path.rpartition("/")
    return namespace or None, name
