"""Store one image for each file of several pages, as `--pages` asks for.

Later steps see files of one page, so caches, duplicates and leaks are those of the selected pages.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image, ImageOps

from headstart.data.containers.store import TableWriter, content_key, open_stored, store_table
from headstart.data.memory import encode_image
from headstart.errors import CacheError, UsageError
from headstart.preprocessing.image_spec import ImageError, decoding, open_image, read_bytes
from headstart.preprocessing.packed_files import packed_path
from headstart.preprocessing.pages import PagesError, check_pages, num_pages, select_pages
from headstart.types.records import Problem, Sample, Samples
from headstart.utils.limits import MAX_PIXELS

__all__ = ["with_pages"]

_ENDINGS = (".tif", ".tiff", ".gif", ".webp", ".png", ".apng", "")


def with_pages(samples: Samples, pages: str) -> Samples:
    """Return the samples with one stored image in place of each file of several pages.

    Raises:
        UsageError: `pages` is invalid, or no image has several pages.
    """
    try:
        pages = check_pages(pages)
    except PagesError as error:
        raise UsageError(f"--pages: {error}.") from error
    several = [i for i, s in enumerate(samples) if _has_pages(s)]
    if not several:
        return samples
    stored, problems = _store([samples[i] for i in several], pages)
    items = list(samples.items)
    for i in several:
        if (path := stored.get(items[i].path)) is not None:
            items[i] = replace(items[i], path=path)
    gone = {p.name for p in problems}
    kept = [i for i, s in enumerate(items) if s.name not in gone]
    columns = {name: tuple(cells[i] for i in kept) for name, cells in samples.columns.items()}
    kept_items = tuple(items[i] for i in kept)
    return replace(samples, items=kept_items, columns=columns, problems=(*samples.problems, *problems))


def _has_pages(sample: Sample) -> bool:
    if os.path.splitext(sample.path)[1].lower() not in _ENDINGS:
        return False
    try:
        with open_image(sample.path, MAX_PIXELS, has_channels=True) as image:
            return num_pages(image) > 1
    except ImageError:
        return False  # reported by the scan


def _store(samples: Sequence[Sample], pages: str) -> tuple[dict[str, str], list[Problem]]:
    """Return the path of the stored image of each file, and the files without the pages."""

    def write(writer: TableWriter) -> None:
        for sample in samples:
            try:
                with open_image(sample.path, MAX_PIXELS, has_channels=True) as image, decoding():
                    data = encode_image(_upright(select_pages(image, pages)), sample.name)
            except PagesError as error:
                writer.problem(sample.path, "pages", str(error))
            except ImageError as error:
                writer.problem(sample.path, error.kind, error.detail)
            else:
                writer.add(sample.path, sample.path, data, ".tif" if data[:2] in (b"II", b"MM") else ".png", {})

    key = content_key("pages", [], pages, *((s.path, _digest(s.path)) for s in samples))
    table = open_stored(store_table(key, "pages", write))
    if table is None:
        raise CacheError("a folder of the cache is damaged.", hint="headstart cache clear")
    names = {s.path: s.name for s in samples}
    paths = {row.name: packed_path(table.root, row.offset, row.length, row.suffix) for row in table.rows}
    return paths, [replace(p, name=names.get(p.name, p.name)) for p in table.problems]


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as in `read_image`: a damaged EXIF block leaves the image as stored
        return image


def _digest(path: str) -> str:
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except ImageError:
        return ""
