from __future__ import annotations

import importlib.util

import pytest

import reprobuild


@pytest.mark.parametrize("name", sorted(reprobuild._HOMES))
def test_a_public_name_is_no_module_that_would_take_its_place(name: str) -> None:
    assert importlib.util.find_spec(f"reprobuild.{name}") is None
    assert callable(getattr(reprobuild, name))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        reprobuild.nonsense  # noqa: B018
