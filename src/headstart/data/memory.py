"""Take Python objects as datasets: data frames, images with labels, arrays, and datasets of `datasets` and torch.

An object is taken for what it is, by its methods, so none of these packages is imported. Its images and labels are
stored once in the cache folder, by content (`containers.store`), so that resumed runs, reports and evaluations find
them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.data.containers.columnar import cell_text, class_labels, image_suffix
from headstart.data.containers.pixels import encode_pixels
from headstart.data.containers.store import TableWriter, store_new
from headstart.data.split_words import split_name
from headstart.data.tables import IMAGE_NAMES, LABEL_NAMES, plain_name
from headstart.errors import UsageError
from headstart.messages.numbers import pluralize
from headstart.preprocessing.image_spec import ImageError, read_bytes

__all__ = ["check_array", "encode_image", "images_of", "is_image", "store_objects"]

_ACCEPTED = (
    "expected a path, a DataFrame, (images, labels), a Dataset of `datasets` or torch, or a dict of these by split"
)
_DEEP_MODES = ("F", "CMYK", "LAB", "YCbCr", "I;16", "I")
_Rows = Iterator[dict[str, Any]]


def store_objects(data: Any, labels: Any, *, needs_labels: bool) -> str:
    """Return the folder of a stored object; see `objects.as_data_path`.

    Raises:
        UsageError: The type of the object is not supported, or images and labels differ in number.
    """
    images = data[0] if isinstance(data, tuple) and len(data) == 2 else data
    source = f"{type(images).__name__} in memory"
    rows, image = _rows_of((data, labels) if labels is not None else data, needs_labels=needs_labels)

    def write(writer: TableWriter) -> None:
        _write(rows, image, source, writer)

    return store_new(source, write)


def _write(rows: Iterable[dict[str, Any]], image: str, source: str, writer: TableWriter) -> None:
    """Write rows; if all images are paths, the table names them and no image is copied."""
    found = list(rows)
    if found and all(isinstance(row[image], (str, os.PathLike)) for row in found):
        texts = [{k: cell_text(os.fspath(v) if k == image else v) for k, v in row.items()} for row in found]
        writer.add_paths(os.getcwd(), source, texts, is_external=True)
        writer.table.image_column = image
        return
    for i, row in enumerate(found):
        cells = {k: cell_text(v) for k, v in row.items() if k != image}
        try:
            value = row[image]
            data = read_bytes(value) if isinstance(value, (str, os.PathLike)) else encode_image(value, f"image {i}")
        except ImageError as error:
            writer.problem(f"#{i}", error.kind, error.detail)
            continue
        writer.add(f"#{i}", source, data, image_suffix(data), cells)


def _rows_of(data: Any, *, needs_labels: bool) -> tuple[list[dict[str, Any]], str]:
    """Return the rows of an object, and the name of their image column."""
    if isinstance(data, Mapping) and data and all(isinstance(k, str) and split_name(k) for k in data):
        together: list[dict[str, Any]] = []
        image = "image"
        for name, part in data.items():
            rows, column = _rows_of(part, needs_labels=needs_labels)
            together += [{image: row.pop(column), **row, "split": name} for row in rows]
        return together, image
    columns = _columns(data)
    if columns is not None:
        return columns
    if isinstance(data, tuple) and len(data) == 2 and not is_image(data[0]):
        return _pairs(*data), "image"
    if is_image(data) or isinstance(data, np.ndarray) or (isinstance(data, list) and data and is_image(data[0])):
        if needs_labels:
            raise UsageError(
                f"{_kind(data)} has no labels; {_ACCEPTED}.",
                hint="pass (images, labels); ImageClassifier().fit(images, labels) fits only a head",
            )
        return [{"image": image} for image in images_of(data)], "image"
    if _is_indexed(data) and len(data):
        return list(_items(data)), "image"
    raise UsageError(
        f"{_kind(data)} is not a dataset; {_ACCEPTED}.",
        hint="e.g. headstart.train((images, labels)), or ImageClassifier().fit(images, labels) for a head alone",
    )


def _pairs(images: Any, labels: Any) -> list[dict[str, Any]]:
    """Return rows of images and labels.

    Raises:
        UsageError: They differ in number, or labels are not a sequence.
    """
    labels = labels.tolist() if hasattr(labels, "tolist") else labels
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable):
        raise UsageError(f"labels are {_kind(labels)}; expected one label per image.")
    listed = [label[0] if isinstance(label, list) and len(label) == 1 else label for label in labels]
    found = list(images_of(images))
    if len(found) != len(listed):
        raise UsageError(
            f"there are {pluralize(len(found), 'image')} and {pluralize(len(listed), 'label')}.",
            hint="pass one label per image, in the same order",
        )
    return [{"image": image, "label": label} for image, label in zip(found, listed, strict=True)]


def _columns(data: Any) -> tuple[list[dict[str, Any]], str] | None:
    """Return rows and image column of an object with columns; None for other objects.

    Raises:
        UsageError: It is not known which column has the images.
    """
    if hasattr(data, "columns") and hasattr(data, "itertuples"):  # pandas
        table = {str(c): data[c].tolist() for c in data.columns}
    elif hasattr(data, "get_columns"):  # polars
        table = {c.name: c.to_list() for c in data.get_columns()}
    elif hasattr(data, "column_names") and hasattr(data, "features") and hasattr(data, "__len__"):  # datasets
        return _dataset_rows(data)
    elif hasattr(data, "column_names") and hasattr(data, "to_pydict"):  # pyarrow
        table = data.to_pydict()
    elif isinstance(data, Mapping) and data and all(_is_listed(v) for v in data.values()):
        table = {str(k): list(v) for k, v in data.items()}
    else:
        return None
    image = _image_column(data, table)
    if len({len(cells) for cells in table.values()}) > 1:
        raise UsageError("the columns differ in length; expected one value per image.")
    return [dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True)], image


def _image_column(data: Any, columns: Mapping[str, Sequence[Any]]) -> str:
    named = [c for wanted in IMAGE_NAMES for c in columns if plain_name(c) == wanted]
    held = [c for c, cells in columns.items() if len(cells) and is_image(cells[0]) and not isinstance(cells[0], str)]
    alone = [c for c in columns if len(columns) == 1 and plain_name(c) not in LABEL_NAMES]
    found = [*named, *held, *alone]
    if not found:
        listed = ", ".join(f"`{c}`" for c in list(columns)[:10])
        raise UsageError(
            f"{_kind(data)} has no image column; its columns are {listed}.", hint="name the columns image and label"
        )
    return str(found[0])


def _dataset_rows(data: Any) -> tuple[list[dict[str, Any]], str]:
    """Return the rows of a `datasets.Dataset`, with encoded images and class names."""
    features = dict(data.features or {})
    declared = [c for c, feature in features.items() if type(feature).__name__ == "Image"]
    image = str(declared[0]) if len(declared) == 1 else _image_column(data, {c: data[:1][c] for c in data.column_names})
    feature: Any = features.get(image)
    kind: Any = type(feature)
    if hasattr(feature, "decode") and hasattr(data, "cast_column"):
        data = data.cast_column(image, kind(decode=False))
    names = class_labels(features)
    rows = [{c: cell_text(v, names.get(c)) if c in names else v for c, v in row.items()} for row in data]
    if len(names) == 1 and "label" not in data.column_names:
        (label,) = names
        rows = [{"label": row.pop(label), **row} for row in rows]
    return rows, image


def _items(data: Any) -> _Rows:
    """Yield the rows of an indexed dataset of (image, label), as of torch.

    Raises:
        UsageError: Its items are something else.
    """
    inner = data
    while not hasattr(inner, "classes") and hasattr(inner, "dataset"):  # a Subset of torch
        inner = inner.dataset
    names = getattr(inner, "classes", None)
    names = list(map(str, names)) if isinstance(names, (list, tuple)) else None
    for i in range(len(data)):
        item = data[i]
        if not isinstance(item, (tuple, list)) or len(item) < 2 or not is_image(item[0]):
            raise UsageError(
                f"expected (image, label) as item {i} of {_kind(data)}, got {_kind(item)}.",
                hint="pass (images, labels), or a dataset whose items are images with labels",
            )
        label = item[1].item() if hasattr(item[1], "item") else item[1]
        yield {"image": item[0], "label": cell_text(label, names)}


def images_of(data: Any) -> Iterable[Any]:
    """Return the images of an object that holds one or many: paths, bytes, files, PIL images or arrays.

    Raises:
        UsageError: The object holds no images.
    """
    if is_image(data):
        return [data]
    columns = _columns(data)
    if columns is not None:
        rows, image = columns
        return [row[image] for row in rows]
    if isinstance(data, np.ndarray):
        return data.tolist() if data.dtype.kind in "OUS" else list(data)
    if hasattr(data, "detach"):  # a batch of a torch tensor
        return list(data)
    if isinstance(data, Mapping):
        raise UsageError(f"{_kind(data)} is not a list of images.", hint="pass its images as a list")
    if not isinstance(data, Sequence) and _is_indexed(data) and not hasattr(data, "tolist"):
        return [row["image"] for row in _items(data)]
    if isinstance(data, Iterable):
        return data
    raise UsageError(f"an image must be a path, bytes, a file, a PIL image or an array, got {_kind(data)}.")


def is_image(value: Any) -> bool:
    """Return whether an object is one image: a path, bytes, a file, a PIL image, an array or a tensor."""
    if isinstance(value, (str, os.PathLike, bytes, bytearray, Image.Image)) or hasattr(value, "read"):
        return True
    if isinstance(value, Mapping):
        return {"bytes", "path"} & set(value) != set() and len(value) <= 2
    shape = tuple(getattr(value, "shape", ()))
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "buif" and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)))
    return hasattr(value, "detach") and len(shape) in (2, 3) and (len(shape) == 2 or shape[0] in (1, 3, 4))


def encode_image(value: Any, name: str) -> bytes:
    """Return an image in memory as the bytes of a lossless file.

    Raises:
        UsageError: The object is not an image; `name` is its name in the message.
        ImageError: A file cannot be read.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path") or b""
    if hasattr(value, "read"):
        value = value.read()
        if isinstance(value, str):
            raise UsageError(f"{name} is a file that was opened as text.", hint="open it with mode 'rb'")
    if isinstance(value, (str, os.PathLike)):
        return read_bytes(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if hasattr(value, "detach"):
        value = _tensor_pixels(value, name)
    if isinstance(value, np.ndarray):
        pixels = check_array(value, name)
        return encode_pixels(pixels, "gray" if pixels.ndim == 2 else "color", tuple(range(pixels.ndim)), "bytes")[0]
    if not isinstance(value, Image.Image):
        raise UsageError(f"{name} is {_kind(value)}; expected a path, bytes, a file, a PIL image or an array.")
    buffer = io.BytesIO()
    if value.mode in _DEEP_MODES:
        value.save(buffer, format="TIFF")
    else:
        value.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def check_array(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Return an (H, W) or (H, W, 3) uint8 array of an image.

    Raises:
        UsageError: Shape or type differ.
    """
    is_gray = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 1)
    if array.dtype != np.uint8 or not (is_gray or (array.ndim == 3 and array.shape[-1] == 3)):
        raise UsageError(
            f"{name} is a {array.dtype} array of shape {array.shape}; expected (H, W, 3) uint8, or (H, W) if gray.",
            hint="scale to 0..255 and convert with .astype('uint8'); drop alpha; repeat other channels to three",
        )
    return np.ascontiguousarray(array.reshape(array.shape[:2]) if is_gray else array)


def _tensor_pixels(tensor: Any, name: str) -> NDArray[Any]:
    """Return the pixels of a torch tensor (C, H, W): uint8, or float from 0 to 1 as of `ToTensor`.

    Raises:
        UsageError: It has other values, as after `Normalize`.
    """
    array = tensor.detach().cpu().numpy()
    if array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    if array.dtype.kind == "f":
        if not (array.size and array.min() >= 0 and array.max() <= 1):
            raise UsageError(
                f"{name} is a tensor with values outside 0 to 1.", hint="remove Normalize from the transform"
            )
        array = np.rint(array * 255).astype(np.uint8)
    pixels: NDArray[Any] = array
    return pixels


def _is_listed(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (hasattr(value, "tolist") and getattr(value, "ndim", 1) == 1)


def _is_indexed(data: Any) -> bool:
    is_plain = isinstance(data, (str, bytes, Mapping, np.ndarray))
    return not is_plain and hasattr(data, "__len__") and hasattr(data, "__getitem__")


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
