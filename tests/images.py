"""A small image with everything in it that a layer can hold, made without recipe and store."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path
from typing import BinaryIO

from reprobuild.digest import Digest
from reprobuild.images.image import Image, LayerReference, make_image, manifest_annotations
from reprobuild.images.tar import write_layer
from reprobuild.tree import Entry, Layer, Tree, difference, directory, file, link


class Sample:
    """An image, its layers by their digest, its bodies, and the tree that comes of it."""

    def __init__(self, *trees: Tree, bodies: dict[Digest, bytes], **changes: object) -> None:
        self.bodies = bodies
        self.tree = trees[-1]
        self.layers: dict[Digest, Layer] = {}
        references = []
        below = Tree()
        for number, tree in enumerate(trees):
            layer = difference(below, tree)
            diff_id, size = write_layer(layer, self.open_blob)
            references.append(LayerReference(layer.digest, diff_id, size, f"step {number}"))
            self.layers[layer.digest] = layer
            below = tree
        self.image: Image = make_image(
            references,
            platform="linux/amd64",
            env={"PATH": "/usr/bin", "HOME": "/root", "TZ": "UTC", "WITH": 'a "quoted" = value'},
            workdir="/app",
            predictors={"default": {"command": "cat {input} > {output}"}},
            annotations=manifest_annotations(name="sample", version="1.0", input_hash=Digest.of(b"sample")),
        )

    def read_layer(self, reference: LayerReference) -> Layer:
        return self.layers[reference.layer_digest]

    def open_blob(self, digest: Digest) -> BinaryIO:
        return io.BytesIO(self.bodies[digest])


CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
"""``cap_net_raw=ep``: linux/capability.h, revision 2."""


def sample_image(programs: tuple[str, ...] = ()) -> Sample:
    """Make the image; ``programs`` of this machine are in it, with the libraries that they need."""
    bodies: dict[Digest, bytes] = {}

    def body(path: str, data: bytes, mode: int = 0o644, uid: int = 0) -> Entry:
        digest = Digest.of(data)
        bodies[digest] = data
        return file(path, digest, len(data), mode, uid, uid)

    lowest = {entry.path: entry for entry in (directory("usr"), directory("usr/bin"), link("bin", "usr/bin"))}
    for name in programs:
        found = Path("/usr/bin", name)
        lowest[f"usr/bin/{name}"] = body(f"usr/bin/{name}", found.read_bytes(), 0o755)
        listed = subprocess.run(["ldd", str(found)], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"(/\S+) \(0x", listed):
            path = library.lstrip("/")
            lowest[path] = body(path, Path(library).read_bytes(), 0o755)
            while path := path.rpartition("/")[0]:
                lowest.setdefault(path, directory(path))

    middle = lowest | {
        entry.path: entry
        for entry in (
            directory("app"),
            body("app/changed", b"old"),
            body("app/gone", b"gone"),
            directory("app/folder"),
            body("app/folder/file", b"in a folder that goes"),
            directory("app/becomes-a-file"),
            body("app/becomes-a-file/x", b"x"),
            body("app/becomes-a-folder", b"a file first"),
            directory("home", 0o755, 0, 0),
            directory("home/user", 0o750, 1000, 1000),
            body("home/user/own", b"own", 0o600, 1000),
            directory("scratch", 0o1777),
            body("app/setuid", b"#!", 0o4755),
            body("app/secret", b"nobody", 0),
            body("app/ping", b"ping", 0o755)._replace(capability=CAPABILITY),
            body("app/empty", b""),
            body("app/large", bytes(range(256)) * 4096),
            body("app/grüße", "grüße".encode()),
            body("app/" + "n" * 200, b"a long name"),
            directory("app/" + "d" * 120),
            body("app/" + "d" * 120 + "/" + "e" * 90, b"a long path"),
            link("app/link", "grüße"),
            link("app/far", "../" * 60 + "app/empty"),
            link("app/dangling", "/nowhere"),
        )
    }
    upper = dict(middle)
    for path in ("app/gone", "app/folder", "app/folder/file", "app/becomes-a-file/x"):
        del upper[path]
    for entry in (
        body("app/changed", b"new", 0o755),
        body("app/becomes-a-file", b"a file now"),
        directory("app/becomes-a-folder"),
        body("app/becomes-a-folder/y", b"y"),
    ):
        upper[entry.path] = entry
    return Sample(Tree(lowest.values()), Tree(middle.values()), Tree(upper.values()), bodies=bodies)


_PRINTED = r"%y %m %U:%G {size} %TY-%Tm-%TdT%TH:%TM:%.2TS %p -> %l\n"
FIND = (
    *("find", "/", "-xdev", "-mindepth", "1"),
    *("-type", "f", "-printf", _PRINTED.format(size="%s"), "-o", "-printf", _PRINTED.format(size="0")),
)
"""A command that prints a line, as ``found_line`` gives it, for each file that there is."""


def found_line(entry: Entry) -> str:
    """Give what FIND says of an entry in normal form."""
    return (
        f"{entry.kind} {entry.mode:o} {entry.uid}:{entry.gid} {entry.size} 1980-01-02T00:00:00 "
        f"/{entry.path} -> {entry.target}"
    )
