"""Read tables, class names and vectors of numbers from MATLAB files (`.mat`, up to version 7.2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.file_tree import printable
from headstart.errors import DataError

__all__ = ["load_matlab", "matlab_arrays", "matlab_names", "matlab_rows", "matlab_vectors"]

_MAX_BYTES = 64 << 20
_TYPES = {"double": "float64", "single": "float32"}
_SUPPORTED = ("struct", "cell", "char", "double", "single", *(f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64)))


def matlab_rows(path: str) -> tuple[list[str], list[dict[str, str]]]:
    """Return columns and rows of the longest table: a struct array, or arrays of one length.

    Raises:
        DataError: The file is unreadable or has no table, or scipy is not installed.
    """
    tables = [table for _, value in _variables(path) if (table := _table(value))[1]]
    tables += [table for table in [_columns(dict(_variables(path)))] if len(table[0]) > 1]
    if not tables:
        raise DataError(f"`{printable(os.path.basename(path))}` has no struct array, so it is not a table of images.")
    return max(tables, key=lambda table: len(table[1]))


def matlab_names(path: str) -> list[str]:
    """Return the texts of the longest cell array of different texts; MATLAB counts them from 1.

    Raises:
        DataError: The file is unreadable, or scipy is not installed.
    """
    lists = [[str(cell) for cell in value.flat] for _, value in _variables(path) if _is_texts(value)]
    return max((names for names in lists if len(set(names)) == len(names) > 1), key=len, default=[])


def matlab_vectors(path: str) -> dict[str, list[int]]:
    """Return the vectors of whole numbers by name.

    Raises:
        DataError: The file is unreadable, or scipy is not installed.
    """
    vectors = {}
    for name, value in _variables(path):
        if value.ndim == 1 and value.dtype.kind in "iuf" and value.size > 1 and np.all(value == np.round(value)):
            vectors[name] = [int(number) for number in value]
    return vectors


def matlab_arrays(path: str) -> list[tuple[str, tuple[int, ...], np.dtype[Any]]]:
    """Return name, shape and type of the arrays of numbers, without loading them; images are (H, W, C, N).

    Raises:
        DataError: The file is unreadable, or scipy is not installed.
    """
    listed = _open(path, lambda io: io.whosmat(path))
    return [(name, shape, np.dtype(_TYPES.get(kind, kind))) for name, shape, kind in listed if kind in _SUPPORTED[3:]]


def load_matlab(path: str, name: str) -> NDArray[Any]:
    """Return one array.

    Raises:
        DataError: The file is unreadable, or scipy is not installed.
    """
    array: NDArray[Any] = _open(path, lambda io: io.loadmat(path, variable_names=[name]))[name]
    return array


def _variables(path: str) -> Iterator[tuple[str, NDArray[Any]]]:
    return iter(_load(path, os.stat(path).st_mtime_ns))


@lru_cache(maxsize=16)
def _load(path: str, changed_ns: int) -> tuple[tuple[str, NDArray[Any]], ...]:
    """Return the variables with at most two dimensions, without dimensions of length one."""
    listed = _open(path, lambda io: io.whosmat(path))
    names = [
        name
        for name, shape, kind in listed
        if kind in _SUPPORTED and len(shape) == 2 and 8 * shape[0] * shape[1] <= _MAX_BYTES
    ]
    if not names:
        return ()
    loaded = _open(path, lambda io: io.loadmat(path, variable_names=names, squeeze_me=True, chars_as_strings=True))
    return tuple((name, np.asarray(loaded[name])) for name in names)


def _open(path: str, read: Callable[[Any], Any]) -> Any:
    """Return what `read` gets from a file with `scipy.io`.

    Raises:
        DataError: The file is unreadable, or scipy is not installed.
    """
    shown = printable(os.path.basename(path))
    try:
        from scipy import io
    except ImportError as error:
        raise DataError(f"reading `{shown}` needs scipy.", hint='pip install "headstart[data]"') from error
    try:
        return read(io)
    except NotImplementedError as error:  # HDF5
        raise DataError(
            f"`{shown}` is a MATLAB file of version 7.3, which is not supported.",
            hint="save it in MATLAB with save(..., '-v7')",
        ) from error
    except Exception as error:  # damaged files raise errors of many types
        raise DataError(f"cannot read the MATLAB file `{shown}` ({error}).", hint="download it again") from error


def _table(value: NDArray[Any]) -> tuple[list[str], list[dict[str, str]]]:
    if value.dtype.names is None:
        return [], []
    fields = {name: [_cell(cell) for cell in np.atleast_1d(value)[name]] for name in value.dtype.names}
    if value.ndim == 0:  # one struct, its fields are the columns
        return _columns({name: np.asarray(value[name].item()) for name in value.dtype.names})
    return _rows(fields)


def _columns(arrays: Mapping[str, NDArray[Any]]) -> tuple[list[str], list[dict[str, str]]]:
    """Return the longest arrays as columns of a table."""
    length = max((value.size for value in arrays.values() if value.ndim == 1), default=0)
    columns = {name: v for name, v in arrays.items() if v.ndim == 1 and v.size == length and v.dtype.names is None}
    return _rows({name: [_cell(cell) for cell in v] for name, v in columns.items()})


def _rows(fields: Mapping[str, list[str | None]]) -> tuple[list[str], list[dict[str, str]]]:
    kept = {name: cells for name, cells in fields.items() if all(cell is not None for cell in cells)}
    num_rows = max(map(len, kept.values()), default=0)
    return list(kept), [{name: str(cells[i]) for name, cells in kept.items()} for i in range(num_rows)]


def _cell(value: Any) -> str | None:
    """Return a number or a text as in a table; None for nested arrays."""
    array = np.asarray(value)
    if array.size == 0:
        return ""
    if array.ndim or array.dtype.names is not None:
        return None
    item = array.item()
    if isinstance(item, float) and item.is_integer():
        item = int(item)
    return str(item) if isinstance(item, (str, int, float)) else None


def _is_texts(value: NDArray[Any]) -> bool:
    return value.ndim == 1 and value.dtype.kind in "OU" and all(isinstance(cell, str) for cell in value.flat)
