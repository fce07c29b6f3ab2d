"""Devices of a call: which there are, whether they compute alike, what a command is told of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from reprobuild.derivation.predictors import Predictor, predictor
from reprobuild.engine.protocol import Engine, Gpu
from reprobuild.errors import EngineError, UsageError
from reprobuild.predict.parameters import (
    check_device,
    command_devices,
    driver_of,
    fill_command,
    split_devices,
)

FIELDS: dict[str, Any] = {"inputs": {"text": str}, "outputs": {"text": str}}
PLAIN = predictor("run {input} {output} {device}", **FIELDS)
CUDA = predictor("run {input} {output} {device}", **FIELDS, cuda=True)


@dataclass
class Equipped:
    """An engine that can only tell of its GPUs."""

    capabilities: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)

    def gpu(self, number: str) -> Gpu:
        self.asked.append(number)
        if int(number) >= len(self.capabilities):
            raise EngineError(f"there is no GPU {number} here")
        return Gpu(number, self.capabilities[int(number)], "a GPU", f"GPU-{number}", "550.54.15")


def checked(device: str, *capabilities: str, of: Predictor = CUDA) -> str:
    return check_device(of, device, lambda: cast("Engine", Equipped(capabilities)))


@pytest.mark.parametrize("device", ["cpu", "-1"])
def test_no_engine_is_asked_for_the_cpu(device: str) -> None:
    def engine() -> Engine:
        raise AssertionError("an engine was asked for")

    for of in (PLAIN, CUDA):
        assert check_device(of, device, engine) == f"cpu:{os.uname().machine}"
    assert driver_of(device, engine) == ""
    assert command_devices(device) == ()


def test_a_gpus_class_is_what_it_can() -> None:
    assert checked("0", "9.0") == "cuda:9.0"
    assert checked("1", "9.0", "8.6") == "cuda:8.6"
    assert checked("0,2", "9.0", "8.6", "9.0") == "cuda:9.0"
    assert driver_of("0", lambda: cast("Engine", Equipped(("9.0",)))) == "550.54.15"


def test_gpus_that_would_not_compute_alike_are_not_mixed() -> None:
    with pytest.raises(UsageError, match=r"0 is cuda:9.0, 1 is cuda:8.6"):
        checked("0,1", "9.0", "8.6")


@pytest.mark.parametrize(
    "device", ["", "gpu", "cuda:0", "-2", "0,", "0;1", "1.0", "0,cpu", "-1,0", "٣", "00000"]
)
def test_what_is_no_device_is_said(device: str) -> None:
    with pytest.raises(UsageError, match="there is no device"):
        checked(device, "9.0")


def test_a_gpu_that_is_named_twice_is_said() -> None:
    with pytest.raises(UsageError, match="name one twice"):
        split_devices("0,1,00")
    assert split_devices("0,1,02") == ("0", "1", "2")


def test_where_there_is_no_gpu_that_is_something_outside() -> None:
    with pytest.raises(EngineError) as raised:
        checked("3", "9.0")
    assert raised.value.exit_code == 5


def test_a_predictor_without_a_gpu_is_given_none() -> None:
    with pytest.raises(UsageError, match="does not use a GPU"):
        checked("0", "9.0", of=PLAIN)


@pytest.mark.parametrize(("device", "told"), [("cpu", "-1"), ("-1", "-1"), ("0", "0"), ("5", "0")])
def test_a_command_counts_the_gpus_that_it_sees(device: str, told: str) -> None:
    filled = fill_command(CUDA, {}, source="/in", destination="/out", device=device)
    assert filled == f"run /in /out {told}"
    assert command_devices(device) == (() if told == "-1" else (device,))
