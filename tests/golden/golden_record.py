"""Turns what a run wrote into a small record of its numbers: JSON, tables, arrays and weights.

Numbers, booleans, names and enumerated values are recorded. Sentences, times, versions and digests of files are not.
"""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Files of a run folder that hold no numbers of their own, or only times and versions, or what is written only where it
# is cheap.
IGNORED_FILES = (
    "environment.json",
    "report.json",
    "report_sections.json",
    "attribution_maps.npz",
    "checkpoints/*",
    "*/checkpoints/*",
)
# Keys whose values depend on the time, the machine or the versions, wherever they stand.
IGNORED_KEYS = frozenset(
    {"duration_s", "latency", "started", "versions", "made_with", "created_by", "schema"}
    | {"files", "digest", "digests", "sha256"}
    | {"title", "family", "year", "aliases", "tags"}  # how a backbone is described
)
# Parts of which only the named values are recorded: the others are rounding errors, or depend on the time it took.
ONLY = {"parity": frozenset({"label_agreement", "num_unreadable"})}
# Keys of text; its wording is not part of the record. Longer text is recognized by its spaces.
TEXT_KEYS = frozenset(
    {"notes", "reason", "detail", "sentence", "warnings", "message", "ece_estimator", "meaning", "weights_reason"}
)
_MAX_SPACES = 2  # "out of fold" is a value, more words are a sentence
_MAX_VALUES = 400  # longer arrays are summarized


def collect(folder: Path, *, is_exact: bool = False) -> dict[str, Any]:
    """Record all files of a run by their relative names.

    Args:
        folder: A run folder.
        is_exact: Whether floats keep all their digits and arrays a digest of their bytes.
    """
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if any(fnmatch.fnmatch(name, ignored) for ignored in IGNORED_FILES):
            continue
        if path.suffix == ".json":
            found[name] = clean(json.loads(path.read_text(encoding="utf-8")), is_exact=is_exact)
        elif path.suffix == ".csv":
            found[name] = record_table(path, is_exact=is_exact)
        elif path.suffix == ".npz":
            found[name] = record_arrays(path, is_exact=is_exact)
        elif path.suffix == ".safetensors":
            found[name] = record_weights(path, is_exact=is_exact)
    return {name: value for name, value in found.items() if value}


def clean(value: Any, *, is_exact: bool = False) -> Any:
    """Reduce a JSON value to what is recorded; None where nothing is.

    Null, empty lists and empty objects are left out: a value that appears later is a new key, one that disappears a
    missing key.
    """
    if isinstance(value, Mapping):
        kept: dict[str, Any] = {}
        for key, inner in value.items():
            if key in ONLY and isinstance(inner, Mapping):
                inner = {k: v for k, v in inner.items() if k in ONLY[key]}
            if key not in IGNORED_KEYS | TEXT_KEYS:
                kept[str(key)] = clean(inner, is_exact=is_exact)
        return {k: v for k, v in kept.items() if v is not None} or None
    if isinstance(value, list | tuple):
        return _clean_list(value, is_exact)
    if isinstance(value, str):
        return None if _is_sentence(value) or not value else value
    if isinstance(value, float):
        return None if math.isnan(value) else round_float(value, is_exact)
    return value


def _is_sentence(text: str) -> bool:
    return text.count(" ") > _MAX_SPACES


def _clean_list(value: Sequence[Any], is_exact: bool) -> Any:
    if any(isinstance(v, Mapping) for v in value):
        kept = [clean(v, is_exact=is_exact) or {} for v in value]
        return {str(i): v for i, v in enumerate(kept)}
    flat = [clean(v, is_exact=is_exact) for v in value]
    return [v for v in flat if v is not None] or None


def round_float(value: float, is_exact: bool = False) -> float:
    """Keep five significant digits."""
    return value if is_exact else float(f"{value:.5g}")


def record_table(path: Path, *, is_exact: bool = False) -> dict[str, Any]:
    """Record a CSV file by column, its rows in the order of their first cells' texts."""
    with open(path, encoding="utf-8", newline="", errors="surrogateescape") as file:
        header, *rows = list(csv.reader(file))
    if rows and not _is_number(rows[0][0]):
        rows.sort(key=lambda row: row[0])
    columns: dict[str, Any] = {"num_rows": len(rows)}
    for i, name in enumerate(header):
        cells = [row[i] for row in rows]
        if name not in IGNORED_KEYS | TEXT_KEYS and any(cells) and not any(map(_is_sentence, cells)):
            columns[name] = _record_cells(cells, is_exact)
    return columns


