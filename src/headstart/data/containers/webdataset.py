"""Read tar shards of WebDataset: members with one key are one sample, e.g. `000000.jpg` and `000000.cls`."""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence

from headstart.data.containers.columnar import cell_text
from headstart.data.containers.store import TableWriter
from headstart.data.file_tree import printable
from headstart.data.formats import IMAGES
from headstart.data.split_words import split_words
from headstart.errors import DataError
from headstart.types.codes import UnusedReason

__all__ = ["is_webdataset", "write_shards"]

_CLASSES = (".cls", ".cls.txt", ".class")
_TEXTS = (".txt", ".text", ".caption")
_LOOKED_AT = 400
_MAX_TEXT_BYTES = 1 << 20


def _open_tar(path: str) -> tarfile.TarFile:
    """Open a tar archive, compressed or not.

    Raises:
        DataError: The file is not one.
    """
    try:
        return tarfile.open(path, "r:*")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(
            f"cannot unpack `{printable(os.path.basename(path))}` ({error}).",
            hint="download or create the archive again",
        ) from error


def is_webdataset(path: str) -> bool:
    """Return whether the first members are images with `.cls`, `.json` or `.txt` files of the same key."""
    kinds: dict[str, set[str]] = {}
    with _open_tar(path) as archive:
        for number, member in enumerate(archive):
            if number >= _LOOKED_AT:
                break
            if member.isfile():
                key, suffix = _split_key(member.name)
                kinds.setdefault(key, set()).add("image" if _is_image(suffix) else suffix)
    pairs = Counter(suffix for found in kinds.values() if "image" in found for suffix in found)
    others = sum(pairs[suffix] for suffix in (*_CLASSES, *_TEXTS, ".json"))
    return others > 0 and 2 * others >= pairs["image"]


def _split_key(name: str) -> tuple[str, str]:
    """Return the key of a member and its suffix from the first dot on, as WebDataset does."""
    folder, _, file = name.removeprefix("./").rpartition("/")
    stem, dot, suffix = file.partition(".")
    return f"{folder}/{stem}" if folder else stem, (dot + suffix).lower()


def _is_image(suffix: str) -> bool:
    return os.path.splitext(f"x{suffix}")[1] in IMAGES


def write_shards(files: Sequence[tuple[str, str]], writer: TableWriter) -> None:
    """Write the images of tar shards with their labels.

    Args:
        files: (name, path) of each shard.
        writer: Gets the images.

    Raises:
        DataError: A shard is damaged.
    """
    splits = {name: _split_of(name) for name, _ in files}
    for name, path in files:
        split = splits[name] if len(set(splits.values())) > 1 else None
        try:
            with _open_tar(path) as archive:
                for key, members in _samples(archive, name, writer):
                    _write_sample(name, key, members, split, writer)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(
                f"cannot unpack `{printable(name)}` ({error}).", hint="download or create the archive again"
            ) from error


def _split_of(name: str) -> str | None:
    for part in reversed(name.split("/")):
        named = split_words(part.split(".")[0])
        if len(named) == 1:
            return next(iter(named))
    return None


def _samples(archive: tarfile.TarFile, name: str, writer: TableWriter) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the key of each sample and its members by suffix; members that follow each other have one key."""
    current, members = "", dict[str, bytes]()
    for member in archive:
        if not member.isfile():
            continue
        key, suffix = _split_key(member.name)
        if key != current and members:
            yield current, members
            members = {}
        current = key
        is_text = suffix in (*_CLASSES, *_TEXTS, ".json") and member.size <= _MAX_TEXT_BYTES
        file = archive.extractfile(member) if is_text or _is_image(suffix) else None
        if file is None:
            writer.table.unused.append((f"{name}/{printable(member.name)}", str(UnusedReason.NOT_AN_IMAGE)))
        else:
            members[suffix] = file.read()
    if members:
        yield current, members


def _write_sample(name: str, key: str, members: dict[str, bytes], split: str | None, writer: TableWriter) -> None:
    images = sorted((s for s in members if _is_image(s)), key=lambda s: (s.count("."), s))
    if not images:
        writer.table.unused += [(f"{name}/{printable(key + s)}", str(UnusedReason.NOT_AN_IMAGE)) for s in members]
        return
    first, *others = images
    writer.table.unused += [(f"{name}/{printable(key + s)}", str(UnusedReason.AUXILIARY)) for s in others]
    cells: dict[str, str] = {}
    for suffix, data in members.items():
        text = data.decode("utf-8", "replace").strip()
        if suffix in _CLASSES:
            cells["label"] = text
        elif suffix in _TEXTS:
            cells.setdefault("text", text)
        elif suffix == ".json":
            cells = {**_json_cells(text), **cells}
    if split and "split" not in cells:
        cells["split"] = split
    place = f"{name}/{printable(key + first)}"
    writer.add(place, name, members[first], os.path.splitext(f"x{first}")[1], cells)


def _json_cells(text: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {"label": cell_text(value)}
    return {str(k): cell_text(v) for k, v in value.items() if not isinstance(v, (dict, list))}
