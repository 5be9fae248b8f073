"""Test that rows match the file at their path; files from elsewhere never contradict the row and are reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from reading import info, notes_of, put

from headstart.data.paths import Claim, PathFinder, PathMatch
from headstart.data.sources import read
from headstart.errors import DataError
from headstart.types.codes import ReadingKind
from headstart.types.records import Problem, Samples


def table(root: Path, name: str, *rows: str) -> Path:
    (root / name).write_text("\n".join(["image,label", *rows]))
    return root / name


def kinds(samples: Samples) -> dict[str, str]:
    return {p.name: p.kind for p in samples.problems}


TRAIN = Claim(splits=frozenset({"train"}))
CAT = Claim(label="cat", labels=frozenset({"cat", "dog"}))


@pytest.mark.parametrize(
    ("cell", "file", "claim", "how"),
    [
        ("a/1.png", "a/1.png", Claim(), "exact"),
        ("A/1.PNG", "a/1.png", Claim(), "respelled"),
        ("a/1", "a/1.png", Claim(), "respelled"),
        ("1", "images/1.png", Claim(), "elsewhere"),
        ("1.png", "images/1.png", TRAIN, "elsewhere"),
        ("1.png", "train/1.png", TRAIN, "elsewhere"),
        ("1.png", "train_images/1.png", TRAIN, "elsewhere"),
        ("a/1.png", "deep/a/1.png", Claim(), "elsewhere"),  # moved down
        ("data/set/a/1.png", "a/1.png", Claim(), "elsewhere"),  # moved up
        ("images/1.png", "1.png", Claim(), "elsewhere"),
        (r"C:\Users\me\a\1.png", "a/1.png", Claim(), "elsewhere"),
        ("/home/me/a/1.png", "a/1.png", Claim(), "elsewhere"),
        ("gs://bucket/a/1.png", "a/1.png", Claim(), "elsewhere"),
        ("1.png", "cat/1.png", CAT, "elsewhere"),
        ("1.png", "images/1.png", CAT, "elsewhere"),
        # contradictions
        ("train/1.png", "test/1.png", Claim(), None),
        ("train/1.png", "test/train/1.png", Claim(), None),
        ("day1/images/1.png", "day2/images/1.png", Claim(), None),
        ("a/1.png", "b/1.png", Claim(), None),
        ("1.png", "test/1.png", TRAIN, None),
        ("1.png", "seg_test/1.png", TRAIN, None),
        ("1.png", "val2017/1.png", TRAIN, None),
        ("1.png", "images/validation/1.png", TRAIN, None),
        ("images/1.png", "test/images/1.png", TRAIN, None),
        ("1.png", "dog/1.png", CAT, None),
        ("1.png", "Dog/1.png", CAT, None),
        ("/home/me/train/1.png", "test/1.png", Claim(), None),
    ],
)
def test_locations_of_row_files(tmp_path: Path, cell: str, file: str, claim: Claim, how: str | None) -> None:
    match = PathFinder(str(put(tmp_path, file))).look_up(cell, "line 2", claim)
    if how is None:
        assert isinstance(match, Problem)
        assert match.kind == "elsewhere"
        assert file in match.detail
    else:
        assert isinstance(match, PathMatch)
        assert (match.how, match.file.name) == (how, file)


def test_absolute_path_in_folder_matches_exactly(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/1.png")
    match = PathFinder(str(tmp_path)).look_up(str(tmp_path / "b" / "1.png"), "line 2")
    assert isinstance(match, PathMatch)
    assert (match.how, match.file.name) == ("exact", "b/1.png")


def test_longest_common_path_wins(tmp_path: Path) -> None:
    put(tmp_path, "x/1.png", "y/a/1.png", "z/1.png")
    finder = PathFinder(str(tmp_path))
    match = finder.look_up("a/1.png", "line 2")
    assert isinstance(match, PathMatch)
    assert match.file.name == "y/a/1.png"
    bare = finder.look_up("1.png", "line 3")
    assert isinstance(bare, Problem)
    assert bare.kind == "ambiguous"


@pytest.mark.parametrize("prefix", ["", "train/"])
@pytest.mark.parametrize("name", ["train.csv", "labels.csv"])
def test_images_of_other_split_do_not_replace_missing_folder(tmp_path: Path, prefix: str, name: str) -> None:
    put(tmp_path, *(f"test/{i}.png" for i in range(4)))
    place = table(tmp_path, name, *(f"{prefix}{i}.png,{'ab'[i % 2]}" for i in range(4)))
    for data in (place, tmp_path):
        with pytest.raises(DataError) as caught:
            read(data)
        assert name in str(caught.value)
        assert "test/0.png" in str(caught.value)


def test_rows_without_image_are_reported_and_others_kept(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "train/2.png", "test/3.png")
    place = table(tmp_path, "train.csv", "1.png,a", "2.png,b", "3.png,a", "4.png,b")
    samples = read(place)
    assert samples.names == ["train/1.png", "train/2.png"]
    assert kinds(samples) == {"3.png": "elsewhere", "4.png": "missing"}
    assert notes_of(samples)[ReadingKind.FOUND_ELSEWHERE].count == 2


def test_folder_of_other_class_is_not_searched(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png", "dog/2.png", "dog/3.png")
    samples = read(table(tmp_path, "t.csv", "1.png,cat", "2.png,cat", "3.png,Dog"))
    assert {s.name: s.label for s in samples} == {"cat/1.png": "cat", "dog/3.png": "Dog"}
    assert kinds(samples) == {"2.png": "elsewhere"}


def test_two_paths_never_share_a_file(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png", "3.png")
    samples = read(
        table(tmp_path, "t.csv", "a/1.png,x", "b/1.png,y", "2.png,x", "old/2.png,y", "a/3.png,y", "a/3.png,y")
    )
    assert {s.name: s.label for s in samples} == {"2.png": "x", "3.png": "y"}
    assert kinds(samples) == {"a/1.png": "ambiguous", "b/1.png": "ambiguous", "old/2.png": "ambiguous"}
    finder = PathFinder(str(tmp_path))
    assert not isinstance(finder.find("a/1.png", "line 2"), Problem)
    second = finder.find("b/1.png", "line 3")
    assert isinstance(second, Problem)
    assert second.kind == "ambiguous"


def test_folders_give_missing_splits(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "train/2.png", "test/3.png")
    for rows in (["train/1.png,a", "train/2.png,b", "test/3.png,a"], ["1.png,a", "2.png,b", "3.png,a"]):
        samples = read(table(tmp_path, "labels.csv", *rows))
        assert info(samples) == {
            "train/1.png": ("a", "train", None),
            "train/2.png": ("b", "train", None),
            "test/3.png": ("a", "test", None),
        }
        assert notes_of(samples)[ReadingKind.SPLITS_FROM_FOLDERS].evidence == {"splits": {"train": 2, "test": 1}}


def test_one_split_in_the_folders_is_no_split(tmp_path: Path) -> None:
    put(tmp_path, "test/1.png", "test/2.png")
    samples = read(table(tmp_path, "labels.csv", "test/1.png,a", "test/2.png,b"))
    assert [s.split for s in samples] == [None, None]


def test_foreign_paths_match_by_suffix(tmp_path: Path) -> None:
    put(tmp_path, "pics/a/1.png", "pics/b/1.png")
    place = table(tmp_path, "t.csv", r"C:\me\pics\a\1.png,a", r"C:\me\pics\b\1.png,b")
    samples = read(place)
    assert {s.name: s.label for s in samples} == {"pics/a/1.png": "a", "pics/b/1.png": "b"}
    assert notes_of(samples)[ReadingKind.FOUND_ELSEWHERE].count == 2


def test_rows_of_two_tables_never_share_a_file(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png", "3.png")
    table(tmp_path, "train.csv", "a/1.png,x", "2.png,y")
    table(tmp_path, "test.csv", "b/1.png,x", "3.png,y")
    with pytest.raises(DataError, match=r"`b/1\.png` of `test\.csv` and `a/1\.png` of `train\.csv`"):
        read(tmp_path)
    table(tmp_path, "test.csv", "a/1.png,x", "3.png,y")  # one image in two splits: a leak, not another image
    assert len(read(tmp_path)) == 4
