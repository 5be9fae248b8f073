"""Test that every format is detected in its common forms, with splits and class ids kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from box_folders import coco_json, put_image, put_text, voc_xml
from PIL import Image, ImageOps

from headstart.data.boxes.endings import holds_only_images
from headstart.data.boxes.image_frames import turn_boxes
from headstart.data.boxes.reader import find_format, has_boxes, read_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.errors import DataError, UsageError
from headstart.types.codes import ReadingKind

BOX = ("cat", (10, 20, 50, 60))


def rows(samples: DetectionSamples) -> dict[str, list[tuple[str, list[float]]]]:
    """Return class and corners of every box by image."""
    return {
        name: [
            (samples.class_names[k], np.round(xyxy, 2).tolist()) for k, xyxy in zip(b.class_ids, b.xyxy, strict=True)
        ]
        for name, b in zip(samples.names, samples.boxes, strict=True)
    }


def splits(samples: DetectionSamples) -> dict[str, str]:
    return dict(zip(samples.names, samples.split, strict=True))


# VOC


def test_voc_in_common_folder_layouts(tmp_path: Path) -> None:
    put_image(tmp_path / "JPEGImages" / "a.jpg")
    put_text(tmp_path / "Annotations" / "a.xml", voc_xml([BOX], filename="old name.jpg"))
    for place in (tmp_path, tmp_path / "Annotations"):
        samples = read_boxes(place)
        assert list(rows(samples).values()) == [[("cat", [10, 20, 50, 60])]]
        assert [n.kind for n in samples.notes] == [ReadingKind.FILE_NAMES_STALE]
    put_image(tmp_path / "flat" / "b.png")
    put_text(tmp_path / "flat" / "b.xml", voc_xml([("cat", ("10.25", "20.5", "50", "60.75"))]))
    assert rows(read_boxes(tmp_path / "flat")) == {"b.png": [("cat", [10.25, 20.5, 50, 60.75])]}


def test_voc_image_sets_and_image_without_objects(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        put_image(tmp_path / "JPEGImages" / f"{name}.jpg")
        if name != "d":
            put_text(tmp_path / "Annotations" / f"{name}.xml", voc_xml([BOX] if name != "b" else []))
    sets = tmp_path / "ImageSets" / "Main"
    put_text(sets / "trainval.txt", "a\nb\nd\n")
    put_text(sets / "val.txt", "b\n")
    put_text(sets / "test.txt", "c\n")
    put_text(sets / "cat_train.txt", "a 1\nb -1\n")
    samples = read_boxes(tmp_path)
    assert splits(samples) == {
        f"JPEGImages/{n}.jpg": s for n, s in zip("abcd", ("train", "val", "test", "train"), strict=True)
    }
    assert len(samples.boxes[1]) == 0
    assert len(samples.boxes[3]) == 0  # listed by a split, so used


def test_voc_object_parts_are_ignored(tmp_path: Path) -> None:
    put_image(tmp_path / "a.jpg")
    part = "<part><name>hand</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
    put_text(tmp_path / "a.xml", voc_xml([BOX]).replace("</object>", part + "</object>"))
    assert rows(read_boxes(tmp_path)) == {"a.jpg": [("cat", [10, 20, 50, 60])]}


def test_same_name_in_two_folders_is_distinguished(tmp_path: Path) -> None:
    for split, xmax in (("train", 50), ("test", 70)):
        put_image(tmp_path / split / "1.jpg")
        put_text(tmp_path / split / "1.xml", voc_xml([("cat", (10, 20, xmax, 60))]))
    samples = read_boxes(tmp_path)
    assert rows(samples)["train/1.jpg"][0][1][2] == 50
    assert rows(samples)["test/1.jpg"][0][1][2] == 70
    assert splits(samples) == {"train/1.jpg": "train", "test/1.jpg": "test"}


# COCO


def coco_entry(image: int, category: int, bbox: object = (10, 20, 40, 40), **more: object) -> dict[str, object]:
    return {"image_id": image, "category_id": category, "bbox": bbox, **more}


def test_roboflow_class_ids_differ_between_splits(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        put_image(tmp_path / split / "a.jpg")
    put_text(
        tmp_path / "train/_annotations.coco.json",
        coco_json(
            {7: ("a.jpg", (100, 80))},
            [coco_entry(7, 90), coco_entry(7, 3, (5, 5, 40, 40))],
            {0: "animals", 3: "cat", 90: "dog"},
        ),
    )
    put_text(
        tmp_path / "valid/_annotations.coco.json",
        coco_json({1: ("a.jpg", (100, 80))}, [coco_entry(1, 1)], {1: "dog", 2: "cat"}),
    )
    put_text(tmp_path / "test/_annotations.coco.json", coco_json({1: ("a.jpg", (100, 80))}, [], {1: "dog", 2: "cat"}))
    samples = read_boxes(tmp_path)
    assert find_format(tmp_path) == "coco"
    assert samples.class_names == ("cat", "dog")
    assert [p.kind for p in samples.problems] == ["unused-class"]
    assert rows(samples)["train/a.jpg"] == [("dog", [10, 20, 50, 60]), ("cat", [5, 5, 45, 45])]
    assert rows(samples)["valid/a.jpg"] == [("dog", [10, 20, 50, 60])]
    assert splits(samples) == {"train/a.jpg": "train", "valid/a.jpg": "val", "test/a.jpg": "test"}
    assert len(samples.boxes[samples.names.index("test/a.jpg")]) == 0


def test_published_coco_layout(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        put_image(tmp_path / split / "1.jpg")
    categories = {1: "cat"}
    outline = {"segmentation": [[10, 10, 30, 10, 20, 40]]}
    train = [
        coco_entry(1, 1),
        coco_entry(1, 1, (0, 0, 90, 70), iscrowd=1),
        {"image_id": 1, "category_id": 1, **outline},
    ]
    put_text(tmp_path / "annotations/instances_train2017.json", coco_json({1: ("1.jpg", (100, 80))}, train, categories))
    put_text(tmp_path / "annotations/instances_val2017.json", coco_json({9: ("1.jpg", (100, 80))}, [], categories))
    put_text(
        tmp_path / "annotations/captions_train2017.json", coco_json({1: ("1.jpg", (100, 80))}, [{"caption": "x"}], {})
    )
    samples = read_boxes(tmp_path)
    assert splits(samples) == {"train2017/1.jpg": "train", "val2017/1.jpg": "val"}
    assert samples.boxes[0].is_crowd.tolist() == [False, True, False]
    assert rows(samples)["train2017/1.jpg"][2] == ("cat", [10, 10, 30, 40])
    assert {n.kind: n.count for n in samples.notes} == {
        ReadingKind.OUTLINES_BOXED: 1,
        ReadingKind.OBJECTS_IGNORED: 1,
        ReadingKind.TABLES_UNUSED: 1,  # captions
    }


def test_single_json_file(tmp_path: Path) -> None:
    put_image(tmp_path / "images" / "a.jpg")
    place = put_text(
        tmp_path / "labels.json", coco_json({1: ("images/a.jpg", (100, 80))}, [coco_entry(1, 5)], {5: "cat"})
    )
    assert rows(read_boxes(place)) == {"images/a.jpg": [("cat", [10, 20, 50, 60])]}


# YOLO


@pytest.mark.parametrize(
    ("train", "names"),
    [
        ("train/images", "names: [cat, dog]"),
        ("../train/images", "nc: 2\nnames:\n  0: cat\n  1: dog"),
        ("/content/somewhere/set/train/images", "names: ['cat', 'dog']"),
    ],
)
def test_data_yaml_with_common_paths(tmp_path: Path, train: str, names: str) -> None:
    put_image(tmp_path / "train/images/a.jpg")
    put_image(tmp_path / "valid/images/b.jpg")
    put_text(tmp_path / "train/labels/a.txt", "1 0.3 0.5 0.4 0.5\n")
    put_text(tmp_path / "data.yaml", f"train: {train}\nval: {train.replace('train', 'valid')}\n{names}\n")
    samples = read_boxes(tmp_path)
    assert find_format(tmp_path) == "yolo"
    assert rows(samples) == {"train/images/a.jpg": [("dog", [10, 20, 50, 60])], "valid/images/b.jpg": []}
    assert splits(samples) == {"train/images/a.jpg": "train", "valid/images/b.jpg": "val"}
    assert ReadingKind.IMAGES_ASSUMED_EMPTY in [n.kind for n in samples.notes]
    assert rows(read_boxes(tmp_path / "data.yaml")) == rows(samples)


def test_yolo_reads_names_from_classes_txt(tmp_path: Path) -> None:
    put_image(tmp_path / "images/a.jpg")
    put_text(tmp_path / "labels/a.txt", "1 0.3 0.5 0.4 0.5\n")
    assert read_boxes(tmp_path).class_names == ("1",)
    put_text(tmp_path / "labels/classes.txt", "cat\ndog\n")
    assert rows(read_boxes(tmp_path)) == {"images/a.jpg": [("dog", [10, 20, 50, 60])]}


def test_yolo_outlines_scores_and_key_points(tmp_path: Path) -> None:
    put_image(tmp_path / "images/a.jpg")
    lines = ["0 0.1 0.25 0.5 0.25 0.5 0.75", "0 0.3 0.5 0.4 0.5 0.9", "0 0.3 0.5 0.2 0.25"]
    put_text(tmp_path / "labels/a.txt", "\n".join(lines))
    samples = read_boxes(tmp_path)
    assert [xyxy for _, xyxy in rows(samples)["images/a.jpg"]] == [[10, 20, 50, 60], [20, 30, 40, 50]]
    assert [p.kind for p in samples.problems] == ["prediction"]
    notes = {n.kind: n for n in samples.notes}
    assert notes[ReadingKind.OUTLINES_BOXED].evidence == {"is_mixed": True}
    put_text(tmp_path / "labels/a.txt", "0 0.3 0.5 0.4 0.5 0.1 0.1 1 0.2 0.2 1\n")
    assert rows(read_boxes(tmp_path))["images/a.jpg"][0][1] != [10, 20, 50, 60]  # an outline of five points
    put_text(tmp_path / "data.yaml", "train: images\nnames: [cat]\nkpt_shape: [2, 3]\n")
    assert rows(read_boxes(tmp_path))["images/a.jpg"] == [("cat", [10, 20, 50, 60])]


# Tables


@pytest.mark.parametrize(
    "text",
    [
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,100,80,cat,10,20,50,60\n",
        "image_names,filename,cell_type,xmin,xmax,ymin,ymax\nx,a.jpg,cat,10,50,20,60\n",
        "image;label;x;y;w;h\na.jpg;cat;10;20;40;40\n",
        "a.jpg,10,20,50,60,cat\n",
        'image_id,bbox,label\na,"[10, 20, 40, 40]",cat\n',
        "ImageID,LabelName,XMin,XMax,YMin,YMax\na,cat,0.1,0.5,0.25,0.75\n",
        "image_path,x1,y1,x2,y2,class_name\n.\\a.jpg,10,20,50,60,cat\n",
    ],
)
def test_tables_of_common_tools(tmp_path: Path, text: str) -> None:
    put_image(tmp_path / "a.jpg")
    put_text(tmp_path / "boxes.csv", text)
    assert find_format(tmp_path) == "csv"
    assert rows(read_boxes(tmp_path)) == {"a.jpg": [("cat", [10, 20, 50, 60])]}


def test_row_without_box_is_image_without_objects(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put_image(tmp_path / f"{name}.jpg")
    put_text(
        tmp_path / "x.csv",
        "image,label,xmin,ymin,xmax,ymax,split,group\na.jpg,cat,1,2,30,40,train,g1\nb.jpg,,,,,,test,\n",
    )
    samples = read_boxes(tmp_path)
    assert [len(b) for b in samples.boxes] == [1, 0]
    assert samples.split == ("train", "test")
    assert samples.group == ("g1", None)


def test_split_tables_form_one_dataset(tmp_path: Path) -> None:
    for name in ("train", "test"):
        put_image(tmp_path / "images" / f"{name}.jpg")
        put_text(tmp_path / f"{name}.csv", f"image,label,xmin,ymin,xmax,ymax\nimages/{name}.jpg,cat,1,2,30,40\n")
    assert splits(read_boxes(tmp_path)) == {"images/train.jpg": "train", "images/test.jpg": "test"}


def test_paths_outside_the_folder_raise(tmp_path: Path) -> None:
    put_image(tmp_path / "other" / "a.jpg")
    put_image(tmp_path / "data" / "b.jpg")
    put_text(tmp_path / "data" / "x.csv", "image,label,xmin,ymin,xmax,ymax\n../other/a.jpg,cat,1,2,30,40\n")
    with pytest.raises(UsageError, match=r"other/a\.jpg"):
        read_boxes(tmp_path / "data")
    assert len(read_boxes(tmp_path / "data", allow_external_paths=True)) == 1


# Formats: detected or requested


def test_data_without_boxes_is_not_detection(tmp_path: Path) -> None:
    put_image(tmp_path / "cats" / "a.jpg")
    put_text(tmp_path / "labels.csv", "image,label\ncats/a.jpg,cat\n")
    put_text(tmp_path / "notes.txt", "taken in spring\n")
    put_text(tmp_path / "config.json", json.dumps({"images": 3}))
    put_text(tmp_path / "sheet.xml", "<project/>")
    assert find_format(tmp_path) is None
    assert not has_boxes(tmp_path)
    with pytest.raises(DataError, match="has no boxes"):
        read_boxes(tmp_path)


@pytest.mark.parametrize(
    ("file", "is_plain"), [("b.txt", False), ("b.Parquet", False), ("c.ZIP", False), ("d.bin", True), ("", True)]
)
def test_folder_without_annotation_files_needs_no_reader(tmp_path: Path, file: str, is_plain: bool) -> None:
    assert not holds_only_images(str(tmp_path))  # annotations alone belong to images beside the folder
    put_image(tmp_path / "cats" / "a.jpg")
    if file:
        put_text(tmp_path / "x" / "y" / file, "")
    assert holds_only_images(str(tmp_path)) == is_plain


def test_linked_folder_may_hold_boxes(tmp_path: Path) -> None:
    put_image(tmp_path / "data" / "cats" / "a.jpg")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data" / "labels").symlink_to(tmp_path / "elsewhere")
    assert not holds_only_images(str(tmp_path / "data"))


def test_folder_is_not_searched_for_file_without_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_image(tmp_path / "a.jpg")
    places = [
        put_text(tmp_path / "labels.csv", "image,label\na.jpg,cat\n"),
        put_text(tmp_path / "list.txt", "a.jpg cat\n"),
        put_text(tmp_path / "x.json", "{}"),
        put_text(tmp_path / "x.zip", ""),
    ]
    monkeypatch.setattr("headstart.data.boxes.reader.has_images", lambda folder: pytest.fail("it was"))
    assert [find_format(p) for p in places] == [None] * 4


def test_two_formats_raise_but_table_next_to_xml_is_a_copy(tmp_path: Path) -> None:
    put_image(tmp_path / "a.jpg")
    put_text(tmp_path / "a.xml", voc_xml([BOX]))
    put_text(tmp_path / "boxes.csv", "image,label,xmin,ymin,xmax,ymax\na.jpg,dog,1,2,30,40\n")
    assert find_format(tmp_path) == "voc"
    place = put_text(tmp_path / "boxes.json", coco_json({1: ("a.jpg", (100, 80))}, [coco_entry(1, 5)], {5: "bird"}))
    with pytest.raises(UsageError, match="two formats fit"):
        read_boxes(tmp_path)
    assert has_boxes(tmp_path)
    assert read_boxes(place).class_names == ("bird",)
    assert read_boxes(tmp_path / "boxes.csv").class_names == ("dog",)


def test_missing_path_and_archive_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_boxes(tmp_path / "nothing")
    place = put_text(tmp_path / "x.zip", "no zip")
    with pytest.raises(DataError, match="cannot unpack"):
        read_boxes(place)


# Rotated and scaled images


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_rotate_with_the_image(orientation: int) -> None:
    stored = np.zeros((80, 100), dtype=np.uint8)
    stored[20:60, 10:30] = 255
    image = Image.fromarray(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.getexif().update(exif)
    upright = np.asarray(ImageOps.exif_transpose(image))
    ys, xs = np.nonzero(upright > 127)
    expected = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    turned = turn_boxes(np.array([[10.0, 20.0, 30.0, 60.0]]), orientation, (80, 100))
    np.testing.assert_allclose(turned[0], expected)


@pytest.mark.parametrize(
    ("stated", "expected", "kind"),
    [
        ((100, 80), [20, 10, 60, 50], "and its boxes"),  # stored size: boxes are rotated too
        ((80, 100), [10, 20, 50, 60], "upright"),
        (None, [10, 20, 50, 60], "upright"),
        ((90, 70), [10, 20, 50, 60], "upright"),
    ],
)
def test_exif_is_applied_to_boxes_only_if_stated_by_file(
    tmp_path: Path, stated: tuple[int, int] | None, expected: list[float], kind: str
) -> None:
    put_image(tmp_path / "a.jpg", (100, 80), orientation=6)
    put_text(tmp_path / "a.xml", voc_xml([BOX], stated))
    samples = read_boxes(tmp_path)
    assert samples.sizes_hw.tolist() == [[100, 80]]
    assert rows(samples)["a.jpg"][0][1] == expected
    is_known = stated in ((100, 80), (80, 100))
    rotated = [p for p in samples.problems if p.kind == ("rotated" if is_known else "orientation-unknown")]
    assert len(rotated) == 1
    assert kind in rotated[0].detail


@pytest.mark.parametrize(
    ("stated", "box", "kind", "expected"),
    [
        ((200, 160), (20, 40, 100, 120), "scaled", [10, 20, 50, 60]),
        ((90, 80), (10, 20, 50, 60), "size-differs", [10, 20, 50, 60]),
        ((300, 80), (200, 20, 250, 60), "other-image", None),
        ((0, 0), (10, 20, 50, 60), None, [10, 20, 50, 60]),
    ],
)
def test_other_stated_size_is_reported_and_fixed_if_possible(
    tmp_path: Path, stated: tuple[int, int], box: tuple[int, ...], kind: str | None, expected: list[float] | None
) -> None:
    put_image(tmp_path / "a.jpg")
    put_image(tmp_path / "b.jpg")
    put_text(tmp_path / "a.xml", voc_xml([("cat", box)], stated))  # type: ignore[list-item]
    put_text(tmp_path / "b.xml", voc_xml([BOX]))
    samples = read_boxes(tmp_path)
    assert [p.kind for p in samples.problems] == ([kind] if kind else [])
    assert rows(samples).get("a.jpg") == (None if expected is None else [("cat", expected)])


def test_take_keeps_fields_aligned(tmp_path: Path) -> None:
    maker: Callable[[int], Path] = lambda i: put_image(tmp_path / f"{i}.png", (40 + i, 30))  # noqa: E731
    for i in range(4):
        maker(i)
        put_text(tmp_path / f"{i}.xml", voc_xml([(f"c{i}", (1, 2, 20 + i, 20))], None))
    samples = read_boxes(tmp_path).take([3, 1])
    assert samples.names == ("3.png", "1.png")
    assert samples.sizes_hw.tolist() == [[30, 43], [30, 41]]
    assert rows(samples) == {"3.png": [("c3", [1, 2, 23, 20])], "1.png": [("c1", [1, 2, 21, 20])]}
    assert len(samples) == samples.num_boxes == 2
