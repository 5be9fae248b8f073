"""Write predictions as CSV or JSON Lines, row by row.

Both have the same columns (`file, label, probability, label2, probability2 ..., ood_score, is_ood, prediction_set,
error`). CSV cells are escaped against formula injection.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from headstart.errors import HeadstartError, UsageError
from headstart.inference.inputs import PredictInputs, expand_inputs
from headstart.types.records import Prediction
from headstart.utils.csv_cells import escape_formula, join_prediction_set
from headstart.utils.system import atomic_file

__all__ = ["PredictInputs", "columns", "expand_inputs", "row_of", "row_writer", "write_rows"]

_PROBABILITY_DIGITS = 6
_OOD_SCORE_DIGITS = 3


def columns(top: int) -> list[str]:
    """Return the column names for `top` classes per image."""
    ranks = [f"{what}{rank}" for rank in range(2, top + 1) for what in ("label", "probability")]
    return ["file", "label", "probability", *ranks, "ood_score", "is_ood", "prediction_set", "error"]


def row_of(prediction: Prediction, top: int) -> dict[str, Any]:
    """Return the values of one prediction by column; None for missing values."""
    row: dict[str, Any] = dict.fromkeys(columns(top))
    row["file"], row["error"] = prediction.file, prediction.error
    for rank, (name, probability) in enumerate(prediction.top[:top], start=1):
        suffix = "" if rank == 1 else str(rank)
        row[f"label{suffix}"], row[f"probability{suffix}"] = name, round(probability, _PROBABILITY_DIGITS)
    if prediction.ood_score is not None:
        row["ood_score"] = round(prediction.ood_score, _OOD_SCORE_DIGITS)
    row["is_ood"] = prediction.is_ood
    row["prediction_set"] = None if prediction.prediction_set is None else list(prediction.prediction_set)
    return row


def row_writer(stream: IO[str], top: int, *, is_json: bool = False) -> Callable[[Prediction], None]:
    """Write the CSV header, if any, and return a function that writes one prediction."""
    if is_json:

        def write_json(prediction: Prediction) -> None:
            stream.write(json.dumps(row_of(prediction, top), ensure_ascii=False) + "\n")

        return write_json

    names = columns(top)
    plain = csv.writer(stream, lineterminator="\n")
    quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(names)

    def write_csv(prediction: Prediction) -> None:
        row = row_of(prediction, top)
        cells = [_cell(name, row[name]) for name in names]
        # Before Python 3.13, the csv module does not quote a lone carriage return, which would end the row.
        (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)

    return write_csv


def write_rows(path: str | os.PathLike[str], predictions: Iterable[Prediction], top: int | None = None) -> None:
    """Write a `.csv` or `.jsonl` file atomically, replacing an existing one.

    Args:
        path: Output file; its suffix selects the format.
        predictions: Predictions; may be lazy.
        top: Number of classes per image; None uses the maximum of all predictions, which are then kept in memory.

    Raises:
        UsageError: The suffix is not supported, or the folder does not exist.
        HeadstartError: The file cannot be written.
    """
    target = Path(path)
    is_json = check_output(target)
    if top is None:
        predictions = list(predictions)
        top = max((len(p.top) for p in predictions), default=1) or 1
    try:
        with atomic_file(target) as temporary:
            # File names that are not valid Unicode: raw bytes in CSV, escapes in JSON.
            errors = "backslashreplace" if is_json else "surrogateescape"
            with open(temporary, "w", encoding="utf-8", errors=errors, newline="") as stream:
                write = row_writer(stream, top, is_json=is_json)
                for prediction in predictions:
                    write(prediction)
    except OSError as error:
        raise HeadstartError(
            f"cannot write `{target}` ({error.strerror or error}).", hint="use another file with --out"
        ) from error


def check_output(path: str | os.PathLike[str]) -> bool:
    """Validate the output path and return whether it is JSON Lines (otherwise CSV).

    Raises:
        UsageError: The suffix is not supported, the path is a folder, or its parent does not exist.
    """
    target = Path(path)
    if target.suffix.lower() not in (".csv", ".jsonl"):
        raise UsageError(f"`{target}` must end in .csv or .jsonl.", hint="for example --out predictions.csv")
    if target.is_dir():
        raise UsageError(f"`{target}` is a folder; expected a file.")
    if not target.parent.is_dir():
        raise UsageError(f"the folder `{target.parent}` does not exist.", hint="create it first, or use another file")
    return target.suffix.lower() == ".jsonl"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.{_OOD_SCORE_DIGITS if name == 'ood_score' else _PROBABILITY_DIGITS}f}"
    return escape_formula(join_prediction_set(value) if isinstance(value, list) else value)