def _record_cells(cells: list[str], is_exact: bool) -> Any:
    if not all(_is_number(cell) for cell in cells if cell):
        return _record_texts(cells, is_exact)
    if all(re.fullmatch(r"-?\d+", cell) for cell in cells):
        return record_array(np.array(cells, dtype=np.int64), is_exact=is_exact)
    digits = max(len(cell.partition(".")[2]) for cell in cells if "e" not in cell)
    values = np.array([float(cell) if cell else np.nan for cell in cells])
    return {"decimals": digits, **record_array(values, is_exact=is_exact)}


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d*)?(e[-+]?\d+)?", cell) is not None


def _record_texts(texts: Sequence[str], is_exact: bool) -> dict[str, Any]:
    """Names (all different) by a digest; enumerated values with the position of each, so that they can be renamed."""
    values = list(dict.fromkeys(texts))
    if len(values) == len(texts) and len(texts) > 1:
        return {"count": len(texts), "names": digest("\n".join(texts).encode("utf-8", "surrogateescape"))}
    codes = np.array([values.index(text) for text in texts], dtype=np.int64)
    return {"values": values, "codes": record_array(codes, is_exact=is_exact)}


def record_arrays(path: Path, *, is_exact: bool = False) -> dict[str, Any]:
    """Record an NPZ file by array."""
    with np.load(path, allow_pickle=False) as file:
        return {k: record_array(file[k], is_exact=is_exact) for k in sorted(file.files) if k not in IGNORED_KEYS}


def record_array(array: NDArray[Any], *, is_exact: bool = False) -> Any:
    """Record an array: all values of a short one, else sums and some entries."""
    if array.dtype.kind in "US":
        texts = [str(v) for v in array.ravel()]
        return texts[0] if array.ndim == 0 else _record_texts(texts, is_exact)
    if array.dtype.kind == "b":
        array = array.astype(np.int64)
    if array.dtype.kind in "iu":
        if array.size <= _MAX_VALUES:
            return [int(v) for v in array.ravel()]
        return {"shape": list(array.shape), "sum": int(array.sum()), "bytes": digest(array.astype("<i8").tobytes())}
    flat = array.astype(np.float64).ravel()
    found = {"shape": list(array.shape), "dtype": str(array.dtype), "nan": int(np.isnan(flat).sum())}
    flat = np.nan_to_num(flat)
    if is_exact:
        found["bytes"] = digest(np.ascontiguousarray(array).tobytes())
    if flat.size <= _MAX_VALUES:
        columns = flat.reshape(-1, array.shape[-1]).T if array.ndim > 1 else flat[None]
        return found | {
            f"column{i}": [round_float(float(v), is_exact) for v in column] for i, column in enumerate(columns)
        }
    places = np.linspace(0, flat.size - 1, 20).astype(int)
    return found | {
        "mean": round_float(float(flat.mean()), is_exact),
        "rms": round_float(float(np.sqrt((flat**2).mean())), is_exact),
        "entries": [round_float(float(flat[i]), is_exact) for i in places],
    }


def record_weights(path: Path, *, is_exact: bool = False) -> dict[str, Any]:
    """Record the root mean square of every tensor, sorted, so that tensors may be renamed."""
    from safetensors.numpy import load_file

    tensors = load_file(path)
    sizes = [np.sqrt(np.mean(np.square(t.astype(np.float64)))) for t in tensors.values() if t.size]
    found: dict[str, Any] = {
        "num_tensors": len(tensors),
        "num_values": sum(t.size for t in tensors.values()),
        "rms": [round_float(float(v), is_exact) for v in sorted(sizes)],
    }
    if is_exact:
        found["bytes"] = digest("".join(sorted(digest(t.tobytes()) for t in tensors.values())).encode())
    return found


def machine() -> str:
    """Return what rounding errors depend on: processor, instruction set and versions."""
    import torch

    names = ("numpy", "torch", "onnxruntime", "Pillow")
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ())
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    versions = " ".join(f"{name} {metadata.version(name)}" for name in names)
    return f"{processor}, {torch.backends.cpu.get_cpu_capability()}, {versions}"


def digest(content: bytes) -> str:
    """Leading 16 hex digits of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def to_text(value: Any, indent: int = 0) -> str:
    """JSON with one key a line and every list on one line, so that a diff shows which number changed."""
    if not isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    pad = " " * (indent + 1)
    rows = [f"{pad}{json.dumps(k, ensure_ascii=False)}: {to_text(v, indent + 1)}" for k, v in value.items()]
    return "{\n" + ",\n".join(rows) + "\n" + " " * indent + "}"
