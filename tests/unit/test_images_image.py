from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, UsageError
from reprobuild.images.image import Config, Image, LayerReference, make_image, manifest_annotations
from tests.golden import assert_golden


def layer(name: str, size: int = 1024) -> LayerReference:
    return LayerReference(Digest.of(b"listing " + name.encode()), Digest.of(name.encode()), size, name)


def image(*layers: LayerReference, **changes: Any) -> Image:
    given: dict[str, Any] = {
        "platform": "linux/amd64",
        "env": {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        "workdir": "/app",
        "predictors": {"default": {"command": "python3 run.py", "inputs": {"text": "str"}}},
    }
    return make_image(layers or (layer("one"), layer("two", 2048)), **(given | changes))


def test_golden_config_and_manifest() -> None:
    annotated = image(
        annotations=manifest_annotations(
            name="tutorial",
            version="1.0",
            input_hash=Digest.of(b"derivation"),
            source="https://example.org/recipes",
            licences=["MIT", "Apache-2.0", "MIT"],
        )
    )
    assert_golden(
        "image-format",
        {
            "config": json.loads(annotated.config),
            "image_id": str(annotated.image_id),
            "manifest": json.loads(annotated.manifest),
            "manifest_digest": str(annotated.manifest_digest),
        },
    )


def test_the_image_id_is_the_digest_of_the_config() -> None:
    assert image().image_id == Digest.of(image().config)


def test_equal_content_has_an_equal_id_whatever_it_is_called() -> None:
    other = image(
        replace(layer("one"), step="another title", layer_digest=Digest.of(b"")),
        layer("two", 2048),
        env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        annotations=manifest_annotations(name="x", version="2", input_hash=Digest.of(b"")),
    )
    assert other.image_id == image().image_id
    assert other.manifest_digest != image().manifest_digest


@pytest.mark.parametrize(
    "changes",
    [
        {"platform": "linux/arm64"},
        {"env": {}},
        {"env": {"PATH": "/usr/bin:/bin", "LANG": "C"}},
        {"workdir": "/"},
        {"predictors": {}},
    ],
    ids=["platform", "no variables", "a variable's value", "workdir", "predictors"],
)
def test_other_content_has_another_id(changes: dict[str, Any]) -> None:
    assert image(**changes).image_id != image().image_id


def test_the_order_of_layers_counts() -> None:
    assert image(layer("one"), layer("two")).image_id != image(layer("two"), layer("one")).image_id


def test_120_layers_fit_and_121_do_not() -> None:
    image(*(layer(str(number)) for number in range(120)))
    with pytest.raises(UsageError, match="the image has 121 layers; container engines stop at 120") as caught:
        image(*(layer(str(number)) for number in range(121)))
    assert caught.value.hint


def test_a_config_that_container_tools_would_not_read_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"config has \d+ bytes") as caught:
        image(predictors={"default": {"examples": ["x" * 4 * 1024 * 1024]}})
    assert "examples" in caught.value.hint


@pytest.mark.parametrize("env", [{"": "x"}, {"A=B": "x"}, {"A": "x\0"}, {"A\0": "x"}])
def test_a_variable_that_no_process_can_have_is_an_error(env: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="environment variable"):
        image(env=env)


def test_an_image_is_made_of_the_layers_that_its_config_names() -> None:
    with pytest.raises(ValueError, match="other layers"):
        Image(image().config, (layer("one"),))


def test_a_layer_reference_survives_a_record() -> None:
    assert LayerReference.from_json(json.loads(json.dumps(layer("one").to_json()))) == layer("one")


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NAMES = TEXTS.filter(lambda name: bool(name) and "=" not in name)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.builds(
        Config,
        platform=st.sampled_from(["linux/amd64", "linux/arm64", "linux/arm64/v8"]),
        env=st.dictionaries(NAMES, TEXTS, max_size=4),
        workdir=TEXTS.map("/".__add__),
        predictors=st.dictionaries(TEXTS, JSON, max_size=3),
        diff_ids=st.lists(st.binary(max_size=1).map(Digest.of), max_size=4).map(tuple),
    )
)
def test_a_config_reads_back(config: Config) -> None:
    assert Config.parse(config.encode()) == config


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        image().config + b"\n",
        image().config.replace(b"1980-01-02", b"2020-01-02"),
        image().config.replace(b"0:0", b"1:1"),
        image().config.replace(b'"Env"', b'"Cmd":[],"Env"'),
    ],
    ids=["empty", "list", "no fields", "no text", "line end", "other time", "other user", "another field"],
)
def test_a_config_that_is_not_ours_is_refused(encoded: bytes) -> None:
    with pytest.raises(CheckFailedError):
        Config.parse(encoded)
