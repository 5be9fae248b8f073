"""Show images with boxes as labeled images, so that one code checks and splits both.

Each image is stratified by its rarest class, so that rare classes with few boxes are spread evenly; images without
objects are a class of their own.
"""

from __future__ import annotations

from collections import Counter
from typing import cast

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import DetectionSamples
from headstart.types.records import Sample, Samples, SplitName

__all__ = ["EMPTY", "as_samples", "rarest_class"]

EMPTY = "(no object)"
"""Label of an image without objects in `split.csv`."""


def rarest_class(samples: DetectionSamples) -> NDArray[np.int64]:
    """Return (N,) the class of each image that occurs in the fewest images; -1 without objects."""
    inside = [np.unique(b.class_ids[~b.is_crowd]) for b in samples.boxes]
    counts = Counter(int(k) for ids in inside for k in ids)
    return np.array([min((int(k) for k in ids), key=lambda k: (counts[k], k), default=-1) for ids in inside], np.int64)


def as_samples(samples: DetectionSamples, *, is_labeled: bool = True) -> Samples:
    """Return the images as samples.

    Args:
        samples: The images.
        is_labeled: Whether the label is the rarest class of each image, or `EMPTY`; otherwise there are no labels,
            for checks that concern only files and pixels.
    """
    names = (*samples.class_names, EMPTY)
    labels = [names[k] for k in rarest_class(samples).tolist()] if is_labeled else [None] * len(samples)
    items = tuple(
        Sample(str(path), name, label, cast("SplitName | None", split or None), group)
        for path, name, label, split, group in zip(
            samples.paths, samples.names, labels, samples.split, samples.group, strict=True
        )
    )
    class_names = tuple(sorted({label for label in labels if label is not None}))
    return Samples(items, class_names, root=str(samples.root), layout=samples.layout)
