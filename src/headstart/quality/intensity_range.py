"""Choose one intensity range for the 16-bit and float images of a dataset.

The range is shared by all images and uses training images only: a range per image would discard absolute brightness,
and a range that includes test images would leak them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.data.image_scan import ScanResult
from headstart.errors import UsageError
from headstart.preprocessing.packed_files import read_packed
from headstart.types.codes import DecisionReason, Evidence, Finding, FindingKind, Severity
from headstart.types.records import Decision, Samples

__all__ = ["choose_range", "find_mixed_depths", "has_16_bit", "parse_range"]

_BITS = (8, 10, 12, 14, 16)


def choose_range(
    samples: Samples, scan: ScanResult, requested: tuple[float, float] | None = None
) -> tuple[tuple[float, float] | None, Decision | None]:
    """Return the intensity range of 16-bit and float images.

    Args:
        samples: The images; those of a val or test split are not used.
        scan: The scanned images.
        requested: Range requested by the user (`--intensity-range LOW,HIGH`).

    Returns:
        (low, high) for `ImageSpec.intensity_range` and the decision; None and None for 8-bit images.
    """
    rows = [
        (f.quantiles, f.mode)
        for s, f in zip(samples, scan.info, strict=True)
        if f is not None and f.quantiles is not None and s.split in (None, "train")
    ]
    is_from_training = bool(rows)
    if not rows:
        rows = [(f.quantiles, f.mode) for f in scan.info if f is not None and f.quantiles is not None]
    if not rows:
        return None, None
    if requested is not None:
        return requested, Decision("pixels.intensity_range", list(requested), DecisionReason.SET_BY_USER, "cli")
    table = np.array([q for q, _ in rows])  # (n, 7): 0, 0.1, 1, 50, 99, 99.9, 100 %
    low, high, reason = (_float_range if any(mode == "F" for _, mode in rows) else _integer_range)(table)
    if high <= low:
        low, high, reason = low, low + 1.0, DecisionReason.VALUE_RANGE_CONSTANT
    evidence: Evidence = {
        "num_images": len(table),
        "is_from_training": is_from_training,
        "smallest_value": float(table[:, 0].min()),
        "largest_value": float(table[:, -1].max()),
    }
    return (low, high), Decision("pixels.intensity_range", [low, high], reason, evidence=evidence)


def find_mixed_depths(scan: ScanResult) -> list[Finding]:
    """Find integer and floating-point images that share one range, which fits only one of the two."""
    modes = [f.mode for f in scan.info if f is not None and f.quantiles is not None]
    floats = modes.count("F")
    if not 0 < floats < len(modes):
        return []
    evidence = {"num_float": floats, "num_integer": len(modes) - floats}
    return [Finding(FindingKind.MIXED_PIXEL_TYPES, Severity.WARNING, evidence)]


def has_16_bit(paths: Sequence[str]) -> bool:
    """Return whether any image may have more than 8 bits per value, from its first bytes."""
    return any(map(_may_be_deep, paths))


def _may_be_deep(path: str) -> bool:
    try:
        head = read_packed(path, 32)
        if head is None:
            if not stat.S_ISREG(os.stat(path).st_mode):
                return False
            with open(path, "rb") as file:
                head = file.read(32)
    except (OSError, ValueError):
        return False
    if head.startswith(b"\x89PNG"):
        return head[24:26] == b"\x10\x00"  # 16 bits, gray
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") or head[:2] in (b"P2", b"P5", b"Pf", b"PF")


def parse_range(text: str) -> tuple[float, float]:
    """Parse `LOW,HIGH`.

    Raises:
        UsageError: The text is not two ascending numbers.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"--intensity-range expects two numbers LOW,HIGH, not `{text}`.", hint="e.g. --intensity-range 0,4095"
        ) from error
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise UsageError(
            f"--intensity-range `{text}` is empty: LOW must be below HIGH.", hint="e.g. --intensity-range 0,4095"
        )
    return low, high


def _integer_range(table: NDArray[np.float64]) -> tuple[float, float, DecisionReason]:
    """Return the bit depth in use if the images fill it, else robust limits."""
    largest, bright = float(table[:, -1].max()), float(np.quantile(table[:, 5], 0.95))
    if float(table[:, 0].min()) >= 0:
        for bits in _BITS:
            top = 2.0**bits - 1
            if largest <= top:
                if bright >= 0.25 * top:
                    return 0.0, top, DecisionReason.VALUE_RANGE_OF_BITS
                break
    return *_robust(table), DecisionReason.VALUE_RANGE_OF_PERCENTILES


def _float_range(table: NDArray[np.float64]) -> tuple[float, float, DecisionReason]:
    smallest, largest = float(table[:, 0].min()), float(table[:, -1].max())
    for top in (1.0, 255.0, 65535.0):
        if smallest >= 0 and 0.25 * top <= float(np.quantile(table[:, 5], 0.95)) and largest <= top:
            return 0.0, top, DecisionReason.VALUE_RANGE_OF_FLOATS
    return *_robust(table), DecisionReason.VALUE_RANGE_OF_PERCENTILES


def _robust(table: NDArray[np.float64]) -> tuple[float, float]:
    """Return a limit robust against single outliers: the 5th or 95th percentile of the per-image limits."""
    return float(np.quantile(table[:, 1], 0.05)), float(np.quantile(table[:, 5], 0.95))
