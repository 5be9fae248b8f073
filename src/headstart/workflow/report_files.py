"""The files of a run folder that reports read, and those that they write.

What is missing or damaged reads as empty, since a report shows what there is; what is written is
written whole or not at all.
"""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from headstart.events import Note
from headstart.preprocessing.image_spec import ImageSpec
from headstart.system import atomic_file
from headstart.types import NoteKind, Severity

__all__ = [
    "image_spec",
    "read_json",
    "read_rows",
    "read_settings",
    "read_shapes",
    "write_drawings",
    "write_text",
]


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; empty where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return rows of a CSV file by the names of its columns; none where it cannot be read."""
    try:
        with open(path, encoding="utf-8", newline="", errors="surrogateescape") as file:
            return [dict(row) for row in csv.DictReader(file)]
    except (OSError, csv.Error):
        return []


def read_settings(path: Path, problems: list[Note]) -> dict[str, dict[str, Any]]:
    """Return settings with value, source and reason; where there are none that is added to `problems`."""
    import yaml

    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        problems.append(Note(NoteKind.RUN_WITHOUT_SETTINGS, Severity.WARNING, {"file": path.name}))
        return {}
    return {str(k): dict(v) for k, v in value.items() if isinstance(v, Mapping)} if isinstance(value, Mapping) else {}


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a safetensors file, from its header alone."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 50 << 20)))
        return {k: tuple(int(n) for n in v["shape"]) for k, v in header.items() if k != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return {}


def image_spec(bundle: Mapping[str, Any]) -> ImageSpec:
    """Return how the run's model sees images, from its `bundle.json`; the default where that does not say."""
    try:
        return ImageSpec.from_json(dict(bundle["pixels"]))
    except (KeyError, TypeError, ValueError):
        return ImageSpec()


def write_text(path: Path, text: str) -> None:
    """A text file with the same line ends everywhere."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")


def write_drawings(folder: Path, names: Iterable[str], draw: Callable[[str], Any]) -> list[Path]:
    """`NAME.png` of each figure that `draw` has data for; where it gives None an old one of that name is removed.

    Returns:
        The files that were written.
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
