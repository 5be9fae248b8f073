"""Convert values to plain JSON and back."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

__all__ = ["plain", "restore"]


def plain(value: Any) -> Any:
    """Return JSON-serializable values: dataclasses as dicts, enums by value, numpy numbers as Python's, NaN as None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def restore(kind: Any, value: Any) -> Any:
    """Return the value of a type hint from its plain JSON: dataclasses, enums and tuples as such, the rest as it is."""
    origin, arguments = get_origin(kind), get_args(kind)
    if value is None:
        return None
    if origin in (Union, UnionType):
        return restore(arguments[0], value) if arguments[1:] == (type(None),) else value
    if origin is tuple:
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(restore(k, v) for k, v in zip(kinds, value, strict=True))
    if is_dataclass(kind):
        hints = get_type_hints(kind, localns={"JsonValue": Any, "Mapping": Mapping, "Sequence": Sequence})
        return kind(**{name: restore(hints[name], part) for name, part in value.items()})  # type: ignore[operator]
    return kind(value) if isinstance(kind, type) and issubclass(kind, Enum) else value
