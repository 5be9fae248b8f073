"""Write contact sheets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headstart.errors import UsageError
from headstart.events import EventStream, FileWritten
from headstart.utils.system import atomic_file

__all__ = ["save_sheet", "sheet_kind"]

_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def sheet_kind(out: str) -> str:
    """Return Pillow's format name for the suffix of a path.

    Raises:
        UsageError: The suffix is not supported.
    """
    kind = _KINDS.get(Path(out).suffix.lower())
    if kind is None:
        raise UsageError(f"unsupported image format: `{out}`.", hint="use .png or .jpg, e.g. --out samples.png")
    return kind


def save_sheet(sheet: Any, out: str, events: EventStream) -> None:
    """Write a sheet atomically.

    Raises:
        UsageError: The path cannot be written, or its suffix is not supported.
    """
    kind = sheet_kind(out)
    try:
        with atomic_file(Path(out)) as temporary:
            sheet.save(temporary, format=kind)
    except OSError as error:
        raise UsageError(f"cannot write `{out}` ({error.strerror or error}).") from error
    events.emit(FileWritten("sheet", out, {"width": sheet.width, "height": sheet.height}))
