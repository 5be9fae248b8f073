"""Read YOLO: one text file per image, `class cx cy width height` as fractions.

Class names come from the data, never from guesses; without names, a class is called by its number. What belongs to
the whole dataset is read by `yolo_dataset`.
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from headstart.data.boxes.draft import Draft, DraftBox, DraftImage, Values, class_label, ignore_reason, number
from headstart.data.boxes.files import ImageIndex, split_of_folders
from headstart.data.boxes.formats import BoxFormat
from headstart.data.boxes.yolo_dataset import (
    Dataset,
    NameList,
    choose_names,
    find_name_lists,
    is_absolute,
    is_name_file,
    names_note,
    numbered_note,
    read_dataset,
)
from headstart.data.file_tree import LocatedFile, clean_label, printable
from headstart.data.text import head_lines, text_lines
from headstart.types.codes import ReadingKind, ReadingNote, UnusedReason

__all__ = ["find_labels", "is_box_line", "is_label_line", "read_yolo"]

_CENTER, _OUTLINE = BoxFormat("cxcywh", 1.0), BoxFormat("xyxy", 1.0)
_EXAMPLES = 5


def is_label_line(line: str) -> bool:
    """Return whether a line is `number fraction fraction fraction fraction ...`."""
    return _is_numbered(line, lambda v, _: -1 <= v <= 2)


def is_box_line(line: str) -> bool:
    """Return whether a line is a label line, or one with four numbers of any size (pixels) instead of fractions."""
    return _is_numbered(line, lambda v, count: -1 <= v <= 2 or (count == 4 and math.isfinite(v)))


def _is_numbered(line: str, is_fit: Callable[[float, int], bool]) -> bool:
    parts = line.split()
    values = [number(p) for p in parts[1:]]
    return len(values) >= 4 and parts[0].isdigit() and all(v is not None and is_fit(v, len(values)) for v in values)


def find_labels(images: Sequence[LocatedFile], texts: Sequence[LocatedFile]) -> dict[str, LocatedFile]:
    """Return the label file by image path.

    It is in the parallel folder `labels`, next to the image, or else the only text of this name in any folder, if this
    is the only image of this name.
    """
    texts = [text for text in texts if not is_name_file(text)]
    by_place = {(tuple(f.casefold() for f in t.folders), os.path.splitext(t.file)[0]): t for t in texts}
    label_files: dict[str, LocatedFile] = {}
    for image in images:
        stem = os.path.splitext(image.file)[0]
        folders = tuple(f.casefold() for f in image.folders)
        places = [folders]
        for i in range(len(folders) - 1, -1, -1):
            if folders[i] in ("images", "jpegimages", "imgs"):
                places.insert(0, (*folders[:i], "labels", *folders[i + 1 :]))
        places += [(*folders, "labels"), ("labels", *folders)]
        text = next((by_place[p, stem] for p in places if (p, stem) in by_place), None)
        if text is not None:
            label_files[image.path] = text
    used = {text.path for text in label_files.values()}
    free_texts, free_images = defaultdict(list), defaultdict(list)
    for text in texts:
        if text.path not in used:
            free_texts[os.path.splitext(text.file)[0]].append(text)
    for image in images:
        free_images[os.path.splitext(image.file)[0]].append(image)
    for stem, members in free_images.items():
        if len(members) == len(free_texts[stem]) == 1 and members[0].path not in label_files:
            label_files[members[0].path] = free_texts[stem][0]
    return label_files


def read_yolo(
    root: str,
    dataset_file: LocatedFile | None,
    texts: Sequence[LocatedFile],
    index: ImageIndex,
    names_files: Sequence[LocatedFile] = (),
) -> Draft:
    """Read labels.

    Args:
        root: The data folder.
        dataset_file: `data.yaml` or `obj.data`, or None.
        texts: All text files below the root.
        index: The images.
        names_files: Files that may list class names.

    Raises:
        DataError: `data.yaml` cannot be read, or two lists name the classes differently.
    """
    draft = Draft("YOLO", root)
    dataset = read_dataset(dataset_file.path) if dataset_file else Dataset()
    splits = _splits(draft, dataset, dataset_file, index)
    if dataset_file is not None:
        draft.sources[dataset_file.name] = "names" if dataset.names else "splits"
    images = [p for p in index.images if not splits or p.path in splits]
    labels = _without_shared(draft, images, find_labels(images, texts))
    lines = {path: _Lines(draft, text, dataset.keypoints) for path, text in labels.items()}
    ids = sorted({line.class_id for read in lines.values() for line in read.lines if line.class_id is not None})
    names = _class_names(draft, dataset, dataset_file, find_name_lists(names_files), ids)
    counts: Counter[str] = Counter()
    is_prediction = _are_predictions(lines.values())
    for image in images:
        text = labels.get(image.path)
        split = splits.get(image.path, "") if splits else split_of_folders(image.folders)
        drafted = DraftImage(image, text.name if text else "", split)
        if text is not None:
            lines[image.path].add_boxes(draft, drafted, names, counts, is_prediction)
        draft.images.append(drafted)
    draft.classes = {class_label(name): k for k, name in sorted((names or {k: str(k) for k in ids}).items())}
    if ids and not names:
        draft.notes.append(numbered_note([str(k) for k in ids]))
    _note_use(draft, index, images, labels, texts, counts)
    if splits:
        unsplit = [p for p in index.images if p.path not in splits]
        draft.note_images(ReadingKind.IMAGES_IN_NO_SPLIT, unsplit, file=dataset_file.name if dataset_file else "")
        draft.leave_out(UnusedReason.IN_NO_SPLIT, unsplit)
    return draft


class _Line:
    """One label line: its location, class as written and as id, and numbers."""

    def __init__(self, where: str, word: str, values: list[float]) -> None:
        self.where, self.word, self.values = where, word, values
        self.class_id = _id(word)


class _Lines:
    """The label lines of one file; other lines are refused."""

    def __init__(self, draft: Draft, text: LocatedFile, keypoints: int) -> None:
        self.text, self.keypoints = text, keypoints
        self.lines: list[_Line] = []
        for line_number, line in enumerate(text_lines(text.path), start=1):
            parts = line.removeprefix("\ufeff").split()
            if not parts or parts[0].startswith("#"):
                continue
            values = [number(p) for p in parts[1:]]
            where = f"line {line_number}"
            if len(parts) < 5 or any(v is None for v in values):
                draft.refuse(text.name, "bad-line", f"{where} expected `class cx cy width height`")
            else:
                self.lines.append(_Line(where, parts[0], [v for v in values if v is not None]))

    def add_boxes(
        self, draft: Draft, image: DraftImage, names: Mapping[int, str], counts: Counter[str], is_prediction: bool
    ) -> None:
        """Add the boxes of all lines to an image."""
        known = set(names.values())
        for line in self.lines:
            label = names.get(line.class_id, "") if line.class_id is not None and names else line.word
            if line.class_id is None and line.word not in known:
                detail = f"{line.where} has the class {clean_label(line.word)}; expected a number from 0"
                draft.refuse(self.text.name, "no-class", detail)
                continue
            if not label:
                detail = f"{line.where} has the class {line.class_id}, but there are only {len(names)} names"
                draft.refuse(self.text.name, "no-class", detail)
                continue
            box, kind = _box(line.values, self.keypoints)
            if kind == "odd":
                detail = f"{line.where} has {len(line.values) + 1} numbers, which is neither a box nor an outline"
                draft.refuse(self.text.name, "bad-line", detail)
                continue
            if kind == "scored" and is_prediction:
                draft.refuse(self.text.name, "prediction", f"{line.where} ends in a score, as predictions do")
                continue
            counts[kind] += 1
            source, form = ("outline", _OUTLINE) if kind == "outline" else ("definition", _CENTER)
            ignored = ignore_reason({}, label)
            image.boxes.append(DraftBox(box, form, label, line.where, ignored, source))  # type: ignore[arg-type]


def _id(word: str) -> int | None:
    value = number(word)
    return int(value) if value is not None and 0 <= value < 1e9 and value == int(value) else None


def _are_predictions(files: Iterable[_Lines]) -> bool:
    """Return whether a fifth value is a score: between 0 and 1, not always whole as a track number is."""
    fifth = [v.values[4] for read in files for v in read.lines if len(v.values) == 5]
    return any(0 < v < 1 for v in fifth)


def _without_shared(
    draft: Draft, images: Sequence[LocatedFile], labels: dict[str, LocatedFile]
) -> dict[str, LocatedFile]:
    """Refuse label files that fit several images, such as `a.txt` of `a.jpg` and `a.png`."""
    uses = Counter(text.path for text in labels.values())
    for image in images:
        if image.path in labels and uses[labels[image.path].path] > 1:
            detail = f"`{labels[image.path].name}` fits several images of this stem and is not used"
            draft.refuse(image.name, "repeated-id", detail)
    kept = {path: text for path, text in labels.items() if uses[text.path] == 1}
    shared = {path for path in labels if path not in kept}
    if shared:
        images[:] = [image for image in images if image.path not in shared]  # type: ignore[index]
    return kept


def _class_names(
    draft: Draft, dataset: Dataset, dataset_file: LocatedFile | None, lists: Sequence[NameList], ids: Sequence[int]
) -> dict[int, str]:
    """Return names by id, from `data.yaml` or the files of names, which must not contradict each other.

    Raises:
        DataError: Two lists name a class differently.
    """
    if dataset.names and dataset_file is not None:
        given = tuple(dataset.names.get(i) for i in range(max(dataset.names) + 1))
        lists = [NameList(dataset_file, given), *lists]
    if not lists:
        return {}
    first, names, first_id = choose_names(lists, ids, preferred=dataset_file)
    draft.leave_out(UnusedReason.COPY, (other.file for other in lists))
    if first.file is not dataset_file or first_id:
        draft.notes.append(names_note(first, names, first_id))
    return names


def _box(values: list[float], keypoints: int) -> tuple[Values, str]:
    """Return the four numbers of a line, and whether it is a `box`, `scored`, `keypoints`, an `outline` or `odd`."""
    count = len(values)
    if count == 4 or count == 5 or (keypoints and count == 4 + keypoints):
        x, y, width, height = values[:4]
        return (x, y, width, height), "box" if count == 4 else "scored" if count == 5 else "keypoints"
    if count % 2:
        return (0.0, 0.0, 0.0, 0.0), "odd"
    return (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])), "outline"


def _splits(draft: Draft, dataset: Dataset, dataset_file: LocatedFile | None, index: ImageIndex) -> dict[str, str]:
    """Return splits by image path, from `data.yaml`; paths are looked up below the root only."""
    splits: dict[str, str] = {}
    if dataset_file is None:
        return splits
    moved: list[str] = []
    lists: list[str] = []
    for split, path in dataset.places:
        missing: list[str] = []
        images, is_moved = _look_up(path, dataset_file, index, missing, lists)
        for name in missing if images else ():
            draft.refuse(f"{path}: {name}", "no-image", "no such image")
        if not images:
            shown = clean_label(path)
            draft.refuse(dataset_file.name, "no-images", f"`{split}: {shown}` has no image below the data folder")
        elif is_moved:
            moved.append(f"{split}: {clean_label(path)}")
        for image in images:
            if splits.get(image.path, split) != split:
                draft.refuse(image.name, "two-splits", f"in {splits[image.path]} and in {split}; the first one counts")
            splits.setdefault(image.path, split)
    draft.sources |= dict.fromkeys(lists, "splits")
    if moved:
        note = ReadingNote(ReadingKind.PLACES_MOVED, len(moved), tuple(moved), {"file": dataset_file.name})
        draft.notes.append(note)
    return splits


def _look_up(
    path: str, dataset_file: LocatedFile, index: ImageIndex, missing: list[str], lists: list[str]
) -> tuple[list[LocatedFile], bool]:
    """Return the images at a path: below the YAML's folder, else where the path's end fits; and whether it moved.

    Lines of a list without image are added to `missing`, the path of a list to `lists`.
    """
    parts = [p for p in path.split("/") if p not in ("", ".")]
    is_plain = ".." not in parts and not is_absolute(path)
    plain = [p for p in parts if p != ".."]
    for start in range(len(plain)):
        tail = plain[start:]
        bases = [dataset_file.folders] if not dataset_file.folders else [dataset_file.folders, ()]
        for base in bases:
            folder = (*base, *tail)
            if tail[-1].casefold().endswith(".txt"):
                missing.clear()
                images = _listed(folder, dataset_file, index, missing)
                lists += [printable("/".join(folder))] if images else []
            else:
                images = [p for p in index.images if p.folders[: len(folder)] == folder]
            if images:
                return images, not is_plain or start > 0
    whole = [p for p in index.images if p.folders[: len(dataset_file.folders)] == dataset_file.folders]
    return (whole, False) if not plain and is_plain else ([], False)


def _listed(
    path: tuple[str, ...], dataset_file: LocatedFile, index: ImageIndex, missing: list[str]
) -> list[LocatedFile]:
    """Return images of a list file (`train.txt`), one path per line; lines without image are added to `missing`."""
    root = dataset_file.path
    for _ in range(len(dataset_file.folders) + 1):
        root = os.path.dirname(root)
    images = []
    for line in text_lines(os.path.join(root, *path)):
        name = line.strip().removeprefix("./")
        image = index.at(path[:-1], name) or index.at((), name)
        image = image or index.nearest(index.named(name.replace("\\", "/").rpartition("/")[2]), path[:-1])
        if name and image is not None:
            images.append(image)
        elif name:
            missing.append(name)
    return images


def _note_use(
    draft: Draft,
    index: ImageIndex,
    images: Sequence[LocatedFile],
    labels: dict[str, LocatedFile],
    texts: Sequence[LocatedFile],
    counts: Mapping[str, int],
) -> None:
    """Note assumptions and unused parts of the dataset, and label files without image."""
    draft.note_images(ReadingKind.IMAGES_ASSUMED_EMPTY, [p for p in images if p.path not in labels])
    used = {t.path for t in find_labels(index.images, texts).values()}
    stems = {os.path.splitext(image.file)[0] for image in index.images}
    _note_label_folders(draft, images, labels)
    for text in texts:
        if text.path in used or is_name_file(text):
            continue
        first = next((line for line in head_lines(text.path) if line.strip()), "")
        if is_label_line(first) and os.path.splitext(text.file)[0] in stems:
            draft.refuse(text.name, "second-annotation", "another text file is used for the image of this name")
        elif is_label_line(first):
            draft.refuse(text.name, "no-image", "no image with this name")
    if counts.get("outline"):
        evidence = {"is_mixed": bool(counts.get("box"))}
        draft.notes.append(ReadingNote(ReadingKind.OUTLINES_BOXED, counts["outline"], (), evidence))
    for kind, note in (("scored", ReadingKind.BOX_SCORES), ("keypoints", ReadingKind.KEYPOINTS)):
        if counts.get(kind):
            draft.notes.append(ReadingNote(note, counts[kind]))


def _note_label_folders(draft: Draft, images: Sequence[LocatedFile], labels: Mapping[str, LocatedFile]) -> None:
    """Note label files that are neither in a folder `labels` nor next to their image."""
    elsewhere = [
        labels[image.path]
        for image in images
        if image.path in labels
        and labels[image.path].folders != image.folders
        and "labels" not in (f.casefold() for f in labels[image.path].folders)
    ]
    draft.note_images(ReadingKind.LABELS_ELSEWHERE, elsewhere)
