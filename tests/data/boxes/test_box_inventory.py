"""Test the inventory law on datasets with boxes: every file is used or unused with a reason, never both."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from box_folders import coco_json, put_image, put_text, voc_xml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from headstart.cli.main import app
from headstart.data.boxes.reader import read_boxes
from headstart.errors import HeadstartError

BOX = ("cat", (10, 20, 50, 60))
_ROWS = [{"image_id": i, "category_id": 1, "bbox": [10, 20, 40, 40]} for i in (1, 2)]
_COCO = coco_json({i: (f"{i}.png", (100, 80)) for i in (1, 2)}, _ROWS, {1: "cat"})
_SCORED = json.dumps([{**row, "score": 0.5} for row in _ROWS])
FOLDERS = (
    "",
    "images",
    "labels",
    "train",
    "train/images",
    "train/labels",
    "val",
    "Annotations",
    "a/b",
    "masks",
    ".git",
)
IMAGES = ("1.png", "2.png", "3.png")
TEXTS: Mapping[str, str] = {
    "1.xml": voc_xml([BOX]),
    "2.xml": voc_xml([BOX, ("dog", (0, 0, 30, 30))]),
    "4.xml": voc_xml([BOX]),
    "bad.xml": "<annotation>",
    "1.txt": "0 0.3 0.5 0.4 0.5\n",
    "2.txt": "1 0.3 0.5 0.4 0.5\nx\n",
    "train.txt": "1.png\n",
    "classes.txt": "cat\ndog\n",
    "obj.names": "cat\ndog\n",
    "data.yaml": "names: [cat, dog]\ntrain: train/images\nval: val\n",
    "instances_train.json": _COCO,
    "predictions.json": _SCORED,
    "boxes.csv": "image,label,xmin,ymin,xmax,ymax\n1.png,cat,10,20,50,60\n2.png,cat,10,20,50,60\n",
    "notes.doc": "x",
    "README.md": "x",
    "half.part": "x",
    "old.zip": "x",
}
FILES = st.sets(st.tuples(st.sampled_from(FOLDERS), st.sampled_from((*IMAGES, *IMAGES, *TEXTS))), max_size=9)
CORES: tuple[tuple[tuple[str, str], ...], ...] = (
    (("images", "1.png"), ("Annotations", "1.xml"), ("images", "2.png"), ("Annotations", "2.xml")),
    (("train/images", "1.png"), ("train/labels", "1.txt"), ("train/images", "2.png"), ("train/labels", "2.txt")),
    (("train", "1.png"), ("train", "2.png"), ("", "instances_train.json")),
    (("images", "1.png"), ("images", "2.png"), ("", "boxes.csv")),
)


def build(root: Path, files: set[tuple[str, str]]) -> None:
    for folder, name in files:
        path = root / folder / name
        if name in TEXTS:
            put_text(path, TEXTS[name])
        else:
            put_image(path, seed=int(name[0]))


@given(core=st.sampled_from(CORES), files=FILES)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_file_is_used_or_has_a_reason(core: tuple[tuple[str, str], ...], files: set[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), files | set(core))
        try:
            samples = read_boxes(folder)
        except HeadstartError:
            return
        present = {
            os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/")
            for place, _, names in os.walk(folder)
            for name in names
        }
        inventory = samples.inventory
        tables = [table.path for table in inventory.tables]
        used = {*inventory.images, *tables}
        unused = {file.path for file in inventory.unused if not file.path.endswith("/")}
        closed = tuple(file.path for file in inventory.unused if file.path.endswith("/"))
        assert len(tables) == len(set(tables))
        assert not used & unused
        assert set(samples.names) == set(inventory.images)
        assert {name for name in present if not name.startswith(closed or "\0")} == used | unused
        assert all(file.reason for file in inventory.unused)
        for table in inventory.tables:
            assert table.num_used + sum(table.unused_rows.values()) == table.num_rows
        assert sum(table.num_used for table in inventory.tables) == sum(map(len, samples.boxes))


def reasons(folder: Path, **options: list[str]) -> dict[str, str]:
    return {file.path: file.reason for file in read_boxes(folder, exclude=options.get("exclude")).inventory.unused}


def test_reasons_of_yolo(tmp_path: Path) -> None:
    build(
        tmp_path, set(CORES[1]) | {("", "data.yaml"), ("a/b", "3.png"), ("", "classes.txt"), ("", "predictions.json")}
    )
    put_text(tmp_path / "data.yaml", "names: [cat, dog]\ntrain: train/images\n")
    put_text(tmp_path / "a/b/3.txt", "0 0.3 0.5 0.4 0.5\n")
    put_text(tmp_path / "old" / "more.xml", "<x/>")
    assert reasons(tmp_path, exclude=["old"]) == {
        "a/b/3.png": "in_no_split",
        "a/b/3.txt": "in_no_split",
        "classes.txt": "copy",
        "old/more.xml": "excluded",
        "predictions.json": "predictions",
    }


def test_reasons_of_coco_with_copies(tmp_path: Path) -> None:
    build(tmp_path, {*CORES[2], ("train", "3.png"), ("", "notes.doc"), ("", "boxes.csv"), ("", "old.zip")})
    for name in ("1.xml", "2.xml"):
        put_text(tmp_path / "xml" / name, voc_xml([BOX]))
    assert reasons(tmp_path) == {
        "boxes.csv": "copy",
        "instances_train.json": "copy",
        "notes.doc": "not_an_image",
        "old.zip": "container",
        "train/3.png": "no-annotation",
    }


@pytest.mark.parametrize("core", CORES)
def test_check_writes_the_inventory(tmp_path: Path, core: tuple[tuple[str, str], ...]) -> None:
    build(tmp_path, {*core, ("", "README.md")})
    result = CliRunner().invoke(app, ["check", str(tmp_path), "--pixels-only", "--json", "-"])
    value = json.loads(result.stdout)
    files = sum(len(names) for _, _, names in os.walk(tmp_path))
    assert files == value["num_images"] + len(value["tables"]) + len(value["unused"])
    counts = [n for splits in value["classes"].values() for n in splits.values()]
    assert sum(n["boxes"] for n in counts) == value["num_boxes"] == sum(t["num_used"] for t in value["tables"])
    assert {u["path"]: u["reason"] for u in value["unused"]} == {"README.md": "not_an_image"}
    assert value["layout"]
    assert isinstance(value["assumptions"], list)
