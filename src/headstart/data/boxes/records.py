"""Define frozen value types for detection; numpy only.

A box is always `xmin, ymin, xmax, ymax` in pixels of the upright image (EXIF orientation applied), measured at the
edges, so that `xmax - xmin` is the width; other forms exist in files only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.types.codes import ReadingNote
from headstart.types.inventory import Inventory
from headstart.types.records import Problem

__all__ = ["KEPT_PROBLEMS", "Boxes", "DetectionSamples", "Detections"]

KEPT_PROBLEMS = frozenset(
    (
        *("assumed-format", "over-edge", "rotated", "scaled", "size-differs", "swapped", "orientation-unknown"),
        *("duplicate", "two-classes", "two-splits", "unused-class"),
    )
)
"""Problems of annotations that are fixed or only reported; all other ones lose a box or file."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """Ground-truth boxes of one image.

    Attributes:
        xyxy: (M, 4) float32, absolute pixels of the upright image.
        class_ids: (M,) int64 positions in `class_names`.
        is_crowd: (M,) bool, an object or region that must not count (COCO's `iscrowd`, VOC's `difficult`, `IsGroupOf`,
            ignore regions): neither learned nor scored.
        stated_areas: (M,) areas of the outlines as annotated (COCO's `area`), square pixels, NaN without one; None if
            no object has one. Used for mAP by size only.
    """

    xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    is_crowd: NDArray[np.bool_]
    stated_areas: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.xyxy)

    @property
    def areas(self) -> NDArray[np.float64]:
        """Return (M,) width times height, square pixels."""
        xyxy = self.xyxy.astype(np.float64)
        return (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])

    @property
    def object_areas(self) -> NDArray[np.float64]:
        """Return (M,) stated areas, those of the boxes where none is stated; COCO defines object sizes by them."""
        if self.stated_areas is None:
            return self.areas
        return np.where(np.isnan(self.stated_areas), self.areas, self.stated_areas)

    def take(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Boxes:
        """Return some of the boxes, by mask or positions."""
        stated = None if self.stated_areas is None else self.stated_areas[which]
        return Boxes(self.xyxy[which], self.class_ids[which], self.is_crowd[which], stated)

    @staticmethod
    def of(
        xyxy: object, class_ids: object = (), is_crowd: object | None = None, stated_areas: object | None = None
    ) -> Boxes:
        """Create boxes from array-likes; no arguments give no boxes, areas that are all NaN are none."""
        corners = np.asarray(xyxy, dtype=np.float32).reshape(-1, 4)
        crowd = np.zeros(len(corners), dtype=bool) if is_crowd is None else np.asarray(is_crowd, dtype=bool)
        stated = None if stated_areas is None else np.asarray(stated_areas, dtype=np.float64).reshape(-1)
        is_stated = stated is not None and bool(np.isfinite(stated).any())
        ids = np.asarray(class_ids, dtype=np.int64).reshape(-1)
        return Boxes(corners, ids, crowd, stated if is_stated else None)


@dataclass(frozen=True, slots=True)
class Detections:
    """Detections in one image, the most confident first.

    Attributes:
        xyxy: (M, 4) float32, absolute pixels of the upright image.
        scores: (M,) float32 in [0, 1].
        class_ids: (M,) int64 positions in `class_names`.
    """

    xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.xyxy)

    def take(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """Return some of the boxes, by mask or positions."""
        return Detections(self.xyxy[which], self.scores[which], self.class_ids[which])

    @staticmethod
    def of(xyxy: object, scores: object = (), class_ids: object = ()) -> Detections:
        """Create detections from array-likes; no arguments give none."""
        return Detections(
            np.asarray(xyxy, dtype=np.float32).reshape(-1, 4),
            np.asarray(scores, dtype=np.float32).reshape(-1),
            np.asarray(class_ids, dtype=np.int64).reshape(-1),
        )


@dataclass(frozen=True)
class DetectionSamples:
    """Images of a detection dataset in a fixed order; all tuples are aligned.

    Attributes:
        names: Path of each image below `root`, with `/`.
        paths: Absolute path of each image.
        boxes: Its boxes; an image without objects has none and is used.
        sizes_hw: (N, 2) int64 height and width of the upright image, pixels.
        class_names: A `class_id` is a position in it.
        split: The split given by the user's layout: `train`, `val`, `test`, or empty.
        group: Group that stays in one split, or None.
        layout: Short name of the format, e.g. `VOC XML`.
        notes: Assumptions of the reader, and data that it does not use.
        root: The folder that names are relative to.
        problems: Boxes and files that cannot be used, each with its reason.
        box_formats: Formats of the boxes in the files, names in `BOX_FORMATS`.
        declared: (class name, the user's id or None) of all declared classes, in the order of the files; classes
            without boxes too.
        inventory: Which files were used, and why the others were not.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    boxes: tuple[Boxes, ...]
    sizes_hw: NDArray[np.int64]
    class_names: tuple[str, ...]
    split: tuple[str, ...]
    group: tuple[str | None, ...]
    layout: str
    notes: tuple[ReadingNote, ...]
    root: Path
    problems: tuple[Problem, ...] = ()
    box_formats: tuple[str, ...] = ()
    declared: tuple[tuple[str, int | None], ...] = ()
    inventory: Inventory = field(default_factory=Inventory)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def num_boxes(self) -> int:
        """Return the number of boxes of all images that count."""
        return sum(int((~b.is_crowd).sum()) for b in self.boxes)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> DetectionSamples:
        """Return the same for some of the images, in the order of `indices`; the class names stay."""
        order = [int(i) for i in np.asarray(indices, dtype=np.int64)]
        return replace(
            self,
            names=tuple(self.names[i] for i in order),
            paths=tuple(self.paths[i] for i in order),
            boxes=tuple(self.boxes[i] for i in order),
            sizes_hw=self.sizes_hw[np.asarray(order, dtype=np.int64)].reshape(-1, 2),
            split=tuple(self.split[i] for i in order),
            group=tuple(self.group[i] for i in order),
        )
