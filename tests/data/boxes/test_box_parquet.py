"""Test parquet files with boxes, as Hugging Face `datasets` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from box_folders import put_image

from headstart.data.boxes.reader import has_boxes, read_boxes
from headstart.data.sources import read
from headstart.errors import DataError
from headstart.types.codes import ReadingKind

pyarrow = pytest.importorskip("pyarrow")
NAMES = ["bolt", "nut", "washer"]
OBJECTS = [
    {"bbox": [[10.0, 20.0, 40.0, 40.0], [0.0, 0.0, 30.0, 20.0]], "category": [1, 0], "iscrowd": [False, True]},
    {"bbox": [[50.0, 5.0, 20.0, 70.0]], "category": [0], "iscrowd": [False]},
    {"bbox": [], "category": [], "iscrowd": []},
]


def put_table(path: Path, objects: list[Any], names: list[str] | None = NAMES) -> Path:
    """Write one row per value of `objects`, with the features of `datasets`."""
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = [put_image(path.parent / f"{i}.png", seed=i) for i in range(len(objects))]
    images = [image.read_bytes() for image in drawn]
    for image in drawn:
        image.unlink()
    rows = [{"image": {"bytes": data, "path": None}, "objects": o} for data, o in zip(images, objects, strict=True)]
    table = pyarrow.Table.from_pylist(rows)
    if names is not None:
        category = {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"}
        features = {"image": {"_type": "Image"}, "objects": {"category": category}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, path)
    return path


@pytest.mark.parametrize("form", ["lists", "items"])
def test_boxes_of_parquet_are_read(tmp_path: Path, form: str) -> None:
    items = [[dict(zip(o, values, strict=True)) for values in zip(*o.values(), strict=True)] for o in OBJECTS]
    table = put_table(tmp_path / "data.parquet", items if form == "items" else OBJECTS)
    assert has_boxes(table)
    samples = read_boxes(table)
    assert samples.class_names == ("bolt", "nut")
    assert dict(samples.declared) == {"bolt": 0, "nut": 1, "washer": 2}
    assert [b.xyxy[~b.is_crowd].tolist() for b in samples.boxes] == [[[10, 20, 50, 60]], [[50, 5, 70, 75]], []]
    assert [int(b.is_crowd.sum()) for b in samples.boxes] == [1, 0, 0]


def test_files_of_splits(tmp_path: Path) -> None:
    put_table(tmp_path / "d" / "data" / "train-00000-of-00001.parquet", OBJECTS)
    put_table(tmp_path / "d" / "data" / "test-00000-of-00001.parquet", OBJECTS[:1])
    samples = read_boxes(tmp_path / "d")
    assert sorted(samples.split) == ["test", "train", "train", "train"]


def test_numbers_without_names_stay_numbers(tmp_path: Path) -> None:
    samples = read_boxes(put_table(tmp_path / "data.parquet", OBJECTS, names=None))
    assert samples.class_names == ("0", "1")
    assert ReadingKind.CLASSES_NUMBERED in {note.kind for note in samples.notes}


def test_parquet_of_boxes_has_no_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="objects"):
        read(put_table(tmp_path / "data.parquet", OBJECTS))
