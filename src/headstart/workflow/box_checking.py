"""The data doctor for pictures with boxes, composed: read, judged, shown on a sheet, the split mended."""

from __future__ import annotations

import html
import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.data.boxes.judge import BoxHealth, apply_box_health, inspect_boxes
from headstart.data.boxes.reading import read_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.data.boxes.sheet import draw_box_sheet
from headstart.data.boxes.split import as_samples
from headstart.data.boxes.wording import box_health_to_json, box_lines
from headstart.errors import UsageError
from headstart.limits import MAX_PIXELS
from headstart.results import import_pandas
from headstart.talk import Talk
from headstart.workflow.checking import save_judgement, save_repaired_split
from headstart.workflow.showing import save_sheet, sheet_kind

__all__ = ["CheckedBoxes", "check_boxes", "make_box_check", "refuse_without_effect", "show_boxes"]


@dataclass(frozen=True)
class CheckedBoxes:
    """Pictures with boxes and the doctor's judgement of them."""

    samples: DetectionSamples
    health: BoxHealth

    def to_json(self) -> dict[str, Any]:
        """The judgement, JSON-able; pictures are named relative to the data."""
        return box_health_to_json(self.health)

    def to_pandas(self) -> Any:
        """What reading mended or left out, as a DataFrame."""
        return import_pandas().DataFrame([asdict(p) for p in self.health.problems])

    def lines(self) -> list[str]:
        """The judgement in plain words."""
        return box_lines(self.health)

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return "".join(f"<p>{html.escape(line)}</p>" for line in self.lines())


def check_boxes(
    data: str,
    talk: Talk,
    *,
    allow_outside: bool = False,
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
) -> CheckedBoxes:
    """Reads and judges pictures with boxes, changing nothing.

    Raises:
        DataError, UsageError: As in `read_boxes`.
    """
    samples = read_boxes(data, allow_outside=allow_outside, max_pixels=max_pixels)
    talk.say(samples.sentence)
    progress = talk.progress("looking at every file")
    health = inspect_boxes(samples, max_pixels=max_pixels, threads=threads, progress=progress)
    return CheckedBoxes(samples, health)


def make_box_check(
    data: str,
    talk: Talk,
    *,
    json_file: str | os.PathLike[str] | None = None,
    sheet: str | os.PathLike[str] | None = None,
    repair: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    allow_outside: bool = False,
    max_pixels: int = MAX_PIXELS,
    **others: Any,
) -> CheckedBoxes:
    """`api.check` for pictures with boxes: judged by their pixels, so a network's settings change nothing.

    Raises:
        UsageError: A setting of labelled pictures was given, or a file cannot be written.
    """
    refuse_without_effect(**{name: others.get(name) for name in ("layout", "label_pattern", "value_range")})
    if sheet is not None:
        sheet_kind(os.fspath(sheet))
    checked = check_boxes(data, talk, allow_outside=allow_outside, max_pixels=max_pixels, threads=threads)
    if json_file is not None:
        save_judgement(checked.to_json(), os.fspath(json_file))
    if sheet is not None:
        draw_checked_boxes(checked, os.fspath(sheet), talk)
    if repair is not None:
        write_repaired_box_split(checked, os.fspath(repair), talk)
    return checked


def refuse_without_effect(**settings: Any) -> None:
    """Stops where a setting was given that means nothing for pictures with boxes.

    Raises:
        UsageError: It was.
    """
    for name, value in settings.items():
        if value is not None:
            shown = name.replace("_", "-")
            raise UsageError(
                f"--{shown} has no effect on pictures with boxes.",
                hint=f"leave --{shown} away, or say --task classify to pass the boxes over",
            )


def draw_checked_boxes(checked: CheckedBoxes, out: str, talk: Talk) -> None:
    """Draws the contact sheet: pictures with problems first, each class, and the copies.

    Raises:
        UsageError: The sheet cannot be written.
    """
    sheet_kind(out)
    pictures = checked.health.pictures
    pairs = list(dict.fromkeys((*pictures.leaks, *pictures.duplicates, *pictures.near_duplicates)))
    value_range = pictures.value_range
    save_sheet(draw_box_sheet(checked.samples, has_problems=True, pairs=pairs, value_range=value_range), out, talk)


def show_boxes(
    data: str, out: str | None, talk: Talk, *, per_class: int, seed: int, allow_outside: bool = False
) -> Any:
    """Random pictures of each class with their boxes on one sheet; see `api.show`.

    Raises:
        UsageError: The sheet cannot be written.
    """
    if out is not None:
        sheet_kind(out)
    samples = read_boxes(data, allow_outside=allow_outside)
    talk.say(samples.sentence)
    sheet = draw_box_sheet(samples, per_class=per_class, seed=seed)
    if out is not None:
        save_sheet(sheet, out, talk)
    return sheet


def write_repaired_box_split(checked: CheckedBoxes, out: str, talk: Talk) -> None:
    """Writes the person's split without leaking pictures, groups whole; moves no file.

    Raises:
        DataError: No split without leaks can be made.
        UsageError: The file cannot be written, or the data have no split.
    """
    if not any(checked.samples.split):
        raise UsageError("the data have no split, so there is nothing to repair.", hint="leave --repair away")
    applied = apply_box_health(checked.samples, checked.health)
    assignment = np.array(checked.samples.split, dtype="<U5")
    save_repaired_split(as_samples(checked.samples), assignment, applied, out, talk)
