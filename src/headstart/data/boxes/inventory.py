"""List the files of a dataset with boxes: those that were used, and the reason for each other one."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from headstart.data.boxes.draft import Draft
from headstart.data.boxes.listing import Listing
from headstart.data.boxes.records import KEPT_PROBLEMS, Boxes, DetectionSamples
from headstart.data.inventory import complete_inventory
from headstart.types.codes import ReadingKind, UnusedReason
from headstart.types.inventory import Inventory, TableUse

__all__ = ["box_inventory"]


def box_inventory(samples: DetectionSamples, drafts: Sequence[Draft], listed: Listing | None) -> Inventory:
    """Return the inventory of a dataset.

    Args:
        samples: The usable images.
        drafts: The annotations that were read: the used ones, then copies of them in other formats.
        listed: All files; None for a single annotation file.
    """
    used = Inventory(tuple(dict.fromkeys(samples.names)), tuple(_tables(samples, drafts[0])))
    if listed is None:
        return used
    reasons: dict[str, str] = {}
    for copied in drafts[1:]:
        reasons |= dict.fromkeys((*(image.annotation for image in copied.images), *copied.sources), UnusedReason.COPY)
    reasons |= {table.file.name: UnusedReason.COPY for table in listed.tables}
    reasons.pop("", None)
    reasons |= drafts[0].unused
    reasons |= {file.name: UnusedReason.PREDICTIONS for file in listed.predictions}
    reasons |= {file.name: UnusedReason.CONTAINER for file in listed.tree.containers}
    reasons |= {file.name: UnusedReason.EXCLUDED for file in listed.excluded}
    known = {image.name for image in listed.tree.images} | {file.name for file in listed.files}
    for problem in samples.problems:
        if problem.name in known:
            reasons.setdefault(problem.name, problem.kind)
    in_use = {*used.images}
    stems = {_stem(image.file): image.name for image in listed.tree.images if image.name not in in_use}
    for file in listed.files:
        image = stems.get(_stem(file.file))  # annotated by the file
        default = reasons.get(image, UnusedReason.NO_LABEL) if image else UnusedReason.TABLE_NOT_UNDERSTOOD
        reasons.setdefault(file.name, default)
    return complete_inventory(used, listed.tree, reasons)


def _tables(samples: DetectionSamples, draft: Draft) -> Iterator[TableUse]:
    """Yield the use of each annotation file, list of images and list of names."""
    annotations: dict[str, list[str]] = defaultdict(list)  # by image, in the order of its splits
    for image in sorted(draft.images, key=lambda image: image.split):
        annotations[image.file.name].append(image.annotation)
    num_used: Counter[str] = Counter()
    repeats: Counter[str] = Counter()
    for name, boxes in zip(samples.names, samples.boxes, strict=True):
        num_used[annotations[name][repeats[name]]] += _count(boxes)
        repeats[name] += 1
    lost: dict[str, Counter[str]] = defaultdict(Counter)
    for problem in samples.problems:
        if problem.kind not in KEPT_PROBLEMS:
            name = problem.name
            places = (name, name.partition(": ")[0], name.partition(", line ")[0], name.partition(" of ")[2])
            file = (annotations.get(name) or [next((place for place in places if place in num_used), "")])[0]
            lost[file][problem.kind] += 1
    for path, number in num_used.items():
        if path:
            yield TableUse(path, "labels", number + lost[path].total(), number, dict(lost[path]))
    sources = {str(n.evidence["file"]): "names" for n in samples.notes if n.kind is ReadingKind.NAMES_FROM_FILE}
    for path, role in (sources | draft.sources).items():
        if path not in num_used:
            yield TableUse(path, role, 0, 0)


def _count(boxes: Boxes) -> int:
    """Return the number of objects; an ignored one counts once, whatever the number of its classes."""
    return int((~boxes.is_crowd).sum()) + len(np.unique(boxes.xyxy[boxes.is_crowd], axis=0))


def _stem(name: str) -> str:
    return os.path.splitext(name)[0].casefold()
