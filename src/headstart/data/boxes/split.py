"""Split images with boxes into train, val and test with the same code as labeled images.

Each image is stratified by its rarest class, so that rare classes with few boxes are spread evenly; images without
objects are a class of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import DetectionSamples
from headstart.data.split import make_split
from headstart.types.records import Sample, Samples, Split, SplitName

__all__ = ["EMPTY", "as_samples", "as_unlabeled_samples", "rarest_class", "split_boxes"]

EMPTY = "(no object)"
"""Label of an image without objects in `split.csv`."""

_DEFAULT_TEST_SIZE = 0.2


def rarest_class(samples: DetectionSamples) -> NDArray[np.int64]:
    """Return (N,) the class of each image that occurs in the fewest images; -1 without objects."""
    inside = [np.unique(b.class_ids[~b.is_crowd]) for b in samples.boxes]
    counts = Counter(int(k) for ids in inside for k in ids)
    return np.array([min((int(k) for k in ids), key=lambda k: (counts[k], k), default=-1) for ids in inside], np.int64)


def as_samples(samples: DetectionSamples) -> Samples:
    """Return the images as labeled samples; the label is the rarest class of each image, or `EMPTY`."""
    return _as_samples(samples, [samples.class_names[k] if k >= 0 else EMPTY for k in rarest_class(samples).tolist()])


def as_unlabeled_samples(samples: DetectionSamples) -> Samples:
    """Return the images as samples without labels, for checks that concern only files and pixels."""
    return _as_samples(samples, [None] * len(samples))


def _as_samples(samples: DetectionSamples, labels: Sequence[str | None]) -> Samples:
    items = tuple(
        Sample(str(path), name, text, cast("SplitName | None", split or None), group)
        for path, name, text, split, group in zip(
            samples.paths, samples.names, labels, samples.split, samples.group, strict=True
        )
    )
    names = tuple(sorted({label for label in labels if label is not None}))
    return Samples(items, names, root=str(samples.root), layout=samples.layout)


def split_boxes(
    samples: DetectionSamples,
    *,
    groups: NDArray[np.int64] | None,
    test_size: float | None = None,
    seed: int = 0,
    leave_out: NDArray[np.bool_] | None = None,
) -> Split:
    """Split images into training and scored ones.

    Args:
        samples: The images; their own split is kept, and images outside all of its parts are excluded.
        groups: (N,) groups that stay together (`apply_box_report`), or None.
        test_size: Fraction held out if the data have no split; 0.2 by default.
        seed: Random seed.
        leave_out: (N,) images that belong to no split (unreadable).

    Raises:
        UsageError, DataError: As in `data.split.make_split`.
    """
    out = np.zeros(len(samples), dtype=bool) if leave_out is None else leave_out.copy()
    if any(samples.split):
        out |= np.array([not s for s in samples.split], dtype=bool)
        fraction = test_size
    else:
        fraction = _DEFAULT_TEST_SIZE if test_size is None else test_size
    return make_split(as_samples(samples), groups=groups, test_size=fraction, seed=seed, leave_out=out)
