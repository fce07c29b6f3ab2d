from __future__ import annotations

import pytest

from reprobuild import load
from reprobuild.errors import EngineError, PredictionFailedError


def test_without_a_gpu_it_says_that_it_needs_one() -> None:
    with pytest.raises(PredictionFailedError, match="needs a GPU, and was given the CPU"):
        load("cuda-smoke").predict(numbers=[1])


def test_a_gpu_squares_numbers() -> None:
    try:
        model = load("cuda-smoke", device=0, cache="off")
    except EngineError as error:
        pytest.skip(error.message)
    items = [{"numbers": numbers} for numbers in ([1, -2, 3], [], list(range(1000)), [94906265])]
    assert model.predict_batch(items) == [[number * number for number in one["numbers"]] for one in items]
