"""Which Python a tree has, and where that Python looks for packages.

Knows the layouts of Debian's Python and of the one in python.org's images, and takes any other to
be laid out as Python's own ``sysconfig`` says (scheme ``posix_prefix``). Never runs the interpreter.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import asdict, dataclass

from reprobuild.errors import RecipeError
from reprobuild.tree import Entry, Tree, TreeError

FOLDERS = ("usr/local/bin", "usr/bin")
"""Where interpreters are looked for, in the order of ``PATH``."""

_INTERPRETER = re.compile(r"python(3\.\d+)")


@dataclass(frozen=True, slots=True)
class Python:
    """An interpreter of a tree and its folders, all of them paths in the tree without a leading slash."""

    version: str
    """``3.11``."""
    interpreter: str
    purelib: str
    """Where packages without compiled parts go."""
    platlib: str
    scripts: str
    headers: str
    """The folder that holds one folder for each package with headers."""
    data: str

    @property
    def facts(self) -> dict[str, str]:
        """Give what placing wheels depends on, as a step's facts."""
        return asdict(self)

    @property
    def number(self) -> tuple[int, int]:
        """The version as numbers, for comparing."""
        return version_number(self.version)


def version_number(version: str) -> tuple[int, int]:
    """Give ``(3, 11)`` for ``3.11`` or ``3.11.2``."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def find_python(tree: Tree, wanted: str, where: str) -> Python:
    """Give the Python of a tree: the ``wanted`` version, or for ``""`` the one that ``python3`` means.

    ``where``: the step in the recipe, for errors. Raises RecipeError where there is none, another,
    or more than one and nothing says which.
    """
    found = _interpreters(tree)
    if not found:
        raise RecipeError(
            f"{where}: there is no Python in the image at this step",
            'put a step that brings one before it: apt("bookworm", "python3")',
        )
    if wanted and wanted not in found:
        has = ", ".join(found)
        raise RecipeError(
            f"{where}: wheels for Python {wanted} are asked for, but the image has Python {has} at this step",
            f'write python="{next(iter(found))}", leave python= out, or change the step that brings Python',
        )
    version = wanted or _default(tree, found, where)
    interpreter = found[version]
    prefix = posixpath.dirname(posixpath.dirname(interpreter))
    return _layout(tree, version, interpreter, prefix)


def python_paths(tree: Tree) -> dict[str, Python]:
    """Give each folder that a Python of the tree imports from, with that Python.

    For files that several Pythons import (Debian's ``dist-packages``) it is the newest of them.
    """
    paths: dict[str, Python] = {}
    for version, interpreter in sorted(_interpreters(tree).items(), key=lambda item: version_number(item[0])):
        prefix = posixpath.dirname(posixpath.dirname(interpreter))
        python = _layout(tree, version, interpreter, prefix)
        paths[f"{prefix}/lib/python{version}"] = python
        paths[python.purelib] = python
        paths[python.platlib] = python
        if prefix == "usr":
            paths["usr/lib/python3/dist-packages"] = python
    return paths


def _interpreters(tree: Tree) -> dict[str, str]:
    """Give version → path of each interpreter, the first in ``PATH`` winning."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for entry in _in_folder(tree, folder):
            match = _INTERPRETER.fullmatch(posixpath.basename(entry.path))
            if match and _is_file(tree, entry.path):
                found.setdefault(match[1], f"{folder}/{match[0]}")
    return found


def _in_folder(tree: Tree, folder: str) -> list[Entry]:
    try:
        real = tree.resolve(folder)
    except TreeError:
        return []
    return [entry for entry in tree.below(real) if posixpath.dirname(entry.path) == real]


def _is_file(tree: Tree, path: str) -> bool:
    try:
        entry = tree.get(tree.resolve(path))
    except TreeError:
        return False
    return entry is not None and entry.kind == "f"


def _default(tree: Tree, found: dict[str, str], where: str) -> str:
    """Give the version that ``python3`` means in the tree."""
    for folder in FOLDERS:
        try:
            meant = tree.resolve(f"{folder}/python3")
        except TreeError:
            continue
        match = _INTERPRETER.fullmatch(posixpath.basename(meant))
        if match and match[1] in found:
            return match[1]
    if len(found) == 1:
        return next(iter(found))
    raise RecipeError(
        f"{where}: the image has Python {', '.join(found)}, and nothing says which the wheels are for",
        f'write python="{max(found, key=version_number)}"',
    )


def _layout(tree: Tree, version: str, interpreter: str, prefix: str) -> Python:
    # Debian's python3 (its sysconfig: scheme "posix_local") leaves /usr/lib to dpkg and puts what
    # others install below /usr/local, in dist-packages.
    is_debian = prefix == "usr" and ("var/lib/dpkg" in tree or "etc/debian_version" in tree)
    base = "usr/local" if is_debian else prefix
    packages = "dist-packages" if is_debian else "site-packages"
    purelib = f"{base}/lib/python{version}/{packages}"
    lib64 = tree.get(f"{prefix}/lib64/python{version}")
    # Until 3.7 the names of some folders said that Python's own allocator was used (PEP 3149, "m").
    flags = "m" if not is_debian and version_number(version) < (3, 8) else ""
    has_lib64 = not is_debian and lib64 is not None and lib64.kind == "d"
    return Python(
        version=version,
        interpreter=interpreter,
        purelib=purelib,
        platlib=f"{prefix}/lib64/python{version}/{packages}" if has_lib64 else purelib,
        scripts=f"{base}/bin",
        headers=f"{base}/include/python{version}{flags}",
        data=base,
    )
