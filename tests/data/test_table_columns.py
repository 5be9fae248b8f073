"""Test the roles of columns: several annotators, groups that are not known, metadata of class folders."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reading import info, notes_of, put
from typer.testing import CliRunner

from headstart.cli.main import app
from headstart.data.grouping import group_ids
from headstart.data.reading_notes import restart_in_classes
from headstart.data.sources import read
from headstart.errors import DataError, UsageError
from headstart.quality.group_candidates import propose_groups
from headstart.types.codes import ReadingKind, UnusedReason

CLASSES = ("control", "treated")


def put_noise(root: Path, *names: str) -> None:
    """Write images that are not alike."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)


def check(data: Path, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(
        app, ["check", str(data), "--pixels-only", "--json", "-", *options], standalone_mode=False
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    value: dict[str, Any] = json.loads(result.stdout)
    return value


VOTES = [
    ("cat", "cat", "dog"),
    ("dog", "dog", "dog"),
    ("cat", "dog", ""),
    ("dog", "cat", "dog"),
    ("cat", "cat", "unknown"),
    ("dog", "dog", ""),
]


@pytest.mark.parametrize(
    "columns",
    [
        ("rater1", "rater2", "rater3"),
        ("annotator_1", "annotator_2", "annotator_3"),
        ("Reader A", "Reader B", "Reader C"),
        ("label_a", "label_b", "label_c"),
        ("label1", "label2", "label3"),
        ("rater1_label", "rater2_label", "rater3_label"),
    ],
)
def test_columns_of_annotators_give_the_majority_label(tmp_path: Path, columns: tuple[str, ...]) -> None:
    put(tmp_path, *(f"{i}.png" for i in range(6)))
    rows = [",".join([f"{i}.png", f"p{i}", *votes]) for i, votes in enumerate(VOTES)]
    (tmp_path / "t.csv").write_text("\n".join([",".join(["image", "patient", *columns]), *rows]))
    samples = read(tmp_path)
    assert [s.label for s in samples] == ["cat", "dog", "dog", "cat", "dog"]
    assert samples.columns == {"patient": ("p0", "p1", "p3", "p4", "p5")}
    note = notes_of(samples)[ReadingKind.LABELS_BY_MAJORITY]
    assert (note.count, note.examples) == (3, ("2.png",))
    assert note.evidence == {"num_rows": 15, "num_images": 6, "num_tied": 1, "columns": list(columns)}
    value = check(tmp_path)
    assert value["unused"] == [{"path": "2.png", "reason": UnusedReason.TIED_LABELS}]
    assert value["tables"][0]["unused_rows"] == {"tied": 1}
    assert value["classes"] == {"cat": {"none": 2}, "dog": {"none": 3}}


def test_annotators_of_one_mind_are_stated(tmp_path: Path) -> None:
    put(tmp_path, *(f"{i}.png" for i in range(4)))
    (tmp_path / "t.csv").write_text("image,rater1,rater2\n" + "".join(f"{i}.png,{i % 2},{i % 2}\n" for i in range(4)))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    samples = read(tmp_path)
    assert [s.label for s in samples] == ["cat", "dog", "cat", "dog"]
    assert notes_of(samples)[ReadingKind.LABELS_BY_MAJORITY].count == 0
    assert samples.used_columns["label_column"] == "rater1, rater2"
    assert read(tmp_path, label_column="rater2").used_columns["label_column"] == "rater2"


def test_several_labels_of_an_image_are_no_annotators(tmp_path: Path) -> None:
    put(tmp_path, *(f"{i}.png" for i in range(4)))
    rows = "0.png,cat,dog\n1.png,dog,cat\n2.png,cat,dog\n3.png,dog,cat\n"
    (tmp_path / "t.csv").write_text("image,label_1,label_2\n" + rows)
    with pytest.raises(DataError, match="several labels"):
        read(tmp_path)
    (tmp_path / "t.csv").write_text(
        "image,label_a,label_b\n0.png,cat,dog\n1.png,dog,fox\n2.png,cat,fox\n3.png,fox,cat\n"
    )
    with pytest.raises(UsageError):
        read(tmp_path / "t.csv")


@pytest.mark.parametrize("word", ["unknown", "NA", "", "none", "-", "N/A", "nan"])
def test_cells_that_name_no_group_are_groups_of_their_own(tmp_path: Path, word: str) -> None:
    put(tmp_path, *(f"{i}.png" for i in range(8)))
    groups = ["s17", "s17", "s42", "s42", word, word, word, word]
    rows = [f"{i}.png,{'ab'[i % 2]},{group}" for i, group in enumerate(groups)]
    (tmp_path / "t.csv").write_text("\n".join(["image,label,group", *rows]))
    samples = read(tmp_path)
    ids, _ = group_ids(samples, None)
    assert ids is not None
    assert sorted(Counter(ids.tolist()).values()) == [1, 1, 1, 1, 2, 2]
    note = notes_of(samples)[ReadingKind.GROUPS_UNKNOWN]
    assert (note.count, note.evidence["column"], note.examples[0]) == (4, "group", "4.png")
    assert [a["count"] for a in check(tmp_path)["assumptions"] if a["kind"] == "groups_unknown"] == [4]
    (tmp_path / "t.csv").write_text("\n".join(["image,label,patient", *rows]))
    samples = read(tmp_path)
    ids, decision = group_ids(samples, "patient")
    assert ids is not None
    assert len(set(ids.tolist())) == 6
    assert decision.evidence["num_without_group"] == 4
    (named,) = [c for c in propose_groups(samples) if c.source == "named"]
    assert (named.keys.count(None), named.grouping["num_alone"]) == (4, 4)
    assert info(samples)["0.png"] == ("a", None, None)


def write_folders(root: Path) -> list[str]:
    names = [f"{label}/{i}.png" for label in ("benign", "malignant") for i in range(4)]
    put(root, *names)
    return names


@pytest.mark.parametrize("options", [{}, {"layout": "{label}/*"}])
def test_columns_of_metadata_apply_to_class_folders(tmp_path: Path, options: dict[str, str]) -> None:
    names = write_folders(tmp_path)
    ages = [f"{name},p{i // 2},{30 + i // 4}" for i, name in enumerate(names)]
    (tmp_path / "metadata.csv").write_text("\n".join(["image,patient,age", *ages]))
    (tmp_path / "sites.csv").write_text("\n".join(["image,lesion", *(f"{n},l{i}" for i, n in enumerate(names))]))
    samples = read(tmp_path, **options)
    assert samples.class_names == ("benign", "malignant")
    assert samples.columns["patient"] == ("p0", "p0", "p1", "p1", "p2", "p2", "p3", "p3")
    assert samples.columns["lesion"][-1] == "l7"
    assert {(t.path, t.role, t.num_used) for t in samples.inventory.tables} == {
        ("metadata.csv", "columns", 8),
        ("sites.csv", "columns", 8),
    }


def test_a_table_with_numbers_gives_its_patients_to_class_folders(tmp_path: Path) -> None:
    names = write_folders(tmp_path)
    rows = [f"{name},p{i // 2},{i % 2}" for i, name in enumerate(names)]
    (tmp_path / "metadata.csv").write_text("\n".join(["image,patient,smoker", *rows]))
    samples = read(tmp_path)
    assert samples.class_names == ("benign", "malignant")
    assert samples.columns["patient"][:3] == ("p0", "p0", "p1")
    assert samples.columns["smoker"][:2] == ("0", "1")
    assert check(tmp_path)["unused"] == []


def test_columns_of_metadata_apply_to_a_table_of_labels(tmp_path: Path) -> None:
    names = write_folders(tmp_path)
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *(f"{n},{n[0]}" for n in names)]))
    rows = [f"{name},p{i // 2}" for i, name in enumerate(names)]
    (tmp_path / "patients.csv").write_text("\n".join(["image,patient", *rows]))
    samples = read(tmp_path, table="labels.csv")
    assert samples.columns == {}
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *(f"{n},{n.split('/')[0]}" for n in names)]))
    samples = read(tmp_path)
    assert samples.used_columns["label_column"] == "label"
    assert samples.columns == {"patient": ("p0", "p0", "p1", "p1", "p2", "p2", "p3", "p3")}


