"""Read parquet and arrow files of images, as exported by Hugging Face `datasets`.

An image is a struct of `bytes` and `path`, or a column of encoded bytes; names of classes come from the metadata of the
schema. Rows are read in small batches.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.data.containers.store import TableWriter
from headstart.data.file_tree import printable
from headstart.data.options import ReadOptions
from headstart.data.split_words import split_words
from headstart.data.tables import IMAGE_NAMES, plain_name
from headstart.errors import DataError, MissingExtraError, UsageError
from headstart.types.codes import UnusedReason
from headstart.types.records import Problem

__all__ = [
    "add_encoded",
    "cell_text",
    "class_labels",
    "encoded_image",
    "export_boxes",
    "has_box_column",
    "image_suffix",
    "write_columnar",
]

_BATCH = 128
_SUFFIXES = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"RIFF", ".webp"),
    (b"P5", ".pgm"),
    (b"P6", ".ppm"),
)


def write_columnar(files: Sequence[tuple[str, str]], options: ReadOptions, writer: TableWriter) -> None:
    """Write the images of parquet or arrow files with their columns.

    Args:
        files: (name, path) of each file.
        options: `image_column` names the column of images.
        writer: Gets the images.

    Raises:
        DataError: A file is damaged or has no images.
        MissingExtraError: pyarrow is not installed.
        UsageError: Several columns could be the images.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(f"reading `{printable(files[0][0])}`", "data") from error
    splits = {name: _split_of(name) for name, _ in files}
    for name, path in files:
        split = splits[name] if len(set(splits.values())) > 1 else None
        try:
            with _opened(path) as (schema, batches):
                _write_file(name, os.path.dirname(path), schema, batches, split, options, writer)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(
                f"cannot read `{printable(name)}` ({str(error).splitlines()[0]}).", hint="download or export it again"
            ) from error


def _split_of(name: str) -> str | None:
    """Return the split that the file name states, or else the nearest folder that states one."""
    for part in reversed(name.split("/")):
        named = split_words(os.path.splitext(part)[0])
        if len(named) == 1:
            return next(iter(named))
    return None


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Iterator[Any]]]:
    """Yield the schema of a file and its batches of rows."""
    import pyarrow
    import pyarrow.parquet

    if path.lower().endswith(".parquet"):
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file.schema_arrow, file.iter_batches(batch_size=_BATCH)
        return
    with pyarrow.OSFile(path) as source:
        try:
            reader = pyarrow.ipc.open_stream(source)
            batches: Iterator[Any] = iter(reader)
        except pyarrow.ArrowInvalid:
            reader = pyarrow.ipc.open_file(source)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        yield reader.schema, batches


def _write_file(
    name: str,
    folder: str,
    schema: Any,
    batches: Iterator[Any],
    split: str | None,
    options: ReadOptions,
    writer: TableWriter,
) -> None:
    features = _features(schema)
    if not any(_holds_bytes(schema.field(c).type) for c in schema.names) and _has_paths(schema, options):
        texts = class_labels(features)
        rows = (row for batch in batches for row in batch.to_pylist())
        split_cell = {"split": split} if split and "split" not in schema.names else {}
        cells_of = ({**{c: cell_text(v, texts.get(c)) for c, v in row.items()}, **split_cell} for row in rows)
        writer.add_paths(folder, name, cells_of)
        return
    image = _image_column(schema, features, options, name)
    if options.label_column is None:
        _refuse_boxes(schema, name)
    labels = class_labels(features)
    columns = [c for c in schema.names if c != image and not _holds_bytes(schema.field(c).type)]
    unused = [f"{name}/{c}" for c in schema.names if c not in columns and c != image]
    writer.table.unused += [(column, str(UnusedReason.NOT_AN_IMAGE)) for column in unused]
    if len(labels) == 1 and writer.table.label_column is None:
        writer.table.label_column = next(iter(labels))
    row = 0
    for batch in batches:
        for values in batch.to_pylist():
            cells = {c: cell_text(values[c], labels.get(c)) for c in columns}
            if split and not any(plain_name(c) == "split" for c in columns):
                cells["split"] = split
            add_encoded(writer, f"{name}#{row}", name, values[image], folder, cells)
            row += 1


