"""Check images and locks: what records say against what it is computed from.

Knows nothing of blobs and checkouts, which ``store.audit`` checks, nor of predictions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reprobuild.build import recipes
from reprobuild.build.derive import derive_recipe, lock_of
from reprobuild.build.image import image_from_record, recall_image
from reprobuild.build.project import Project
from reprobuild.digest import Digest
from reprobuild.errors import ReprobuildError
from reprobuild.oci.tar import write_layer
from reprobuild.store.audit import Finding
from reprobuild.store.store import Store
from reprobuild.tree import Layer, Tree, TreeError, apply


def audit_images(store: Store) -> Iterator[Finding]:
    """Make every image's digests again from what they are digests of; give what differs.

    The ``diff_id`` of each layer is computed from its listing and bodies once, however many images
    have it; config and derivation are compared with image ID and input hash.
    """
    known: dict[Digest, Digest | str] = {}
    for key in store.realisations:
        record = store.realisations.get(key)
        if record is None or record.get("kind") != "image":
            continue
        where = str(store.realisations.locate(key))
        try:
            image = image_from_record(record)
        except (KeyError, TypeError, ValueError) as error:
            yield Finding(
                "realisation", key.hex, where, f"makes no sense: {error!r}", _again(record.get("recipe"))
            )
            continue
        tree = Tree()
        if not key == image.input_hash == image.derivation:
            problem = f"is of another derivation: {image.input_hash}"
            yield Finding("realisation", image.tag, where, problem, _again(image.recipe))
        if record["config"] != record["image_id"]:
            problem = f"its image ID is not the digest of its config, {record['config']}"
            yield Finding("realisation", image.tag, where, problem, _again(image.recipe))
        for layer in image.layers:
            if layer.listing not in known:
                known[layer.listing] = _diff_id(store, layer.listing)
            found = known[layer.listing]
            if found != layer.diff_id:
                problem = (
                    f"step {layer.step}: {found}"
                    if isinstance(found, str)
                    else f"step {layer.step}: its layer is {found}, and the record says {layer.diff_id}"
                )
                yield Finding("realisation", image.tag, where, problem, _again(image.recipe))
                break
            try:
                tree = apply(tree, Layer.parse(store.blobs.read(layer.listing)))
            except TreeError as error:
                yield Finding("realisation", image.tag, where, f"step {layer.step}: {error.message}", "")
                break


def _diff_id(store: Store, listing: Digest) -> Digest | str:
    try:
        return write_layer(Layer.parse(store.blobs.read(listing)), store.blobs.open)[0]
    except ReprobuildError as error:
        return error.message


def audit_locks(project: Project, names: Sequence[str]) -> Iterator[Finding]:
    """Check that locks can be read, pin everything, and say what the store's images say."""
    for name in names:
        folder = project.recipe_folder(name)
        where = str(folder / "recipe.lock")
        try:
            lock = lock_of(folder, name)
            if lock is None:
                yield Finding("lock", name, where, "there is none", f"reprobuild lock {name}")
                continue
            derived = derive_recipe(project, name, {})
        except ReprobuildError as error:
            yield Finding("lock", name, where, error.message, error.hint)
            continue
        locked = lock.output(project.platform, derived.recipe.chosen)
        mend = f"reprobuild lock {name}"
        if locked is None:
            yield Finding("lock", name, where, f"has no output for {project.platform}", mend)
            continue
        if locked.input_hash != derived.derivation.input_hash:
            problem = "its output is of an earlier state of the recipe"
            yield Finding("lock", name, where, problem, f"reprobuild why {name}, then {mend}")
            continue
        image = recall_image(project.store, derived.derivation.input_hash)
        if image is not None and image.image_id != locked.image_id:
            problem = f"says {locked.image_id}, and the store's image is {image.image_id}"
            yield Finding("lock", name, where, problem, f"reprobuild realize {name} --check")


def all_names(project: Project) -> list[str]:
    """Give the names of all recipes."""
    return recipes.names(project.settings.recipes)


def _again(name: object) -> str:
    return f"reprobuild audit --repair, then reprobuild realize {name}"
