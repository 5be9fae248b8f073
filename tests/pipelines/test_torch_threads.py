"""Test that the wait policy of OpenMP threads is set before torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

WATCH = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("loading torch with", os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Watch())
import headstart
"""


def _draw_boxes(folder: Path) -> None:
    """Write six images and a table with their boxes."""
    folder.mkdir()
    rows = ["image,label,xmin,ymin,xmax,ymax"]
    for i in range(6):
        noise = np.random.default_rng(i).integers(0, 255, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        rows.append(f"{i}.png,x,4,4,40,40")
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    "call",
    [
        "headstart.train('photos', strategy='finetune')",
        "headstart.train('boxes', task='detect')",
        "headstart.resume('nowhere')",
    ],
)
@pytest.mark.parametrize(("given", "there"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_torch_threads_wait_passively(call: str, given: str | None, there: str, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    (tmp_path / "photos").mkdir()
    _draw_boxes(tmp_path / "boxes")
    done = subprocess.run(
        [sys.executable, "-c", WATCH + call], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert f"loading torch with {there}" in done.stdout, done.stderr
