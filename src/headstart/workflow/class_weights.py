"""How much each class weighs: equally by image, equally by class, or as a file says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.errors import SettingError

__all__ = ["class_factors"]


def class_factors(how: str, class_ids: NDArray[np.int64], class_names: tuple[str, ...]) -> NDArray[np.float64] | None:
    """Return (K,) positive factors on the loss of each class, or None where every image weighs the same.

    Args:
        how: `none`, `auto` (each class weighs the same) or a file: JSON `{"name": factor}` or CSV `name,factor`.
        class_ids: (N,) training labels.
        class_names: K names.

    Raises:
        SettingError: The file cannot be read, names an unknown class, leaves one out or holds no positive number.
    """
    if how == "none":
        return None
    counts = np.bincount(class_ids, minlength=len(class_names))
    if how == "auto":
        factors = len(class_ids) / (len(class_names) * np.maximum(counts, 1))
        return np.asarray(np.where(counts > 0, factors, 1.0), dtype=np.float64)
    given = _read(Path(how))
    unknown = sorted(set(given) - set(class_names))
    missing = sorted(set(class_names) - set(given))
    if unknown or missing:
        what = f"names no class of these images: {unknown[0]}" if unknown else f"leaves out the class `{missing[0]}`"
        raise SettingError(f"the file of class weights `{how}` {what}.", hint=f"classes: {', '.join(class_names[:10])}")
    values = np.array([given[name] for name in class_names])
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise SettingError(f"a class weight in `{how}` is not a positive number.")
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
            f"the class weights `{path}` cannot be read ({error.strerror}).", hint="none, auto, or a JSON or CSV file"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingError(f"the class weights `{path}` are not understood: name and factor on each line.") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
