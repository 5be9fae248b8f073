"""Test the automatic choice of the resize mode and its selection-bias correction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import headstart
from headstart.errors import SettingError


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images three times as wide as high whose classes differ at the far ends only."""
    root = tmp_path_factory.mktemp("wide")
    for kind, name in enumerate(("discs", "stripes")):
        (root / name).mkdir()
        for i in range(14):
            rng = np.random.default_rng([kind, i])
            values = np.repeat(rng.uniform(60, 190, (16, 48)), 6, axis=0).repeat(6, axis=1)  # (96, 288)
            y, x = np.mgrid[0:96, 0:80].astype(np.float64)
            if kind:
                end = np.sin(x * rng.uniform(0.5, 0.8) + rng.uniform(0, 6))
            else:
                end = np.where(np.hypot(x - 40, y - 48) < rng.uniform(20, 34), 1.0, -1.0)
            values[:, :80] = values[:, -80:] = 127 + 110 * end
            Image.fromarray(values.astype(np.uint8)).convert("RGB").save(root / name / f"{i:02d}.png")
    return root


def test_auto_keeps_informative_ends(wide: Path, tmp_path: Path) -> None:
    run = headstart.train(wide, resize_mode="auto", out=tmp_path / "auto")
    config = yaml.safe_load((run.folder / "config.resolved.yaml").read_text())
    assert config["resize_mode"]["value"] in ("squash", "pad")
    assert config["resize_mode"]["source"] == "auto"
    losses = config["resize_mode"]["evidence"]["log_loss"]
    assert config["resize_mode"]["value"] == min(losses, key=losses.get)
    bundle = json.loads((run.folder / "bundle" / "bundle.json").read_text())
    assert bundle["pixels"]["resize_mode"] == config["resize_mode"]["value"]
    cropped = headstart.train(wide, out=tmp_path / "crop")
    assert run.metrics["cv"]["accuracy"]["value"] > cropped.metrics["cv"]["accuracy"]["value"]


def test_choice_is_a_candidate_for_bias_correction(wide: Path, tmp_path: Path) -> None:
    """The rejected modes are candidates in the selection-bias correction."""
    run = headstart.train(wide, resize_mode="auto", out=tmp_path / "auto")
    taken = yaml.safe_load((run.folder / "config.resolved.yaml").read_text())["resize_mode"]["value"]
    fixed = headstart.train(wide, resize_mode=taken, out=tmp_path / "fixed")
    assert run.metrics["cv"]["log_loss"] == pytest.approx(fixed.metrics["cv"]["log_loss"])
    chosen, explicit = (r.metrics["cv"]["accuracy"] for r in (run, fixed))
    assert chosen["raw_value"] == explicit["raw_value"]
    assert chosen["value"] <= explicit["value"]


def test_embed_refuses_auto(wide: Path) -> None:
    with pytest.raises(SettingError, match="--resize-mode"):
        headstart.embed(wide, resize_mode="auto")
