"""Test layouts that people have: classes, splits and counts, or a question whose options work."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from headstart.cli.main import app
from headstart.data.sources import read
from headstart.errors import HeadstartError
from headstart.types.codes import ReadingKind, UnusedReason

Counts = dict[str, dict[str, int]]
KINDS = ("cat", "dog")


def put(root: Path, *names: str) -> None:
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i % 256, 7, 9)).save(path, format="PNG")


def write(root: Path, name: str, *lines: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def counts(root: Path, **options: Any) -> Counts:
    found: dict[str, Counter[str]] = {}
    for sample in read(root, **options):
        found.setdefault(str(sample.label), Counter())[sample.split or "none"] += 1
    return {name: dict(splits) for name, splits in found.items()}


def table_without_endings(root: Path) -> None:
    put(root, "train/a1.png", "train/a2.png", "train/b1.png", "test/c1.png")
    write(root, "train.csv", "id,label", "a1,cat", "a2,dog", "b1,cat")
    write(root, "sample_submission.csv", "id,label", "c1,cat")


def unusual_columns(root: Path) -> None:
    put(root, *(f"part_{i % 2 + 1}/x{i}.png" for i in range(8)))
    write(root, "meta.csv", "lesion,image_id,dx,age", *(f"L{i // 2},x{i},{KINDS[i // 4]},{40 + i}" for i in range(8)))


def one_column_per_class(root: Path) -> None:
    for split in ("train", "valid"):
        put(root, f"{split}/1.png", f"{split}/2.png")
        write(root, f"{split}/_classes.csv", "filename, cat, dog", "1.png, 1, 0", "2.png, 0, 1")


def flags_for_splits(root: Path) -> None:
    put(root, *(f"images/{i}.png" for i in range(4)))
    write(root, "labels.csv", "image,label,is_valid", *(f"images/{i}.png,{KINDS[i % 2]},{i > 1}" for i in range(4)))


def lists_of_paths(root: Path) -> None:
    put(root, "cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    write(root, "meta/train.txt", "cat/1", "dog/1")
    write(root, "meta/test.txt", "cat/2", "dog/2")


def lists_of_held_out_images(root: Path) -> None:
    put(root, *(f"{k}/{i}.png" for k in KINDS for i in range(3)))
    write(root, "testing_list.txt", "cat/0.png", "dog/0.png")
    write(root, "validation_list.txt", "cat/1.png", "dog/1.png")


def numbered_split_file(root: Path) -> None:
    put(root, "images/cat/1.png", "images/cat/2.png", "images/dog/1.png", "images/dog/2.png")
    write(root, "images.txt", "1 cat/1.png", "2 cat/2.png", "3 dog/1.png", "4 dog/2.png")
    write(root, "train_test_split.txt", "1 1", "2 0", "3 1", "4 0")


def table_without_header(root: Path) -> None:
    put(root, "cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    write(root, "all.csv", *(f"{s},gs://b/{n},{n[:3]}" for s, n in (
        ("TRAIN", "cat/1.png"), ("TEST", "cat/2.png"), ("TRAIN", "dog/1.png"), ("TEST", "dog/2.png"),
    )))  # fmt: skip


def doubled_split_folders(root: Path) -> None:
    put(root, *(f"seg_{s}/seg_{s}/{k}/{i}.png" for s in ("train", "test") for k in KINDS for i in range(2)))
    put(root, "seg_pred/seg_pred/1.png")


def copied_class_folders(root: Path) -> None:
    names = [f"{k}/{i}.png" for k in KINDS for i in range(2)]
    put(root, *(f"cells/{n}" for n in names))
    for name in names:
        copy = root / "cells" / "cells" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((root / "cells" / name).read_bytes())


def masks_beside_images(root: Path) -> None:
    put(root, *(f"{k}/{kind}/{i}.png" for k in KINDS for kind in ("images", "masks") for i in range(2)))


def numbers_and_names(root: Path) -> None:
    put(root, "img/1.png", "img/2.png")
    write(root, "train.csv", "image_id,label", "1.png,0", "2.png,1")
    write(root, "label_map.json", json.dumps({"0": "cat", "1": "dog"}))


def label_studio_tasks(root: Path) -> None:
    put(root, "upload/3/1.png", "upload/3/2.png")
    rows = [
        {"data": {"image": f"/data/upload/3/{i + 1}.png"}, "annotations": [{"result": [{"value": {"choices": [k]}}]}]}
        for i, k in enumerate(KINDS)
    ]
    write(root, "project.json", json.dumps(rows))


def spellings(root: Path) -> None:
    put(root, *(f"{i}.png" for i in range(4)))
    write(root, "labels.csv", "image,label", "0.png,cat", "1.png,CAT ", "2.png,dog", "3.png,nan")


def splits_before_paths(root: Path) -> None:
    put(root, *(f"images/{i}.png" for i in range(4)))
    write(root, "labels.csv", "image,label", *(f"{('train', 'test')[i // 2]}/{i}.png,{KINDS[i % 2]}" for i in range(4)))


def thumbnails_of_class_folders(root: Path) -> None:
    put(root, *(f"{top}{k}/{i}.png" for top in ("", "thumbnails/") for k in KINDS for i in range(2)))


def masks_by_name(root: Path) -> None:
    put(root, *(f"{k}/{k} ({i}){end}.png" for k in KINDS for i in range(2) for end in ("", "_mask", "_mask_1")))


def json_of_splits(root: Path) -> None:
    put(root, *(f"images/{k}_{i}.png" for k in KINDS for i in range(2)))
    parts = {s: [[f"{k}_{i}.png", j, k] for j, k in enumerate(KINDS)] for i, s in enumerate(("train", "test"))}
    write(root, "split.json", json.dumps({**parts, "val": []}))


def categories_without_boxes(root: Path) -> None:
    put(root, *(f"images/{i}.png" for i in range(4)))
    for i, split in enumerate(("train", "val")):
        images = [{"id": n, "file_name": f"images/{n}.png"} for n in (2 * i, 2 * i + 1)]
        labels = [{"image_id": image["id"], "category_id": image["id"] % 2} for image in images]
        categories = [{"id": n, "name": k} for n, k in enumerate(KINDS)]
        write(root, f"{split}.json", json.dumps({"images": images, "annotations": labels, "categories": categories}))


def table_in_another_folder(root: Path) -> None:
    put(root, *(f"images/{i}.png" for i in range(4)))
    write(root, "annotations/labels.csv", "image,label", *(f"../images/{i}.png,{KINDS[i % 2]}" for i in range(4)))


READ: list[tuple[Callable[[Path], None], Counts, int]] = [
    (table_without_endings, {"cat": {"none": 2}, "dog": {"none": 1}}, 1),
    (unusual_columns, {"cat": {"none": 4}, "dog": {"none": 4}}, 0),
    (one_column_per_class, {k: {"train": 1, "val": 1} for k in KINDS}, 0),
    (flags_for_splits, {k: {"train": 1, "val": 1} for k in KINDS}, 0),
    (lists_of_paths, {k: {"train": 1, "test": 1} for k in KINDS}, 0),
    (lists_of_held_out_images, {k: {"train": 1, "val": 1, "test": 1} for k in KINDS}, 0),
    (numbered_split_file, {k: {"train": 1, "test": 1} for k in KINDS}, 0),
    (table_without_header, {k: {"train": 1, "test": 1} for k in KINDS}, 0),
    (doubled_split_folders, {k: {"train": 2, "test": 2} for k in KINDS}, 1),
    (copied_class_folders, {k: {"none": 2} for k in KINDS}, 4),
    (masks_beside_images, {k: {"none": 2} for k in KINDS}, 4),
    (numbers_and_names, {k: {"none": 1} for k in KINDS}, 0),
    (label_studio_tasks, {k: {"none": 1} for k in KINDS}, 0),
    (splits_before_paths, {k: {"train": 1, "test": 1} for k in KINDS}, 0),
    (thumbnails_of_class_folders, {k: {"none": 2} for k in KINDS}, 4),
    (masks_by_name, {k: {"none": 2} for k in KINDS}, 8),
    (json_of_splits, {k: {"train": 1, "test": 1} for k in KINDS}, 0),
    (categories_without_boxes, {k: {"train": 1, "val": 1} for k in KINDS}, 0),
    (table_in_another_folder, {k: {"none": 2} for k in KINDS}, 0),
    (spellings, {"cat": {"none": 2}, "dog": {"none": 1}}, 1),
]


@pytest.mark.parametrize(("build", "expected", "num_unused"), READ, ids=lambda v: getattr(v, "__name__", None))
def test_layouts_are_read(tmp_path: Path, build: Callable[[Path], None], expected: Counts, num_unused: int) -> None:
    build(tmp_path)
    assert counts(tmp_path) == expected
    unused = [u for u in read(tmp_path).inventory.unused if u.path.endswith(".png")]
    assert len(unused) == num_unused
    out = CliRunner().invoke(app, ["check", str(tmp_path), "--pixels-only", "--json", "-"])
    value = json.loads(out.stdout)
    assert value["classes"] == expected
    assert [u for u in value["unused"] if u["path"].endswith(".png")] == [
        {"path": u.path, "reason": u.reason} for u in unused
    ]


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        (
            ["0.png,red", "1.png,red;round", "2.png,round", "3.png,red;big", "4.png,big;round", "5.png,big"],
            "multi-label",
        ),
        ([f"{i}.png,{'cat dog' if i == 0 else KINDS[i % 2]}" for i in range(6)], "multi-label"),
        ([f"{i}.png,{'a|b' if i % 2 else 'b|c'}" for i in range(6)], "multi-label"),
        ([f"""{i}.png,"['a', '{"bc"[i % 2]}']\"""" for i in range(6)], "multi-label"),
        ([f"{i}.png,{i * 1.37:.2f}" for i in range(12)], "regression"),
    ],
)
def test_other_tasks_are_refused_by_name(tmp_path: Path, rows: list[str], word: str) -> None:
    put(tmp_path, *(row.split(",")[0] for row in rows))
    write(tmp_path, "labels.csv", "image,label", *rows)
    with pytest.raises(HeadstartError, match=word):
        read(tmp_path)


