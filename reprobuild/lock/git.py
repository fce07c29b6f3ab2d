"""Pin a ``git`` step: fetch the commit, and make its tree.

Knows nothing of how git is asked.
"""

from __future__ import annotations

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Git
from reprobuild.events import Note
from reprobuild.fetch.git_tree import bring_tree, repository_name
from reprobuild.lock.resolver import Context


def resolve(step: Git, context: Context) -> tuple[Pin, ...]:
    """Give the one pin of the tree, the digest of its listing; the tree is in the store then.

    Raises UpstreamError where no address has the commit, OutsideError where git is not installed,
    CheckFailedError for a tree that no file system should be given.
    """
    found = bring_tree(
        step,
        context.store,
        context.settings,
        context.tell,
        folder=context.recipe_folder,
        where=str(step.where),
    )
    if found.pointers:
        _note(
            context,
            step,
            found.pointers,
            "pointers of Git LFS; with lfs=True files come instead",
        )
    if found.places:
        _note(
            context,
            step,
            found.places,
            "submodules as empty folders; with submodules=True they come",
        )
    listing = found.tree.listing
    name = f"{repository_name(step.url)}-{step.commit[:12]}.tree"
    return (Pin(name=name, size=len(listing), sha256=found.tree.digest),)


def _note(context: Context, step: Git, count: int, what: str) -> None:
    context.tell(Note(f"{step.where}: {step.title}: {count:,} {what}"))
