"""Take a path or a Python object as a dataset; what stores objects is imported only for them."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["as_data_path"]


def as_data_path(data: Any, labels: Any = None, *, needs_labels: bool = True) -> str:
    """Return the path of a dataset: as given, or of an object that is stored in the cache folder.

    Args:
        data: A path or an object, see `memory`.
        labels: Labels of the images in `data`, if they are separate.
        needs_labels: Whether images without labels are refused.

    Raises:
        UsageError: The type of the object is not supported, or images and labels differ in number.
    """
    if labels is None and isinstance(data, (str, os.PathLike)):
        path = os.fspath(data)
        if isinstance(path, str):
            return path
    from headstart.data.memory import store_objects

    return store_objects(data, labels, needs_labels=needs_labels)