def _refuse_boxes(schema: Any, name: str) -> None:
    """Raise if a column holds objects with boxes.

    Raises:
        DataError: It does.
    """
    column = _box_column(schema)
    if column is not None:
        raise DataError(
            f"`{printable(name)}` has boxes in the column `{column}`, not labels of whole images.",
            hint="use --task detect (or auto), or --label-column for labels of whole images",
        )


def _box_column(schema: Any) -> str | None:
    """Return the column of objects with boxes, or None."""
    for column in schema.names:
        kind = schema.field(column).type
        kind = getattr(kind, "value_type", kind)  # of lists
        if "bbox" in [kind.field(i).name for i in range(kind.num_fields)]:
            return str(column)
    return None


def has_box_column(path: str) -> bool:
    """Return whether a parquet or arrow file has a column of objects with boxes; False if it cannot be read."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return False
    try:
        with _opened(path) as (schema, _):
            return _box_column(schema) is not None
    except (pyarrow.ArrowException, OSError):
        return False


def export_boxes(files: Sequence[tuple[str, str]], folder: Path) -> list[Problem]:
    """Write the images of parquet or arrow files with boxes as files, with a `metadata.jsonl` for each file.

    The names of numbered classes are written to `classes.txt`, if all files have the same.

    Args:
        files: (name, path) of each file.
        folder: Folder to write to.

    Returns:
        Rows without an image.

    Raises:
        DataError: A file is damaged or has no images.
        UsageError: Several columns could be the images.
    """
    import pyarrow

    problems: list[Problem] = []
    classes: set[tuple[str, ...]] = set()
    for name, path in files:
        place = folder / (_split_of(name) or "images") / os.path.splitext(os.path.basename(name))[0]
        place.mkdir(parents=True, exist_ok=True)
        try:
            with _opened(path) as (schema, batches), open(place / "metadata.jsonl", "w", encoding="utf-8") as rows:
                features = _features(schema)
                image, boxes = _image_column(schema, features, ReadOptions(), name), str(_box_column(schema))
                classes.add(tuple(_object_classes(features.get(boxes))))
                for i, row in enumerate(row for batch in batches for row in batch.to_pylist()):
                    found = encoded_image(row[image], os.path.dirname(path))
                    if isinstance(found, Problem):
                        problems.append(Problem(f"{name}#{i}", found.kind, found.detail))
                        continue
                    file = f"{i:06d}{image_suffix(found)}"
                    (place / file).write_bytes(found)
                    rows.write(json.dumps({"file_name": file, "objects": _by_key(row[boxes])}, default=str) + "\n")
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(
                f"cannot read `{printable(name)}` ({str(error).splitlines()[0]}).", hint="download or export it again"
            ) from error
    if len(classes) == 1 and (names := classes.pop()):
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return problems


def _object_classes(feature: Any) -> list[str]:
    """Return the class names in the feature of a column of objects, at any depth."""
    if isinstance(feature, list):
        return next((names for item in feature if (names := _object_classes(item))), [])
    if not isinstance(feature, Mapping):
        return []
    names = class_labels({"": feature}).get("", [])
    return names or next((names for value in feature.values() if (names := _object_classes(value))), [])


def _by_key(objects: Any) -> dict[str, Any]:
    """Return the objects of an image as one list for each key."""
    if isinstance(objects, list):
        keys = dict.fromkeys(key for item in objects if isinstance(item, dict) for key in item)
        return {key: [item.get(key) for item in objects if isinstance(item, dict)] for key in keys}
    return objects if isinstance(objects, dict) else {}


def add_encoded(writer: TableWriter, name: str, source: str, value: object, folder: str, cells: dict[str, str]) -> None:
    """Write an encoded image: bytes, or a struct of `bytes` and `path`; without either it is a problem."""
    found = encoded_image(value, folder)
    if isinstance(found, Problem):
        writer.problem(name, found.kind, found.detail)
    else:
        writer.add(name, source, found, image_suffix(found), cells)


def encoded_image(value: object, folder: str = "") -> bytes | Problem:
    """Return the bytes of an image from a cell, or why there are none."""
    path = value.get("path") if isinstance(value, dict) else None
    if isinstance(value, dict):
        value = value.get("bytes")
    if isinstance(value, (bytes, bytearray, memoryview)) and len(value):
        return bytes(value)
    if isinstance(path, str) and folder:
        place = os.path.normpath(os.path.join(folder, path))
        if os.path.isfile(place) and os.path.realpath(place).startswith(os.path.realpath(folder) + os.sep):
            with open(place, "rb") as file:
                return file.read()
        return Problem(path, "missing", f"the row has no bytes, and there is no file `{printable(path)}`")
    return Problem("", "missing", "the row has no image")


def image_suffix(data: bytes) -> str:
    """Return the extension of an encoded image by its first bytes."""
    return next((suffix for head, suffix in _SUFFIXES if data.startswith(head)), ".img")


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Return the features that `datasets` stores in the metadata of a schema."""
    try:
        value = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return value if isinstance(value, dict) else {}


