"""Test reading and writing of report files: missing or damaged files read as empty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from headstart.events import Note
from headstart.reports.report_files import image_spec, read_json, read_rows, read_settings, read_shapes, write_drawings
from headstart.runs.files import write_csv
from headstart.types.codes import NoteKind


def test_table_is_written_atomically(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write_csv(
        path, ("epoch", "loss", "accuracy", "name"), [(1, 0.123456789, None, "a,b"), (2, np.float32(0.1), 1, "\udcff")]
    )
    assert path.read_bytes() == b'epoch,loss,accuracy,name\n1,0.123457,,"a,b"\n2,0.1,1,\xff\n'
    assert read_rows(path)[1]["name"] == "\udcff"
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        write_csv(path, ("x",), ([1 // k] for k in (1, 0)))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]


def test_old_figures_without_data_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    for name in ("old.png", "mine.png"):
        (folder / name).write_bytes(b"old")
    written = write_drawings(folder, ["new", "old"], lambda name: Figure() if name == "new" else None)
    assert written == [folder / "new.png"]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in folder.iterdir()) == ["mine.png", "new.png"]


def test_damaged_files_read_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (None, b"", b"\xff\xfe\x00", b"[1, 2]", b"{"):
        if content is not None:
            path.write_bytes(content)
        problems: list[Note] = []
        assert read_json(path) == {}
        assert read_shapes(path) == {}
        assert read_settings(path, problems) == {}
        assert {p.kind for p in problems} <= {NoteKind.RUN_WITHOUT_SETTINGS}
    assert read_rows(tmp_path / "none.csv") == []
    assert image_spec({}) == image_spec({"pixels": 3}) == image_spec({"pixels": {"size_hw": "x"}})
