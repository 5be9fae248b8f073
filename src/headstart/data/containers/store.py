"""Store the images of a container in one file, with one row of text per image."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from headstart.errors import CacheError, DataError
from headstart.preprocessing.packed_files import PACK
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.records import Problem
from headstart.utils.system import atomic_folder, cache_root, file_digest, private_folder

__all__ = [
    "IN_MEMORY",
    "MAX_BYTES",
    "MAX_STORED_BYTES",
    "UNPACKED",
    "ImageRow",
    "StoredTable",
    "TableWriter",
    "content_key",
    "drop_unused",
    "open_stored",
    "store_new",
    "store_table",
]

MAX_BYTES = 20 << 30
"""Containers with more bytes of images are refused."""

MAX_STORED_BYTES = 64 << 30
"""Limit of all extracted containers; the least recently used ones are deleted first."""

UNPACKED, IN_MEMORY = "unpacked", "in_memory"
"""Folders of the cache: containers on disk, and objects in memory."""

_VERSION = 2
_TABLE = "table.json"
_KEPT_S = 86_400.0  # a table may be in use for that long after it was opened


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image of a container.

    Attributes:
        name: Its place, e.g. `data.npz#12`.
        source: Name of the file that holds it, e.g. `data.npz`.
        cells: Text by column.
        offset, length, suffix: Place of the encoded image in the pack, and its extension.
    """

    name: str
    source: str
    cells: dict[str, str]
    offset: int = 0
    length: int = 0
    suffix: str = ""


@dataclass
class StoredTable:
    """Images and rows of one or several containers.

    Attributes:
        root: The stored folder, or the folder of relative paths for paths of the user.
        layout: What was read, e.g. `npz`.
        rows: The images.
        has_paths: Whether a column of `cells` names files of the user; no image is stored.
        has_external_paths: Whether these files may lie anywhere.
        image_column: The column of paths, if the container declares it.
        label_column: The column that the container declares as label, or None.
        problems: Images that cannot be used.
        unused: Other parts of the container, and why they are not used.
        notes: Assumptions.
    """

    root: str
    layout: str
    rows: list[ImageRow]
    has_paths: bool = False
    has_external_paths: bool = False
    image_column: str | None = None
    label_column: str | None = None
    problems: list[Problem] = field(default_factory=list)
    unused: list[tuple[str, str]] = field(default_factory=list)
    notes: list[ReadingNote] = field(default_factory=list)


class TableWriter:
    """Write images into a new stored table.

    Args:
        pack: The open file of all images.
        layout: What is read, e.g. `npz`.
    """

    def __init__(self, pack: BinaryIO, layout: str) -> None:
        self.table = StoredTable("", layout, [])
        self._pack = pack
        self._num_bytes = 0
        self._names: set[str] = set()

    def add(self, name: str, source: str, data: bytes, suffix: str, cells: dict[str, str]) -> None:
        """Write one image.

        Args:
            name, source, cells: See `ImageRow`.
            data: Bytes of an image file.
            suffix: Its extension, e.g. `.jpg`.

        Raises:
            DataError: The container has more than `MAX_BYTES` bytes of images.
        """
        if name in self._names:
            self.problem(name, "duplicate-member", "the container holds two images with this name")
            return
        self._names.add(name)
        offset, self._num_bytes = self._num_bytes, self._num_bytes + len(data)
        if self._num_bytes > MAX_BYTES:
            raise DataError(
                f"`{source}` has more than {MAX_BYTES / 1e9:.0f} GB of images, which exceeds the limit.",
                hint="extract the images as files, and pass the folder",
            )
        self._pack.write(data)
        self.table.rows.append(ImageRow(name, source, cells, offset, len(data), suffix))

    def add_paths(self, root: str, source: str, rows: Iterable[dict[str, str]], *, is_external: bool = False) -> None:
        """Add rows that name files of the user.

        Args:
            root: Folder of relative paths.
            source: See `ImageRow`.
            rows: Text by column of each row.
            is_external: Whether paths may leave the folder.
        """
        self.table.root, self.table.has_paths, self.table.has_external_paths = root, True, is_external
        self.table.rows += [ImageRow(f"{source}#{i}", source, cells) for i, cells in enumerate(rows)]

    def problem(self, name: str, kind: str, detail: str) -> None:
        """Record an image that cannot be used."""
        self.table.problems.append(Problem(name, kind, detail))


