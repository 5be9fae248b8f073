"""Limits that several rooms keep by default, and that a person may move."""

from __future__ import annotations

__all__ = ["MAX_PIXELS"]

MAX_PIXELS = 178_000_000
"""Larger pictures are refused before they are decoded: what Pillow takes for a decompression bomb, rounded down."""
