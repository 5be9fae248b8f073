"""Compute loss weights per class: uniform, balanced, or from a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.errors import SettingError

__all__ = ["class_factors"]


def class_factors(
    source: str, class_ids: NDArray[np.int64], class_names: tuple[str, ...]
) -> NDArray[np.float64] | None:
    """Return (K,) positive loss weights, or None for uniform weights.

    Args:
        source: `none`, `auto` (balanced) or a file, as JSON `{"name": weight}` or CSV `name,weight`.
        class_ids: (N,) training labels.
        class_names: K names.

    Raises:
        SettingError: The file cannot be read, has an unknown or missing class, or a weight that is not positive.
    """
    if source == "none":
        return None
    counts = np.bincount(class_ids, minlength=len(class_names))
    if source == "auto":
        factors = len(class_ids) / (len(class_names) * np.maximum(counts, 1))
        return np.asarray(np.where(counts > 0, factors, 1.0), dtype=np.float64)
    weights = _read(Path(source))
    unknown = sorted(set(weights) - set(class_names))
    missing = sorted(set(class_names) - set(weights))
    if unknown or missing:
        problem = f"the unknown class `{unknown[0]}`" if unknown else f"no weight for the class `{missing[0]}`"
        known = ", ".join(class_names[:10])
        raise SettingError(f"the class weights `{source}` contain {problem}.", hint=f"classes: {known}")
    values = np.array([weights[name] for name in class_names])
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise SettingError(f"a class weight in `{source}` is not a positive number.")
    return values


def _read(path: Path) -> dict[str, float]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            return {str(k): float(v) for k, v in json.loads(text).items()}
        rows = [row for row in csv.reader(text.splitlines()) if row]
        if rows and len(rows[0]) == 2 and not _is_number(rows[0][1]):
            rows = rows[1:]  # a header
        return {name: float(value) for name, value in rows}
    except OSError as error:
        raise SettingError(
            f"cannot read the class weights `{path}` ({error.strerror}).", hint="use none, auto, a JSON or a CSV file"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingError(f"cannot parse the class weights `{path}`: expected name and weight per line.") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
