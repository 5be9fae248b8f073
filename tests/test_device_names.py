"""Test device names, with spellings of other tools."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import yaml

from headstart.config.settings import resolve
from headstart.errors import DeviceError, DeviceProblem
from headstart.utils import devices
from headstart.utils.devices import parse_device


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("auto", "auto"), ("cpu", "cpu"), ("CPU", "cpu"), ("cpu:0", "cpu"), ("cuda", "cuda"), ("CUDA", "cuda"),
        ("Cuda:1", "cuda:1"), (" cuda:0 ", "cuda:0"), ("0", "cuda:0"), (0, "cuda:0"), (3, "cuda:3"), ("[0]", None),
        ([0], "cuda:0"), (("1",), "cuda:1"), ("0,", "cuda:0"), ("gpu", "cuda"), ("GPU", "cuda"), ("gpu:1", "cuda:1"),
        ("mps", "mps"), ("MPS:0", "mps"), ("xpu", "xpu"), ("xpu:1", "xpu:1"),
    ],
)  # fmt: skip
def test_device_names_are_normalized(value: object, name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.sys, "platform", "linux")
    if name is None:
        with pytest.raises(DeviceError):
            parse_device(value)
    else:
        assert parse_device(value) == name


def test_gpu_is_available_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.sys, "platform", "darwin")
    assert parse_device("gpu") == "mps"
    assert parse_device(0) == "cuda:0"


def test_torch_device_is_accepted() -> None:
    torch = pytest.importorskip("torch")
    assert parse_device(torch.device("cuda", 1)) == "cuda:1"
    assert parse_device(torch.device("cpu")) == "cpu"


@pytest.mark.parametrize("value", ["0,1", "0, 1", [0, 1], (0, 1), "cuda:0,1", "cuda:0,cuda:1", ["cpu", 0]])
def test_several_devices_raise(value: object) -> None:
    with pytest.raises(DeviceError) as caught:
        parse_device(value)
    assert caught.value.problem is DeviceProblem.SEVERAL
    assert len(caught.value.device) == 2
    assert caught.value.exit_code == 2
    assert "--device 0" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "value", ["", "foo", "tpu", "meta", "auto:0", "mps:1", "cuda:", "cuda:x", "cuda:-1", -1, "-1", 1.5, True, [], "0x1"]
)
def test_unknown_device_raises(value: object) -> None:
    with pytest.raises(DeviceError) as caught:
        parse_device(value)
    assert caught.value.problem is DeviceProblem.UNKNOWN


def test_error_can_be_pickled() -> None:
    error = DeviceError(DeviceProblem.SEVERAL, "message", "hint", device=("0", "1"))
    again = pickle.loads(pickle.dumps(error))
    assert (again.problem, again.message, again.hint, again.device) == ("several", "message", "hint", ("0", "1"))


@pytest.mark.parametrize(
    ("given", "overrides"), [({"device": 0}, []), ({"device": "0"}, []), ({}, ["device=0"]), ({"device": "CUDA:0"}, [])]
)
def test_setting_is_normalized_name(given: dict[str, Any], overrides: list[str]) -> None:
    resolved = resolve({"data": "photos", **given}, overrides=overrides)
    assert resolved.settings.device == "cuda:0"
    assert yaml.safe_load(resolved.to_yaml())["device"]["value"] == "cuda:0"


def test_several_devices_in_setting_raise() -> None:
    with pytest.raises(DeviceError) as caught:
        resolve({"data": "photos"}, overrides=["device=0,1"])
    assert caught.value.problem is DeviceProblem.SEVERAL
