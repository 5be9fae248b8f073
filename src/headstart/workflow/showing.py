"""Shows a person their own pictures, as they are or as the network gets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headstart.backbones.cards import find_card
from headstart.data.sheet import draw_by_class
from headstart.data.sources import read
from headstart.errors import DataError, UsageError
from headstart.machine import atomic_file
from headstart.talk import Talk

__all__ = ["show_pictures"]

_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def show_pictures(
    data: str,
    out: str | None,
    talk: Talk,
    *,
    per_class: int,
    seed: int,
    as_seen: tuple[str, int | None, str] | None,
    layout: str | None,
    allow_outside: bool,
) -> Any:
    """See `api.show`; `as_seen` is (backbone, size, fit)."""
    kind = None if out is None else _KINDS.get(Path(out).suffix.lower())
    if out is not None and kind is None:
        raise UsageError(f"`{out}` has no ending that says what to write.", hint="e.g. --out samples.png")
    samples = read(data, layout=layout, allow_outside=allow_outside, task="pictures")
    talk.say(samples.sentence)
    if not len(samples):
        raise DataError("there are no pictures to show.")
    spec = None
    if as_seen is not None:
        backbone, size, fit = as_seen
        spec = find_card(backbone).pixel_spec(size).with_(fit=fit)
    side = 128 if spec is None else max(spec.size_hw)
    sheet = draw_by_class(samples, per_class=per_class, seed=seed, side=side, as_seen=spec)
    if out is not None:
        try:
            with atomic_file(Path(out)) as temporary:
                sheet.save(temporary, format=kind)
        except OSError as error:
            raise UsageError(f"`{out}` cannot be written ({error.strerror or error}).") from error
        talk.say(f"{out}: {sheet.width} x {sheet.height} pixels")
    return sheet
