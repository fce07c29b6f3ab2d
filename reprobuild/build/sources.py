"""Pinned files on their way out of a store and into another: by digest, so that it matters to nobody whence.

Knows nothing of what the files are for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reprobuild.build import recipes
from reprobuild.build.derive import Derived, lock_of
from reprobuild.build.plan import missing_downloads, missing_exchanges
from reprobuild.build.project import Project
from reprobuild.build.realize import fetch
from reprobuild.derivation.lockfile import LockError
from reprobuild.digest import Digest
from reprobuild.errors import OutsideError, UsageError
from reprobuild.store.disk import trouble
from reprobuild.store.realisations import bodies_of_listing


@dataclass(frozen=True, slots=True)
class Imported:
    """A file that is in the store now."""

    path: Path
    digest: Digest
    size: int
    wanted_by: tuple[str, ...]
    """Pins of the project's recipes that ask for these bytes: ``tutorial: wheels numpy: numpy-1.0.whl``."""


def export_sources(project: Project, derived: Derived, to: Path) -> dict[Digest, int]:
    """Write every file that a derivation pins to a folder, named by its digest; give digests and sizes.

    What the store lacks is fetched first. Raises OutsideError where the folder cannot be written.
    """
    fetch_sources(project, derived)
    pinned = {pin.sha256: pin.size for pin in derived.pins}
    blobs = project.store.blobs
    for one in derived.steps:
        # What pins a tree needs the bodies that its listing names too.
        for pin in one.pins if one.step.pins_trees else ():
            bodies = map(Digest.trusted, bodies_of_listing(blobs.read(pin.sha256)))
            pinned |= {digest: blobs.size(digest) for digest in bodies}
    try:
        to.mkdir(parents=True, exist_ok=True)
        for digest in sorted(pinned):
            _write(project, digest, to / digest.hex)
    except OSError as error:
        raise trouble(error, f"writing to {to}") from error
    return pinned


def fetch_sources(project: Project, derived: Derived) -> None:
    """Fetch what a derivation pins and the store lacks. Raises as ``fetch``."""
    for one in derived.steps:
        fetch(project, missing_downloads(project, one, derived.folder))
    fetch(project, missing_exchanges(project, derived))


def _write(project: Project, digest: Digest, path: Path) -> None:
    import shutil

    if path.is_file() and path.stat().st_size == project.store.blobs.size(digest):
        return
    draft = path.with_name(f".#{path.name}.{os.getpid()}")
    try:
        with project.store.blobs.open(digest) as body, draft.open("wb") as copy:
            shutil.copyfileobj(body, copy, 1 << 20)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def import_files(project: Project, paths: Sequence[Path]) -> list[Imported]:
    """Take files, and all files in folders, into the store; say which pins of the project wanted them.

    ``gc`` spares them for its grace time, and for as long as an image that pins them is kept. Raises
    UsageError for what is no file or folder, OutsideError where one cannot be read.
    """
    wanted = _wanted(project)
    found = []
    with project.store.transaction() as group:
        for path in _files(paths):
            try:
                with path.open("rb", buffering=0) as body:
                    digest, size = group.add_stream(body)
            except OSError as error:
                raise OutsideError(f"{path} cannot be read: {error.strerror}") from error
            found.append(Imported(path, digest, size, tuple(wanted.get(digest, ()))))
    return found


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            below = (one for one in sorted(path.rglob("*")) if not one.name.startswith(".#"))
            yield from (one for one in below if one.is_file() and not one.is_symlink())
        elif path.is_file():
            yield path
        else:
            raise UsageError(f"{path} is neither file nor folder", "name what has the bytes")


def _wanted(project: Project) -> dict[Digest, list[str]]:
    """Give what the locks of all recipes pin, by digest."""
    found: dict[Digest, list[str]] = {}
    for name in recipes.names(project.settings.recipes):
        try:
            lock = lock_of(project.recipe_folder(name), name)
        except LockError:
            continue
        for key, pins in () if lock is None else lock.sources.items():
            for pin in pins:
                texts = found.setdefault(pin.sha256, [])
                text = f"{name}: {key}: {pin.name}"
                if text not in texts:
                    texts.append(text)
    return found
