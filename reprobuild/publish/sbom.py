"""What is in an image, as a CycloneDX 1.6 bill of materials: each package and source of its lock.

Knows no more than the lock does: of a base image it says which one it is, not what is in it. The same for the
same derivation: the serial number is made from the input hash, the time is the normal one.
"""

from __future__ import annotations

import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.parser import BytesHeaderParser
from typing import BinaryIO

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import License, LicenseExpression
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from reprobuild import __version__
from reprobuild.build.image import Realised
from reprobuild.derivation.world import MANIFEST
from reprobuild.digest import Digest
from reprobuild.publish.materials import Material
from reprobuild.tree import NORMAL_TIME

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:reprobuild:sbom:1")
"""Below which serial numbers are made from input hashes."""
LARGEST_METADATA = 1024 * 1024
"""Bytes of a wheel's METADATA that are read for its licence."""

OpenSource = Callable[[Digest], BinaryIO | None]
"""Opens a pinned file; None where it is not at hand."""


def sbom(
    realised: Realised,
    materials: Iterable[Material],
    *,
    manifest: Digest,
    platform: str,
    open_source: OpenSource,
) -> bytes:
    """Give the bill of an image; ``manifest``: of the image as it is published.

    ``open_source``: where wheels that are at hand say which licence they have.
    """
    image = Component(
        name=realised.recipe,
        version=f"{realised.version}-{realised.input_hash.short}",
        type=ComponentType.CONTAINER,
        bom_ref=str(realised.image_id),
        purl=PackageURL("oci", None, realised.recipe, str(manifest)),
        properties=[
            Property(name="reprobuild:image-id", value=str(realised.image_id)),
            Property(name="reprobuild:input-hash", value=str(realised.input_hash)),
            Property(name="reprobuild:platform", value=platform),
        ],
    )
    tool = Component(name="reprobuild", version=__version__, type=ComponentType.APPLICATION)
    bill = Bom(
        serial_number=uuid.uuid5(NAMESPACE, str(realised.input_hash)),
        metadata=BomMetaData(
            component=image,
            timestamp=datetime.fromtimestamp(NORMAL_TIME, UTC),
            tools=ToolRepository(components=[tool]),
        ),
        components=_components(materials, open_source),
    )
    bill.register_dependency(image, bill.components)
    return JsonV1Dot6(bill).output_as_string().encode()


def _components(materials: Iterable[Material], open_source: OpenSource) -> list[Component]:
    """Give a component for each package and each file; files of one package are inside it."""
    found: dict[str, Component] = {}
    for one in materials:
        if one.package is None:
            key = f"{one.uri}#{one.pin.sha256.hex}"
            found.setdefault(key, _file(one, key))
        elif _is_one_file(one):
            key = f"{one.package}#{one.pin.sha256.hex}"
            found.setdefault(key, _package(one, key, open_source))
        else:
            key = str(one.package)
            whole = found.setdefault(key, _group(one, key))
            if not one.commit:
                whole.components.add(_file(one, f"{key}#{one.pin.name}"))
            if one.pin.name == MANIFEST:
                whole.hashes.add(_hash(one.pin.sha256))
    return list(found.values())


def _is_one_file(one: Material) -> bool:
    """Tell whether a package is one file, as those of Debian and Python are."""
    return one.package is not None and one.package.type in ("deb", "pypi")


def _package(one: Material, reference: str, open_source: OpenSource) -> Component:
    assert one.package is not None
    said = one.pin.hashed
    is_needed = "builds" not in said or said.get("placed")
    return Component(
        name=one.package.name,
        version=one.package.version,
        type=ComponentType.LIBRARY,
        bom_ref=reference,
        purl=one.package,
        hashes=[_hash(one.pin.sha256)],
        licenses=_licences(one.licence or _licence_of_wheel(one, open_source)),
        scope=ComponentScope.REQUIRED if is_needed else ComponentScope.EXCLUDED,
        properties=_properties(one),
    )


def _group(one: Material, reference: str) -> Component:
    """Give the component of a repository's revision, a commit, or a base image."""
    assert one.package is not None
    types = {"huggingface": ComponentType.MACHINE_LEARNING_MODEL, "oci": ComponentType.CONTAINER}
    tree = [Property(name="reprobuild:tree", value=str(one.pin.sha256))] if one.commit else []
    return Component(
        name=one.package.name,
        group=one.package.namespace,
        version=one.package.version,
        type=types.get(one.package.type, ComponentType.LIBRARY),
        bom_ref=reference,
        purl=one.package,
        licenses=_licences(one.licence),
        properties=[Property(name="reprobuild:source", value=one.source), *tree],
    )


def _file(one: Material, reference: str) -> Component:
    is_address = one.uri.startswith(("http://", "https://"))
    where = ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(one.uri))
    return Component(
        name=one.pin.name,
        type=ComponentType.FILE,
        bom_ref=reference,
        hashes=[_hash(one.pin.sha256)],
        licenses=_licences(one.licence) if one.package is None else (),
        external_references=[where] if is_address else (),
        properties=_properties(one),
    )


def _properties(one: Material) -> list[Property]:
    return [
        Property(name="reprobuild:size", value=str(one.pin.size)),
        Property(name="reprobuild:source", value=one.source),
    ]


def _hash(digest: Digest) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest.hex)


def _licences(text: str) -> list[License]:
    return [LicenseFactory().make_from_string(text)] if text else []


def _licence_of_wheel(one: Material, open_source: OpenSource) -> str:
    """Give the SPDX expression that a wheel has (PEP 639), or ``""``: free texts say too little."""
    if not one.pin.name.endswith(".whl"):
        return ""
    file = open_source(one.pin.sha256)
    if file is None:
        return ""
    with file:
        try:
            with zipfile.ZipFile(file) as wheel:
                name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
                with wheel.open(name) as metadata:
                    said = BytesHeaderParser().parsebytes(metadata.read(LARGEST_METADATA))
        except (StopIteration, zipfile.BadZipFile, OSError, ValueError, zlib.error, NotImplementedError):
            return ""
    text = str(said.get("License-Expression") or said.get("License") or "").strip()
    licence = LicenseFactory().make_from_string(text) if text else None
    is_spdx = isinstance(licence, LicenseExpression) or bool(getattr(licence, "id", None))
    return text if is_spdx else ""
