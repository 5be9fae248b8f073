"""Read and write the files of a run folder for reports.

Missing or damaged files read as empty. Files are written atomically.
"""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from headstart.errors import UsageError
from headstart.events import Note
from headstart.preprocessing.image_spec import ImageSpec
from headstart.types.codes import NoteKind, Severity
from headstart.utils.system import atomic_file

__all__ = [
    "image_spec",
    "read_json",
    "read_metrics",
    "read_rows",
    "read_settings",
    "read_shapes",
    "write_drawings",
    "write_text",
]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_metrics(folder: Path, task: str = "") -> dict[str, Any]:
    """Read `metrics.json` of a finished run.

    Args:
        folder: The run folder.
        task: Required task of the run, e.g. `detect`; any if empty.

    Raises:
        UsageError: The folder is not a finished run of the task.
    """
    metrics = read_json(folder / "metrics.json")
    if "class_names" not in metrics or (task and metrics.get("task") != task):
        kind = "detector run" if task == "detect" else "run"
        raise UsageError(
            f"`{folder}` is not a finished {kind}: it has no readable `metrics.json`.",
            hint="pass a folder written by `headstart train`, e.g. runs/train1",
        )
    return metrics


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file as dicts; empty if it cannot be read."""
    try:
        with open(path, encoding="utf-8", newline="", errors="surrogateescape") as file:
            return [dict(row) for row in csv.DictReader(file)]
    except (OSError, csv.Error):
        return []


def read_settings(path: Path, problems: list[Note]) -> dict[str, dict[str, Any]]:
    """Read settings with value, source and reason; a missing file is added to `problems`."""
    import yaml

    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        problems.append(Note(NoteKind.RUN_WITHOUT_SETTINGS, Severity.WARNING, {"file": path.name}))
        return {}
    return {str(k): dict(v) for k, v in value.items() if isinstance(v, Mapping)} if isinstance(value, Mapping) else {}


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the tensor shapes of a safetensors file from its header."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 50 << 20)))
        return {k: tuple(int(n) for n in v["shape"]) for k, v in header.items() if k != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return {}


def image_spec(bundle: Mapping[str, Any]) -> ImageSpec:
    """Return the image spec in `bundle.json`, or the default."""
    try:
        return ImageSpec.from_json(dict(bundle["pixels"]))
    except (KeyError, TypeError, ValueError):
        return ImageSpec()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, with LF line ends."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")


def write_drawings(folder: Path, names: Iterable[str], draw: Callable[[str], Any]) -> list[Path]:
    """Write `NAME.png` for each figure that `draw` returns; remove the old file where it returns None.

    Returns:
        The files written.
    """
    from headstart.reports.figures import figure_png

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in names:
        path = folder / f"{name}.png"
        figure = draw(name)
        if figure is None:
            path.unlink(missing_ok=True)
            continue
        with atomic_file(path) as temporary:
            temporary.write_bytes(figure_png(figure))
        written.append(path)
    return written