@pytest.mark.parametrize("column", ["group", "dish"])
def test_ids_of_one_name_in_several_classes_are_a_question_with_both_counts(tmp_path: Path, column: str) -> None:
    names = [f"{label[0]}{dish}_{i}.png" for label in CLASSES for dish in range(1, 7) for i in range(4)]
    put_noise(tmp_path, *names)
    rows = [f"{n},{'control' if n[0] == 'c' else 'treated'},dish{n[1]}" for n in names]
    (tmp_path / "t.csv").write_text("\n".join([f"image,label,{column}", *rows]))
    options = [] if column == "group" else ["--group-column", column]
    with pytest.raises(UsageError, match="several readings fit") as caught:
        check(tmp_path, *options)
    assert [int(n) for n in re.findall(r": (\d+) groups", str(caught.value))] == [6, 12]
    chosen = [shlex.split(o) for o in re.findall(r"--group-from \S+(?= for \()", str(caught.value.hint))]
    found = [check(tmp_path, *options, *option)["group_patterns"] for option in chosen]
    assert [[g["num_groups"] for g in groups if g["status"] == "applied"] for groups in found] == [[6], [12]]


@pytest.mark.parametrize(
    ("column", "number", "is_asked"), [("dish", 1, True), ("patient", 1, False), ("dish", 4711, False)]
)
def test_ids_restart_only_if_they_count_from_one_and_name_no_unit(column: str, number: int, is_asked: bool) -> None:
    pairs = [(f"{column}{number + i}", label) for label in CLASSES for i in range(6)]
    assert restart_in_classes(column, pairs) is is_asked


