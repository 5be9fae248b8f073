"""Test damaged annotation files: any content gives boxes or an error, never a traceback."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from box_folders import coco_json, put_image, put_text, voc_xml
from event_text import finding_lines
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.boxes.reader import has_boxes, read_boxes
from headstart.errors import HeadstartError
from headstart.quality.box_inspection import inspect_box_dataset
from headstart.quality.report_findings import box_findings, box_report_to_json

GOOD = {
    "a.xml": voc_xml([("cat", (10, 20, 50, 60)), ("dog", ("1.5", 2, 30, 40))]),
    "x.json": coco_json(
        {1: ("a.png", (100, 80))},
        [
            {"image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 40]},
            {"image_id": 1, "category_id": 4, "bbox": [5, 5, 9, 9]},
        ],
        {3: "cat", 4: "dog"},
    ),
    "a.txt": "0 0.3 0.5 0.4 0.5\n1 0.1 0.25 0.5 0.25 0.5 0.75\n",
    "data.yaml": "train: images\nval: ./\nnames: {0: cat, 1: dog}\nnc: 2\n",
    "x.csv": "image,label,xmin,ymin,xmax,ymax\na.png,cat,10,20,50,60\na.png,dog,1,2,30,40\n",
}
PIECES = st.sampled_from(
    [
        "",
        "-1",
        "1e400",
        "nan",
        "null",
        "[]",
        "{}",
        "<",
        ">",
        "&x;",
        '"',
        "\x00",
        ",",
        ":",
        "\n",
        "9" * 400,
        "é",
        "\\",
        "../",
        "*a",
        "&a",
    ]
)


def mutate(data: st.DataObject, text: str) -> str:
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        stop = min(len(text), start + data.draw(st.integers(0, 12)))
        text = text[:start] + data.draw(PIECES) + text[stop:]
    return text


def read_all(folder: Path) -> None:
    try:
        has_boxes(folder)
        samples = read_boxes(folder)
    except HeadstartError:
        return
    for boxes, (height, width) in zip(samples.boxes, samples.sizes_hw, strict=True):
        assert np.isfinite(boxes.xyxy).all()
        assert (boxes.xyxy[:, 2:] > boxes.xyxy[:, :2]).all()
        assert (boxes.xyxy >= 0).all()
        assert (boxes.xyxy <= np.array([width, height] * 2)).all()
        assert ((boxes.class_ids >= 0) & (boxes.class_ids < len(samples.class_names))).all()
    report = inspect_box_dataset(samples)
    assert all("\n" not in line for line in finding_lines(box_findings(report)))
    json.dumps(box_report_to_json(report), allow_nan=False)


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=40)
@given(data=st.data())
def test_damaged_files_never_raise_unexpectedly(name: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        put_image(folder / "a.png", (100, 80))
        if name == "data.yaml":
            put_text(folder / "a.txt", GOOD["a.txt"])
        (folder / name).write_text(mutate(data, GOOD[name]), encoding="utf-8", errors="replace")
        read_all(folder)


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=15)
@given(content=st.binary(max_size=200))
def test_random_bytes_never_raise_unexpectedly(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        put_image(folder / "a.png", (100, 80))
        heads = {
            "a.xml": b"<annotation>",
            "x.json": b'{"images": [], "annotations": []}',
            "data.yaml": b"names:\ntrain:\n",
        }
        (folder / name).write_bytes(heads.get(name, b"") + content)
        read_all(folder)


@st.composite
def json_values(draw: st.DrawFn) -> object:
    simple = st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=5)
    return draw(
        st.recursive(simple, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=4), v, max_size=3))
    )


@settings(max_examples=60)
@given(data=st.data())
def test_random_json_never_raises_unexpectedly(data: st.DataObject) -> None:
    value = json.loads(GOOD["x.json"])
    for _ in range(data.draw(st.integers(1, 3))):
        part = data.draw(st.sampled_from(["images", "annotations", "categories"]))
        if data.draw(st.booleans()) and isinstance(value[part], list) and value[part]:
            entry = value[part][0]
            if isinstance(entry, dict) and entry:
                entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(json_values())
        else:
            value[part] = data.draw(json_values())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        put_image(folder / "a.png", (100, 80))
        put_text(folder / "x.json", json.dumps(value))
        read_all(folder)
