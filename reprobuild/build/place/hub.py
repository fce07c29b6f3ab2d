"""Place files of a model hub where the library at hand looks for them (``docs/hub.md``).

Each layout is what one library's own code leaves after a download. Knows nothing of where files came
from, nor of the tree below.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

from reprobuild import tree
from reprobuild.build.place.placement import Placement
from reprobuild.build.unpack import unpack
from reprobuild.derivation.hub_layouts import LAYOUTS
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.steps import Hub
from reprobuild.errors import RecipeError
from reprobuild.images.archive import naming
from reprobuild.store.store import Store
from reprobuild.store.transaction import Transaction
from reprobuild.tree import Entry

S3 = "https://s3.amazonaws.com/models.huggingface.co/bert"
CDN = "https://cdn.huggingface.co"
HUB = "https://huggingface.co"
"""Where transformers before version 4.22 looked for files."""


def facts(step: Hub, below: tree.Tree, store: Store) -> dict[str, Json]:
    """Give what placing depends on of the tree below: nothing."""
    return {}


def place(
    step: Hub, pins: Sequence[Pin], facts: Mapping[str, Json], store: Store, group: Transaction
) -> Placement:
    """Give the entries of a revision's files. Raises RecipeError for two files of one name, ArchiveError."""
    folder = (step.to or LAYOUTS[step.layout].folder).strip("/")
    placed: dict[str, Entry] = {}
    for entry in _LAYOUTS[step.layout](step, pins, folder, store, group):
        before = placed.get(entry.path)
        if before is not None and before != entry:
            raise RecipeError(
                f"{step.where}: {step.title}: two files come to /{entry.path}", "choose one: files=[…]"
            )
        placed[entry.path] = entry
    return Placement(tuple(sorted(placed.values())))


def _file(path: str, pin: Pin) -> Entry:
    return tree.file(path.lstrip("/"), pin.sha256, pin.size)


def _made(path: str, body: bytes, group: Transaction) -> Entry:
    return tree.file(path, group.add_bytes(body), len(body))


def _plain(step: Hub, pins: Sequence[Pin], folder: str, store: Store, group: Transaction) -> Iterator[Entry]:
    for pin in pins:
        yield _file(f"{folder}/{pin.name}", pin)


def _huggingface(
    step: Hub, pins: Sequence[Pin], folder: str, store: Store, group: Transaction
) -> Iterator[Entry]:
    """Give the cache of huggingface_hub: blobs by entity tag, snapshots of links to them, references."""
    name = f"{step.repository_kind}s--{step.repository.replace('/', '--')}"
    root = f"{folder}/hub/{name}"
    yield _made(f"{root}/refs/main", step.revision.encode(), group)
    for pin in pins:
        blob = f"{root}/blobs/{pin.hashed['etag']}"
        path = f"{root}/snapshots/{step.revision}/{pin.name}"
        yield _file(blob, pin)
        yield _link(path, blob)


def _nltk(step: Hub, pins: Sequence[Pin], folder: str, store: Store, group: Transaction) -> Iterator[Entry]:
    """Give what ``nltk.download`` leaves: packages, and beside each archive what is in it."""
    for pin in pins:
        path = f"{folder}/{pin.name}"
        yield _file(path, pin)
        if not pin.name.endswith(".zip"):
            continue
        with naming(f"{step.where}: {pin.name}"), store.blobs.open(pin.sha256) as file:
            yield from unpack(file, group, to=posixpath.dirname(path))


def _torch(step: Hub, pins: Sequence[Pin], folder: str, store: Store, group: Transaction) -> Iterator[Entry]:
    """Give the checkpoints of torch.hub, which knows a file by the last part of its address."""
    for pin in pins:
        yield _file(f"{folder}/hub/checkpoints/{posixpath.basename(pin.name)}", pin)


def _transformers_old(
    step: Hub, pins: Sequence[Pin], folder: str, store: Store, group: Transaction
) -> Iterator[Entry]:
    """Give the caches of pytorch-transformers 1 and transformers up to 4.21: names are digests of addresses.

    One file has the bytes; under further addresses, and in the folders of other versions, are links.
    """
    for pin in pins:
        joint = "/" if "/" in step.repository else "-"
        early = [f"{base}/{step.repository}{joint}{pin.name}" for base in (S3, CDN)]
        late = [f"{HUB}/{step.repository}/resolve/{at}/{pin.name}" for at in ("main", step.revision)]
        if step.to:
            places = [(folder, [*early, *late])]
        else:
            places = [
                (f"{folder}/torch/pytorch_transformers", early[:1]),
                (f"{folder}/torch/transformers", [*early, *late]),
                (f"{folder}/huggingface/transformers", late),
            ]
        etag = f'"{pin.hashed["etag"]}"'
        first = ""
        for place, addresses in places:
            for address in addresses:
                path = f"{place}/{_digest(address)}.{_digest(etag)}"
                if address.endswith(".h5"):
                    path += ".h5"
                    # Without a server, these are looked for without the entity tag alone.
                    yield _link(f"{place}/{_digest(address)}.h5", first or path)
                yield _link(path, first) if first else _file(path, pin)
                yield _made(f"{path}.json", json.dumps({"url": address, "etag": etag}).encode(), group)
                first = first or path


def _link(path: str, target: str) -> Entry:
    return tree.link(path.lstrip("/"), posixpath.relpath(target, posixpath.dirname(path)))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


_LAYOUTS = {
    "huggingface": _huggingface,
    "plain": _plain,
    "nltk": _nltk,
    "torch": _torch,
    "transformers-old": _transformers_old,
}
