"""Find auxiliary images: masks and previews with drawn boxes in the same folders as the images.

They share the name of their image and have no annotation. In formats where an image without annotation counts as empty,
they would be learned as background; in formats that match annotations by name, they make names ambiguous.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.data.boxes.files import split_of_folders
from headstart.data.file_tree import LocatedFile
from headstart.preprocessing.image_spec import ImageError, open_image
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.utils.limits import MAX_PIXELS

__all__ = ["auxiliary_notes", "find_auxiliary"]

_MASK_WORDS = frozenset(
    (
        *("mask", "masks", "seg", "segm", "segmentation", "segmentations", "gt", "groundtruth", "trimap", "matte"),
        *("label", "labels", "labelids", "instanceids"),
    )
)
_PREVIEW_WORDS = frozenset(
    (
        *("vis", "viz", "visual", "visualization", "visualizations", "preview", "previews", "overlay", "overlays"),
        *("drawn", "annotated", "rendered", "plotted", "bbox", "bboxes", "boxes", "result"),
        *("pred", "preds", "predicted", "prediction", "predictions"),
    )
)
_RUN_WORDS = frozenset(("predict", "detect"))  # folders that detectors write drawn images to
_FLAT_COLORS = 64  # a mask has fewer distinct colors than any photograph
_LEVELS, _TOP, _FLAT_FRACTION = 16, 4, 0.95  # a compressed mask: this fraction has one of the top 4 of 16 gray levels
_SIDE = 32  # of the thumbnails that previews are compared by
_ALIKE = 0.9  # correlation of a preview with its image
_SAMPLED = 12  # images per folder to read; the others follow if these agree
_EXAMPLES = 5
_SIBLINGS = 3  # maximum number of images to compare an image with
_Candidate: TypeAlias = "tuple[LocatedFile, Sequence[LocatedFile]]"


def find_auxiliary(images: Sequence[LocatedFile], annotations: Mapping[str, str]) -> set[str]:
    """Return the paths of masks and previews of other images.

    A mask has few colors, and the name of its image with or without a suffix such as `_mask`, or is in a folder of
    masks. A preview looks like its image and has a suffix such as `_vis`, or is in a folder without annotations. An
    image with its own annotation is neither.

    Args:
        images: All images below the data folder.
        annotations: Name of the annotation file of each annotated image, by path; images may share one.
    """
    by_stem: dict[str, list[LocatedFile]] = defaultdict(list)
    for image in images:
        by_stem[_stem(image)].append(image)
    annotated_folders = {image.folders for image in images if image.path in annotations}
    groups: dict[_Group, list[_Candidate]] = defaultdict(list)
    for stem, members in by_stem.items():
        base = _without_word(stem)
        others = members if base is None else [*members, *by_stem.get(base, ())]
        for image in members:
            own = annotations.get(image.path)
            siblings = [s for s in others if s.path != image.path and not _words(s) and _are_related(image, s)]
            siblings = [s for s in siblings if own is None or annotations.get(s.path) == own]
            siblings.sort(key=lambda s: s.path not in annotations)
            group = _Group(
                image.folders,
                os.path.splitext(image.file)[1].casefold(),
                _words(image),
                is_annotated=own is not None,
                is_bare=image.folders not in annotated_folders,
            )
            if siblings or (group.words & _MASK_WORDS and not group.is_annotated):
                groups[group].append((image, siblings[:_SIBLINGS]))
    return {image.path for group, candidates in groups.items() for image in _filter(group, candidates, annotations)}


def auxiliary_notes(images: Sequence[LocatedFile], excluded: Collection[str]) -> list[ReadingNote]:
    """Return a note about excluded masks and previews, with their number in each folder."""
    auxiliary = [image for image in images if image.path in excluded]
    if not auxiliary:
        return []
    folders = Counter("/".join(image.folders) + "/" if image.folders else "./" for image in auxiliary)
    examples: dict[tuple[str, ...], str] = {}
    for image in auxiliary:
        examples.setdefault(image.folders, image.name)
    others = (image.name for image in auxiliary if image.name not in examples.values())
    names = [*examples.values(), *others]
    return [
        ReadingNote(
            ReadingKind.AUXILIARY_IMAGES,
            len(auxiliary),
            tuple(names[:_EXAMPLES]),
            {"folders": dict(folders.most_common())},
        )
    ]


@dataclass(frozen=True)
class _Group:
    """Images of one folder and extension whose names contain the same words; most folders hold one kind only."""

    folders: tuple[str, ...]
    ending: str
    words: frozenset[str]
    is_annotated: bool
    is_bare: bool  # no image of the folder has an annotation

    def holds(self, image: LocatedFile, siblings: Sequence[LocatedFile], annotations: Mapping[str, str]) -> bool:
        """Return whether an image is a mask or a preview of one of its siblings, by its pixels."""
        if any(_is_mask(image, s) for s in siblings):
            return True
        if self.words & _MASK_WORDS and not self.is_annotated:
            is_flat = _is_mostly_flat(image) if siblings else _num_colors(image) <= _FLAT_COLORS
            if is_flat:
                return True
        is_bare = self.is_bare and not self.is_annotated
        originals = siblings if self.words & _PREVIEW_WORDS else [s for s in siblings if s.path in annotations]
        return bool(self.words & _PREVIEW_WORDS or is_bare) and any(_is_preview(image, s) for s in originals)


def _filter(group: _Group, candidates: Sequence[_Candidate], annotations: Mapping[str, str]) -> list[LocatedFile]:
    """Return the images that are masks or previews; large folders are sampled, and read fully only if in doubt."""
    if len(candidates) > 2 * _SAMPLED:
        places = np.linspace(0, len(candidates) - 1, _SAMPLED).round().astype(int).tolist()
        answers = [group.holds(candidates[i][0], candidates[i][1], annotations) for i in places]
        if all(answers) or not any(answers):
            return [image for image, _ in candidates] if answers[0] else []
    return [image for image, siblings in candidates if group.holds(image, siblings, annotations)]


def _stem(image: LocatedFile) -> str:
    return unicodedata.normalize("NFC", os.path.splitext(image.file)[0]).casefold()


def _without_word(stem: str) -> str | None:
    """Return the stem without mask and preview words at either end, or None if there are none."""
    parts = re.split(r"([_\-. ]+)", stem)
    first, last = 0, len(parts)
    while last - first > 2 and _is_word(parts[last - 1]):
        last -= 2
    while last - first > 2 and _is_word(parts[first]):
        first += 2
    return "".join(parts[first:last]) if last - first < len(parts) else None


def _is_word(part: str) -> bool:
    return part in _MASK_WORDS or part in _PREVIEW_WORDS


def _words(image: LocatedFile) -> frozenset[str]:
    """Return mask and preview words in the name of a file and of its folder."""
    texts = [_stem(image), *(f.casefold() for f in image.folders[-1:])]
    parts = {part for text in texts for part in re.split(r"[^a-z]+", text)}
    if image.folders and re.match(r"segmentation|mask|.*masks?$", image.folders[-1].casefold()):
        parts.add("mask")  # SegmentationClass, PedMasks
    if {part for folder in image.folders[-2:] for part in re.split(r"[^a-z]+", folder.casefold())} & _RUN_WORDS:
        parts.add("predicted")  # runs/detect/exp2
    return frozenset(parts & (_MASK_WORDS | _PREVIEW_WORDS))


def _are_related(image: LocatedFile, other: LocatedFile) -> bool:
    """Return whether two images of one stem are related: not in different splits, and at most one folder differs."""
    splits = {split_of_folders(image.folders), split_of_folders(other.folders)} - {""}
    if len(splits) > 1:
        return False
    a, b = image.folders, other.folders
    if _words(image) & _PREVIEW_WORDS:
        return True  # results lie anywhere, and are compared by their pixels
    if len(a) == len(b):
        return sum(x != y for x, y in zip(a, b, strict=True)) <= 1
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    return len(longer) - len(shorter) == 1 and all(folder in longer for folder in shorter)


def _is_mask(image: LocatedFile, sibling: LocatedFile) -> bool:
    """Return whether an image has few colors and its sibling many; a palette counts as few colors."""
    return _num_colors(image) <= _FLAT_COLORS < _num_colors(sibling)


def _num_colors(image: LocatedFile) -> int:
    """Return the number of distinct colors, at most one more than a mask has."""
    try:
        with open_image(image.path, MAX_PIXELS) as opened:
            if opened.mode in ("1", "P"):
                return 1 + _FLAT_COLORS * (opened.format == "GIF")  # any GIF has a palette
            if opened.mode not in ("L", "LA", "RGB", "RGBA"):
                opened = opened.convert("F") if opened.mode.startswith(("I", "F")) else opened.convert("RGB")
                return int(min(len(np.unique(np.asarray(opened))), _FLAT_COLORS + 1))
            return len(opened.getcolors(_FLAT_COLORS) or range(_FLAT_COLORS + 1))
    except (ImageError, OSError, ValueError, SyntaxError, EOFError, MemoryError):
        return _FLAT_COLORS + 1


def _is_mostly_flat(image: LocatedFile) -> bool:
    """Return whether nearly all pixels have one of a few gray levels, as in a mask saved as JPEG."""
    gray = _thumbnail(image, 256)
    if gray is None:
        return False
    counts = np.bincount((gray.ravel() * _LEVELS / 256).astype(int), minlength=_LEVELS)
    return bool(np.sort(counts)[-_TOP:].sum() >= _FLAT_FRACTION * gray.size)


def _is_preview(image: LocatedFile, sibling: LocatedFile) -> bool:
    """Return whether an image looks like its sibling, apart from what is drawn on it."""
    mine, theirs = _thumbnail(image, _SIDE), _thumbnail(sibling, _SIDE)
    if mine is None or theirs is None or not mine.std() or not theirs.std():
        return False
    return bool(np.corrcoef(mine.ravel(), theirs.ravel())[0, 1] >= _ALIKE)


def _thumbnail(image: LocatedFile, side: int) -> NDArray[np.float64] | None:
    """Return (side, side) gray levels, or None if the image is unreadable."""
    try:
        with open_image(image.path, MAX_PIXELS) as opened:
            opened.draft("L", (side, side))
            small = opened.convert("L").resize((side, side), Image.Resampling.BOX)
            return np.asarray(small, dtype=np.float64)
    except (ImageError, OSError, ValueError, SyntaxError, EOFError, MemoryError):
        return None
