"""Test device lookup and its errors."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

import headstart
from headstart.cli.main import main
from headstart.errors import DeviceError, DeviceProblem
from headstart.features.device_choice import check_device, find_device

torch = pytest.importorskip("torch")


def machine(monkeypatch: pytest.MonkeyPatch, count: int, version: str | None = "13.0") -> None:
    """Give PyTorch a number of CUDA devices and a CUDA version."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.version, "hip", None)


def refused(name: Any) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        find_device(name)
    return caught.value


@pytest.mark.parametrize("name", ["0", 0, "cuda", "CUDA", "gpu", "cuda:7"])
def test_no_cuda_device(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstart.utils.devices.sys.platform", "linux")
    machine(monkeypatch, 0)
    error = refused(name)
    assert error.problem is DeviceProblem.UNAVAILABLE
    assert "no CUDA GPU" in error.message
    assert "--device cpu" in (error.hint or "")
    assert "auto" in (error.hint or "")


def test_error_names_pytorch_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 0, None)
    error = refused("cuda")
    assert error.problem is DeviceProblem.UNAVAILABLE
    assert "built without CUDA" in error.message


def test_error_has_driver_message(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 0)

    def is_available() -> bool:
        warnings.warn("The NVIDIA driver on your system is too old.\nPlease update it.", UserWarning, stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    assert "driver on your system is too old)" in refused("cuda").message


def test_device_index_out_of_range(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 2)
    error = refused("cuda:2")
    assert error.problem is DeviceProblem.NO_SUCH_INDEX
    assert "2 CUDA GPUs, cuda:0, cuda:1" in error.message


def test_unusable_device(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 1)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: out of memory\nmore")

    monkeypatch.setattr(torch, "zeros", fail)
    assert refused("cuda").problem is DeviceProblem.UNUSABLE


def test_other_kinds_of_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert refused("mps").problem is DeviceProblem.UNAVAILABLE
    assert refused("npu").problem is DeviceProblem.UNAVAILABLE  # a plug-in that is not installed
    assert find_device("auto") == find_device("cpu") == torch.device("cpu")
    check_device("auto")


@pytest.mark.parametrize("settings", [{}, {"strategy": "head"}, {"budget": "1m"}])
def test_training_refuses_device_before_reading(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, 0)
    with pytest.raises(DeviceError) as caught:
        headstart.train(tmp_path / "nothing", task="classify", device=0, out=tmp_path / "run", **settings)
    assert caught.value.problem is DeviceProblem.UNAVAILABLE
    assert not (tmp_path / "run").exists()


def test_embedding_refuses_device_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 0)
    with pytest.raises(DeviceError):
        headstart.embed(tmp_path / "nothing", device="0")


def test_detector_trains_on_cpu_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 0)
    with pytest.raises(DeviceError) as caught:
        headstart.train(tmp_path, task="detect", device=0)
    assert caught.value.problem is DeviceProblem.UNAVAILABLE
    monkeypatch.setattr("headstart.tasks.detect.prepare.check_device", lambda name: None)
    with pytest.raises(DeviceError) as caught:
        headstart.train(tmp_path, task="detect", device=0)
    assert caught.value.problem is DeviceProblem.UNSUPPORTED
    assert "--device cpu" in (caught.value.hint or "")


def test_device_error_has_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, 0)
    with pytest.raises(SystemExit) as stop:
        main(["train", str(tmp_path), "--device", "0"])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "no CUDA GPU" in err
    assert "--device cpu" in err
