"""Test that written boxes are read back within half a pixel, with classes and splits."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from box_folders import box_samples
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.boxes.draft import class_label
from headstart.data.boxes.reader import find_format, read_boxes
from headstart.data.boxes.records import Boxes
from headstart.data.boxes.writers import write_boxes
from headstart.errors import UsageError

FORMATS = ("voc", "coco", "yolo", "csv")
SIZES = ((37, 91), (160, 120), (501, 333))

names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Co")), min_size=1, max_size=12)
class_names = st.lists(names.map(class_label).filter(bool), min_size=1, max_size=4, unique=True)


@st.composite
def drawn_boxes(draw: st.DrawFn, size: tuple[int, int], num_classes: int) -> Boxes:
    """Return boxes within an image, thin ones too (never below 2 pixels both ways), no two alike after rounding."""
    width, height = size
    corners = draw(st.lists(st.tuples(st.integers(0, width - 3), st.integers(0, height - 3)), max_size=5, unique=True))
    xyxy = []
    for x, y in corners:
        part = [draw(st.floats(0.0, 0.4)) for _ in range(4)]
        right = x + 0.5 + draw(st.floats(0.0, width - x - 1.0))
        bottom = y + 3.0 + draw(st.floats(0.0, height - y - 1.0))
        xyxy.append((x + part[0], y + part[1], min(right + part[2], width), min(bottom + part[3], height)))
    return Boxes.of(xyxy, [draw(st.integers(0, num_classes - 1)) for _ in xyxy])


@st.composite
def data_sets(draw: st.DrawFn) -> tuple[list[tuple[str, tuple[int, int], Boxes, str]], list[str]]:
    labels = draw(class_names)
    splits = draw(st.sampled_from([("", ""), ("train", "test"), ("train", "val")]))
    images = []
    for i, size in enumerate(SIZES):
        name = ("a b/", "images/", "")[i] + f"p {i}.png"
        images.append((name, size, draw(drawn_boxes(size, len(labels))), splits[i % 2]))
    if not any(len(b) for _, _, b, _ in images):
        images[0] = (*images[0][:2], Boxes.of([[1, 2, 30, 40]], [0]), images[0][3])
    return images, labels


@pytest.mark.parametrize("to", FORMATS)
@settings(max_examples=8)
@given(data=data_sets())
def test_round_trip(to: str, data: tuple[list[tuple[str, tuple[int, int], Boxes, str]], list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        samples = box_samples(Path(folder), *data)
        write_boxes(samples, Path(folder), to)
        assert find_format(folder) == to
        back = read_boxes(folder)
        assert not [p for p in back.problems if p.kind != "unused-class"]
        order = {name: i for i, name in enumerate(samples.names)}
        assert sorted(back.names) == sorted(samples.names)
        for name, path, boxes, size, split in zip(
            back.names, back.paths, back.boxes, back.sizes_hw, back.split, strict=True
        ):
            i = order[name]
            assert path == samples.paths[i].resolve() or path == samples.paths[i]
            assert tuple(size) == tuple(samples.sizes_hw[i])
            assert split == samples.split[i]
            np.testing.assert_allclose(boxes.xyxy, samples.boxes[i].xyxy, atol=0.5 + 1e-3)
            ours = [samples.class_names[k] for k in samples.boxes[i].class_ids]
            assert [back.class_names[k] for k in boxes.class_ids] == ours


def test_objects_that_must_not_count_are_kept_except_by_yolo(tmp_path: Path) -> None:
    boxes = Boxes.of([[1, 1, 40, 40], [5, 5, 90, 70]], [0, 0], [False, True])
    for to in FORMATS:
        folder = tmp_path / to
        samples = box_samples(folder, [("a.png", (100, 80), boxes, "")], ["x"])
        write_boxes(samples, folder, to)
        back = read_boxes(folder)
        assert back.boxes[0].is_crowd.tolist() == ([False] if to == "yolo" else [False, True])


@pytest.mark.parametrize("to", ["voc", "yolo"])
def test_two_images_sharing_a_file_raise(tmp_path: Path, to: str) -> None:
    boxes = Boxes.of([[1, 1, 40, 40]], [0])
    images = [("a.png", (100, 80), boxes, ""), ("a.jpg", (100, 80), boxes, "")]
    samples = box_samples(tmp_path, images, ["x"])
    with pytest.raises(UsageError, match="share the file"):
        write_boxes(samples, tmp_path, to)


def test_unknown_format_raises(tmp_path: Path) -> None:
    samples = box_samples(tmp_path, [("a.png", (100, 80), Boxes.of([[1, 1, 40, 40]], [0]), "")], ["x"])
    with pytest.raises(UsageError, match="tfrecord"):
        write_boxes(samples, tmp_path, "tfrecord")
