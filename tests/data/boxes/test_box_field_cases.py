"""Test annotations as people have them: each test is one kind of layout, export or slip, with its right reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from box_folders import coco_json, put_image, put_text, voc_xml

from headstart.data.boxes.image_frames import turn_boxes
from headstart.data.boxes.reader import has_boxes, read_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.errors import BoxFormatError, DataError, UsageError
from headstart.types.codes import ReadingKind

BOX, VALUES = ("nut", (10, 20, 50, 60)), [10, 20, 50, 60]
LINE = "0.3 0.5 0.4 0.5"


def boxes_of(samples: DetectionSamples) -> dict[str, list[tuple[str, list[float]]]]:
    return {
        name: [
            (samples.class_names[k], np.round(xyxy, 1).tolist()) for xyxy, k in zip(b.xyxy, b.class_ids, strict=True)
        ]
        for name, b in zip(samples.names, samples.boxes, strict=True)
    }


def kinds_of(samples: DetectionSamples) -> set[ReadingKind]:
    return {note.kind for note in samples.notes}


def put_yolo(root: Path, *lines: str, folder: str = "") -> None:
    for i, line in enumerate(lines):
        put_image(root / folder / f"{i}.png", seed=i)
        put_text(root / folder / f"{i}.txt", line + "\n")


# COCO


def put_coco(root: Path, annotation: dict[str, Any], **more: Any) -> None:
    put_image(root / "a.png")
    entry = {"image_id": 1, "category_id": 1, **annotation, **more}
    put_text(root / "x.json", coco_json({1: ("a.png", (100, 80))}, [entry], {1: "nut"}))


def runs_of(x0: int, y0: int, x1: int, y1: int) -> list[int]:
    mask = np.zeros((80, 100), np.uint8)
    mask[y0:y1, x0:x1] = 1
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    return np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()


def compressed(runs: list[int]) -> str:
    text = []
    for i, run in enumerate(runs):
        x = run - runs[i - 2] if i > 2 else run
        is_open = True
        while is_open:
            bits = x & 0x1F
            x >>= 5
            is_open = x != (-1 if bits & 0x10 else 0)
            text.append(chr((bits | 0x20 if is_open else bits) + 48))
    return "".join(text)


@pytest.mark.parametrize(
    "annotation",
    [
        {"segmentation": {"size": [80, 100], "counts": runs_of(10, 20, 50, 60)}},
        {"segmentation": {"size": [80, 100], "counts": compressed(runs_of(10, 20, 50, 60))}},
        {"segmentation": [10, 20, 50, 20, 50, 60]},
        {"segmentation": [[10, 20, 50, 20, 50, 60]], "bbox": [0, 0, 0, 0]},
        {"segmentation": [[[10, 20], [50, 20], [50, 60]]]},
        {"bbox": ["10", "20", "40,0", "40"]},
        {"bbox": [10, 20, 40, 40], "image_id": "1", "category_id": 1.0},
        {"bbox": [10, 20, 40, 40], "image_id": "001"},
    ],
)
def test_coco_annotations_of_many_tools(tmp_path: Path, annotation: dict[str, Any]) -> None:
    put_coco(tmp_path, annotation)
    assert boxes_of(read_boxes(tmp_path)) == {"a.png": [("nut", VALUES)]}


@pytest.mark.parametrize(
    ("bbox", "step", "is_certain"), [((0.1, 0.25, 0.4, 0.5), 0.01, False), ((10, 20, 50, 60), 1, True)]
)
def test_coco_boxes_of_another_meaning_are_never_cut(
    tmp_path: Path, bbox: tuple[float, ...], step: float, is_certain: bool
) -> None:
    images = {i: (f"{i}.png", (100, 80)) for i in range(12)}
    entries = []
    for i, (name, size) in images.items():
        put_image(tmp_path / name, size, seed=i)
        entries.append({"image_id": i, "category_id": 1, "bbox": [v + i * step for v in bbox]})
    put_text(tmp_path / "x.json", coco_json(images, entries, {1: "nut"}))
    if not is_certain:  # fractions as corners or as a corner and a size
        with pytest.raises(BoxFormatError, match=r"x\.json") as refused:
            read_boxes(tmp_path)
        assert set(refused.value.fitting) == {"rel_xywh", "rel_xyxy"}
        return
    samples = read_boxes(tmp_path)
    assert ReadingKind.BOX_FORMAT_ASSUMED in kinds_of(samples)
    assert boxes_of(samples)["0.png"] == [("nut", VALUES)]


def test_repeated_image_and_category_ids_are_refused(tmp_path: Path) -> None:
    for name in ("day1/a.png", "day2/a.png", "b.png"):
        put_image(tmp_path / name)
    value = json.loads(coco_json({1: ("day1/a.png", (100, 80)), 2: ("b.png", (100, 80))}, [], {1: "nut", 2: "bolt"}))
    value["images"].append({"id": 1, "file_name": "day2/a.png"})
    value["categories"].append({"id": 2, "name": "cap"})
    value["annotations"] = [
        {"id": i, "image_id": i % 2 + 1, "category_id": k, "bbox": [10, 20, 40, 40]} for i, k in enumerate((1, 1, 1, 2))
    ]
    put_text(tmp_path / "x.json", json.dumps(value))
    samples = read_boxes(tmp_path)
    assert boxes_of(samples) == {"b.png": [("nut", VALUES)]}
    assert sum(p.kind == "repeated-id" for p in samples.problems) == 2


def test_predictions_beside_annotations_are_named(tmp_path: Path) -> None:
    put_coco(tmp_path, {"bbox": [10, 20, 40, 40]})
    put_text(tmp_path / "a_results.json", '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]')
    samples = read_boxes(tmp_path)
    assert boxes_of(samples) == {"a.png": [("nut", VALUES)]}
    (note,) = (n for n in samples.notes if n.kind is ReadingKind.PREDICTIONS_UNUSED)
    assert note.examples == ("a_results.json",)


@pytest.mark.parametrize(
    "name", ["C:\\data\\images\\a.png", "https://x.y/b/a.png?v=2", "/mnt/0/a.png", "images/a.jpg", "../../up/a.png"]
)
def test_paths_of_other_systems(tmp_path: Path, name: str) -> None:
    put_image(tmp_path / "images" / "a.png")
    entry = {"image_id": 1, "category_id": 1, "bbox": [10, 20, 40, 40]}
    put_text(tmp_path / "x.json", coco_json({1: (name, (100, 80))}, [entry], {1: "nut"}))
    put_text(tmp_path / "table" / "x.csv", f"image,label,xmin,ymin,xmax,ymax\n{name},nut,10,20,50,60\n")
    for place in (tmp_path / "x.json", tmp_path / "table" / "x.csv"):
        folder = tmp_path / "images" if place.suffix == ".csv" else place
        if place.suffix == ".csv":
            place = put_text(folder / "x.csv", place.read_text())
        assert [*boxes_of(read_boxes(place)).values()] == [[("nut", VALUES)]]


# VOC


def test_voc_objects_of_many_tools(tmp_path: Path) -> None:
    put_image(tmp_path / "a.png")
    rotated = "<robndbox><cx>30</cx><cy>40</cy><w>40</w><h>40</h><angle>0.0</angle></robndbox>"
    polygon = "<polygon><pt><x>60</x><y>5</y></pt><pt><x>90</x><y>5</y></pt><pt><x>90</x><y>30</y></pt></polygon>"
    second = voc_xml([("bolt", (60, 40, 70, 50)), ("bolt", (75, 40, 95, 50))])
    boxes = second[second.index("<bndbox>") : second.rindex("</object>")].replace(
        "</object><object><name>bolt</name>", ""
    )
    text = voc_xml([]).replace(
        "</annotation>",
        f"<object><name>nut</name>{rotated}</object><object><name>nut</name>{polygon}</object>"
        f"<object><name>bolt</name>{boxes}</object></annotation>",
    )
    put_text(tmp_path / "a.xml", text)
    assert boxes_of(read_boxes(tmp_path))["a.png"] == [
        ("nut", VALUES), ("nut", [60, 5, 90, 30]), ("bolt", [60, 40, 70, 50]), ("bolt", [75, 40, 95, 50]),
    ]  # fmt: skip


def test_image_sets_with_endings_folders_and_missing_names(tmp_path: Path) -> None:
    for i in range(3):
        put_image(tmp_path / "JPEGImages" / f"{i}.jpg", seed=i)
        put_text(tmp_path / "Annotations" / f"{i}.xml", voc_xml([BOX]))
    put_text(tmp_path / "ImageSets/Main/train.txt", "0.jpg\r\nJPEGImages/1.jpg \r\ngone\r\n")
    put_text(tmp_path / "ImageSets/Main/val.txt", "2\n")
    samples = read_boxes(tmp_path)
    assert samples.split == ("train", "train", "val")
    assert any(p.kind == "no-image" and "gone" in p.name for p in samples.problems)


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [("gbk", ""), ("gbk", "utf-8"), ("gb2312", "gb2312"), ("utf-16", ""), ("utf-8", ""), ("utf-8-sig", "")],
)
def test_xml_of_other_systems(tmp_path: Path, encoding: str, declared: str) -> None:
    put_image(tmp_path / "a.png")
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    text = head + voc_xml([("螺母 & 螺栓", (10, 20, 50, 60))])
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    assert boxes_of(read_boxes(tmp_path)) == {"a.png": [("螺母 & 螺栓", VALUES)]}


def test_difficult_objects_do_not_count(tmp_path: Path) -> None:
    put_image(tmp_path / "a.png")
    text = voc_xml([BOX, ("nut", (60, 5, 90, 30)), ("DontCare", (0, 0, 9, 9))])
    at = text.index("<bndbox>", text.index("</bndbox>"))
    put_text(tmp_path / "a.xml", text[:at] + "<difficult>1</difficult>" + text[at:])
    samples = read_boxes(tmp_path)
    assert samples.class_names == ("nut",)
    assert samples.boxes[0].is_crowd.tolist() == [False, True, True]
    (note,) = (n for n in samples.notes if n.kind is ReadingKind.OBJECTS_IGNORED)
    assert note.evidence == {"reasons": {"difficult": 1, "ignore": 1}}


def test_names_that_look_alike(tmp_path: Path) -> None:
    for i, label in enumerate(("\u00e9crou", "e\u0301crou", "\u00e9crou\u200b", "\u00c9crou")):
        put_image(tmp_path / f"{i}.png", seed=i)
        put_text(tmp_path / f"{i}.xml", voc_xml([(label, (10, 20, 50, 60))]))
    samples = read_boxes(tmp_path)
    assert samples.class_names == ("\u00c9crou", "\u00e9crou")
    assert kinds_of(samples) == {ReadingKind.CLASSES_MERGED, ReadingKind.CLASSES_ALIKE}


# YOLO


@pytest.mark.parametrize("names", ["[no, yes, 007]", "{0: no, 1: yes, 2: 007}", "\n  0: no\n  1: yes\n  2: 007"])
def test_names_of_yaml_are_text(tmp_path: Path, names: str) -> None:
    put_yolo(tmp_path, f"0 {LINE}", f"1 {LINE}", f"2 {LINE}", folder="images")
    put_text(tmp_path / "data.yaml", f"train: images\nnc: 3\nnames: {names}\n")
    samples = read_boxes(tmp_path)
    assert samples.class_names == ("no", "yes", "007")
    assert samples.declared == (("no", 0), ("yes", 1), ("007", 2))


def test_windows_paths_in_yaml(tmp_path: Path) -> None:
    put_yolo(tmp_path, f"0 {LINE}", folder="images/train")
    text = 'path: "C:\\Users\\me\\data"\ntrain:\n  - "images\\train"\nval: "D:\\new\\images\\train"\nnames: [nut]\n'
    put_text(tmp_path / "data.yaml", text)
    assert boxes_of(read_boxes(tmp_path)) == {"images/train/0.png": [("nut", VALUES)]}


@pytest.mark.parametrize("file", ["obj.names", "_darknet.labels", "parts.names", "classes.txt"])
def test_names_of_darknet_count_blank_lines(tmp_path: Path, file: str) -> None:
    put_yolo(tmp_path, f"0 {LINE}", f"2 {LINE}")
    put_text(tmp_path / file, "nut\n\nbolt\n\n")
    assert read_boxes(tmp_path).class_names == ("nut", "bolt")


def test_darknet_data_file_gives_splits(tmp_path: Path) -> None:
    put_yolo(tmp_path, f"0 {LINE}", f"1 {LINE}", folder="obj_train_data")
    put_text(tmp_path / "obj.names", "nut\nbolt\n")
    put_text(tmp_path / "obj.data", "train = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n")
    put_text(tmp_path / "train.txt", "data/obj_train_data/0.png\n")
    put_text(tmp_path / "valid.txt", "data/obj_train_data/1\n")
    samples = read_boxes(tmp_path)
    assert (samples.class_names, samples.split) == (("nut", "bolt"), ("train", "val"))


def test_ids_from_one_are_said(tmp_path: Path) -> None:
    put_yolo(tmp_path, f"1 {LINE}", f"2 {LINE}")
    put_text(tmp_path / "classes.txt", "nut\nbolt\n")
    samples = read_boxes(tmp_path)
    assert [found[0][0] for found in boxes_of(samples).values()] == ["nut", "bolt"]
    (note,) = (n for n in samples.notes if n.kind is ReadingKind.NAMES_FROM_FILE)
    assert (note.evidence["first_id"], note.evidence["reason"]) == (1, "last_id")


def test_contradicting_lists_of_names_are_refused(tmp_path: Path) -> None:
    for folder, names in (("a", "nut\nbolt\n"), ("b", "bolt\nnut\n")):
        put_yolo(tmp_path, f"0 {LINE}", f"1 {LINE}", folder=folder)
        put_text(tmp_path / folder / "classes.txt", names)
    with pytest.raises(DataError, match=r"a/classes\.txt.*b/classes\.txt"):
        read_boxes(tmp_path)
    assert has_boxes(tmp_path)
    put_text(tmp_path / "b" / "classes.txt", "nut\nbolt\ncap\n")  # a longer list that agrees
    put_text(tmp_path / "predefined_classes.txt", "dog\ncat\n")  # only what a tool suggests
    assert read_boxes(tmp_path).class_names == ("nut", "bolt")


@pytest.mark.parametrize("folder", ["train_labels", "annotations", "label"])
def test_label_files_in_other_folders(tmp_path: Path, folder: str) -> None:
    put_image(tmp_path / "train_images" / "a.png")
    put_text(tmp_path / folder / "a.txt", f"0 {LINE.replace('.', ',')}\n")
    put_text(tmp_path / folder / "classes.txt", "nut\n")
    samples = read_boxes(tmp_path)
    assert boxes_of(samples) == {"train_images/a.png": [("nut", VALUES)]}
    assert ReadingKind.LABELS_ELSEWHERE in kinds_of(samples)


def test_one_label_file_of_two_images_is_refused(tmp_path: Path) -> None:
    put_yolo(tmp_path, f"0 {LINE}", f"0 {LINE}")
    put_image(tmp_path / "0.jpg", seed=9)
    samples = read_boxes(tmp_path)
    assert samples.names == ("1.png",)
    assert sorted(p.name for p in samples.problems if p.kind == "repeated-id") == ["0.jpg", "0.png"]


def test_remarks_never_fill_a_refusal(tmp_path: Path) -> None:
    put_yolo(tmp_path, *["part 1 2"] * 12, folder="images")
    put_text(tmp_path / "data.yaml", "train: images\nval: images\ntest: images\nnames: [nut]\n")
    with pytest.raises(DataError, match="class cx cy width height") as refused:
        read_boxes(tmp_path)
    assert "the first one counts" not in refused.value.message


def test_a_training_part_only_is_no_split(tmp_path: Path) -> None:
    put_yolo(tmp_path, f"0 {LINE}", f"2 {LINE}", folder="images")
    put_text(tmp_path / "data.yaml", "train: images\nnames: [nut, washer, bolt]\n")
    samples = read_boxes(tmp_path)
    assert set(samples.split) == {""}
    assert ReadingKind.TRAIN_SPLIT_ONLY in kinds_of(samples)
    assert samples.declared == (("nut", 0), ("washer", 1), ("bolt", 2))


def test_innermost_folder_names_the_split(tmp_path: Path) -> None:
    for folder in ("train/x/val", "train/x/train"):
        put_yolo(tmp_path, f"0 {LINE}", folder=folder)
    assert read_boxes(tmp_path).split == ("train", "val")


# Several formats, and photographs that are rotated


def test_two_formats_that_agree_are_one_dataset(tmp_path: Path) -> None:
    put_yolo(tmp_path, f"0 {LINE}")
    put_text(tmp_path / "classes.txt", "nut\n")
    put_text(tmp_path / "0.xml", voc_xml([BOX]))
    samples = read_boxes(tmp_path)
    assert boxes_of(samples) == {"0.png": [("nut", VALUES)]}
    assert ReadingKind.ANNOTATIONS_COPIED in kinds_of(samples)
    put_text(tmp_path / "0.xml", voc_xml([("nut", (1, 2, 30, 40))]))
    with pytest.raises(UsageError, match="--exclude"):
        read_boxes(tmp_path)
    assert boxes_of(read_boxes(tmp_path, exclude=["*.xml"])) == {"0.png": [("nut", VALUES)]}


def put_rotated(root: Path, text: str) -> None:
    for name, orientation in (("six", 6), ("three", 3)):
        put_image(root / f"{name}.jpg", (100, 80), orientation=orientation)
        put_text(root / f"{name}.{'xml' if text.startswith('<') else 'txt'}", text)


def test_one_image_proves_the_orientation_of_all(tmp_path: Path) -> None:
    put_rotated(tmp_path, voc_xml([BOX], (100, 80)))
    found = boxes_of(read_boxes(tmp_path))
    stored = np.array([VALUES], dtype=np.float64)
    for name, orientation in (("six", 6), ("three", 3)):
        assert found[f"{name}.jpg"] == [("nut", turn_boxes(stored, orientation, (80, 100))[0].tolist())]


def test_unknown_orientation_is_a_warning_with_an_option(tmp_path: Path) -> None:
    put_rotated(tmp_path, f"0 {LINE}")
    samples = read_boxes(tmp_path)
    assert sorted(p.name for p in samples.problems if p.kind == "orientation-unknown") == ["six.jpg", "three.jpg"]
    assert "--box-format stored" in samples.problems[0].detail
    found = boxes_of(read_boxes(tmp_path, box_format="stored"))
    for name, orientation in (("six", 6), ("three", 3)):
        expected = turn_boxes(np.array([VALUES], dtype=np.float64), orientation, (80, 100))
        assert found[f"{name}.jpg"] == [("0", expected[0].tolist())]
    assert boxes_of(read_boxes(tmp_path, box_format="upright")) == boxes_of(samples)


def test_excluding_nothing_is_an_error(tmp_path: Path) -> None:
    put_yolo(tmp_path, "0 " + LINE, "0 " + LINE)
    assert len(read_boxes(tmp_path, exclude=["1.*"])) == 1
    with pytest.raises(UsageError, match=r"\*\.xml"):
        read_boxes(tmp_path, exclude=["1.*", "*.xml"])


def test_numbers_without_names_are_noted(tmp_path: Path) -> None:
    put_yolo(tmp_path, "0 " + LINE, "3 " + LINE)
    samples = read_boxes(tmp_path)
    assert [(n.count, n.examples) for n in samples.notes if n.kind is ReadingKind.CLASSES_NUMBERED] == [(2, ("0", "3"))]
    put_text(tmp_path / "classes.txt", "a\nb\nc\nd\n")
    assert ReadingKind.CLASSES_NUMBERED not in kinds_of(read_boxes(tmp_path))
