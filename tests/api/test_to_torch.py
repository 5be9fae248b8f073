"""Test that `run.to_torch()` computes the outputs of the bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import headstart

torch = pytest.importorskip("torch")

TINY: dict[str, Any] = {"backbone": "timm:resnet10t", "weights": "none", "image_size": 64, "num_threads": 1}


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "probe"},
        pytest.param({"strategy": "head", "epochs": 1, "num_views": 1}, marks=pytest.mark.long),
        pytest.param(
            {"strategy": "head", "head": "hidden=8,pool=max", "epochs": 1, "num_views": 1}, marks=pytest.mark.long
        ),
        {"strategy": "finetune", "train_from": "last", "epochs": 1, "num_views": 1},
        pytest.param({"strategy": "full", "epochs": 1}, marks=pytest.mark.long),
        pytest.param({"strategy": "scratch", "epochs": 1}, marks=pytest.mark.long),
    ],
    ids=["probe", "head", "custom_head", "finetune", "full", "scratch"],
)
def test_classifiers(settings: dict[str, Any], make_images: Callable[..., Path], tmp_path: Path) -> None:
    data = make_images(tmp_path / "data", {"stripes": 8, "discs": 8})
    check(headstart.train(data, out=tmp_path / "run", **TINY, **settings))


@pytest.mark.long
def test_detectors(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows = ["image,label,xmin,ymin,xmax,ymax"]
    for i in range(12):
        pixels = np.random.default_rng(i).integers(60, 120, (60, 90, 3)).astype(np.uint8)
        x, y, side = 5 + i, 3 + i, 20 + i
        pixels[y : y + side, x : x + side] = (230, 40, 40) if i % 2 else (40, 40, 230)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{i}.png")
        rows.append(f"{i}.png,{'red' if i % 2 else 'blue'},{x},{y},{x + side},{y + side}")
    (tmp_path / "data" / "boxes.csv").write_text("\n".join(rows), encoding="utf-8")
    small = {"fpn_channels": 16, "head_depth": 1, "min_stride": 16}
    settings = {"strategy": "head", "epochs": 1, "num_views": 1, "detect": small}
    check(headstart.train(tmp_path / "data", out=tmp_path / "run", **TINY, **settings))


def check(run: headstart.Run) -> None:
    """Compare all outputs of the module with those of the bundle, and let every weight of it train."""
    bundle = run.model.runtime.bundle
    pixels = np.random.default_rng(0).normal(size=(3, 3, *bundle.spec.size_hw)).astype(np.float32)
    module = run.to_torch()
    outputs = module(torch.from_numpy(pixels))
    expected = run.model.runtime.session(1, ()).run(list(module.output_names), {"pixels": pixels})
    for ours, theirs in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-4, atol=1e-4)
    outputs[0].square().mean().backward()
    assert sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters()) > 4
    assert isinstance(module, torch.nn.Module)
    assert not module.training
