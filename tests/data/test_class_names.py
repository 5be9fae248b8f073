"""Test that class numbers become names only with evidence of where counting starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from reading import notes_of, put

from headstart.data.class_names import name_classes
from headstart.data.sources import read
from headstart.errors import UsageError
from headstart.types.codes import ReadingKind

NAMES = ["glass", "paper", "card", "metal", "trash"]


def rows(*ids: int, folder: list[str] | None = None) -> list[tuple[int, str]]:
    """Return one image per number; `folder` is the folder of each number from 0."""
    return [(k, f"{folder[k]}/{i}.png" if folder else f"{i}.png") for i, k in enumerate(ids)]


def named(lines: list[str], images: list[tuple[int, str]], **options: Any) -> tuple[dict[int, str], str]:
    naming = name_classes({"classes.txt": lines}, images, "train.txt", **options)
    return dict(naming.names), naming.notes[0].evidence["reason"]


@pytest.mark.parametrize(
    ("lines", "images", "names", "reason"),
    [
        (NAMES, rows(0, 2), {0: "glass", 2: "card"}, "zero_occurs"),
        (NAMES, rows(1, 5), {1: "glass", 5: "trash"}, "last_id"),
        (NAMES, rows(1, 2, folder=["", "glass", "paper"]), {1: "glass", 2: "paper"}, "paths"),
        (NAMES, rows(1, 2, folder=["", "paper", "card"]), {1: "paper", 2: "card"}, "paths"),
        (NAMES, [(1, "x/glass12.png"), (3, "x/Card_3.png")], {1: "glass", 3: "card"}, "paths"),
        (["__background__", "a", "b", "c"], rows(1, 2), {1: "a", 2: "b"}, "background"),
        (["1 glass", "2 paper"], rows(1, 2), {1: "glass", 2: "paper"}, "stated"),
        (["glass 0", "paper 1", "card 2"], rows(1, 2), {1: "paper", 2: "card"}, "stated"),
        (["7: glass", "3: paper"], rows(3, 7), {3: "paper", 7: "glass"}, "stated"),
        (["class", "cat", "dog"], rows(0, 1), {0: "cat", 1: "dog"}, "zero_occurs"),
        (["cat", "dog", "", ""], rows(1, 2), {1: "cat", 2: "dog"}, "last_id"),
        (["\ufeffcat", "dog"], rows(0, 1), {0: "cat", 1: "dog"}, "zero_occurs"),
        (["2 doors", "4 doors"], rows(0, 1), {0: "2 doors", 1: "4 doors"}, "zero_occurs"),
    ],
)
def test_evidence_decides(lines: list[str], images: list[tuple[int, str]], names: dict[int, str], reason: str) -> None:
    assert named(lines, images) == (names, reason)


@pytest.mark.parametrize(
    ("lines", "images"),
    [
        (NAMES, rows(1, 2, 4)),
        (NAMES, [(1, "glass/1.png"), (2, "0.png")]),  # one class is not enough
        (NAMES, [(1, "glass/1.png"), (2, "paper/2.png"), (3, "metal/3.png"), (2, "card/4.png")]),  # both ways
        (["cat", "", "dog", "cow"], rows(0, 2)),  # the blank line is class 1, or nothing
    ],
)
def test_missing_evidence_needs_option(lines: list[str], images: list[tuple[int, str]]) -> None:
    with pytest.raises(UsageError) as caught:
        name_classes({"classes.txt": lines}, images, "train.txt")
    assert "classes.txt" in str(caught.value)
    assert "--first-id none" in str(caught.value)


def test_option_sets_first_number() -> None:
    images = rows(1, 2, 4)
    assert named(NAMES, images, first_id=0) == ({1: "paper", 2: "card", 4: "trash"}, "option")
    assert named(NAMES, images, first_id=1) == ({1: "glass", 2: "paper", 4: "metal"}, "option")
    assert named(NAMES, images, first_id="none") == ({}, "option")


def test_paths_that_contradict_the_only_option_raise() -> None:
    images = rows(0, 1, 2, folder=["paper", "card", "metal"])
    with pytest.raises(UsageError, match="--first-id 0"):
        name_classes({"classes.txt": NAMES}, images, "train.txt")
    assert named(NAMES, images, first_id=0)[0] == {0: "glass", 1: "paper", 2: "card"}


def test_names_file_with_too_few_names_is_ignored() -> None:
    assert named(["cat", "dog"], rows(0, 2)) == ({}, "ids_without_name")


def test_two_files_of_names_must_agree() -> None:
    files = {"labels.txt": ["cat", "dog"], "classes.txt": ["dog", "cat"]}
    with pytest.raises(UsageError, match=r"`labels\.txt` and `classes\.txt`"):
        name_classes(files, rows(0, 1), "train.txt")
    files["classes.txt"] = ["Cat", "dog"]
    assert name_classes(files, rows(0, 1), "train.txt").names == {0: "cat", 1: "dog"}


def test_lists_of_one_folder_share_numbers(tmp_path: Path) -> None:
    put(tmp_path, "p/1.png", "p/2.png", "p/3.png")
    (tmp_path / "train.txt").write_text("p/1.png 1\np/2.png 2\n")
    (tmp_path / "test.txt").write_text("p/3.png 0\n")
    (tmp_path / "Classes.txt").write_text("cat\ndog\nowl\ncow\n")
    samples = read(tmp_path)
    assert {s.name: s.label for s in samples} == {"p/1.png": "dog", "p/2.png": "owl", "p/3.png": "cat"}
    note = notes_of(samples)[ReadingKind.NAMES_FROM_FILE]
    assert (note.evidence["file"], note.evidence["first_id"], note.evidence["reason"]) == (
        "Classes.txt",
        0,
        "zero_occurs",
    )


def test_names_in_folders_of_images_decide(tmp_path: Path) -> None:
    put(tmp_path, *(f"{name}/{name}{i}.png" for name in NAMES[:3] for i in range(2)))
    lines = [f"{name}{i}.png {k}" for k, name in enumerate(NAMES[:3], start=1) for i in range(2)]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    for place in (tmp_path, tmp_path / "train.txt"):
        samples = read(place)
        assert all(s.name.startswith(f"{s.label}/") for s in samples)
        assert len(samples) == 6
        assert notes_of(samples)[ReadingKind.NAMES_FROM_FILE].evidence["num_agreeing"] == 6


def test_image_names_are_not_a_list_of_names(tmp_path: Path) -> None:
    put(tmp_path, "0.png", "1.png")
    (tmp_path / "train.txt").write_text("0.png 1\n1.png 0\n")
    (tmp_path / "classes.txt").write_text("0 cat\n1 dog\n")
    assert {s.name: s.label for s in read(tmp_path)} == {"0.png": "dog", "1.png": "cat"}


def test_option_without_effect_raises(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/2.png")
    for options in ({}, {"layout": "{label}/*"}):
        with pytest.raises(UsageError, match="--first-id"):
            read(tmp_path, first_id=0, **options)
    with pytest.raises(UsageError, match="0, 1 or none"):
        read(tmp_path, first_id=2)
