"""Test reading tables, names and vectors from MATLAB files, and labels by position."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from headstart.data import matlab
from headstart.data.file_tree import LocatedFile
from headstart.data.matlab import matlab_names, matlab_rows, matlab_vectors
from headstart.data.positional import positional_rows
from headstart.data.sources import read
from headstart.errors import DataError
from headstart.types.codes import ReadingKind


def images(count: int, first: int = 1, folder: str = "jpg") -> list[LocatedFile]:
    return [LocatedFile(f"/{folder}/{i}", (folder,), f"image_{i:05}.jpg") for i in range(first, first + count)]


def test_struct_arrays_are_tables(tmp_path: Path) -> None:
    rows = np.empty((1, 2), dtype=[("fname", object), ("class", object), ("box", object)])
    rows[0, 0], rows[0, 1] = ("1.jpg", 3, [1, 2]), ("2.jpg", 1.0, [3, 4])
    savemat(tmp_path / "a.mat", {"annotations": rows})
    assert matlab_rows(str(tmp_path / "a.mat")) == (
        ["fname", "class"],
        [{"fname": "1.jpg", "class": "3"}, {"fname": "2.jpg", "class": "1"}],
    )


def test_a_struct_of_arrays_is_a_table(tmp_path: Path) -> None:
    names = np.array(["a.jpg", "b.jpg", "c.jpg"], dtype=object)
    savemat(tmp_path / "imdb.mat", {"images": {"name": names, "class": np.array([1, 2, 2]), "sets": names[:2]}})
    header, rows = matlab_rows(str(tmp_path / "imdb.mat"))
    assert set(header) == {"name", "class"}
    assert [row["class"] for row in rows] == ["1", "2", "2"]


def test_cell_arrays_are_names_and_vectors_are_numbers(tmp_path: Path) -> None:
    names = np.array(["cat", "dog"], dtype=object)
    values = {"class_names": names, "labels": np.array([[1.0, 2.0]]), "X": np.zeros((4, 4, 3, 2)), "t": [0.5, 1.5]}
    savemat(tmp_path / "a.mat", values)
    assert matlab_names(str(tmp_path / "a.mat")) == ["cat", "dog"]
    assert matlab_vectors(str(tmp_path / "a.mat")) == {"labels": [1, 2]}
    savemat(tmp_path / "b.mat", {"X": np.zeros((4, 4, 3, 2))})
    with pytest.raises(DataError, match="no struct array"):
        matlab_rows(str(tmp_path / "b.mat"))


def test_variables_of_one_length_are_a_table(tmp_path: Path) -> None:
    files = np.array(["a/1.jpg", "b/2.jpg"], dtype=object)
    savemat(tmp_path / "list.mat", {"file_list": files, "labels": np.array([[1], [2]])})
    assert matlab_rows(str(tmp_path / "list.mat"))[1][1] == {"file_list": "b/2.jpg", "labels": "2"}


@pytest.mark.parametrize("data", [b"", b"MATLAB 7.3 MAT-file" + bytes(600), b"MATLAB 5.0 MAT-file".ljust(140, b"\x07")])
def test_damaged_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.mat"):
        matlab_vectors(str(tmp_path / "a.mat"))


def test_labels_by_position_need_images_numbered_without_gaps() -> None:
    labels = {"labels": [2, 2, 1, 1]}
    assert [cells["labels"] for _, cells in positional_rows(labels, images(4))] == ["2", "2", "1", "1"]
    assert len(positional_rows(labels, images(4, first=0))) == 4
    assert not positional_rows(labels, images(4, first=5))
    assert not positional_rows(labels, images(5))
    assert not positional_rows(labels, [*images(3), LocatedFile("/jpg/x", ("jpg",), "x.jpg")])
    assert not positional_rows(labels, [*images(4), *images(4, folder="png")])


def test_vectors_of_numbers_give_splits() -> None:
    vectors = {"labels": [1, 1, 2, 2], "trnid": [4, 1], "valid": [2], "tstid": [3]}
    found = positional_rows(vectors, images(4))
    assert [cells["split"] for _, cells in found] == ["train", "val", "test", "train"]
    assert "split" not in positional_rows({**vectors, "tstid": [2]}, images(4))[0][1]


def test_a_missing_library_is_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(1, 9):
        Image.new("RGB", (4, 4), (i, 7, 9)).save(tmp_path / f"image_{i:05}.png")
    savemat(tmp_path / "imagelabels.mat", {"labels": [1, 1, 2, 2, 3, 3, 4, 4]})
    samples = read(tmp_path)
    assert len(samples.class_names) == 4
    assert [n.count for n in samples.notes if n.kind is ReadingKind.LABELS_BY_POSITION] == [8]
    matlab._load.cache_clear()
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(DataError, match=r"imagelabels\.mat") as caught:
        read(tmp_path)
    assert "headstart[data]" in (caught.value.hint or "")
