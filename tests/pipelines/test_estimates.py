"""Test estimates of durations from measurements on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from event_text import events_of

import headstart
from headstart.backbones import latency
from headstart.pipelines import backbone_bench
from headstart.utils.system import cache_root


@pytest.fixture
def slow_machine() -> object:
    """Store the measurement of a very slow machine, and remove it afterwards."""
    result = latency.BenchResult("efficientnet_lite0", 224, 8, 2, 5.0, 2.0, "onnx", step_s={"stage7": 0.25})
    latency.save_bench(result)
    yield result
    (cache_root() / "backbone_bench.json").unlink()


def test_durations_follow_measured_rates(slow_machine: object) -> None:
    assert latency.scanning_s("EfficientNet-Lite0", 224, 50) == 10.0
    assert latency.training_s("efficientnet_lite0", 224, "stage7", 40) == 10.0
    assert latency.scanning_s("efficientnet_lite0", 96, 50) is None
    assert latency.training_s("efficientnet_lite0", 224, "stage3", 40) is None
    assert latency.scanning_s("resnet50", 224, 50) is None


def test_train_estimates_feature_extraction(
    slow_machine: object, make_images: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_images(tmp_path / "d", {"stripes": 10, "discs": 10}, first_seed=700)
    first = headstart.train(data, out=tmp_path / "one", cache=False)
    (started,) = [e for e in events_of(first.folder, "stage_started") if e["stage"] == "features"]
    assert started["evidence"]["expected_seconds"] == pytest.approx(4.0)


def test_unwritable_measurement_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "file" / "cache"))
    result = latency.BenchResult("efficientnet_lite0", 224, 8, 2, 5.0, 2.0, "onnx")
    monkeypatch.setattr(backbone_bench, "_bench_one", lambda *_: result)
    lines: list[str] = []
    assert backbone_bench.bench(["efficientnet_lite0"], say=lines.append) == [result]
    assert "cannot save" in lines[-1]
