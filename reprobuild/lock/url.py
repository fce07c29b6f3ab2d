"""Pin a ``url`` step: fetch what is there now.

Knows nothing of what is in the file.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Url
from reprobuild.digest import Digest
from reprobuild.errors import RecipeError
from reprobuild.events import Note
from reprobuild.fetch.download import Download, fetch_all
from reprobuild.lock.resolver import Context


def resolve(step: Url, context: Context) -> tuple[Pin, ...]:
    """Give the one pin of the file, which is in the store then.

    Raises DigestMismatchError where the recipe's own ``sha256`` says otherwise, UpstreamError and
    OfflineError where it cannot be had, RecipeError for an address that names no file.
    """
    name = file_name(step)
    (fetched,) = fetch_all(
        context.store,
        [
            Download(
                name=name,
                urls=(step.url, *step.mirrors),
                sha256=Digest(step.sha256) if step.sha256 else None,
                where=str(step.where),
                mend=f'if the new bytes are right: write sha256="{{got}}" at {step.where}',
                folder=context.recipe_folder,
            )
        ],
        tell=context.tell,
        offline=context.settings.offline,
        jobs=context.settings.jobs,
        settings=context.settings,
    )
    if fetched.moved_to:
        context.tell(Note(f"{step.where}: {step.url} has moved for good, to {fetched.moved_to}"))
    return (Pin(name=name, size=fetched.size, sha256=fetched.digest, found={"url": step.url}),)


def file_name(step: Url) -> str:
    """Give the last part of a step's address, as a file name. Raises RecipeError where there is none."""
    name = last_part(step.url)
    if not name:
        if step.has_name_of_its_own:
            raise RecipeError(
                f"{step.where}: {step.title}: the address ends in no file name",
                f"name the file: to={step.to + 'NAME'!r}",
            )
        return "download"
    return name


def last_part(url: str) -> str:
    """Give the last part of an address's path, if it can be a file's name, else ``""``."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    return "" if name in (".", "..") or "/" in name or not name.isprintable() else name
