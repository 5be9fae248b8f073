"""Limits that several rooms keep by default, and that a person may move."""

from __future__ import annotations

__all__ = ["MAX_DETECTIONS", "MAX_PIXELS"]

MAX_PIXELS = 178_000_000
"""Larger images are refused before they are decoded: what Pillow takes for a decompression bomb, rounded down."""

MAX_DETECTIONS = 3_000
"""Most detections of an image that a detector hands out, and most of one class and image that are scored.

It leaves room for 1,000 objects in an image, each found, with two false detections for every right one.
"""
