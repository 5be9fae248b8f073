"""Test that one dataset is read alike from the files of every tool, with its splits, outlines and objects to ignore."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from box_folders import put_image, put_text

from headstart.data.boxes.reader import find_format, read_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.errors import DataError
from headstart.types.codes import ReadingKind

SIZE = (100, 80)
BOXES: dict[str, list[tuple[str, int, int, int, int]]] = {
    "a.png": [("nut", 10, 20, 50, 60), ("bolt", 60, 5, 90, 30)],
    "b.png": [("bolt", 5, 40, 25, 75)],
}
PLACE: dict[str, Any] = {"x": 19, "y": 19, "width": 9, "height": 9}


def wh(b: tuple[str, int, int, int, int]) -> dict[str, float]:
    return {"width": b[3] - b[1], "height": b[4] - b[2]}


def labelme(root: Path) -> None:
    for name, boxes in BOXES.items():
        shapes = [{"label": b[0], "points": [[b[3], b[4]], [b[1], b[2]]], "shape_type": "rectangle"} for b in boxes]
        put_text(root / name.replace("png", "json"), json.dumps({"shapes": shapes, "imagePath": f"..\\x\\{name}"}))


def via(root: Path) -> None:
    value = {
        f"{name}99": {
            "filename": name,
            "regions": [
                {
                    "shape_attributes": {"name": "polygon", "all_points_x": [b[1], b[3], b[3]],
                                         "all_points_y": [b[2], b[2], b[4]]},
                    "region_attributes": {"part": b[0]},
                }
                for b in boxes
            ],
        }
        for name, boxes in BOXES.items()
    }  # fmt: skip
    put_text(root / "via.json", json.dumps({"_via_img_metadata": value, "_via_settings": {}}))


def via_table(root: Path) -> None:
    lines = ["filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"]
    for name, boxes in BOXES.items():
        for i, b in enumerate(boxes):
            shape = json.dumps({"name": "rect", "x": b[1], "y": b[2], **wh(b)}).replace('"', '""')
            label = json.dumps({"type": b[0]}).replace('"', '""')
            lines.append(f'{name},99,"{{}}",{len(boxes)},{i},"{shape}","{label}"')
    put_text(root / "via.csv", "\n".join(lines))


def vott(root: Path) -> None:
    assets = {
        name: {
            "asset": {"name": name, "size": {"width": 100, "height": 80}},
            "regions": [{"tags": [b[0]], "boundingBox": {"left": b[1], "top": b[2], **wh(b)}} for b in boxes],
        }
        for name, boxes in BOXES.items()
    }
    put_text(root / "x-export.json", json.dumps({"assets": assets}))


def label_studio(root: Path) -> None:
    tasks = []
    for name, boxes in BOXES.items():
        result = [
            {
                "original_width": 100, "original_height": 80, "type": "rectanglelabels",
                "value": {"x": b[1], "y": b[2] / 0.8, "width": b[3] - b[1], "height": (b[4] - b[2]) / 0.8,
                          "rotation": 0, "rectanglelabels": [b[0]]},
            }
            for b in boxes
        ]  # fmt: skip
        tasks.append({"data": {"image": f"/data/upload/3/0123abcd-{name}"}, "annotations": [{"result": result}],
                      "predictions": [{"result": result}]})  # fmt: skip
    put_text(root / "project.json", json.dumps(tasks))


def createml(root: Path) -> None:
    value = [
        {
            "image": name,
            "annotations": [
                {"label": b[0], "coordinates": {"x": (b[1] + b[3]) / 2, "y": (b[2] + b[4]) / 2, **wh(b)}} for b in boxes
            ],
        }
        for name, boxes in BOXES.items()
    ]
    put_text(root / "_annotations.createml.json", json.dumps(value))


def edge_impulse(root: Path) -> None:
    boxes = {n: [{"label": b[0], "x": b[1], "y": b[2], **wh(b)} for b in found] for n, found in BOXES.items()}
    put_text(root / "bounding_boxes.labels", json.dumps({"type": "bounding-box-labels", "boundingBoxes": boxes}))


def ground_truth(root: Path) -> None:
    ids = {"nut": 0, "bolt": 1}
    lines = [
        {
            "source-ref": f"s3://bucket/x/{name}",
            "parts": {"annotations": [{"class_id": ids[b[0]], "left": b[1], "top": b[2], **wh(b)} for b in boxes]},
            "parts-metadata": {"class-map": {"0": "nut", "1": "bolt"}},
        }
        for name, boxes in BOXES.items()
    ]
    put_text(root / "output.manifest", "\n".join(map(json.dumps, lines)))


def supervisely(root: Path) -> None:
    for name, boxes in BOXES.items():
        objects = [
            {"classTitle": b[0], "geometryType": "rectangle", "points": {"exterior": [[b[1], b[2]], [b[3], b[4]]]}}
            for b in boxes
        ]
        value = {"size": {"height": 80, "width": 100}, "objects": objects}
        put_text(root / "ann" / f"{name}.json", json.dumps(value))


def darwin(root: Path) -> None:
    for name, boxes in BOXES.items():
        found = [
            {"name": b[0], "bounding_box": {"x": b[1], "y": b[2], "w": b[3] - b[1], "h": b[4] - b[2]}} for b in boxes
        ]
        put_text(root / f"{name}.json", json.dumps({"item": {"name": name}, "annotations": found}))


def bdd(root: Path) -> None:
    value = [
        {
            "name": name,
            "labels": [
                {"category": b[0], "box2d": {"x1": b[1], "y1": b[2], "x2": b[3], "y2": b[4]}} for b in boxes
            ],
        }
        for name, boxes in BOXES.items()
    ]  # fmt: skip
    put_text(root / "labels.json", json.dumps(value))


def datumaro(root: Path) -> None:
    ids = {"nut": 0, "bolt": 1}
    items = [
        {
            "id": name[:-4],
            "image": {"path": name, "size": [80, 100]},
            "annotations": [
                {"type": "bbox", "label_id": ids[b[0]], "bbox": [b[1], b[2], b[3] - b[1], b[4] - b[2]]} for b in boxes
            ],
        }
        for name, boxes in BOXES.items()
    ]
    categories = {"label": {"labels": [{"name": "nut"}, {"name": "bolt"}]}}
    put_text(root / "default.json", json.dumps({"categories": categories, "items": items}))


def fiftyone(root: Path) -> None:
    ids = {"nut": 0, "bolt": 1}
    labels = {
        name[:-4]: [
            {"label": ids[b[0]],
             "bounding_box": [b[1] / 100, b[2] / 80, (b[3] - b[1]) / 100, (b[4] - b[2]) / 80]}
            for b in boxes
        ]
        for name, boxes in BOXES.items()
    }  # fmt: skip
    put_text(root / "labels.json", json.dumps({"classes": ["nut", "bolt"], "labels": labels}))


def crowd_human(root: Path) -> None:
    lines = [
        {"ID": name[:-4], "gtboxes": [{"tag": b[0], "fbox": [b[1], b[2], b[3] - b[1], b[4] - b[2]]} for b in boxes]}
        for name, boxes in BOXES.items()
    ]
    put_text(root / "annotation.odgt", "\n".join(map(json.dumps, lines)))


def cvat(root: Path) -> None:
    images = "".join(
        f'<image name="{name}" width="100" height="80">'
        + "".join(
            f'<polygon label="{b[0]}" points="{b[1]},{b[2]};{b[3]},{b[2]};{b[3]},{b[4]}"/>'
            if i
            else f'<box label="{b[0]}" xtl="{b[1]}" ytl="{b[2]}" xbr="{b[3]}" ybr="{b[4]}"/>'
            for i, b in enumerate(boxes)
        )
        + "</image>"
        for name, boxes in BOXES.items()
    )
    put_text(root / "annotations.xml", f"<annotations><version>1.1</version>{images}</annotations>")


def kitti(root: Path) -> None:
    for name, boxes in BOXES.items():
        lines = [f"{b[0]} 0.00 0 1.85 {b[1]}.00 {b[2]}.00 {b[3]}.00 {b[4]}.00 1 1 3 -16 2 58 1.57" for b in boxes]
        put_text(root / "label_2" / f"{name[:-4]}.txt", "\n".join(lines))


def dota(root: Path) -> None:
    for name, boxes in BOXES.items():
        lines = [f"{b[1]} {b[2]} {b[3]} {b[2]} {b[3]} {b[4]} {b[1]} {b[4]} {b[0]} 0" for b in boxes]
        put_text(root / "labelTxt" / f"{name[:-4]}.txt", "\n".join(["imagesource:x", "gsd:0.1", *lines]))


def oid(root: Path) -> None:
    for name, boxes in BOXES.items():
        put_text(root / "Label" / f"{name[:-4]}.txt", "\n".join(" ".join(map(str, b)) for b in boxes))


def pascal(root: Path) -> None:
    for name, boxes in BOXES.items():
        lines = [f'Image filename : "x/{name}"', "# Top left pixel co-ordinates : (1, 1)"]
        for i, b in enumerate(boxes, 1):
            where = f'Bounding box for object {i} "{b[0]}" (Xmin, Ymin) - (Xmax, Ymax)'
            lines.append(f"{where} : ({b[1] + 1}, {b[2] + 1}) - ({b[3]}, {b[4]})")
        put_text(root / "Annotation" / f"{name[:-4]}.txt", "\n".join(lines))


def automl(root: Path) -> None:
    lines = [
        f"UNASSIGNED,gs://b/{name},{b[0]},{b[1] / 100},{b[2] / 80},,,{b[3] / 100},{b[4] / 80},,"
        for name, boxes in BOXES.items()
        for b in boxes
    ]
    put_text(root / "automl.csv", "\n".join(lines))


def make_sense(root: Path) -> None:
    lines = [
        f"{b[0]},{b[1]},{b[2]},{b[3] - b[1]},{b[4] - b[2]},{name},100,80"
        for name, boxes in BOXES.items()
        for b in boxes
    ]
    put_text(root / "labels.csv", "\n".join(lines))


def centers(root: Path) -> None:
    lines = ["image;class_id;cx;cy;w;h"] + [
        f"{name};{1 + (b[0] == 'bolt')};{(b[1] + b[3]) / 2:.1f};{(b[2] + b[4]) / 2:.1f};{b[3] - b[1]};{b[4] - b[2]}"
        for name, boxes in BOXES.items()
        for b in boxes
    ]
    put_text(root / "boxes.csv", "\n".join(lines).replace(".", ",").replace(",png", ".png"))
    put_text(root / "classes.txt", "nut\nbolt\n")  # ids from 1


def hugging_face(root: Path) -> None:
    rows = [
        {
            "file_name": name,
            "objects": {
                "bbox": [[b[1], b[2], b[3] - b[1], b[4] - b[2]] for b in boxes],
                "categories": [b[0] for b in boxes],
            },
        }
        for name, boxes in BOXES.items()
    ]
    put_text(root / "metadata.jsonl", "\n".join(map(json.dumps, rows)))


def records(root: Path) -> None:
    keys = ("label", "xmin", "ymin", "xmax", "ymax")
    rows = [{"image": name, **dict(zip(keys, b, strict=True))} for name, boxes in BOXES.items() for b in boxes]
    put_text(root / "boxes.json", json.dumps(rows))


def open_images(root: Path) -> None:
    names = {"nut": "/m/01", "bolt": "/m/02"}
    lines = ["ImageID,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf"] + [
        f"{name[:-4]},{names[b[0]]},1,{b[1] / 100},{b[3] / 100},{b[2] / 80},{b[4] / 80},0"
        for name, boxes in BOXES.items()
        for b in boxes
    ]
    put_text(root / "train-annotations-bbox.csv", "\n".join(lines))
    put_text(root / "class-descriptions-boxable.csv", "/m/01,nut\n/m/02,bolt\n")


WRITERS: dict[str, Callable[[Path], None]] = {
    "labelme": labelme, "via": via, "via-csv": via_table, "vott": vott, "label-studio": label_studio,
    "createml": createml, "edge-impulse": edge_impulse, "ground-truth": ground_truth, "supervisely": supervisely,
    "darwin": darwin, "bdd": bdd, "datumaro": datumaro, "fiftyone": fiftyone, "crowdhuman": crowd_human, "cvat": cvat,
    "kitti": kitti, "dota": dota, "words": oid, "pascal": pascal, "csv": automl, "csv-2": make_sense, "csv-3": centers,
    "hugging-face": hugging_face, "csv-4": records, "csv-5": open_images,
}  # fmt: skip


def found(samples: DetectionSamples) -> dict[str, list[tuple[str, list[float]]]]:
    return {
        name.rpartition("/")[2]: [
            (samples.class_names[k], xyxy.tolist()) for xyxy, k in zip(b.xyxy, b.class_ids, strict=True)
        ]
        for name, b in zip(samples.names, samples.boxes, strict=True)
    }


@pytest.mark.parametrize("kind", WRITERS)
def test_every_tool_gives_the_same_boxes(tmp_path: Path, kind: str) -> None:
    folder = {"supervisely": "img", "kitti": "image_2", "dota": "images", "words": "", "pascal": "PNGImages"}
    for i, name in enumerate(BOXES):
        put_image(tmp_path / folder.get(kind, "") / name, SIZE, seed=i)
    WRITERS[kind](tmp_path)
    assert find_format(tmp_path) == re.sub(r"-\d$", "", kind)
    samples = read_boxes(tmp_path)
    boxes = found(samples)
    assert boxes.keys() == BOXES.keys()
    for name, expected in BOXES.items():
        assert sorted(label for label, _ in boxes[name]) == sorted(b[0] for b in expected)
        ours = sorted(xyxy for _, xyxy in boxes[name])
        np.testing.assert_allclose(ours, sorted(list(b[1:]) for b in expected), atol=0.11)


@pytest.mark.parametrize("kind", ["createml", "labelme", "edge-impulse"])
def test_splits_come_from_the_folders_of_tools(tmp_path: Path, kind: str) -> None:
    for split in ("train", "valid"):
        for i, name in enumerate(BOXES):
            put_image(tmp_path / split / name, SIZE, seed=i + 10 * (split == "valid"))
        WRITERS[kind](tmp_path / split)
    samples = read_boxes(tmp_path)
    assert sorted(samples.split) == ["train", "train", "val", "val"]
    assert samples.num_boxes == 6


def test_faces_in_blocks_with_objects_to_ignore(tmp_path: Path) -> None:
    for i, name in enumerate(("0--Parade/a.jpg", "b.jpg")):
        put_image(tmp_path / "images" / name, SIZE, seed=i)
    faces = "10 20 40 40 0 0 0 0 0 0\n0 0 9 9 0 0 0 1 0 0\n"
    put_text(tmp_path / "wider_face_train_bbx_gt.txt", f"0--Parade/a.jpg\n2\n{faces}b.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n")
    samples = read_boxes(tmp_path)
    assert found(samples) == {"a.jpg": [("face", [10, 20, 50, 60]), ("face", [0, 0, 9, 9])], "b.jpg": []}
    assert samples.boxes[0].is_crowd.tolist() == [False, True]


def test_empty_text_files_are_images_without_objects(tmp_path: Path) -> None:
    for i, name in enumerate((*BOXES, "c.png", "d.png")):
        put_image(tmp_path / "images" / name, SIZE, seed=i)
    dota(tmp_path)
    put_text(tmp_path / "labelTxt" / "c.txt", "")
    put_text(tmp_path / "labelTxt" / "d.txt", "1 2 3\n")
    put_text(tmp_path / "notes.txt", "taken in spring\n")
    samples = read_boxes(tmp_path)
    assert [len(b) for b in samples.boxes] == [2, 1, 0]
    problems = [("bad-line", "labelTxt/d.txt"), ("no-usable-box", "images/d.png")]
    assert [(p.kind, p.name) for p in samples.problems] == problems


def put_visdrone(root: Path) -> None:
    put_text(root / "annotations" / "a.txt", "10,20,40,40,1,4,0,0\n0,0,30,30,0,0,0,0,\n60,5,30,25,1,1,0,0\n")


def put_kitti(root: Path) -> None:
    tail = "1 1 3 -16 2 58 1.57"
    put_text(root / "label_2" / "a.txt", f"Car 0 0 1.8 10 20 50 60 {tail}\nDontCare -1 -1 -10 0 0 30 30 {tail}\n")


def put_cvat(root: Path) -> None:
    boxes = (
        '<box label="car" xtl="10" ytl="20" xbr="50" ybr="60"/>'
        '<box label="car" xtl="0" ytl="0" xbr="30" ybr="30"><attribute name="ignore">true</attribute></box>'
    )
    put_text(root / "x.xml", f'<annotations><image name="a.png">{boxes}</image></annotations>')


def put_open_images(root: Path) -> None:
    text = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
    put_text(root / "x.csv", text + "a,x,Car,1,0.1,0.5,0.25,0.75,0\na,x,Car,1,0,0.3,0,0.375,1\n")


def put_labelme(root: Path) -> None:
    shapes = [
        {"label": "car", "points": [[10, 20], [50, 60]], "shape_type": "rectangle", "difficult": False},
        {"label": "car", "points": [[0, 0], [30, 30]], "shape_type": "rectangle", "difficult": True},
    ]
    put_text(root / "a.json", json.dumps({"shapes": shapes, "imagePath": "a.png"}))


@pytest.mark.parametrize("put", [put_visdrone, put_kitti, put_cvat, put_open_images, put_labelme])
def test_objects_to_ignore_are_marked_in_every_format(tmp_path: Path, put: Callable[[Path], None]) -> None:
    put_image(tmp_path / "a.png", SIZE)
    put(tmp_path)
    boxes = read_boxes(tmp_path).boxes[0]
    assert {tuple(xyxy) for xyxy in boxes.xyxy[boxes.is_crowd].tolist()} == {(0, 0, 30, 30)}
    assert (10, 20, 50, 60) in {tuple(xyxy) for xyxy in boxes.xyxy[~boxes.is_crowd].tolist()}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.txt", "0 0.3 0.5 0.4 0.5 0.87\n"),
        ("boxes.csv", "image,label,score,xmin,ymin,xmax,ymax\na.png,car,0.8,1,2,30,40\n"),
        ("boxes.json", '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]'),
        ("a.json", '{"shapes": [{"label": "x", "points": [[1, 2], [30, 40]], "score": 0.5}], "imagePath": "a.png"}'),
        ("a.xml", "<annotation><object><name>x</name><score>0.4</score><bndbox><xmin>1</xmin><ymin>2</ymin>"
                  "<xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"),
    ],
)  # fmt: skip
def test_predictions_are_never_annotations(tmp_path: Path, file: str, text: str) -> None:
    put_image(tmp_path / "a.png", SIZE)
    put_text(tmp_path / file, text)
    with pytest.raises(DataError):
        read_boxes(tmp_path)


@pytest.mark.parametrize("text", ["1 2 3 4 5 6 7\n8 9 10 11 12 13 14\n", "x=10 y=20 w=30, h=40 15 16 17 18 19 20 21\n"])
def test_unknown_files_beside_images_are_named(tmp_path: Path, text: str) -> None:
    for i in range(3):
        put_image(tmp_path / "images" / f"{i}.png", SIZE, seed=i)
        put_text(tmp_path / "notes" / f"{i}.txt", text)
    with pytest.raises(DataError, match=r"notes/0\.txt"):
        read_boxes(tmp_path)


def test_a_table_of_unknown_boxes_is_named_unless_another_has_labels(tmp_path: Path) -> None:
    put_image(tmp_path / "a.png", SIZE)
    put_text(tmp_path / "x.csv", "image_name,BoxesString\na.png,1 2 30 40;5 6 20 30\n")
    with pytest.raises(DataError, match=r"x\.csv"):
        read_boxes(tmp_path)
    put_text(tmp_path / "labels.csv", "image_name,label\na.png,nut\n")
    assert find_format(tmp_path) is None


def test_video_tracks_name_the_export(tmp_path: Path) -> None:
    put_image(tmp_path / "a.png", SIZE)
    put_text(tmp_path / "x.xml", '<annotations><track id="0" label="x"></track></annotations>')
    with pytest.raises(DataError, match="tracks"):
        read_boxes(tmp_path)


def test_a_table_without_class_column_names_its_columns(tmp_path: Path) -> None:
    put_image(tmp_path / "a.png", SIZE)
    put_text(tmp_path / "x.csv", "image,kind_of_part,xmin,ymin,xmax,ymax\na.png,nut,1,2,30,40\n")
    with pytest.raises(DataError, match="kind_of_part"):
        read_boxes(tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("x.csv", "image,label,xmin,ymin,xmax,ymax\na.png,nut,1,2,30,40\nb.png,nut,one,2,30,40\n"),
        ("x.json", json.dumps([{"image": "a.png", "annotations": [{"label": "nut", "coordinates": PLACE}]},
                               {"image": "b.png", "annotations": [{"label": "nut", "coordinates": {"x": 9}}]}])),
    ],
)  # fmt: skip
def test_images_that_lost_all_boxes_are_not_empty(tmp_path: Path, file: str, text: str) -> None:
    for i, name in enumerate(("a.png", "b.png")):
        put_image(tmp_path / name, SIZE, seed=i)
    put_text(tmp_path / file, text)
    samples = read_boxes(tmp_path)
    assert samples.names == ("a.png",)
    assert "no-usable-box" in {p.kind for p in samples.problems}


def test_numbered_classes_of_hugging_face(tmp_path: Path) -> None:
    rows = []
    for i in range(3):
        put_image(tmp_path / f"{i}.png", seed=i)
        rows.append({"file_name": f"{i}.png", "objects": {"bbox": [[10, 20, 40, 40]], "categories": [i % 2]}})
    put_text(tmp_path / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    samples = read_boxes(tmp_path)
    assert samples.class_names == ("0", "1")
    assert [n.examples for n in samples.notes if n.kind is ReadingKind.CLASSES_NUMBERED] == [("0", "1")]
    put_text(tmp_path / "classes.txt", "cat\ndog\n")
    samples = read_boxes(tmp_path)
    assert samples.class_names == ("cat", "dog")
    kinds = {n.kind for n in samples.notes}
    assert ReadingKind.NAMES_FROM_FILE in kinds
    assert ReadingKind.CLASSES_NUMBERED not in kinds
    assert [(t.path, t.role) for t in samples.inventory.tables] == [
        ("metadata.jsonl", "labels"),
        ("classes.txt", "names"),
    ]


def _flagged_labelme(root: Path) -> None:
    labelme(root)
    _edit(root / "a.json", lambda value: value["shapes"][1].update(flags={"difficult": True, "other": True}))


def _flagged_coco(root: Path) -> None:
    boxes = [{"id": 1, "bbox": [10, 20, 40, 40]}, {"id": 2, "bbox": [60, 5, 30, 25], "attributes": {"difficult": True}}]
    value = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{**box, "image_id": 1, "category_id": 1} for box in boxes],
        "categories": [{"id": 1, "name": "nut"}],
    }
    put_text(root / "c.json", json.dumps(value))


def _flagged_supervisely(root: Path) -> None:
    supervisely(root)
    _edit(next(root.rglob("a.png.json")), lambda value: value["objects"][1].update(tags=[{"name": "difficult"}]))


def _edit(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize("write", [_flagged_labelme, _flagged_coco, _flagged_supervisely])
def test_flags_in_attributes_mark_objects_that_do_not_count(tmp_path: Path, write: Callable[[Path], None]) -> None:
    for i, name in enumerate(BOXES):
        put_image(tmp_path / name, SIZE, seed=i)
    write(tmp_path)
    samples = read_boxes(tmp_path)
    boxes = samples.boxes[samples.names.index("a.png")]
    assert boxes.xyxy[~boxes.is_crowd].tolist() == [[10, 20, 50, 60]]
    (note,) = [n for n in samples.notes if n.kind is ReadingKind.OBJECTS_IGNORED]
    assert (note.count, note.evidence["reasons"]) == (1, {"difficult": 1})


@pytest.mark.parametrize(("second", "splits"), [("validation", {"train", "val"}), ("more", {"train", ""})])
def test_splits_come_from_the_names_of_files_of_several_images(tmp_path: Path, second: str, splits: set[str]) -> None:
    ground_truth(tmp_path)
    lines = (tmp_path / "output.manifest").read_text(encoding="utf-8").splitlines()
    (tmp_path / "output.manifest").unlink()
    for stem, start in (("train", 0), (second, 2)):
        text = lines[0].replace("a.png", f"{start}.png") + "\n" + lines[1].replace("b.png", f"{start + 1}.png")
        put_text(tmp_path / f"{stem}.manifest", text)
        for i in (start, start + 1):
            put_image(tmp_path / f"{i}.png", SIZE, seed=i)
    assert set(read_boxes(tmp_path).split) == splits
