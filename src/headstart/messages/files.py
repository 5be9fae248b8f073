"""Render written files: path and content."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from headstart.messages.values import count, names, shorten_path
from headstart.types.codes import SplitReason
from headstart.types.events import FileWritten

__all__ = ["demo_message", "file_message", "relative_path", "shell_path", "train_command"]

_WIDTH = 90


def file_message(event: FileWritten) -> str:
    """Return the relative path and the content, e.g. `sheet.png (1,200 x 800 px)`."""
    path = relative_path(event.path)
    render = _CONTENTS.get(event.role)
    inside = "" if render is None else f" ({render(event.evidence)})"
    return shorten_path(path, max(20, _WIDTH - len(inside))) + inside


def demo_message(e: Mapping[str, Any]) -> str:
    """Return the demo dataset and the license of its images."""
    if e["is_synthetic"]:
        text = f"{count(e['num_images'], 'synthetic image')} with {count(e['num_boxes'], 'box')}"
    else:
        text = f"{count(e['num_images'], 'photograph')} of solar cells"
    return f"{text}; {e['license']}"


def relative_path(path: str) -> str:
    """Return the path relative to the working folder if that is shorter."""
    try:
        short = os.path.relpath(path)
    except ValueError:  # another drive
        return path
    return short if len(short) < len(path) else path


def shell_path(path: str | os.PathLike[str]) -> str:
    """Return the path as a word of a command to copy: relative if that is shorter, quoted for a shell, never cut."""
    return shlex.quote(relative_path(os.fspath(path)))


def train_command(data: str | os.PathLike[str], options: Mapping[str, Any]) -> str:
    """Return the `headstart train` command of a dataset that repeats the options, quoted for a shell."""
    words = ["headstart train", shell_path(data)]
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        if value is True:
            words.append(option)
        elif name in ("exclude", "exclude_classes"):
            words += [f"{option} {shlex.quote(pattern)}" for pattern in value]
        else:
            text = ",".join(f"{v:g}" for v in value) if isinstance(value, tuple) else str(value)
            words.append(f"{option} {shlex.quote(text)}")
    return " ".join(words)


def _sheet(e: Mapping[str, Any]) -> str:
    return f"{e['width']:,} x {e['height']:,} px"


def _split(e: Mapping[str, Any]) -> str:
    """Return the changes of a repaired split."""
    text = f"{count(e['num_left_out'], 'image')} excluded, {count(e['num_moved'], 'image')} moved"
    if e["repair"] == SplitReason.REPAIR_REDRAWN:
        text += ", groups reassigned"
    for side, lost in e.get("lost_classes", {}).items():
        text += f"; no {side} image left of {names(lost, shown=2, width=12)}"
    return text


def _report(e: Mapping[str, Any]) -> str:
    if not e.get("has_images", True):
        return "without images and file names"
    return f"shows {count(e['num_images'], 'image')} with file names; --no-images omits them"


_CONTENTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "annotations": lambda e: (
        f"{count(e['num_boxes'], 'box')} of {count(e['num_images'], 'image')}"
        + (", with images" if e["has_images"] else ", without images")
    ),
    "backbone": lambda e: str(e["backbone"]),
    "features": lambda e: f"{count(e['num_images'], 'image')} x {count(e['num_features'], 'feature')}",
    "report": _report,
    "sheet": _sheet,
    "split": _split,
}
