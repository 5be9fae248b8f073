"""Write the files of small datasets: images, lists, tables, MATLAB files, archives; register each dataset."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

Counts = dict[str, dict[str, int]]
_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".ppm": "PPM", ".tif": "TIFF", ".bmp": "BMP"}


class Files:
    """Write files below a folder. Images are 8 x 8 noise that depends on the name only."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Return the path of a file, with its folder made."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def images(self, *names: str, num_channels: int = 3) -> None:
        """Write images under these names, in the format of the extension."""
        for name in names:
            path = self.path(name)
            noise = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            image = Image.fromarray(noise if num_channels == 3 else noise[..., 0])
            image.save(path, format=_FORMATS.get(path.suffix.lower(), "PNG"))

    def numbered(self, pattern: str, numbers: Iterable[int]) -> None:
        """Write one image per number, e.g. `train/{:04}.png`."""
        self.images(*(pattern.format(i) for i in numbers))

    def text(self, name: str, *lines: str, encoding: str = "utf-8") -> None:
        """Write lines of text."""
        self.path(name).write_text("".join(f"{line}\n" for line in lines), encoding=encoding)

    def json(self, name: str, value: object) -> None:
        """Write a JSON file."""
        self.text(name, json.dumps(value))

    def binary(self, name: str, data: bytes = b"\x00\x01\x02\x03") -> None:
        """Write a file that is not an image."""
        self.path(name).write_bytes(data)

    def matlab(self, name: str, **variables: Any) -> None:
        """Write a MATLAB file; a list of dicts becomes a struct array, a list of strings a cell array."""
        from scipy.io import savemat

        savemat(self.path(name), {key: _matlab_value(value) for key, value in variables.items()}, oned_as="row")

    def spreadsheet(self, name: str, rows: Iterable[Iterable[str]]) -> None:
        """Write the smallest .xlsx file that spreadsheet programs open, with inline strings."""
        cell = '<c t="inlineStr"><is><t>{}</t></is></c>'
        cells = "".join(f"<row>{''.join(cell.format(escape(text)) for text in row)}</row>" for row in rows)
        main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
        office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
        package = "http://schemas.openxmlformats.org/package/2006"
        kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
        parts = {
            "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
            f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/></Types>',
            "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" '
            f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
            '<sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" '
            f'Type="{office}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
            "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>',
        }
        with zipfile.ZipFile(self.path(name), "w") as archive:
            for part, body in parts.items():
                archive.writestr(part, f'<?xml version="1.0" encoding="UTF-8"?>{body}')

    def pack(self, archive: str, folder: str, *, keep_folder: bool = True) -> None:
        """Move a folder into a .zip file."""
        inside = self.root / folder
        base = inside.parent if keep_folder else inside
        with zipfile.ZipFile(self.path(archive), "w") as packed:
            for path in sorted(inside.rglob("*"), reverse=True):
                if path.is_dir():
                    path.rmdir()
                else:
                    packed.write(path, path.relative_to(base))
                    path.unlink()
        inside.rmdir()


def _matlab_value(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        return value
    if isinstance(value[0], dict):
        rows = np.empty((1, len(value)), dtype=[(key, object) for key in value[0]])
        for i, fields in enumerate(value):
            rows[0, i] = tuple(fields.values())
        return rows
    cells = np.empty((1, len(value)), dtype=object)
    cells[0] = value
    return cells


@dataclass(frozen=True)
class NamedDataset:
    """A published layout with its right reading.

    Attributes:
        build: Writes the files.
        source: Where the layout is published.
        path: What the user passes, below the folder of the files.
        expected: The right classes, with images by split; several where more than one reading is right.
        refused: Where no reading is right: strings that the error must name. Empty: it must be read.
        options: Further options that the user gives.
        never: Patterns of images that must not be used: masks, images of a test split without labels, copies.
    """

    build: Callable[[Files], None]
    source: str
    path: str
    expected: tuple[Counts, ...]
    refused: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    never: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the name of the dataset."""
        return self.build.__name__


DATASETS: dict[str, NamedDataset] = {}


def dataset(
    source: str,
    path: str,
    *expected: Counts,
    refused: Iterable[str] = (),
    options: Iterable[str] = (),
    never: Iterable[str] = (),
) -> Callable[[Callable[[Files], None]], Callable[[Files], None]]:
    """Register a function that writes a dataset; see `NamedDataset`."""

    def register(build: Callable[[Files], None]) -> Callable[[Files], None]:
        assert build.__name__ not in DATASETS
        found = NamedDataset(build, source, path, expected, tuple(refused), tuple(options), tuple(never))
        DATASETS[build.__name__] = found
        return build

    return register


def classes(names: str | Iterable[str], **splits: int) -> Counts:
    """Return the same counts for each class; without splits, `none=3`."""
    return {name: dict(splits) for name in (names.split() if isinstance(names, str) else names)}
