"""Test that held-out images are labeled by lists of positions, as in the development kit of ImageNet."""

from __future__ import annotations

from pathlib import Path

import pytest
from reading import info, notes_of, put

from headstart.data.sources import read
from headstart.errors import UsageError
from headstart.types.codes import ReadingKind

TRUTH = "ILSVRC2012_validation_ground_truth.txt"
MAP = "n02 1 kit_fox\nn01 2 goldfish, gold fish\n"  # not in the order of the names


def imagenet(root: Path, numbers: str = "1\n2\n2\n1\n", *, images: int = 4) -> Path:
    put(root, *(f"train/{n}/{n}_{i}.JPEG" for n in ("n01", "n02") for i in range(4)))
    put(root, *(f"val/ILSVRC2012_val_{i:08}.JPEG" for i in range(1, images + 1)))
    (root / TRUTH).write_text(numbers)
    return root


def labels(root: Path) -> list[object]:
    return [label for _, (label, split, _) in sorted(info(read(root)).items()) if split == "val"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map_clsloc.txt", MAP),
        ("devkit/meta.csv", "ILSVRC2012_ID,WNID,words,num_train\n1,n02,kit fox,9\n2,n01,goldfish,9\n"),
        ("meta.tsv", "n01\t2\nn02\t1\n"),
        ("meta.csv", "1,n02\n2,n01\n3,n03\n"),  # a class without training images
    ],
)
def test_numbers_are_mapped_to_class_folders(tmp_path: Path, name: str, text: str) -> None:
    imagenet(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert labels(tmp_path) == ["n02", "n01", "n01", "n02"]
    samples = read(tmp_path)
    assert notes_of(samples)[ReadingKind.LABELS_BY_POSITION].count == 4
    assert {t.path: t.role for t in samples.inventory.tables} == {name: "names", TRUTH: "labels"}
    assert not samples.inventory.unused


def test_meta_mat_maps_numbers(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    import numpy as np

    synsets = np.array([(1, "n02"), (2, "n01")], dtype=[("ILSVRC2012_ID", object), ("WNID", object)])
    imagenet(tmp_path)
    io.savemat(tmp_path / "meta.mat", {"synsets": synsets})
    assert labels(tmp_path) == ["n02", "n01", "n01", "n02"]


def test_part_of_the_official_images_uses_their_lines(tmp_path: Path) -> None:
    imagenet(tmp_path, "1\n2\n2\n1\n1\n1\n", images=3)
    (tmp_path / "map.txt").write_text(MAP)
    assert labels(tmp_path) == ["n02", "n01", "n01"]


def test_lines_may_hold_class_folders(tmp_path: Path) -> None:
    imagenet(tmp_path, "n01\nn01\nn02\nn02\n")
    assert labels(tmp_path) == ["n01", "n01", "n02", "n02"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("synset_words.txt", "n01 goldfish\nn02 kit fox\n"),  # the order of names is not that of the numbers
        ("map.txt", "n01 0\nn02 1\n"),
        ("map.txt", "n02 1\n"),
    ],
)
def test_without_a_mapping_the_list_is_named(tmp_path: Path, name: str, text: str) -> None:
    imagenet(tmp_path)
    (tmp_path / name).write_text(text)
    assert labels(tmp_path) == []
    note = notes_of(read(tmp_path))[ReadingKind.NUMBERS_UNMAPPED]
    assert (note.count, note.evidence["file"]) == (4, TRUTH)


@pytest.mark.parametrize("numbers", ["1\n2\n2\n", "1\n2\n\n1\n", "one\ntwo\none\ntwo\n"])
def test_other_lists_label_nothing(tmp_path: Path, numbers: str) -> None:
    imagenet(tmp_path, numbers)
    (tmp_path / "map.txt").write_text(MAP)
    assert labels(tmp_path) == []
    assert ReadingKind.LABELS_BY_POSITION not in notes_of(read(tmp_path))


def test_two_mappings_that_differ_are_a_question(tmp_path: Path) -> None:
    imagenet(tmp_path, "1\n2\n1\n1\n")
    (tmp_path / "a.txt").write_text(MAP)
    (tmp_path / "b.txt").write_text("n01 1\nn02 2\n")
    with pytest.raises(UsageError) as caught:
        read(tmp_path)
    assert "`n02` 3, `n01` 1" in str(caught.value)
    assert "`n01` 3, `n02` 1" in str(caught.value)
    assert "--exclude b.txt for (1), --exclude a.txt for (2)" in str(caught.value.hint)
    for excluded, first in (("b.txt", "n02"), ("a.txt", "n01")):
        assert read(tmp_path, exclude=(excluded,)).class_names == ("n01", "n02")
        named = info(read(tmp_path, exclude=(excluded,)))["val/ILSVRC2012_val_00000001.JPEG"]
        assert named == (first, "val", None)
