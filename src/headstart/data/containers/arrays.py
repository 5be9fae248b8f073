"""Read arrays of images and labels: `.npz`, `.npy` and IDX files (MNIST), and arrays in memory.

An array of images is recognized by its shape, its labels by their length; names of arrays give splits
(`train_images`, `y_test`) and decide between several candidates. Pickled objects are never loaded.
"""

from __future__ import annotations

import gzip
import os
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from headstart.data.containers.pixels import array_layout, choose_scale, encode_pixels, has_colors
from headstart.data.containers.store import TableWriter
from headstart.data.file_tree import printable
from headstart.data.matlab import load_matlab, matlab_arrays
from headstart.data.options import ReadOptions
from headstart.data.split_words import split_words
from headstart.errors import DataError, UsageError
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, ReadingNote, UnusedReason

__all__ = ["NamedArray", "open_arrays", "write_arrays"]

_IMAGE_WORDS = frozenset(("x", "image", "images", "img", "imgs", "data", "pixels", "photos", "input", "inputs"))
_LABEL_WORDS = frozenset(("y", "label", "labels", "target", "targets", "class", "classes", "gt"))
_NAMES_WORDS = frozenset(("names", "categories", "vocabulary", "vocab"))
_T10K = re.compile(r"\bt10k\b", re.IGNORECASE)


@dataclass(frozen=True)
class NamedArray:
    """An array that is loaded when it is needed.

    Attributes:
        source: Name of the file.
        name: Name for messages and samples, e.g. `data.npz/train_images`.
        key: Name without the file, e.g. `train_images`.
        shape, dtype: Of the array.
        load: Returns the array.
    """

    source: str
    name: str
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], NDArray[Any]]

    @property
    def split(self) -> str | None:
        """Return the only split that the name states."""
        named = split_words(_T10K.sub("test", self.key)) | split_words(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.key))
        return next(iter(named)) if len(named) == 1 else None

    @property
    def words(self) -> list[str]:
        """Return the words of the name besides the split, in lower case."""
        parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", _T10K.sub("test", self.key))
        return [part.lower() for part in parts if not split_words(part)]

    def is_named(self, words: frozenset[str]) -> bool:
        return bool(words & set(self.words))


def open_arrays(files: Sequence[tuple[str, str]]) -> tuple[list[NamedArray], list[str]]:
    """Return the arrays of files, without loading them, and the names of arrays of pickled objects.

    Args:
        files: (name, path) of `.npz`, `.npy`, `.mat` and IDX files.

    Raises:
        DataError: A file is damaged.
    """
    arrays: list[NamedArray] = []
    pickled: list[str] = []
    for name, path in files:
        try:
            if name.lower().endswith(".npy"):
                with open(path, "rb") as file:
                    shape, dtype = _header(file)
                stem = os.path.splitext(name)[0].replace("/", "_")
                load = lambda path=path: np.load(path, mmap_mode="r", allow_pickle=False)  # noqa: E731
                _sort(NamedArray(name, name, stem, shape, dtype, load), arrays, pickled)
            elif name.lower().endswith(".mat"):
                arrays += [_matlab_array(name, path, *found) for found in matlab_arrays(path)]
            elif name.lower().endswith(".npz"):
                _open_npz(name, path, arrays, pickled)
            else:
                arrays.append(_open_idx(name, path))
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise DataError(
                f"cannot read the arrays of `{printable(name)}` ({error}).", hint="download or save it again"
            ) from error
    return arrays, pickled


def _sort(array: NamedArray, arrays: list[NamedArray], pickled: list[str]) -> None:
    if array.dtype.hasobject:
        pickled.append(array.name)
    else:
        arrays.append(array)


