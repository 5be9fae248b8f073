"""Render the reading notes of a dataset (assumptions, unused files) as text and JSON."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from headstart.messages.numbers import pluralize, pluralize_is
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.inventory import Inventory

__all__ = ["reading_message", "reading_to_json"]

_SHOWN = 3


def reading_message(note: ReadingNote) -> str:
    """Return one lower-case sentence without a full stop."""
    return _MESSAGES[note.kind](note)


def reading_to_json(
    notes: Iterable[ReadingNote], inventory: Inventory | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Return `assumptions` and `unused_data`: kind, count, examples, evidence and message of each note.

    With an inventory also `unused`, path and reason of each file, and `tables`, their used and unused rows.
    """
    lists: dict[str, list[dict[str, Any]]] = {"assumptions": [], "unused_data": []}
    for note in notes:
        lists["unused_data" if note.is_unused else "assumptions"].append(
            {
                "kind": note.kind.value,
                "severity": note.severity.value,
                "count": note.count,
                "examples": list(note.examples),
                "evidence": dict(note.evidence),
                "message": reading_message(note),
            }
        )
    if inventory is not None:
        lists["unused"] = [{"path": file.path, "reason": file.reason} for file in inventory.unused]
        lists["tables"] = [asdict(table) for table in inventory.tables]
    return lists


def _images(count: int) -> str:
    """`1 image is`, `2,000 images are`."""
    return f"{count:,} image is" if count == 1 else f"{count:,} images are"


def _listed(names: Iterable[str]) -> str:
    listed = [f"`{name}`" for name in names]
    return ", ".join(listed[:_SHOWN]) + (" ..." if len(listed) > _SHOWN else "")


def _example(note: ReadingNote) -> str:
    return f", e.g. `{note.examples[0]}`" if note.examples else ""


def _in_folders(note: ReadingNote) -> str:
    """Return the number of images per top folder."""
    folders = [f"{count:,} in `{name}`" for name, count in note.evidence["folders"].items()]
    return " (" + ", ".join(folders[:_SHOWN]) + (" ..." if len(folders) > _SHOWN else "") + ")"


def _classes_alike(note: ReadingNote) -> str:
    groups = [" and ".join(f"`{name}`" for name in group) for group in note.evidence["groups"]]
    more = f" ... ({note.count:,} in all)" if note.count > _SHOWN else ""
    return f"{'; '.join(groups[:_SHOWN])}{more} differ only in case, spaces or Unicode form: separate classes"


def _found_elsewhere(note: ReadingNote) -> str:
    cell, name = note.evidence["pairs"][0]
    return (
        f"{_images(note.count)} not at the path of the table and {'was' if note.count == 1 else 'were'} taken from "
        f"elsewhere by name, e.g. `{name}` for `{cell}`"
    )


def _paths_respelled(note: ReadingNote) -> str:
    cell, name = note.evidence["pairs"][0]
    return (
        f"{note.count:,} {'path differs' if note.count == 1 else 'paths differ'} from the file in case or ending only, "
        f"e.g. `{name}` for `{cell}`"
    )


def _labels_matched(note: ReadingNote) -> str:
    pairs = [f"`{label}` as `{name}`" for label, name in note.evidence["names"].items()]
    return (
        f"{pluralize(note.count, 'label')} matched to the model despite case, spaces or Unicode form: "
        f"{', '.join(pairs[:_SHOWN])}" + (" ..." if len(pairs) > _SHOWN else "")
    )


def _splits_from_folders(note: ReadingNote) -> str:
    counts = ", ".join(f"{count:,} {split}" for split, count in note.evidence["splits"].items())
    return f"the table has no split column; splits come from its folders: {counts}"


def _names_from_file(note: ReadingNote) -> str:
    e = defaultdict(str, note.evidence)
    pairs = [f"{k} = `{name}`" for k, name in e["names"].items()]
    more = " ..." if note.count > _SHOWN else ""
    reason = {
        "stated": "which states the ids",
        "option": f"counted from {e['first_id']} as requested",
        "zero_occurs": "counted from 0, since the id 0 occurs",
        "last_id": "counted from 1, since the largest id equals the number of names",
        "paths": f"counted from {e['first_id']}, as {e['num_agreeing']} of {e['num_images']} paths confirm",
        "background": "counted from 0, since the first name is the background",
        "format": "counted from 0, as in the format",
    }[e["reason"]]
    return f"class names are from `{e['file']}`, {reason}: {', '.join(pairs[:_SHOWN])}{more}"