@pytest.mark.parametrize("has_folders", [False, True])
def test_folds_are_a_question_and_both_options_work(tmp_path: Path, has_folders: bool) -> None:
    names = [f"{label}/{i}.png" if has_folders else f"{label}{i}.png" for label in CLASSES for i in range(6)]
    put_noise(tmp_path, *names)
    rows = [f"{n},{'control' if n[0] == 'c' else 'treated'},{i % 3}" for i, n in enumerate(names)]
    (tmp_path / "t.csv").write_text("\n".join(["image,label,fold", *rows]))
    with pytest.raises(UsageError, match="`0` 4, `1` 4, `2` 4") as caught:
        read(tmp_path)
    assert caught.value.hint == "use --group-column fold for (1), --split-column none for (2)"
    held_out = read(tmp_path, group_column="fold")
    assert Counter(s.group for s in held_out) == {"0": 4, "1": 4, "2": 4}
    assert {s.group for s in read(tmp_path, split_column="none")} == {None}
    assert check(tmp_path, "--group-column", "fold")["classes"] == {"control": {"none": 6}, "treated": {"none": 6}}


def test_unusable_splits_of_a_table_stop_beside_class_folders(tmp_path: Path) -> None:
    put(tmp_path, *(names := [f"{label}/{i}.png" for label in CLASSES for i in range(3)]))
    rows = [f"{n},{n.partition('/')[0]},part{i}" for i, n in enumerate(names)]
    (tmp_path / "t.csv").write_text("\n".join(["image,label,split", *rows]))
    with pytest.raises(DataError, match="expected train, val or test"):
        read(tmp_path)
    assert {s.split for s in read(tmp_path, split_column="none")} == {None}


@pytest.mark.parametrize("cells", ["{}", "0.{}", "0.5 0.{}"])
def test_numbers_beside_images_of_class_folders_are_named_as_unused(tmp_path: Path, cells: str) -> None:
    put_noise(tmp_path, *(names := write_folders(tmp_path)))
    for i, name in enumerate(names):
        (tmp_path / name).with_suffix(".txt").write_text(cells.format(i % 2))
    value = check(tmp_path)
    assert value["classes"] == {"benign": {"none": 4}, "malignant": {"none": 4}}
    assert {u["reason"] for u in value["unused"]} == {"table_not_understood"}
    assert [(u["kind"], u["count"]) for u in value["unused_data"]] == [("tables_unused", 8)]


def test_words_beside_images_of_class_folders_are_a_question_and_both_options_work(tmp_path: Path) -> None:
    put_noise(tmp_path, *(names := write_folders(tmp_path)))
    for i, name in enumerate(names):
        (tmp_path / name).with_suffix(".txt").write_text("xy"[i % 2])
    with pytest.raises(UsageError) as caught:
        read(tmp_path)
    assert caught.value.hint == "use --table '*.txt' for (1), --layout '{label}/*' for (2)"
    assert read(tmp_path, table="*.txt").class_names == ("x", "y")
    assert read(tmp_path, layout="{label}/*").class_names == ("benign", "malignant")
