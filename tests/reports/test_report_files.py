"""Test reading of run folders: missing or damaged files read as empty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.preprocessing.image_spec import ImageSpec
from headstart.reports.record import ClassifierRecord, read_bundle_info, read_json, read_record
from headstart.runs.files import write_csv, write_json
from headstart.types.codes import NoteKind


def test_table_is_written_atomically(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    rows = write_csv(
        path, ("epoch", "loss", "accuracy", "name"), [(1, 0.123456789, None, "a,b"), (2, np.float32(0.1), 1, "\udcff")]
    )
    assert path.read_bytes() == b'epoch,loss,accuracy,name\n1,0.123457,,"a,b"\n2,0.1,1,\xff\n'
    assert rows[1] == {"epoch": "2", "loss": "0.1", "accuracy": "1", "name": "\udcff"}
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        write_csv(path, ("x",), ([1 // k] for k in (1, 0)))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]


def test_damaged_files_read_as_empty(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", {"class_names": ["a", "b"]})
    (tmp_path / "bundle").mkdir()
    names = ("config.resolved.yaml", "dataset_report.json", "split.csv", "scores.npz", "results.csv")
    for content in (None, b"", b"\xff\xfe\x00", b"[1, 2]", b"{"):
        for name in (*names, "bundle/bundle.json", "bundle/model.safetensors"):
            if content is not None:
                (tmp_path / name).write_bytes(content)
        record = read_record(tmp_path)
        assert isinstance(record, ClassifierRecord)
        assert {NoteKind.RUN_WITHOUT_PREDICTIONS, NoteKind.RUN_WITHOUT_DATA_PATH} <= {p.kind for p in record.problems}
        assert len(record.scored) == len(record.scored.predicted) == 0
        assert read_json(tmp_path / names[0]) == {}
        assert read_bundle_info(tmp_path) == ({}, {})
        assert record.image_spec == ImageSpec()


@pytest.mark.parametrize("value", [{"pixels": 3}, {"pixels": {"size_hw": "x"}}])
def test_damaged_image_spec_is_default(make_facts: Callable[..., ClassifierRecord], value: dict[str, Any]) -> None:
    assert replace(make_facts(), bundle=value).image_spec == ImageSpec()
