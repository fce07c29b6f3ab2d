"""Values: what they share with frozen dataclasses, and that nothing else is taken."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import pytest

from reprobuild.value import NOTHING, Value, fields, replace


class Point(Value):
    """Two numbers."""

    x: int
    y: int = 0


class Spot(Value):
    """As ``Point``, and yet not one."""

    x: int
    y: int = 0


class Named(Point, kw_only=True):
    """A point with a name."""

    name: str
    more: Mapping[str, int] = NOTHING


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param(Point(1), "Point(x=1, y=0)", id="default"),
        pytest.param(Point(1, 2), "Point(x=1, y=2)", id="in order"),
        pytest.param(Point(y=2, x=1), "Point(x=1, y=2)", id="by name"),
        pytest.param(replace(Point(1, 2), y=3), "Point(x=1, y=3)", id="replaced"),
        pytest.param(copy.deepcopy(Point(1, 2)), "Point(x=1, y=2)", id="copied"),
        pytest.param(pickle.loads(pickle.dumps(Point(1, 2))), "Point(x=1, y=2)", id="pickled"),
        pytest.param(
            Named(x=1, name="a", more={"b": 2}), "Named(x=1, y=0, name='a', more={'b': 2})", id="inherited"
        ),
    ],
)
def test_a_value_has_its_fields(value: Value, shown: str) -> None:
    assert repr(value) == shown
    assert type(value)(**fields(value)) == value


def test_equal_values_have_equal_types_and_fields() -> None:
    assert Point(1, 2) == Point(1, 2)
    assert hash(Point(1, 2)) == hash(Point(1, 2))
    assert Point(1, 2) != Point(1, 3)
    assert Point(1, 2) != Spot(1, 2)
    assert Named(x=1, name="a") != Point(1)


@pytest.mark.parametrize(
    ("kind", "values", "named", "message"),
    [
        pytest.param(Point, (), {}, "lacks x", id="too few"),
        pytest.param(Point, (1, 2, 3), {}, "given 3 values", id="too many"),
        pytest.param(Point, (1,), {"x": 1}, "x twice", id="twice"),
        pytest.param(Point, (1,), {"z": 1}, "no field 'z'", id="unknown"),
        pytest.param(Named, (1,), {"name": "a"}, "given 1 values without a name", id="by name alone"),
    ],
)
def test_what_does_not_fit_the_fields_is_refused(
    kind: type[Value], values: tuple[Any, ...], named: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        kind(*values, **named)


def test_a_value_does_not_change() -> None:
    point: Any = Point(1, 2)
    with pytest.raises(AttributeError):
        point.x = 3
    with pytest.raises(AttributeError):
        del point.x
    assert point == Point(1, 2)


def test_values_are_matched_by_position() -> None:
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)