def _names_file_unused(note: ReadingNote) -> str:
    e = note.evidence
    if e["reason"] == "option":
        return f"`{e['file']}` is not used, as requested; class names are ids"
    return (
        f"`{e['file']}` has {e['num_names']:,} names, but class ids are {e['smallest_id']} to "
        f"{e['largest_id']}: it is not used, and class names are ids"
    )


def _box_format_assumed(note: ReadingNote) -> str:
    e = note.evidence
    return (
        f"`{e['file']}`: {pluralize_is(note.count, 'box', 'boxes')} read as {e['used_description']} ({e['used']}); as "
        f"{e['stated_description']}, {e['num_failing']:,} would be tiny, outside or inverted; "
        f"--box-format {e['stated']} overrides this"
    )


def _auxiliary_images(note: ReadingNote) -> str:
    kind = "mask or preview is" if note.count == 1 else "masks or previews are"
    inner = [(name.rstrip("/").rpartition("/")[2], count) for name, count in note.evidence["folders"].items()]
    folders = ", ".join(f"{count:,} in `{name}/`" for name, count in inner[:_SHOWN])
    return f"{note.count:,} {kind} not used: {folders}" + (" ..." if len(inner) > _SHOWN else "")


def _outlines_boxed(note: ReadingNote) -> str:
    outlines = pluralize(note.count, "annotation is a polygon", "annotations are polygons")
    mixed = ", mixed with boxes" if note.evidence.get("is_mixed") else ""
    return f"{outlines}{mixed}: the bounding box is used"


def _classes_merged(note: ReadingNote) -> str:
    groups = [", ".join(f"`{name}`" for name in group) for group in note.evidence["groups"]]
    more = f" ... ({note.count:,} in all)" if note.count > _SHOWN else ""
    return f"labels merged: {'; '.join(groups[:_SHOWN])}{more}"


def _labels_by_majority(note: ReadingNote) -> str:
    e = note.evidence
    tied = f"; {pluralize_is(e['num_tied'], 'image')} tied and not used{_example(note)}" if e["num_tied"] else ""
    rows = pluralize(e["num_rows"], "row labels", "rows label")
    if "columns" in e:
        rows = f"{len(e['columns'])} annotators ({_listed(e['columns'])}) label"
    images = pluralize(e["num_images"], "image")
    agreeing = pluralize(note.count, "image")
    return f"{rows} {images}: the most frequent label is used; labels of {agreeing} differ{tied}"


def _archive_names_decoded(note: ReadingNote) -> str:
    e = note.evidence
    other = f" ({e['other']} is nearly as likely)" if e.get("other") else ""
    return (
        f"file names in `{e['file']}` do not state their encoding and were read as {e['name']}{other}: "
        f"{_listed(note.examples)}; --name-encoding sets another"
    )


_SCALES = {"unit": "values from 0 to 1 were multiplied by 255", "bool": "Boolean values became 0 and 255"}