def content_key(layout: str, files: Iterable[tuple[str, str]], *options: object) -> str:
    """Return the key of a stored table.

    Args:
        layout: What is read.
        files: (name, path) of each container file.
        options: Whatever else changes the stored table.
    """
    parts = [(name, file_digest(path)) for name, path in files]
    return hashlib.sha256(json.dumps([_VERSION, layout, parts, list(map(str, options))]).encode()).hexdigest()[:32]


def store_table(
    key: str, layout: str, write: Callable[[TableWriter], None], *, part: str = UNPACKED, need_bytes: int = 0
) -> str:
    """Return the folder of a stored table; it is written if it does not exist.

    Args:
        key: Its key, see `content_key`.
        layout: See `StoredTable`.
        write: Writes the images.
        part: `UNPACKED` or `IN_MEMORY`.
        need_bytes: Estimated size.

    Raises:
        CacheError: The disk is full or the cache folder is not writable.
    """
    cache = private_folder(cache_root() / part)
    target = cache / key
    if not (target / _TABLE).is_file():
        if part == UNPACKED:
            drop_unused(cache)
        if shutil.disk_usage(cache).free < 1.02 * need_bytes:
            raise CacheError(
                f"the images need {need_bytes / 1e9:.1f} GB, more than is free in the cache folder `{cache}`.",
                hint="free some disk space, or choose another cache folder: HEADSTART_CACHE=/some/folder",
            )
        try:
            with atomic_folder(target) as temporary:
                with open(temporary / PACK, "wb") as pack:
                    writer = TableWriter(pack, layout)
                    write(writer)
                (temporary / _TABLE).write_text(json.dumps(_to_json(writer.table)), encoding="utf-8")
        except OSError as error:
            raise CacheError(
                f"cannot write to the cache folder `{cache}` ({error.strerror or error}).",
                hint="free some disk space, or choose another cache folder: HEADSTART_CACHE=/some/folder",
            ) from error
    return str(target)


def store_new(layout: str, write: Callable[[TableWriter], None]) -> str:
    """Store an object in memory under the digest of its images and rows, and return its folder.

    Args:
        layout: See `StoredTable`.
        write: Writes the images.

    Raises:
        CacheError: The disk is full or the cache folder is not writable.
    """
    cache = private_folder(cache_root() / IN_MEMORY)
    made = cache / f".{uuid.uuid4().hex}.tmp"
    store_table(made.name, layout, write, part=IN_MEMORY)
    try:
        key = hashlib.sha256((made / _TABLE).read_bytes() + file_digest(made / PACK).encode()).hexdigest()[:32]
        if not (cache / key).is_dir():
            os.rename(made, cache / key)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return str(cache / key)


def open_stored(folder: str | os.PathLike[str]) -> StoredTable | None:
    """Return the stored table in a folder, or None if there is none."""
    try:
        value = json.loads((Path(folder) / _TABLE).read_text(encoding="utf-8"))
        if value["version"] != _VERSION:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with contextlib.suppress(OSError):
        os.utime(folder)
    table = StoredTable(value["root"] or str(folder), value["layout"], [ImageRow(*row) for row in value["rows"]])
    table.has_paths, table.has_external_paths = value["has_paths"], value["has_external_paths"]
    table.image_column, table.label_column = value["image_column"], value["label_column"]
    table.problems = [Problem(*p) for p in value["problems"]]
    table.unused = [(name, reason) for name, reason in value["unused"]]
    table.notes = [
        ReadingNote(ReadingKind(n["kind"]), n["count"], tuple(n["examples"]), n["evidence"]) for n in value["notes"]
    ]
    return table


def _to_json(table: StoredTable) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "root": table.root,
        "layout": table.layout,
        "rows": [[r.name, r.source, r.cells, r.offset, r.length, r.suffix] for r in table.rows],
        "has_paths": table.has_paths,
        "has_external_paths": table.has_external_paths,
        "image_column": table.image_column,
        "label_column": table.label_column,
        "problems": [[p.name, p.kind, p.detail] for p in table.problems],
        "unused": table.unused,
        "notes": [asdict(note) for note in table.notes],
    }


def drop_unused(cache: Path, limit_bytes: int = MAX_STORED_BYTES) -> None:
    """Delete the least recently used folders of a cache part until it is within the limit.

    Folders that were used within a day are kept: another process may read them.
    """
    folders = []
    for folder in cache.iterdir():
        with contextlib.suppress(OSError):
            size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
            folders.append((folder.stat().st_mtime, size, folder))
    excess = sum(size for _, size, _ in folders) - limit_bytes
    for used, size, folder in sorted(folders):
        if excess <= 0 or time.time() - used < _KEPT_S:
            break
        shutil.rmtree(folder, ignore_errors=True)
        excess -= size