def class_labels(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the class names of each column of labels, from the features of `datasets` or their JSON."""
    names: dict[str, list[str]] = {}
    for column, feature in features.items():
        listed = feature.get("names") if isinstance(feature, Mapping) else getattr(feature, "names", None)
        if isinstance(listed, Mapping):
            listed = [listed[k] for k in sorted(listed, key=int)]
        if isinstance(listed, list) and listed:
            names[column] = [str(name) for name in listed]
    return names


def _holds_bytes(kind: Any) -> bool:
    import pyarrow

    if pyarrow.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _has_paths(schema: Any, options: ReadOptions) -> bool:
    """Return whether a column of text has the name of a column of images."""
    import pyarrow

    texts = [c for c in schema.names if schema.field(c).type in (pyarrow.string(), pyarrow.large_string())]
    return any(c == options.image_column or plain_name(c) in IMAGE_NAMES for c in texts)


def _image_column(schema: Any, features: Mapping[str, dict[str, Any]], options: ReadOptions, name: str) -> str:
    """Return the column of images: by option, by its declared type, or the only one of bytes.

    Raises:
        DataError: There is none.
        UsageError: Several could be it.
    """
    able: list[str] = [c for c in schema.names if _holds_bytes(schema.field(c).type)]
    declared = [c for c in able if features.get(c, {}).get("_type") == "Image"]
    candidates = [c for c in able if c == options.image_column] if options.image_column else declared or able
    if len(candidates) > 1:
        candidates = [c for c in candidates if plain_name(c) in (*IMAGE_NAMES, "pixel_values")] or candidates
    if len(candidates) > 1:
        raise UsageError(
            f"several columns of `{printable(name)}` could be the images: {', '.join(f'`{c}`' for c in candidates)}.",
            hint=f"name one: --image-column {candidates[0]}",
        )
    if not candidates:
        raise DataError(
            f"`{printable(name)}` has no column of encoded images; its columns are "
            + ", ".join(f"`{c}` ({schema.field(c).type})" for c in schema.names[:8])
            + ".",
            hint="expected bytes of JPEG or PNG files, as `datasets` writes a column of images; or export files",
        )
    return candidates[0]


def cell_text(value: object, class_names: Sequence[str] | None = None) -> str:
    """Return a value as the text of a table cell: the class name for a number of a label column, nothing for -1."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return "|".join(cell_text(item, class_names) for item in value)
    if class_names is not None and isinstance(value, int):
        return class_names[value] if 0 <= value < len(class_names) else ""
    if isinstance(value, float):
        return "" if value != value else str(int(value)) if value.is_integer() else repr(value)
    return value if isinstance(value, str) else str(value)