_MESSAGES: dict[ReadingKind, Callable[[ReadingNote], str]] = {
    ReadingKind.ANNOTATIONS_COPIED: lambda n: (
        f"`{n.examples[0]}` holds the same boxes of {pluralize(n.count, 'image')} in a second format; it is not used"
    ),
    ReadingKind.ARCHIVE_NAMES_DECODED: _archive_names_decoded,
    ReadingKind.ARCHIVES_UNPACKED: lambda n: f"{_listed(n.examples)} unpacked in the cache folder",
    ReadingKind.PARTS_UNUSED: lambda n: (
        f"{pluralize_is(n.count, 'part of the container', 'parts of the container')} not used: {_listed(n.examples)}"
    ),
    ReadingKind.SHARDS_MISSING: lambda n: (
        f"{pluralize_is(n.count, 'shard', 'shards')} missing or not given: {_listed(n.examples)}"
    ),
    ReadingKind.VALUES_SCALED: lambda n: f"{_SCALES[n.evidence['scale']]} in {_listed(n.evidence['arrays'])}",
    ReadingKind.AUXILIARY_IMAGES: _auxiliary_images,
    ReadingKind.BOX_FORMAT_ASSUMED: _box_format_assumed,
    ReadingKind.BOX_SCORES: lambda n: (
        f"{pluralize(n.count, 'line ends', 'lines end')} in a score, as in predictions; the score is ignored"
    ),
    ReadingKind.CLASSES_ALIKE: _classes_alike,
    ReadingKind.CLASSES_FROM_LIST: lambda n: (
        f"classes are the {n.count:,} folders that `{n.evidence['file']}` lists: {_listed(n.examples)}"
    ),
    ReadingKind.CLASSES_MERGED: _classes_merged,
    ReadingKind.CLASSES_NUMBERED: lambda n: (
        f"{pluralize(n.count, 'class has', 'classes have')} no stored name, only a number: `classes.txt` "
        "beside the data gives names, one a line from 0 on"
    ),
    ReadingKind.COPIES_UNUSED: lambda n: (
        f"{_images(n.count)} in a copy of the other folders and not used: {_listed(n.evidence['folders'])}"
    ),
    ReadingKind.FILES_EXCLUDED: lambda n: f"{pluralize(n.count, 'file')} excluded as requested{_example(n)}",
    ReadingKind.GROUPS_UNKNOWN: lambda n: (
        f"{pluralize(n.count, 'image has', 'images have')} no group in column `{n.evidence['column']}` (empty, "
        f"`unknown` or alike): each is its own group{_example(n)}"
    ),
    ReadingKind.GROUPS_SHARED: lambda n: (
        f"{_listed(n.examples)}: "
        + (f"ids of column `{n.evidence['column']}`" if "column" in n.evidence else "folders of one name")
        + " in several classes are one group "
        f"({pluralize(n.evidence['num_groups'], 'group')}); --group-from "
        f"{shlex.quote(n.evidence['pattern_if_separate'])} keeps them apart "
        f"({n.evidence['num_if_separate']:,})"
    ),
    ReadingKind.BOXES_UNUSED: lambda n: (
        f"{pluralize(n.count, 'label has', 'labels have')} boxes, which are not used{_example(n)}"
    ),
    ReadingKind.LABELS_BY_POSITION: lambda n: (
        f"labels are numbers of `{n.evidence['file']}` by position, in the order of the image numbers{_example(n)}"
    ),
    ReadingKind.LABELS_BY_MAJORITY: _labels_by_majority,
    ReadingKind.SPLITS_FROM_LISTS: lambda n: (
        f"splits come from {_listed(n.examples)}: "
        + ", ".join(f"{count:,} {split}" for split, count in n.evidence["splits"].items())
    ),
    ReadingKind.NUMBERS_UNMAPPED: lambda n: (
        f"`{n.evidence['file']}` numbers the classes of {pluralize(n.count, 'image')} without a label, and no file "
        "maps the numbers to class folders: expected a file with `number class` per row"
        + (f", exported from `{n.evidence['meta']}` with scipy.io.loadmat" if n.evidence["meta"] else "")
    ),
    ReadingKind.TABLES_UNUSED: lambda n: (
        f"{pluralize_is(n.count, 'table or text file', 'tables or text files')} not used: {_listed(n.examples)}"
    ),
    ReadingKind.FILE_NAMES_STALE: lambda n: (
        f"{pluralize(n.count, 'XML file names', 'XML files name')} another image; the image with the name of the XML "
        f"is used{_example(n)}"
    ),
    ReadingKind.IMAGES_ASSUMED_EMPTY: lambda n: (
        f"{pluralize(n.count, 'image has', 'images have')} no label file and counts as empty"
        f"{_in_folders(n)}{_example(n)}"
    ),
    ReadingKind.IMAGES_IN_NO_SPLIT: lambda n: (
        f"{_images(n.count)} in no split of {n.evidence['file']} and not used{_in_folders(n)}{_example(n)}"
    ),
    ReadingKind.IMAGES_NOT_ANNOTATED: lambda n: (
        f"{_images(n.count)} in no annotation file and not used{_in_folders(n)}{_example(n)}"
    ),
    ReadingKind.LABELS_ELSEWHERE: lambda n: (
        f"{pluralize_is(n.count, 'label file')} not in `labels/` but found by name{_in_folders(n)}{_example(n)}"
    ),
    ReadingKind.OBJECTS_NOT_WRITTEN: lambda n: (
        f"{pluralize_is(n.count, 'object')} not written: {n.evidence['format']} cannot mark objects that must not count"
    ),
    ReadingKind.OBJECTS_IGNORED: lambda n: (
        f"{pluralize_is(n.count, 'object')} marked as not to be counted ("
        + ", ".join(f"{count:,} {reason}" for reason, count in n.evidence["reasons"].items())
        + "): neither learned nor scored"
    ),
    ReadingKind.PREDICTIONS_UNUSED: lambda n: (
        f"{pluralize_is(n.count, 'file')} of predictions (boxes with a score) and not used: {_listed(n.examples)}"
    ),
    ReadingKind.TRAIN_SPLIT_ONLY: lambda n: (
        f"the data name a training split only ({pluralize(n.count, 'image')}): there is no split of their own"
    ),
    ReadingKind.KEYPOINTS: lambda n: f"{pluralize(n.count, 'line holds', 'lines hold')} keypoints, which are ignored",
    ReadingKind.OUTLINES_BOXED: _outlines_boxed,
    ReadingKind.PLACES_MOVED: lambda n: (
        f"{_listed(n.examples)} of `{n.evidence['file']}` {'was' if n.count == 1 else 'were'} found below the data "
        "folder"
    ),
    ReadingKind.ENCODING_GUESSED: lambda n: (
        f"`{n.evidence['file']}`"
        + (f" and {n.count - 1:,} more are" if n.count > 1 else " is")
        + f" not UTF-8 and {'was' if n.count == 1 else 'were'} read as {n.evidence['encoding']}"
    ),
    ReadingKind.EMPTY_FOLDERS: lambda n: (
        f"{n.count:,} empty {'folder' if n.count == 1 else 'folders'}: {_listed(n.examples)}"
    ),
    ReadingKind.FOUND_ELSEWHERE: _found_elsewhere,
    ReadingKind.PATHS_RESPELLED: _paths_respelled,
    ReadingKind.SPLITS_FROM_FOLDERS: _splits_from_folders,
    ReadingKind.IMAGES_NOT_IN_TABLE: lambda n: (
        f"{_images(n.count)} in no table and not used{_in_folders(n)}{_example(n)}"
    ),
    ReadingKind.LABELS_MATCHED: _labels_matched,
    ReadingKind.NAMES_FILE_UNUSED: _names_file_unused,
    ReadingKind.NAMES_FROM_FILE: _names_from_file,
    ReadingKind.NAMES_FROM_PATHS: lambda n: (
        f"class names are from the {n.evidence['source'].replace('_', ' ')}: "
        + ", ".join(f"{number} = `{name}`" for number, name in [*n.evidence["names"].items()][:_SHOWN])
    ),
    ReadingKind.OTHER_FILES: lambda n: (
        "files that are not images were ignored: "
        + ", ".join(f"{count:,} {extension}" for extension, count in [*n.evidence["extensions"].items()][:4])
    ),
    ReadingKind.READ_AS_TRAINED: lambda n: f"read with the options of the training: {_listed(n.examples)}",
    ReadingKind.REPEATED_ROWS: lambda n: (
        f"{n.count:,} {'row repeats' if n.count == 1 else 'rows repeat'} an image with the same label and "
        f"{'was' if n.count == 1 else 'were'} read once{_example(n)}"
    ),
    ReadingKind.UNLABELED_IMAGES: lambda n: (
        f"{n.count:,} {'image has' if n.count == 1 else 'images have'} no label and "
        f"{'is' if n.count == 1 else 'are'} not used{_in_folders(n)}{_example(n)}"
    ),
}
