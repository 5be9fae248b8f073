"""Test tables that hold the pixels of one image per row."""

from pathlib import Path

import numpy as np
import pytest

from headstart.data.sources import read
from headstart.errors import DataError


def write(path: Path, header: str, rows: list[list[object]]) -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def numbered(count: int) -> str:
    return ",".join(f"pixel{i}" for i in range(count))


@pytest.mark.parametrize("num_pixels", [64, 784, 192])
def test_square_images_are_read(tmp_path: Path, num_pixels: int) -> None:
    rows: list[list[object]] = [["cat", *range(num_pixels)], ["dog", *([7] * num_pixels)]]
    rows = [[row[0], *(int(str(v)) % 256 for v in row[1:])] for row in rows]
    samples = read(write(tmp_path / "t.csv", "label," + numbered(num_pixels), rows))
    assert [(s.name, s.label) for s in samples] == [("t.csv#0", "cat"), ("t.csv#1", "dog")]


def test_rows_without_a_header(tmp_path: Path) -> None:
    rows: list[list[object]] = [[i % 2, *([i] * 64)] for i in range(1, 5)]
    samples = read(write(tmp_path / "t.csv", ",".join(["0"] * 65), rows))
    assert [s.label for s in samples] == ["0", "1", "0", "1", "0"]


def test_other_values_are_refused(tmp_path: Path) -> None:
    rows: list[list[object]] = [["cat", *([0.5] * 63), 300], ["dog", *([1] * 64)]]
    with pytest.raises(DataError, match="row 1"):
        read(write(tmp_path / "t.csv", "label," + numbered(64), rows))


def test_columns_of_measurements_are_no_pixels(tmp_path: Path) -> None:
    rows: list[list[object]] = [["cat", *np.arange(60)]]
    with pytest.raises(DataError, match="no image column"):
        read(write(tmp_path / "t.csv", "label," + numbered(60), rows))
