"""Pin a ``gdrive`` step: fetch what Google Drive has there now.

Knows nothing of Drive's pages (``fetch.gdrive``), nor of what is in the file.
"""

from __future__ import annotations

import os

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Gdrive
from reprobuild.digest import Digest
from reprobuild.errors import RecipeError
from reprobuild.fetch.disposition import file_name
from reprobuild.fetch.download import Download, fetch_all
from reprobuild.fetch.gdrive import Drive, addresses
from reprobuild.fetch.http import Http
from reprobuild.fetch.transfer import ask
from reprobuild.lock.resolver import Context
from reprobuild.lock.url import last_part


def resolve(step: Gdrive, context: Context) -> tuple[Pin, ...]:
    """Give the one pin of the file, which is in the store then; its name is Drive's.

    Raises DigestMismatchError where the recipe's own ``sha256`` says otherwise, UpstreamError (a quota,
    no access, …) and OfflineError where it cannot be had, RecipeError for a file without a name.
    """
    (fetched,) = fetch_all(
        context.store,
        [
            Download(
                name=step.title,
                urls=(*addresses(step.file_id), *step.mirrors),
                sha256=Digest(step.sha256) if step.sha256 else None,
                where=str(step.where),
                mend=f'if the new bytes are right: write sha256="{{got}}" at {step.where}',
                folder=context.recipe_folder,
                site=Drive(),
            )
        ],
        tell=context.tell,
        offline=context.settings.offline,
        jobs=context.settings.jobs,
        settings=context.settings,
    )
    name = file_name(fetched.headers.get("content-disposition", ""))
    if not name and fetched.url and not fetched.url.startswith(("https://drive.", "https://docs.")):
        name = last_part(fetched.url)
    if not name and step.has_name_of_its_own:
        name = _ask_name(step, context)
    if not name and step.has_name_of_its_own:
        raise RecipeError(
            f"{step.where}: {step.title}: nobody says what the file is called",
            f"name the file: to={step.to + 'NAME'!r}",
        )
    return (Pin(name=name or step.file_id, size=fetched.size, sha256=fetched.digest),)


def _ask_name(step: Gdrive, context: Context) -> str:
    """Ask Drive for the name of a file whose bytes the store had."""
    with (
        Http(os.environ, connections=1, settings=context.settings) as http,
        ask(http, addresses(step.file_id)[0], {}, Drive()) as response,
    ):
        return file_name(response.headers.get("content-disposition", ""))
