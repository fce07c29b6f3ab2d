"""Check images and locks: what records say against what it is computed from.

Knows nothing of blobs and checkouts, which ``store.audit`` checks, nor of predictions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reprobuild.build import recipes
from reprobuild.build.derive import derive_recipe, lock_of
from reprobuild.build.find import TAKEN
from reprobuild.build.image import image_from_record, pulled_key, recall_image
from reprobuild.build.project import Project
from reprobuild.canonical import canonical
from reprobuild.derivation.predictors import Json
from reprobuild.digest import Digest
from reprobuild.errors import ReprobuildError
from reprobuild.images.image import Config
from reprobuild.images.tar import write_layer
from reprobuild.store.audit import Finding
from reprobuild.store.diff_ids import recall_diff_id
from reprobuild.store.store import Store
from reprobuild.tree import Layer, Tree, apply


def audit_images(store: Store, *, deep: bool = False) -> Iterator[Finding]:
    """Check every image's record against what its blobs say; ``store.audit`` checks the blobs.

    Derivation and config are compared with input hash and image ID, and all that the record repeats
    of the config (the world of commands, predictors, each layer's ``diff_id``) with the config. What
    a layer's listing comes to is recalled; with ``deep`` it is made again, from every body.
    """
    known: dict[Digest, Digest | str] = {}
    for key in store.realisations:
        record = store.realisations.get(key)
        if record is None or record.get("kind") != "image":
            continue
        again = (
            f"pull {record.get('tag')}"
            if record.get("engine") in TAKEN
            else f"realize {record.get('recipe')}"
        )
        mend = f"reprobuild audit --repair, then reprobuild {again}"
        for what, problem in _image_problems(store, key, record, known, deep=deep):
            yield Finding("realisation", what, str(store.realisations.locate(key)), problem, mend)


def _image_problems(
    store: Store, key: Digest, record: Mapping[str, Json], known: dict[Digest, Digest | str], *, deep: bool
) -> Iterator[tuple[str, str]]:
    """Give the image's name and what is wrong, for each thing that is."""
    try:
        image = image_from_record(record)
        config = Config.parse(store.blobs.read(image.image_id))
    except (KeyError, TypeError, ValueError) as error:
        yield key.hex, f"makes no sense: {error!r}"
        return
    except ReprobuildError as error:
        yield key.hex, f"its config: {error.message}"
        return
    if (
        key != pulled_key(image.image_id, image.input_hash)
        and not key == image.input_hash == image.derivation
    ):
        yield image.tag, f"is of another derivation: {image.input_hash}"
    if record["config"] != record["image_id"]:
        yield image.tag, f"its image ID is not the digest of its config, {record['config']}"
    if config.diff_ids != tuple(layer.diff_id for layer in image.layers):
        yield image.tag, "names other layers than its config"
    if (dict(config.env), config.workdir) != (dict(image.env), image.workdir):
        yield image.tag, "has another environment or workdir than its config"
    if canonical(dict(config.predictors)) != canonical(record["predictors"]):
        yield image.tag, "has other predictors than its config"
    tree = Tree()
    for layer in image.layers:
        if layer.listing not in known:
            known[layer.listing] = _diff_id(store, layer.listing, deep=deep)
        found = known[layer.listing]
        try:
            if isinstance(found, str):
                raise ReprobuildError(found)
            if found != layer.diff_id:
                raise ReprobuildError(f"its layer is {found}, and the record says {layer.diff_id}")
            tree = apply(tree, Layer.parse(store.blobs.read(layer.listing)))
        except ReprobuildError as error:
            yield image.tag, f"step {layer.step}: {error.message}"
            return


def _diff_id(store: Store, listing: Digest, *, deep: bool) -> Digest | str:
    """Give what a layer comes to, or why that cannot be told."""
    try:
        if not deep and (recalled := recall_diff_id(store, listing)) is not None:
            return recalled
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
