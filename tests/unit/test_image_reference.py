from __future__ import annotations

import pytest

from reprobuild.derivation.image_reference import LocalReference, RegistryReference, read_reference
from reprobuild.digest import Digest

D = Digest.of(b"manifest")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("python", RegistryReference("docker.io", "library/python", "latest")),
        ("python:3.7-slim", RegistryReference("docker.io", "library/python", "3.7-slim")),
        ("docker.io/python:3", RegistryReference("docker.io", "library/python", "3")),
        ("index.docker.io/a/b:3", RegistryReference("docker.io", "a/b", "3")),
        ("allenai/lerc", RegistryReference("docker.io", "allenai/lerc", "latest")),
        (f"python@{D}", RegistryReference("docker.io", "library/python", "", D)),
        (f"python:3@{D}", RegistryReference("docker.io", "library/python", "3", D)),
        ("registry.test:5000/x:y", RegistryReference("registry.test:5000", "x", "y")),
        ("localhost/x/y__z", RegistryReference("localhost", "x/y__z", "latest")),
        ("[::1]:5000/x", RegistryReference("[::1]:5000", "x", "latest")),
        ("oci-layout:./base", LocalReference("oci-layout", "./base")),
        ("oci-layout:base:1.0", LocalReference("oci-layout", "base", "1.0")),
        (f"oci-archive:base.tar@{D}", LocalReference("oci-archive", "base.tar", str(D))),
        ("docker-archive:./base.tar", LocalReference("docker-archive", "./base.tar")),
        ("docker-archive:base.tar:a/b:1", LocalReference("docker-archive", "base.tar", "a/b:1")),
    ],
)
def test_references_mean_what_they_mean_to_container_engines(text: str, meant: object) -> None:
    assert read_reference(text) == meant


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "an image is needed, as repository:tag"),
        (" ", "an image is needed"),
        ("https://registry.test/x", "no scheme"),
        ("Python", "no name of a repository"),
        ("a//b", "no name of a repository"),
        ("a:b c", "no tag"),
        ("x@sha512:00", "no digest"),
        ("user@registry.test/x", "no digest"),
        ("me:pw@registry.test/x", "no digest"),
        ("../x", "no name of a re"),
        ("oci-layout:/etc", "outside the recipe's folder"),
        ("oci-layout:../base", "outside the recipe's folder"),
        ("docker-archive:", "needs a path"),
        (f"docker-archive:a.tar@{D}", "named by its tag"),
    ],
)
def test_what_is_no_reference_says_why(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_reference(text)
