"""Test reading images and labels from folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from reading import info, notes_of, put

from headstart.data.sources import read
from headstart.errors import DataError, UsageError
from headstart.types.codes import ReadingKind


def test_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "dog/1.png", "cat/b.png", "cat/a.png")
    samples = read(tmp_path)
    assert samples.names == ["cat/a.png", "cat/b.png", "dog/1.png"]
    assert samples.class_names == ("cat", "dog")
    assert samples.class_ids.tolist() == [0, 0, 1]
    assert samples.layout == "class folders"
    assert all(os.path.isabs(p) for p in samples.paths)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "VAL", "Testing"),
        ("training", "valid", "TEST"),
        ("trn", "Validation", "tst"),
    ],
)
def test_split_folders_in_any_case(tmp_path: Path, train: str, val: str, test: str) -> None:
    put(tmp_path, f"{train}/a/1.png", f"{train}/b/2.png", f"{val}/a/3.png", f"{test}/b/4.png")
    rows = info(read(tmp_path))
    assert [v[1] for _, v in sorted(rows.items(), key=lambda kv: kv[0].rpartition("/")[2])] == [
        "train",
        "train",
        "val",
        "test",
    ]


def test_wrapper_folder_is_skipped(tmp_path: Path) -> None:
    put(tmp_path, "archive/photos/train/a/1.png", "archive/photos/train/b/2.png", "archive/photos/test/a/3.png")
    samples = read(tmp_path)
    assert samples.class_names == ("a", "b")
    assert [s.split for s in samples] == ["test", "train", "train"]


def test_images_directly_in_test_split_are_excluded_with_note(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "train/b/2.png", "test/3.png", "test/4.png")
    samples = read(tmp_path)
    assert len(samples) == 2
    (note,) = samples.notes
    assert (note.kind, note.count) == (ReadingKind.UNLABELED_IMAGES, 2)
    assert note.evidence == {"folders": {"test/": 2}}
    unlabeled = {s.name: s.split for s in read(tmp_path, needs_labels=False) if s.label is None}
    assert unlabeled == {"test/3.png": "test", "test/4.png": "test"}


def test_class_and_group_folders(tmp_path: Path) -> None:
    put(tmp_path, "benign/patient1/1.png", "benign/patient2/1.png", "malign/patient3/1.png", "malign/patient3/2.png")
    assert info(read(tmp_path))["malign/patient3/2.png"] == ("malign", None, "patient3")
    assert read(tmp_path).has_inferred_groups  # the user did not set groups
    assert not read(tmp_path, layout="{label}/{group}/*").has_inferred_groups


def test_repeated_subfolder_names_are_classes(tmp_path: Path) -> None:
    names = [f"patient{i:02}/{kind}/{j}.png" for i in range(6) for kind in ("benign", "malign") for j in range(2)]
    samples = read(put(tmp_path, *names))
    assert samples.class_names == ("benign", "malign")
    assert samples.items[0].group == "patient00"


def test_group_in_two_classes_is_one_group(tmp_path: Path) -> None:
    put(tmp_path, "cat/site1/1.png", "cat/site2/2.png", "dog/site1/3.png", "dog/site2/4.png")
    assert {s.group for s in read(tmp_path)} == {"site1", "site2"}


def test_ambiguous_nested_folders_show_both_layouts(tmp_path: Path) -> None:
    put(tmp_path, *[f"{a}/{b}/{i}.png" for a in ("shirt", "dress") for b in ("indoor", "outdoor") for i in range(3)])
    with pytest.raises(UsageError) as caught:
        read(tmp_path)
    assert "{label}/{group}/*" in str(caught.value)
    assert "{group}/{label}/*" in str(caught.value)
    assert read(tmp_path, layout="{label}/{group}/*").class_names == ("dress", "shirt")
    assert read(tmp_path, layout="{group}/{label}/*").class_names == ("indoor", "outdoor")
    assert {s.group for s in read(tmp_path, layout="*/{label}/*")} == {None}


def test_splits_below_the_classes(tmp_path: Path) -> None:
    put(tmp_path, "cat/train/1.png", "cat/test/2.png", "dog/train/3.png", "dog/test/4.png")
    assert info(read(tmp_path))["dog/test/4.png"] == ("dog", "test", None)


def test_splits_next_to_other_folders_raise(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "test/a/2.png", "misc/a/3.png")
    with pytest.raises(UsageError, match="`misc`"):
        read(tmp_path)


def test_layout_without_match_raises(tmp_path: Path) -> None:
    put(tmp_path, "p1/train/cat_01.png", "p2/test/dog_02.png")
    rows = info(read(tmp_path, layout="{group}/{split}/{label}_*"))
    assert rows == {"p1/train/cat_01.png": ("cat", "train", "p1"), "p2/test/dog_02.png": ("dog", "test", "p2")}
    with pytest.raises(DataError, match=r"p1/train/cat_01\.png"):
        read(tmp_path, layout="{label}/*")
    with pytest.raises(UsageError, match=r"no \{label\}"):
        read(tmp_path, layout="{group}/*/*")
    with pytest.raises(UsageError, match="unknown field"):
        read(tmp_path, layout="{class}/*/*")


@pytest.mark.parametrize("pattern", ["{label}_*", r"^([a-z]+)_\d+", r"(?P<label>[a-z]+)_"])
def test_label_in_the_file_name(tmp_path: Path, pattern: str) -> None:
    put(tmp_path, "cat_1.png", "dog_2.png", "readme1.png")
    samples = read(tmp_path, label_pattern=pattern)
    assert info(samples) == {"cat_1.png": ("cat", None, None), "dog_2.png": ("dog", None, None)}
    assert notes_of(samples)[ReadingKind.UNLABELED_IMAGES].examples == ("readme1.png",)


def test_invalid_label_pattern_raises(tmp_path: Path) -> None:
    put(tmp_path, "cat_1.png")
    with pytest.raises(UsageError, match="capture group"):
        read(tmp_path, label_pattern="[a-z]+")
    with pytest.raises(UsageError, match="neither a template"):
        read(tmp_path, label_pattern="(")


def test_unsupported_files_raise_with_fix(tmp_path: Path) -> None:
    for name, hint in [("t.xlsx", "save as CSV"), ("t.7z", "unpack it"), ("t.png", "single image")]:
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UsageError, match=hint):
            read(tmp_path / name)
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "nothing")


def test_images_without_labels_for_other_tasks(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png")
    with pytest.raises(DataError, match="no class folders"):
        read(tmp_path)
    samples = read(tmp_path, needs_labels=False)
    assert [s.label for s in samples] == [None, None]
    assert samples.class_names == ()


def test_empty_folders_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="images"):
        read(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "slide.svs").write_bytes(b"x")
    with pytest.raises(DataError, match=r"1 \.svs file\b") as caught:
        read(tmp_path)
    assert "QuPath" in str(caught.value)


def test_system_files_are_ignored(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/2.png", ".hidden/3.png", "__MACOSX/a/4.png", ".ipynb_checkpoints/5.png", "a/._1.png")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "desktop.ini").write_bytes(b"x")
    (tmp_path / "c").mkdir()
    samples = read(tmp_path)
    assert samples.names == ["a/1.png", "b/2.png"]
    assert samples.problems == ()
    assert notes_of(samples)[ReadingKind.EMPTY_FOLDERS].examples == ("c",)


def test_similar_class_names_are_reported(tmp_path: Path) -> None:
    put(tmp_path, "Cat/1.png", "cats and dogs/1.png", "cats_and_dogs/2.png")
    note = notes_of(read(tmp_path))[ReadingKind.CLASSES_ALIKE]
    assert note.evidence == {"groups": [["cats and dogs", "cats_and_dogs"]]}


def test_unicode_forms_are_one_class(tmp_path: Path) -> None:
    put(tmp_path, "train/caf\u00e9/1.png", "test/cafe\u0301/2.png", "train/tea/3.png")
    assert read(tmp_path).class_names == ("caf\u00e9", "tea")


def test_data_folder_is_unchanged(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "labels.csv").write_text("image,label\na/1.png,a\nb/2.png,b\n")
    before = sorted((str(p), p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    read(tmp_path)
    assert sorted((str(p), p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before
