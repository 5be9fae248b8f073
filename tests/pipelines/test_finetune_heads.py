"""Test `--head` and `headstart summary RUN`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headstart
from headstart.errors import SettingError

pytest.importorskip("torch")

from headstart.backbones.classifier_head import HeadSpec, read_head
from headstart.backbones.network_view import show_run


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., Path]) -> Path:
    return make_images(tmp_path_factory.mktemp("few"), {"stripes": 10, "discs": 10})


def bundle_info(run: headstart.Run) -> dict[str, Any]:
    info: dict[str, Any] = json.loads((run.folder / "bundle" / "bundle.json").read_text(encoding="utf-8"))
    return info


@pytest.mark.long
def test_described_head_is_trained_exported_and_shown(few: Path, tmp_path: Path) -> None:
    run = headstart.train(
        few,
        out=tmp_path / "run",
        strategy="head",
        head="hidden=16,dropout=0.5,pool=max",
        epochs=6,
        num_views=1,
        image_size=64,
        num_threads=1,
    )
    assert run.metrics["parity"]["label_agreement"] == 1.0
    assert run.metrics["finetune"]["plan"]["head"] == str(HeadSpec(pool="max", hidden=(16,), dropout=0.5))
    info = bundle_info(run)
    assert info["freeze"] == "all"
    assert read_head(info["head_spec"]) == read_head("hidden=16,dropout=0.5,pool=max")
    text = show_run(run.folder, depth="block").text
    assert "head.hidden.0" in text
    assert "Dropout" in text
    trained = (1280 + 1) * 16 + (16 + 1) * 2
    assert f"trainable parameters      {trained:>15,}" in text
    files = [str(p) for p in sorted(few.rglob("*.jpg"))]
    predictions = headstart.predict(run.folder, files)
    assert np.mean([p.label == Path(f).parent.name for p, f in zip(predictions, files, strict=True)]) > 0.8


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["finetune", "full", "scratch"])
def test_described_head_trains_with_stages(strategy: str, few: Path, tmp_path: Path) -> None:
    more = {"train_from": "last", "num_views": 1} if strategy == "finetune" else {}
    spec = "hidden=16,batch_norm=true,pool=flatten"
    run = headstart.train(
        few, out=tmp_path / "run", strategy=strategy, head=spec, epochs=2, image_size=64, num_threads=1, **more
    )
    assert run.metrics["parity"]["label_agreement"] == 1.0
    info = bundle_info(run)
    assert info["freeze"] == ("stage7" if strategy == "finetune" else "none")
    text = show_run(run.folder, depth="stage").text
    assert ("frozen: stem, stage1" in text) == (strategy == "finetune")


@pytest.mark.long
def test_parallel_hidden_layers_are_shown(few: Path, tmp_path: Path) -> None:
    run = headstart.train(
        few, out=tmp_path / "run", strategy="head", epochs=2, num_views=1, num_threads=1, finetune={"hidden": "16"}
    )
    assert run.metrics["parity"]["label_agreement"] == 1.0
    assert bundle_info(run)["head_spec"] is None
    text = show_run(run.folder, depth="block").text
    assert "head.hidden.1" in text
    assert f"{(1904 + 1) * 16:,}" in text


def test_head_without_training_is_refused(few: Path) -> None:
    for settings, words in (
        ({"head": "hidden=16"}, "closed form"),
        ({"strategy": "probe", "head": "hidden=16"}, "closed form"),
        ({"budget": "5m", "head": "hidden=16"}, "strategy `auto`"),
        ({"strategy": "head", "head": "hidden=16", "finetune": {"dropout": 0.2}}, "custom head"),
    ):
        with pytest.raises(SettingError, match=words):
            headstart.train(few, **settings)
    with pytest.raises(SettingError, match="hiden"):
        headstart.train(few, strategy="head", head="hiden=16")
