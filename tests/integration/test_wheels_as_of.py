"""Wheels as their index stood on a day."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reprobuild.derivation.words import wheels
from reprobuild.errors import RecipeError, UpstreamError
from reprobuild.events import Event, Note
from reprobuild.store.store import Store
from tests.wheel_scene import APP, resolve
from tests.wheels import Index, simple_index

pytestmark = pytest.mark.once

DATES = {
    "dep-1.0-py3-none-any.whl": "2020-05-01T23:59:59Z",
    "dep-2.0-cp311-cp311-manylinux_2_17_x86_64.whl": "2021-05-01T00:00:00Z",
    "dep-2.0-cp311-cp311-win_amd64.whl": "2021-05-01T00:00:00Z",
    "dep-2.0-py3-none-any.whl": "2021-05-01T00:00:00Z",
}


@pytest.fixture
def index() -> Iterator[Index]:
    with simple_index(APP) as served:
        yield served


@pytest.mark.parametrize(
    ("as_of", "version"),
    [
        ("2020-05-01", "1.0"),
        ("2021-04-30", "1.0"),
        ("2021-05-01", "2.0"),
        ("20210430T235959Z", "1.0"),
        ("20210501T000001Z", "2.0"),
    ],
)
def test_as_of_takes_the_versions_of_that_day(store: Store, index: Index, as_of: str, version: str) -> None:
    index.dates.update(DATES)
    [pin] = resolve(wheels("dep", as_of=as_of), store, index.url)
    assert pin.hashed["version"] == version


def test_as_of_before_everything_says_what_is_missing(store: Store, index: Index) -> None:
    index.dates.update(DATES)
    with pytest.raises(RecipeError, match="dep"):
        resolve(wheels("dep", as_of="2019-01-01"), store, index.url)


@pytest.mark.parametrize("is_json", [True, False], ids=["json", "html"])
def test_an_index_without_dates_cannot_answer_as_of(store: Store, is_json: bool) -> None:
    with (
        simple_index(APP, is_json=is_json) as served,
        pytest.raises(UpstreamError, match=r"as_of=2021-01-01 needs to know when files were uploaded"),
    ):
        resolve(wheels("dep", as_of="2021-01-01"), store, served.url)


def test_files_without_a_date_are_left_out_and_named(store: Store, index: Index) -> None:
    index.dates["dep-1.0-py3-none-any.whl"] = DATES["dep-1.0-py3-none-any.whl"]
    told: list[Event] = []
    [pin] = resolve(wheels("dep", as_of="2022-01-01"), store, index.url, told=told)
    assert pin.hashed["version"] == "1.0"
    assert [event.text for event in told if isinstance(event, Note) and "left out" in event.text]
