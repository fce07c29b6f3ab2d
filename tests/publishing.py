"""An image with every kind of source, made up in a store without any engine: what publishing works on."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reprobuild import apt, gdrive, git, hub, image, oci, predictor, run, url, wheels
from reprobuild.build.derive import Derived
from reprobuild.build.image import Realised, write_image
from reprobuild.build.project import Project
from reprobuild.derivation.derive import ASSEMBLER, derive, derive_step
from reprobuild.derivation.lockfile import LOCK_FILE, LayerOutput, Lock, Output, write_lock
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Predictor
from reprobuild.derivation.recipe import Recipe
from reprobuild.derivation.steps import Step
from reprobuild.derivation.world import CONFIG, MANIFEST
from reprobuild.digest import Digest
from reprobuild.settings import load
from reprobuild.store.store import Store
from reprobuild.tree import Layer, directory, file

PLATFORM = "linux/amd64"
COMMIT = "0123456789" * 4


@dataclass(frozen=True)
class Scene:
    """What publishing starts with."""

    project: Project
    derived: Derived
    realised: Realised

    @property
    def store(self) -> Store:
        """The store."""
        return self.project.store


def make_scene(folder: Path, *, version: str = "1.0", body: bytes = b"", steps: Sequence[Step] = ()) -> Scene:
    """Make an image whose lock pins sources of all kinds (or ``steps``, without pins).

    ``body``: of a file in its second layer; ``folder``: gets a store and a recipe.
    """
    flags = {"store": str(folder / "store"), "engine": "sandbox"}
    project = Project(load(flags, {"HOME": str(folder)}, str(folder)), platform=PLATFORM)
    home = folder / "recipes" / "model"
    home.mkdir(parents=True, exist_ok=True)
    asked = image(*(steps or all_steps()), predictors={"default": _predictor()})
    recipe = Recipe(
        name="model", version=version, summary="", publish=True, options={}, chosen={}, image=asked
    )
    pins = [() if steps else _pins(project.store, step) for step in asked.steps]
    made = tuple(derive_step(step, found) for step, found in zip(asked.steps, pins, strict=True))
    derivation = derive(recipe, made, ASSEMBLER, PLATFORM)
    sources = {one.step.lock_key(PLATFORM): one.pins for one in made if one.pins}
    derived = Derived(recipe, home, Lock(ASSEMBLER, sources), made, derivation, PLATFORM)
    layers = _layers(project.store, body)
    realised = write_image(project.store, derived, layers, [], engine="sandbox", isolation="sandbox (tested)")
    outputs = tuple(LayerOutput(layer.step, layer.diff_id) for layer in realised.layers)
    output = Output({}, realised.input_hash, realised.image_id, outputs)
    lock = Lock(ASSEMBLER, sources, {PLATFORM: (output,)})
    (home / LOCK_FILE).write_text(write_lock(lock))
    return Scene(project, Derived(recipe, home, lock, made, derivation, PLATFORM), realised)


def all_steps() -> tuple[Step, ...]:
    """Give one step of each kind that has pins."""
    return (
        oci("python:3.7-slim", licence="PSF-2.0"),
        apt("bookworm", "libexample++6"),
        wheels("example-lib", python="3.11", build=True),
        url("https://files.example/weights.bin", to="/w", licence="CC-BY-4.0"),
        gdrive("1vVhRgLtsQDAOmxYhY5PMPnxxHUyCOdQU", to="/d", licence="MIT OR Apache-2.0"),
        hub("google/example", revision=COMMIT),
        git("https://github.com/Someone/Example.git", COMMIT, to="/g"),
        run("pip install other", network="recorded"),
    )


def wheel(name: str, licence: str) -> bytes:
    """Give a wheel that says its licence."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\nLicense-Expression: {licence}\n"
        archive.writestr(zipfile.ZipInfo(f"{name}-1.0.dist-info/METADATA"), metadata)
    return buffer.getvalue()


def _predictor() -> Predictor:
    return predictor("cp {input} {output}", inputs={"text": str}, outputs={"text": str})


def _layers(store: Store, body: bytes) -> list[tuple[str, Layer]]:
    with store.transaction() as group:
        large = bytes(range(256)) * 12_000
        first = Layer([directory("opt"), file("opt/large", group.add_bytes(large), len(large))])
        second = Layer([file("word", group.add_bytes(body or b"word\n"), len(body or b"word\n"))])
    return [("apt bookworm libexample++6", first), ("run pip install other", second)]


def _pins(store: Store, step: Step) -> tuple[Pin, ...]:
    """Make pins of what a step may come to; the bytes are in the store."""
    with store.transaction() as group:

        def pin(name: str, data: bytes = b"", **hashed: object) -> Pin:
            data = data or f"the bytes of {name}".encode()
            return Pin(name, len(data), group.add_bytes(data), hashed)

        if step.kind == "oci":
            kinds = {MANIFEST: "manifest", CONFIG: "config", "layer 1": "layer"}
            return tuple(pin(name, mediaType=kind) for name, kind in kinds.items())
        if step.kind == "apt":
            deb = "libexample++6_1%3a2.0+b1_amd64.deb"
            return (pin(deb, package="libexample++6", version="1:2.0+b1", arch="amd64"),)
        if step.kind == "wheels":
            return (
                pin("Example_Lib-1.0.tar.gz", package="example-lib", version="1.0"),
                pin("tool-1.0-py3-none-any.whl", package="tool", version="1.0", builds=["x.tar.gz"]),
                pin("dep-1.0-py3-none-any.whl", wheel("dep", "MIT"), package="dep", version="1.0"),
            )
        if step.kind == "hub":
            return (pin("config.json", etag="1" * 40), pin("sub/model.bin", etag="2" * 64))
        if step.kind == "git":
            bodies = [group.add_bytes(text) for text in (b"one\n", b"two\n")]
            entries = [file(f"file{number}", body, 4) for number, body in enumerate(bodies)]
            return (pin("tree", Layer(entries).listing),)
        if step.kind == "run":
            names = ("GET https://index.example/other/", "GET https://f.example/other-1.0-py3-none-any.whl")
            return tuple(pin(name, status=200, headers={}) for name in names)
        return (pin("weights.bin"),) if step.is_source else ()


def digest_of(text: str) -> Digest:
    """Give a digest that stands for something."""
    return Digest.of(text.encode())
