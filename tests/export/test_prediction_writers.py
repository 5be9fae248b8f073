from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.errors import HeadstartError, UsageError
from headstart.inference.writers import check_output, columns, write_predictions, write_rows
from headstart.types.records import Prediction
from headstart.utils.csv_cells import unescape_formula

GOOD = Prediction("a.png", "cat", 0.75, (("cat", 0.75), ("dog", 0.1234567)))
BAD = Prediction("b.png", None, None, error="the file is empty (0 bytes)")


def written(predictions: list[Prediction], top: int) -> str:
    stream = io.StringIO()
    write_predictions(stream, predictions, top)
    return stream.getvalue()


def test_columns() -> None:
    last = ["ood_score", "is_ood", "prediction_set", "error"]
    assert columns(1) == ["file", "label", "probability", *last]
    assert columns(3) == ["file", "label", "probability", "label2", "probability2", "label3", "probability3", *last]


def test_csv() -> None:
    assert written([GOOD, BAD], 2) == (
        "file,label,probability,label2,probability2,ood_score,is_ood,prediction_set,error\n"
        "a.png,cat,0.750000,dog,0.123457,,,,\n"
        "b.png,,,,,,,,the file is empty (0 bytes)\n"
    )


@pytest.mark.parametrize(
    ("names", "cell"),
    [((), ""), (("cat",), "cat"), (("a|b", "c\\", "d"), "a\\|b|c\\\\|d"), (("=1+1", "x"), "'=1+1|x")],
    ids=["none", "one", "bars", "formula"],
)
def test_ood_score_and_set_equal_training(names: tuple[str, ...], cell: str, tmp_path: Path) -> None:
    prediction = Prediction("a.png", "cat", 0.75, (("cat", 0.75),), None, 1.23456, False, names)
    (row,) = csv.DictReader(io.StringIO(written([prediction], 1)))
    assert (row["ood_score"], row["is_ood"], row["prediction_set"]) == ("1.235", "false", cell)
    write_rows(tmp_path / "o.jsonl", [prediction])
    row = json.loads((tmp_path / "o.jsonl").read_text(encoding="utf-8"))
    assert (row["ood_score"], row["is_ood"], row["prediction_set"]) == (1.235, False, list(names))


def test_json_lines_have_the_same_columns(tmp_path: Path) -> None:
    write_rows(tmp_path / "o.jsonl", [GOOD, BAD])
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [list(row) for row in rows] == [columns(2)] * 2
    assert rows[0]["probability2"] == 0.123457
    assert rows[1] == dict.fromkeys(columns(2)) | {"file": "b.png", "error": BAD.error}


@pytest.mark.parametrize("label", ["=1+1", "+x", "-x", "@x", "\tx", "\rx", "'=x", "a,b", 'a"b', "a\nb", "<b>", "Ω"])
def test_csv_names_round_trip_and_formulas_are_escaped(tmp_path: Path, label: str) -> None:
    prediction = Prediction(label, label, 1.0, ((label, 1.0),), error=label)
    write_rows(tmp_path / "o.csv", [prediction])
    with open(tmp_path / "o.csv", encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    for name in ("file", "label", "error"):
        assert not row[name].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert unescape_formula(row[name]) == label


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_text_round_trips(text: str) -> None:
    (row,) = csv.DictReader(io.StringIO(written([Prediction(text, text, 1.0, ((text, 1.0),))], 1), newline=""))
    assert unescape_formula(row["file"]) == unescape_formula(row["label"]) == text


def test_non_unicode_names(tmp_path: Path) -> None:
    odd = Prediction("caf\udce9.png", "x", 1.0, (("x", 1.0),))
    write_rows(tmp_path / "o.csv", [odd])
    assert b"caf\xe9.png" in (tmp_path / "o.csv").read_bytes()
    write_rows(tmp_path / "o.jsonl", [odd])
    assert json.loads((tmp_path / "o.jsonl").read_text(encoding="utf-8"))["file"] == odd.file


def test_output_is_written_atomically(tmp_path: Path) -> None:
    target = tmp_path / "o.csv"
    write_rows(target, [GOOD])
    before = target.read_bytes()

    def failing() -> Iterator[Prediction]:
        yield BAD
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_rows(target, failing(), 1)
    assert target.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["o.csv"]


def test_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headstart.utils.system.fsync_path", full)
    with pytest.raises(HeadstartError, match="No space left"):
        write_rows(tmp_path / "o.csv", [GOOD])


@pytest.mark.parametrize(
    ("name", "words"), [("o.txt", "must end in"), ("x/o.csv", "does not exist"), ("d.csv", "folder")]
)
def test_invalid_output_raises_early(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(UsageError, match=words):
        check_output(tmp_path / name)