def _open_npz(name: str, path: str, arrays: list[NamedArray], pickled: list[str]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = [m for m in archive.namelist() if m.endswith(".npy")]
        for member in members:
            with archive.open(member) as file:
                shape, dtype = _header(file)
            key = member.removesuffix(".npy")
            _sort(NamedArray(name, f"{name}/{key}", key, shape, dtype, _member(path, key)), arrays, pickled)


def _member(path: str, key: str) -> Callable[[], NDArray[Any]]:
    def load() -> NDArray[Any]:
        with np.load(path, allow_pickle=False) as content:
            array: NDArray[Any] = content[key]
            return array

    return load


def _matlab_array(name: str, path: str, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NamedArray:
    """Return an array of a MATLAB file, with the axis of the images (the last of four) and of labels first."""
    if len(shape) == 4:
        shape, load = (shape[-1], *shape[:-1]), lambda: np.moveaxis(load_matlab(path, key), -1, 0)
    elif len(shape) == 2 and 1 in shape:
        shape, load = (max(shape),), lambda: load_matlab(path, key).reshape(-1)
    else:
        load = lambda: load_matlab(path, key)  # noqa: E731
    stem = os.path.splitext(name)[0].replace("/", "_")
    own = f"{key}_{stem}" if len(split_words(stem)) == 1 and not split_words(key) else key
    return NamedArray(name, f"{name}/{key}", own, shape, dtype, load)


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy_format.read_magic(file)
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _open_idx(name: str, path: str) -> NamedArray:
    """Return the array of an IDX file (http://yann.lecun.com/exdb/mnist), big-endian bytes after their shape."""

    open_file: Callable[..., Any] = gzip.open if path.lower().endswith(".gz") else open
    with open_file(path, "rb") as file:
        head = file.read(4)
        if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
            raise ValueError("not an IDX file of bytes")
        shape = tuple(int(n) for n in np.frombuffer(file.read(4 * head[3]), dtype=">u4"))

    def load() -> NDArray[Any]:
        with open_file(path, "rb") as file:
            data = file.read()
        return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * len(shape)).reshape(shape)

    key = re.sub(r"[-._]idx\d.*$", "", name.replace("/", "_"))
    return NamedArray(name, name, key, shape, np.dtype(np.uint8), load)


def write_arrays(
    arrays: Sequence[NamedArray], pickled: Sequence[str], options: ReadOptions, shown: str, writer: TableWriter
) -> None:
    """Write the images of arrays with the columns of their labels.

    Args:
        arrays: See `open_arrays`.
        pickled: See `open_arrays`.
        options: `image_column`, `label_column` and `first_id` name arrays and count classes.
        shown: Name of the data in messages.
        writer: Gets the images.

    Raises:
        DataError: There are no images, or images and labels differ in number.
        UsageError: Several arrays could be the images.
    """
    images = _choose_images(arrays, pickled, options, shown)
    loaded = {array.name: _squeezed(array.load()) for array in images}
    scale = choose_scale(
        loaded.values(), ", ".join(f"`{a.name}`" for a in images), is_color=any(map(has_colors, _shapes(images)))
    )
    class_names = _class_names(arrays, images)
    used = {array.name for array in images}
    splits = {array.split for array in images}
    several = len({array.source for array in images}) < len(images)
    is_scaled = scale in ("unit", "bool")
    for image in images:
        found = array_layout(_image_shape(image.shape))
        assert found is not None
        columns, names = _columns(image, arrays, images, class_names, options, writer)
        used |= names
        values = loaded.pop(image.name)
        place = image.name if several or image.source == image.name else image.source
        for i in range(len(values)):
            data, suffix = encode_pixels(values[i], *found, scale)
            cells = {column: cells[i] for column, cells in columns.items()}
            if len(splits) > 1 and image.split:
                cells["split"] = image.split
            writer.add(f"{place}#{i}", image.source, data, suffix, cells)
    if class_names is not None:
        used.add(class_names.name)
    if is_scaled:
        evidence = {"scale": scale, "arrays": [array.name for array in images]}
        writer.table.notes.append(ReadingNote(ReadingKind.VALUES_SCALED, len(images), (), evidence))
    rest = [(a.name, str(UnusedReason.NOT_AN_IMAGE)) for a in arrays if a.name not in used]
    writer.table.unused += [*rest, *((name, str(UnusedReason.PICKLED)) for name in pickled)]


def _shapes(images: Sequence[NamedArray]) -> list[tuple[int, ...]]:
    return [_image_shape(image.shape) for image in images]


def _image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of an array of images without axes of length 1 around a stack; square rows become images."""
    if len(shape) == 5 and 1 in (shape[1], shape[-1]):
        return shape[:-1] if shape[-1] == 1 else (shape[0], *shape[2:])
    if len(shape) == 2 and shape[1] >= 64 and round(shape[1] ** 0.5) ** 2 == shape[1]:
        return (shape[0], round(shape[1] ** 0.5), round(shape[1] ** 0.5))
    return shape


def _squeezed(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(_image_shape(array.shape))


def _choose_images(
    arrays: Sequence[NamedArray], pickled: Sequence[str], options: ReadOptions, shown: str
) -> list[NamedArray]:
    """Return the arrays that hold the images, one per split.

    Raises:
        DataError: There are none.
        UsageError: Several could be them.
    """
    able = [a for a in arrays if a.dtype.kind in "buif" and len(a.shape) > 1 and array_layout(_image_shape(a.shape))]
    if options.image_column:
        able = [a for a in able if _is_option(a, options.image_column)]
    if any(len(a.shape) > 2 for a in able):
        able = [a for a in able if len(a.shape) > 2]
    by_split: dict[str | None, list[NamedArray]] = defaultdict(list)
    for array in able:
        by_split[array.split].append(array)
    chosen = []
    for same in by_split.values():
        named = (
            [a for a in same if a.is_named(_IMAGE_WORDS) and not a.is_named(_LABEL_WORDS)] if len(same) > 1 else same
        )
        if len(named) != 1:
            raise UsageError(
                f"several arrays of `{shown}` could be the images: "
                + ", ".join(f"`{a.key}` {a.shape}" for a in same)
                + ".",
                hint=f"name one: --image-column {same[0].key}",
            )
        chosen += named
    if not chosen:
        listed = ", ".join(f"`{a.key}` {a.shape} {a.dtype}" for a in arrays[:6]) or "no array"
        if pickled:
            listed += f", and Python objects, which are never loaded: {', '.join(f'`{n}`' for n in pickled[:4])}"
        raise DataError(
            f"`{shown}` has no array of images: {listed}; expected (N, H, W), (N, H, W, 3) or (N, 3, H, W).",
            hint="reshape the images, e.g. x.reshape(-1, 32, 32, 3), and save them again; or save each as a PNG file",
        )
    return chosen


def _is_option(array: NamedArray, name: str) -> bool:
    return array.key == name or "_".join(array.words) == name.lower()


def _columns(
    image: NamedArray,
    arrays: Sequence[NamedArray],
    images: Sequence[NamedArray],
    class_names: NamedArray | None,
    options: ReadOptions,
    writer: TableWriter,
) -> tuple[dict[str, list[str]], set[str]]:
    """Return the text columns of one array of images, and the names of the arrays that they come from.

    Raises:
        DataError: An array of labels has another length.
    """
    number = image.shape[0]
    others = [a for a in arrays if a not in images and a is not class_names and a.split == image.split]
    fitting = [a for a in others if a.shape[:1] == (number,) and a.dtype.kind in "buifUS" and len(a.shape) <= 2]
    labels = [a for a in fitting if a.is_named(_LABEL_WORDS)] or fitting
    if options.label_column:
        labels = [a for a in fitting if _is_option(a, options.label_column)]
    if not labels:
        wrong = [a for a in others if a.is_named(_LABEL_WORDS) and len(a.shape) >= 1]
        if wrong:
            raise DataError(
                f"`{image.name}` has {pluralize(number, 'image')}, `{wrong[0].name}` has "
                f"{pluralize(wrong[0].shape[0], 'label')}.",
                hint="save as many labels as images, in the same order",
            )
    columns: dict[str, list[str]] = {}
    used: set[str] = set()
    for array in fitting:
        name = "label" if labels == [array] else "_".join(array.words) or array.key
        if len(array.shape) == 2 and array.shape[1] > 1:
            if array not in labels:
                continue
            columns.update(_one_hot(array, class_names, name, is_only=len(labels) == 1))
        else:
            cells = _texts(array.load().reshape(-1))
            columns[name] = _named(cells, class_names, options, writer) if array in labels else cells
        used.add(array.name)
    return columns, used


def _one_hot(array: NamedArray, class_names: NamedArray | None, name: str, *, is_only: bool) -> dict[str, list[str]]:
    """Return a column of labels from one column per class.

    Raises:
        DataError: A row has several classes.
    """
    values = array.load()
    if not is_only or not np.isin(values, (0, 1)).all() or (values.sum(axis=1) > 1).any():
        raise DataError(
            f"`{array.name}` has {array.shape[1]} numbers per image, several of which are set: multi-label data and "
            "regression are not supported; expected one label per image.",
            hint="save one label per image, or name another array with --label-column",
        )
    names = _texts(class_names.load().reshape(-1)) if class_names is not None else []
    chosen, has_label = values.argmax(axis=1).tolist(), np.asarray(values.any(axis=1)).tolist()
    texts = [str(k) if len(names) != array.shape[1] else names[k] for k in range(array.shape[1])]
    return {name: [texts[k] if has else "" for k, has in zip(chosen, has_label, strict=True)]}


def _class_names(arrays: Sequence[NamedArray], images: Sequence[NamedArray]) -> NamedArray | None:
    """Return the array of class names: text, of another length than the images."""
    lengths = {image.shape[0] for image in images}
    for array in arrays:
        is_named = array.is_named(_NAMES_WORDS) or array.words in (["classes"], ["class"])
        if array.dtype.kind in "US" and len(array.shape) == 1 and is_named and array.shape[0] not in lengths:
            return array
    return None


def _named(cells: list[str], class_names: NamedArray | None, options: ReadOptions, writer: TableWriter) -> list[str]:
    """Return labels with names in place of numbers, if the container has names and the first number is known.

    Raises:
        UsageError: It is not known where counting starts.
    """
    if class_names is None or options.first_id == "none" or not all(c.lstrip("-").isdigit() for c in cells):
        return cells
    names = _texts(class_names.load().reshape(-1))
    numbers = [int(cell) for cell in cells]
    first = options.first_id if isinstance(options.first_id, int) else None
    reason = "option"
    if first is None:
        first, reason = (
            (0, "zero_occurs") if 0 in numbers else (1, "last_id") if max(numbers) == len(names) else (-1, "")
        )
    if first < 0 or min(numbers) < first or max(numbers) - first >= len(names):
        raise UsageError(
            f"`{class_names.name}` has {len(names)} names, and the labels are {min(numbers)} to {max(numbers)}.",
            hint="use --first-id 0 or --first-id 1 for the number of the first name, or --first-id none for numbers",
        )
    shown = {str(k): names[k - first] for k in sorted(set(numbers))}
    evidence = {"file": class_names.name, "names": shown, "reason": reason, "first_id": first}
    evidence |= {"num_agreeing": len(cells), "num_images": len(cells)}
    if not any(note.kind is ReadingKind.NAMES_FROM_FILE for note in writer.table.notes):
        examples = tuple(shown.values())[:5]
        writer.table.notes.append(ReadingNote(ReadingKind.NAMES_FROM_FILE, len(shown), examples, evidence))
    return [names[number - first] for number in numbers]


def _texts(values: NDArray[Any]) -> list[str]:
    """Return one text per value; whole numbers without a fraction."""
    if values.dtype.kind == "S":
        return [v.decode("utf-8", "backslashreplace") for v in values.tolist()]
    if values.dtype.kind == "f":
        return ["" if v != v else str(int(v)) if float(v).is_integer() else repr(float(v)) for v in values.tolist()]
    return [str(v) for v in values.tolist()]
