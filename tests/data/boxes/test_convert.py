"""Test `convert`: round trips change no box, class or id; guesses stop it, and what is left out is said."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from box_folders import coco_json, put_image, put_text, voc_xml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import headstart
from headstart.cli.main import main
from headstart.data.boxes.classes import ClassTable, read_class_table
from headstart.data.boxes.draft import class_label
from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.data.boxes.writers import ImageBoxes, coco_results
from headstart.errors import DataError, UsageError
from headstart.types.codes import ReadingKind

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Co", "Cf")), min_size=1, max_size=8)
class_names = st.lists(
    words.map(class_label).filter(lambda name: bool(name) and name.isprintable()), min_size=2, max_size=4, unique=True
)
corners = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 40), st.integers(4, 40), st.integers(4, 40)), min_size=1, max_size=4,
    unique=True,
)  # fmt: skip


def boxes_of(samples: DetectionSamples) -> dict[str, list[tuple[str, tuple[float, ...], bool]]]:
    """Return (class, corners, whether it must not count) by image name without folders."""
    return {
        name.rpartition("/")[2]: sorted(
            (samples.class_names[k], tuple(xyxy.tolist()), bool(c))
            for xyxy, k, c in zip(b.xyxy, b.class_ids, b.is_crowd, strict=True)
        )
        for name, b in zip(samples.names, samples.boxes, strict=True)
    }


@settings(max_examples=12, deadline=None)
@given(names=class_names, first=corners, second=corners, unused=st.booleans())
def test_round_trip_through_all_formats(
    names: list[str], first: list[tuple[int, ...]], second: list[tuple[int, ...]], unused: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        used = names[:-1] if unused else names
        annotations = [
            {"image_id": i, "category_id": 3 * (k % len(used)) + 1, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            for i, boxes in ((1, first), (2, second))
            for k, (x, y, w, h) in enumerate(boxes)
        ]
        images = {1: ("a.png", (100, 80)), 2: ("sub/b.png", (100, 80))}
        for name, size in images.values():
            put_image(root / "0" / name, size, seed=len(name))
        categories = {3 * k + 1: name for k, name in enumerate(names)}
        put_text(root / "0" / "x.json", coco_json(images, annotations, categories))
        before = read_boxes(root / "0")
        for i, to in enumerate(("voc", "coco", "yolo", "csv", "voc"), start=1):
            headstart.convert(root / f"{i - 1}", to=to, out=root / f"{i}", copy_images=True, verbose=False)
        after = read_boxes(root / "5")
        ours, theirs = boxes_of(before), boxes_of(after)
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert [b[0] for b in ours[name]] == [b[0] for b in theirs[name]]
            a, b = ([box[1] for box in found[name]] for found in (ours, theirs))
            np.testing.assert_allclose(a, b, atol=0.5 + 1e-3)


def gap(root: Path) -> Path:
    """Create a YOLO dataset whose second class has no box."""
    put_image(root / "images/a.png")
    put_text(root / "labels/a.txt", "0 0.3 0.5 0.4 0.5\n2 0.7 0.5 0.2 0.25\n")
    put_text(root / "data.yaml", "train: images\nnames: [no, washer, 007]\n")
    return root


def test_unused_classes_and_ids_are_kept(tmp_path: Path) -> None:
    headstart.convert(gap(tmp_path / "a"), to="coco", out=tmp_path / "b", copy_images=True)
    value = json.loads((tmp_path / "b" / "annotations.json").read_text(encoding="utf-8"))
    assert {c["name"]: c["id"] for c in value["categories"]} == {"no": 0, "washer": 1, "007": 2}
    headstart.convert(tmp_path / "b", to="yolo", out=tmp_path / "c", copy_images=True)
    assert yaml.safe_load((tmp_path / "c" / "data.yaml").read_text())["names"] == {0: "no", 1: "washer", 2: "007"}
    lines = (tmp_path / "c" / "labels" / "a.txt").read_text().split("\n")
    assert sorted(line[:1] for line in lines if line) == ["0", "2"]


def test_coco_ids_become_positions_in_yolo(tmp_path: Path) -> None:
    table = ClassTable.of(("bolt", "nut"), (("nut", 7), ("cap", 9), ("bolt", 3)))
    assert table.coco_ids() == {"bolt": 3, "nut": 7, "cap": 9}
    assert table.yolo_ids() == {"bolt": 0, "nut": 1, "cap": 2}
    assert ClassTable.of(("bolt", "nut")).coco_ids() == {"bolt": 1, "nut": 2}


def test_like_writes_the_ids_of_a_file(tmp_path: Path) -> None:
    like = put_text(tmp_path / "like.json", coco_json({5: ("a.png", (100, 80))}, [], {12: "007", 40: "no", 41: "x"}))
    headstart.convert(gap(tmp_path / "a"), to="coco", out=tmp_path / "b", like=like)
    value = json.loads((tmp_path / "b" / "annotations.json").read_text(encoding="utf-8"))
    assert sorted({a["category_id"] for a in value["annotations"]}) == [12, 40]
    other = put_text(tmp_path / "classes.txt", "no\nyes\n")
    with pytest.raises(UsageError, match="007"):
        headstart.convert(tmp_path / "a", to="coco", out=tmp_path / "c", like=other)
    assert not (tmp_path / "c").exists()


def test_coco_results_are_loaded_by_pycocotools(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    truth = put_text(tmp_path / "t.json", coco_json({5: ("x/a.png", (100, 80))}, [], {7: "nut"}))
    table = ClassTable.of(("nut",)).like(read_class_table(truth))
    box, score, kind = np.array([[1, 2, 30, 40]], np.float32), np.array([0.5], np.float32), np.array([0])
    results = coco_results([ImageBoxes("a.png", (80, 100), box, kind, score)], table)
    assert results == [{"image_id": 5, "category_id": 7, "bbox": [1.0, 2.0, 29.0, 38.0], "score": 0.5}]
    assert len(coco.COCO(str(truth)).loadRes(results).anns) == 1
    with pytest.raises(DataError, match=r"b\.png"):
        coco_results([ImageBoxes("b.png", (80, 100), box, kind, score)], table)
    with pytest.raises(DataError, match="--like"):
        coco_results([ImageBoxes("a.png", (80, 100), box, kind, score)], ClassTable.of(("nut",)))


def test_guesses_stop_with_code_3_and_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_image(tmp_path / "a" / "a.jpg", orientation=6)
    put_text(tmp_path / "a" / "a.txt", "0 0.3 0.5 0.4 0.5\n")
    arguments = ["convert", str(tmp_path / "a"), "--to", "voc", "--out", str(tmp_path / "b")]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 3
    assert not (tmp_path / "b").exists()
    assert "a.jpg" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--box-format", "stored", "--copy-images"])
    assert stopped.value.code == 0
    assert (tmp_path / "b" / "Annotations" / "a.xml").is_file()


def test_objects_that_yolo_cannot_hold_are_counted(tmp_path: Path) -> None:
    put_image(tmp_path / "a" / "a.png")
    text = voc_xml([("nut", (1, 1, 30, 30)), ("nut", (40, 1, 70, 30))])
    at = text.rindex("<bndbox>")
    put_text(tmp_path / "a" / "a.xml", text[:at] + "<difficult>1</difficult>" + text[at:])
    seen = []
    events = __import__("headstart.events", fromlist=["EventStream"]).EventStream()
    headstart.convert(tmp_path / "a", to="yolo", out=tmp_path / "b", events=events)
    seen = [e.finding.kind for e in events.history if hasattr(e, "finding")]
    assert ReadingKind.OBJECTS_NOT_WRITTEN in seen
    headstart.convert(tmp_path / "a", to="csv", out=tmp_path / "c", copy_images=True)
    assert [c for _, _, c in boxes_of(read_boxes(tmp_path / "c"))["a.png"]] == [False, True]


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    with pytest.raises(UsageError, match="not an empty folder"):
        headstart.convert(tmp_path, to="coco", out=tmp_path)
    with pytest.raises(UsageError, match="unknown format"):
        headstart.convert(tmp_path, to="tfrecord", out=tmp_path / "b")
