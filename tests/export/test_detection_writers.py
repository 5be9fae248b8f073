"""Test detection files: round trip, no overwriting."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data.boxes.classes import ClassTable
from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import Detections
from headstart.errors import DataError, UsageError
from headstart.inference.decoders import ImageDetections
from headstart.inference.detection_drawing import draw_detections
from headstart.inference.writers import (
    BOX_COLUMNS,
    check_box_output,
    check_new_folder,
    relative_names,
    write_boxes,
    write_detections,
)
from headstart.preprocessing.image_spec import ImageSpec
from headstart.quality.box_drawing import color_of, draw_boxes

NAMES = ("cat", "=dog, big")


def found_in(folder: Path) -> tuple[list[ImageDetections], list[str]]:
    """Return two images with boxes, one without, one that cannot be read."""
    (folder / "sub").mkdir(parents=True)
    items = []
    for name, boxes in (
        ("a.png", Detections.of([[1.2, 2.6, 30.1, 40.4], [5, 5, 20, 20]], [0.9, 0.4], [0, 1])),
        ("sub/b.jpg", Detections.of([[0, 0, 60, 50]], [0.7], [1])),
        ("sub/empty.png", Detections.of([])),
    ):
        Image.new("RGB", (60, 50), (200, 200, 200)).save(folder / name)
        items.append(ImageDetections(str(folder / name), (50, 60), boxes))
    items.append(ImageDetections(str(folder / "gone.png"), (0, 0), Detections.of([]), "there is no such file"))
    return items, relative_names([p.file for p in items])


def test_table_has_rows_for_boxes_and_empty_images(tmp_path: Path) -> None:
    detections, names = found_in(tmp_path)
    assert names == ["a.png", "sub/b.jpg", "sub/empty.png", "gone.png"]
    stream = io.StringIO()
    write_boxes(stream, detections, NAMES)
    rows = list(csv.DictReader(io.StringIO(stream.getvalue())))
    assert tuple(rows[0]) == BOX_COLUMNS
    assert [r["label"] for r in rows] == ["cat", "'=dog, big", "'=dog, big", "", ""]
    assert rows[0]["score"] == "0.9000"
    assert [rows[0][c] for c in ("xmin", "ymin", "xmax", "ymax")] == ["1.2", "2.6", "30.1", "40.4"]
    assert rows[3]["error"] == ""
    assert rows[4]["error"] == "there is no such file"
    write_detections(str(tmp_path / "out.csv"), "csv", detections, names, ClassTable.of(NAMES))
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == stream.getvalue()


@pytest.mark.parametrize("to", ["csv", "coco", "yolo", "voc"])
def test_written_boxes_are_read_back(tmp_path: Path, to: str) -> None:
    detections, names = found_in(tmp_path / "images")
    place = {"csv": "out.csv", "coco": "out.json"}.get(to, "out")
    write_detections(str(tmp_path / place), to, detections, names, ClassTable.of(NAMES))
    if to == "csv":  # its paths are as given
        with pytest.raises(DataError, match="predictions"):
            read_boxes(tmp_path / place, allow_external_paths=True)
        with open(tmp_path / place, encoding="utf-8", newline="") as file:
            rows = [[cell for i, cell in enumerate(row) if i != 2] for row in csv.reader(file)]  # without scores
        with open(tmp_path / place, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
        samples = read_boxes(tmp_path / place, allow_external_paths=True)
    else:
        for file in [tmp_path / place, *(tmp_path / place).rglob("*")]:
            if file.is_file():
                target = tmp_path / "images" / (file.relative_to(tmp_path / place) if to in ("yolo", "voc") else place)
                target.parent.mkdir(parents=True, exist_ok=True)
                text = file.read_text(encoding="utf-8")
                target.write_text(re.sub(r', "score": [0-9.]+', "", text), encoding="utf-8")
        samples = read_boxes(tmp_path / "images")
    back = {Path(p).name: b for p, b in zip(samples.paths, samples.boxes, strict=True)}
    np.testing.assert_allclose(back["a.png"].xyxy, [[1.2, 2.6, 30.1, 40.4], [5, 5, 20, 20]], atol=0.5)
    assert [samples.class_names[k] for k in back["a.png"].class_ids] == list(NAMES)
    assert len(back["empty.png"]) == 0
    assert "gone.png" not in back


def test_coco_holds_scores_and_sizes(tmp_path: Path) -> None:
    detections, names = found_in(tmp_path / "images")
    write_detections(str(tmp_path / "out.json"), "coco", detections, names, ClassTable.of(NAMES))
    value = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [i["file_name"] for i in value["images"]] == ["a.png", "sub/b.jpg", "sub/empty.png"]
    assert [round(a["score"], 3) for a in value["annotations"]] == [0.9, 0.4, 0.7]
    assert value["annotations"][0]["bbox"] == pytest.approx([1.2, 2.6, 28.9, 37.8], abs=1e-3)
    assert [c["id"] for c in value["categories"]] == [1, 2]


def test_folder_with_files_is_not_overwritten(tmp_path: Path) -> None:
    empty_folder = tmp_path / "labels"
    empty_folder.mkdir()
    assert check_box_output(str(empty_folder), "yolo") == "yolo"  # an empty one is fine
    (empty_folder / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    for to in ("yolo", "voc"):
        with pytest.raises(UsageError, match="is not empty"):
            check_box_output(str(empty_folder), to)
    with pytest.raises(UsageError, match="is not empty"):
        check_new_folder(str(empty_folder), "--draw")
    detections, names = found_in(tmp_path / "images")
    (tmp_path / "empty").mkdir()
    write_detections(str(tmp_path / "empty"), "yolo", detections, names, ClassTable.of(NAMES))
    assert (tmp_path / "empty" / "labels" / "a.txt").is_file()


@pytest.mark.parametrize(
    ("out", "to", "words"),
    [
        (None, "yolo", "needs a folder"),
        ("x.txt", "csv", r"writes a \.csv"),
        ("x.csv", "coco", r"writes a \.json"),
        ("no/such/x.csv", None, "does not exist"),
        (None, "tfrecord", "unknown format"),
    ],
)
def test_invalid_output_raises_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str | None, to: str | None, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words):
        check_box_output(out, to)


def test_format_follows_extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_box_output(None, None) == "csv"
    assert check_box_output("x.csv", None) == "csv"
    assert check_box_output("x.json", None) == "coco"


def test_images_are_drawn_upright_at_full_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40), (255, 255, 255)).save(tmp_path / "a.png", exif=exif)
    boxes = Detections.of([[5, 10, 35, 60]], [0.8], [1])
    image = ImageDetections(str(tmp_path / "a.png"), (80, 40), boxes)
    place = draw_detections(image, str(tmp_path / "drawn"), "sub/a.png", NAMES, ImageSpec())
    assert place is not None
    drawn = Image.open(place)
    assert drawn.size == (40, 80)
    assert drawn.getpixel((5, 35)) == color_of(1)
    assert drawn.getpixel((20, 50)) == (255, 255, 255)
    missing = ImageDetections("gone.png", (0, 0), Detections.of([]), "no such file")
    assert draw_detections(missing, str(tmp_path / "drawn"), "gone.png", NAMES, ImageSpec()) is None


def test_captions_stay_in_image() -> None:
    image = Image.new("RGB", (60, 40), (255, 255, 255))
    drawn = draw_boxes(image, np.array([[40, 0, 60, 20]]), ["a long name \n\ud800"], [(0, 0, 0)])
    assert drawn.size == image.size
    assert np.asarray(image).min() == 255  # the image file is unchanged
    dashed = draw_boxes(image, np.array([[2, 2, 58, 38]]), [""], [(0, 0, 0)], is_dashed=True)
    line = np.asarray(dashed)[2, 2:58, 0]
    assert {0, 255} == set(line.tolist())
