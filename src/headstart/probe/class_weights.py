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
        source: `none`, `auto` (balanced), JSON `{"name": weight}`, or a file of it or of CSV `name,weight`. Other
            classes have weight 1.
        class_ids: (N,) training labels.
        class_names: K names.

    Raises:
        SettingError: The file cannot be read, has an unknown class, or a weight that is not positive.
    """
    if source == "none":
        return None
    counts = np.bincount(class_ids, minlength=len(class_names))
    if source == "auto":
        factors = len(class_ids) / (len(class_names) * np.maximum(counts, 1))
        return np.asarray(np.where(counts > 0, factors, 1.0), dtype=np.float64)
    weights = _read(source)
    unknown = sorted(set(weights) - set(class_names))
    if unknown:
        known = ", ".join(class_names[:10])
        raise SettingError(
            f"the class weights `{source}` contain the unknown class `{unknown[0]}`.", hint=f"classes: {known}"
        )
    values = np.array([weights.get(name, 1.0) for name in class_names])
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise SettingError(f"a class weight in `{source}` is not a positive number.")
    return values


def _read(source: str) -> dict[str, float]:
    is_text = source.lstrip().startswith("{")
    path = Path(source)
    try:
        text = source if is_text else path.read_text(encoding="utf-8-sig")
        if is_text or path.suffix.lower() == ".json":
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
