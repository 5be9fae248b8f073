"""Test the synthetic demo dataset: unique cells, matching boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.api.demo import write_synthetic_boxes
from headstart.cli.main import main
from headstart.data.boxes.reader import read_boxes
from headstart.quality.box_inspection import inspect_box_dataset


def test_synthetic_dataset_has_no_findings(tmp_path: Path) -> None:
    made = write_synthetic_boxes(tmp_path, count=20)
    read = read_boxes(tmp_path)
    assert read.class_names == ("monocrystalline", "polycrystalline")
    assert not read.problems
    for drawn, loaded in zip(made.boxes, read.boxes, strict=True):
        np.testing.assert_array_equal(drawn.xyxy, loaded.xyxy)
        assert [made.class_names[k] for k in drawn.class_ids] == [read.class_names[k] for k in loaded.class_ids]
    assert [i for i, b in enumerate(made.boxes) if not len(b)] == [9, 19]
    report = inspect_box_dataset(read)
    assert not report.images.duplicates
    assert not report.images.near_duplicates


def test_boxes_match_cells(tmp_path: Path) -> None:
    made = write_synthetic_boxes(tmp_path, count=8)
    inside, outside = [], []
    for path, boxes in zip(made.paths, made.boxes, strict=True):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"), dtype=np.float64)
        detail = np.abs(np.diff(pixels, axis=1))[:, :255]
        mask = np.zeros(detail.shape, dtype=bool)
        for x0, y0, x1, y1 in boxes.xyxy.astype(int):
            mask[y0:y1, x0:x1] = True
        inside.append(detail[mask].mean())
        outside.append(detail[~mask].mean())
    assert np.mean(inside) > 4 * np.mean(outside)  # only the background is blurred


def test_seed_determines_images(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_synthetic_boxes(tmp_path / name, count=3, seed=seed)
    first, same, other = ((tmp_path / n / "JPEGImages" / "0001.jpg").read_bytes() for n in "abc")
    assert first == same
    assert first != other


def test_unknown_demo_task_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--task", "segment"])
    assert stop.value.code == 2
    assert "no demo" in capsys.readouterr().err
