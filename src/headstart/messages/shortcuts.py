"""Render shortcuts: cues other than the subject that predict the class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.messages.numbers import percent

__all__ = ["CUES", "cue_name", "shortcut_message"]

CUES = {
    "file size": "the file size",
    "image size": "the width and height of the image",
    "format": "the file format and JPEG quality",
    "camera": "the camera",
    "date": "the date",
    "noise": "the noise of the image",
    "border": "the border pixels of the image",
    "thumbnail": "a thumbnail of 8 x 8 pixels",
}
"""Cue code to its name in a sentence."""


def cue_name(cue: str) -> str:
    """Return the name of a cue in a sentence."""
    return CUES.get(cue, cue)


def shortcut_message(shortcut: Mapping[str, Any]) -> str:
    """Return one lower-case sentence without a full stop.

    Args:
        shortcut: `what`, `accuracy`, `chance`, `given_class` and `given_class_fraction` of a `records.Shortcut`.
    """
    accuracy, chance = percent(shortcut["accuracy"]), percent(shortcut["chance"])
    text = f"{cue_name(shortcut['what'])} alone predicts the class: balanced accuracy {accuracy} (chance: {chance})"
    if shortcut["given_class"] is not None:
        text += f"; reveals {percent(shortcut['given_class_fraction'])} of the images of `{shortcut['given_class']}`"
    return text
