"""Test the stable codes of errors."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import pytest

from headstart import errors
from headstart.cli.main import main

# Code and exit code of each class. These are public: never change one.
CODES = {
    "HeadstartError": ("failure", 1),
    "UsageError": ("usage", 2),
    "SettingError": ("setting", 2),
    "DeviceError": ("device", 2),
    "BudgetError": ("budget", 2),
    "DataError": ("data", 3),
    "BoxFormatError": ("box_format", 3),
    "InvalidEvaluationError": ("invalid_evaluation", 3),
    "MissingExtraError": ("missing_extra", 1),
    "WeightsError": ("weights", 1),
    "OfflineError": ("offline", 1),
    "BundleError": ("bundle", 1),
    "CacheError": ("cache", 1),
    "CancelledError": ("cancelled", 130),
}


def test_codes() -> None:
    classes = {n: c for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, errors.HeadstartError)}
    assert {name: (c.code, c.exit_code) for name, c in classes.items()} == CODES
    assert all("code" in vars(c) for c in classes.values())
    assert len({code for code, _ in CODES.values()}) == len(CODES)


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(errors.DataError("bad", "good")))
    assert (error.code, error.message, error.hint) == ("data", "bad", "good")


@pytest.mark.parametrize(
    "arguments",
    [["evaluate", "missing", "d", "--json"], ["check", "missing", "--json", "-"], ["compare", "a", "b", "--json"]],
)
def test_json_output_has_the_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    output = capsys.readouterr()
    error = json.loads(output.out)["error"]
    assert set(error) == {"code", "message", "hint"}
    assert CODES[{"usage": "UsageError", "data": "DataError"}[error["code"]]][1] == stop.value.code
    assert error["message"] in output.err


def test_json_file_leaves_stdout_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", str(tmp_path / "missing"), "--json", str(tmp_path / "report.json")])
    assert capsys.readouterr().out == ""


def test_the_documented_table_is_complete() -> None:
    text = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\d+) \|", text, re.M)
    assert {name: (code, int(exit_code)) for name, code, exit_code in rows} == CODES