@pytest.mark.parametrize(
    ("header", "cells", "word"),
    [
        ("image,label_1,label_2", lambda i: f"{'ab'[i % 2]},{'cd'[i % 2]}", "multi-label"),
        ("Id,Popularity,Eyes,Face", lambda i: f"{20 + 1.5 * i},{i % 2},{i % 3 // 2}", "regression"),
        ("image,age", lambda i: str(20 + i), "regression"),
    ],
)
def test_other_tasks_are_refused_by_their_columns(
    tmp_path: Path, header: str, cells: Callable[[int], str], word: str
) -> None:
    put(tmp_path, *(f"{i}.png" for i in range(60)))
    write(tmp_path, "labels.csv", header, *(f"{i}.png,{cells(i)}" for i in range(60)))
    with pytest.raises(HeadstartError, match=word):
        read(tmp_path)


def test_a_spreadsheet_is_named_where_nothing_else_gives_labels(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png")
    write(tmp_path, "labels.xlsx", "x")
    with pytest.raises(HeadstartError, match=r"labels\.xlsx"):
        read(tmp_path)


def test_labels_of_a_table_complete_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/1.png", "train/dog/2.png", "val/3.png", "val/4.png")
    write(tmp_path, "val.csv", "image,label", "val/3.png,cat", "val/4.png,dog")
    assert sum(n for splits in counts(tmp_path).values() for n in splits.values()) == 4


def test_excluded_files_are_named(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png", "cat/1_mask.png", "dog/2.png", "old/3.png")
    samples = read(tmp_path, exclude=("*_mask.png", "old"))
    assert samples.names == ["cat/1.png", "dog/2.png"]
    assert {u.path for u in samples.inventory.unused if u.reason == UnusedReason.EXCLUDED} == {
        "cat/1_mask.png",
        "old/3.png",
    }
    assert {n.kind: n.count for n in samples.notes}[ReadingKind.FILES_EXCLUDED] == 2
    with pytest.raises(HeadstartError, match="matches no file"):
        read(tmp_path, exclude=("nothing",))


def test_a_table_without_labels_gives_groups_and_columns(tmp_path: Path) -> None:
    put(tmp_path, *(f"{k}/{k}{i}.png" for k in KINDS for i in range(4)))
    write(
        tmp_path, "meta.csv", "file,patient,group", *(f"{k}{i}.png,p{i},{k}{i // 2}" for k in KINDS for i in range(4))
    )
    samples = read(tmp_path)
    assert samples.layout == "class folders"
    assert samples.columns["patient"] == ("p0", "p1", "p2", "p3") * 2
    assert {s.group for s in samples} == {"cat0", "cat1", "dog0", "dog1"}
    assert [(t.path, t.role, t.num_used) for t in samples.inventory.tables] == [("meta.csv", "columns", 8)]


def test_groups_in_several_classes_are_counted_both_ways(tmp_path: Path) -> None:
    put(tmp_path, *(f"{k}/dish{d}/{i}.png" for k in ("control", "treated") for d in range(1, 4) for i in range(2)))
    (note,) = (n for n in read(tmp_path).notes if n.kind is ReadingKind.GROUPS_SHARED)
    assert note.count == 3
    assert note.evidence == {
        "num_groups": 3,
        "num_if_separate": 6,
        "pattern": "^[^/]*/([^/]*)/",
        "pattern_if_separate": "^([^/]*)/([^/]*)/",
    }
    assert len({s.group for s in read(tmp_path)}) == 3


def test_splits_of_a_table_without_labels(tmp_path: Path) -> None:
    put(tmp_path, *(f"{k}/{i}.png" for k in KINDS for i in range(4)))
    rows = [f"{k}/{i},{'train' if i else 'test'}" for k in KINDS for i in range(4)]
    write(tmp_path, "splits.csv", "image,split", *rows)
    assert counts(tmp_path) == {k: {"train": 3, "test": 1} for k in KINDS}


def test_numbers_of_class_folders_are_named(tmp_path: Path) -> None:
    put(tmp_path, *(f"{i}/a.png" for i in (1, 2, 10)))
    write(tmp_path, "cat_to_name.json", json.dumps({"1": "rose", "2": "lily", "10": "iris", "11": "none here"}))
    samples = read(tmp_path)
    assert samples.class_names == ("iris", "lily", "rose")
    assert [t.path for t in samples.inventory.tables] == ["cat_to_name.json"]


def test_numbers_in_class_names_count_as_numbers(tmp_path: Path) -> None:
    put(tmp_path, *(f"{i}/a.png" for i in range(1, 12)))
    assert read(tmp_path).class_names == tuple(str(i) for i in range(1, 12))
