"""Test that every reading note has a message, and JSON with code and text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headstart.messages.reading import reading_message, reading_to_json
from headstart.types.codes import ReadingKind, ReadingNote, Severity

NAMING = {"file": "classes.txt", "first_id": 1, "num_images": 9, "num_agreeing": 8, "names": {"1": "cat", "2": "dog"}}
EVIDENCE: dict[ReadingKind, dict[str, Any]] = {
    ReadingKind.ARCHIVE_NAMES_DECODED: {"file": "a.zip", "name": "gbk", "other": "cp949"},
    ReadingKind.VALUES_SCALED: {"scale": "unit", "arrays": ["a.npz/x"]},
    ReadingKind.AUXILIARY_IMAGES: {"folders": {"masks/": 2}},
    ReadingKind.BOX_FORMAT_ASSUMED: {
        "file": "boxes.csv", "stated": "xyxy", "stated_description": "corners in pixels", "used": "rel_xyxy",
        "used_description": "corners in shares", "num_failing": 2,
    },
    ReadingKind.CLASSES_ALIKE: {"groups": [["Cat", "cat"]]},
    ReadingKind.CLASSES_FROM_LIST: {"file": "ClassName.txt"},
    ReadingKind.CLASSES_MERGED: {"groups": [["Cat", "cat"]]},
    ReadingKind.COPIES_UNUSED: {"folders": {"a/a": 2}},
    ReadingKind.GROUPS_SHARED: {
        "num_groups": 3, "num_if_separate": 6, "pattern": "^[^/]*/([^/]*)/",
        "pattern_if_separate": "^([^/]*)/([^/]*)/",
    },
    ReadingKind.LABELS_BY_POSITION: {"file": "imagelabels.mat"},
    ReadingKind.GROUPS_UNKNOWN: {"column": "patient"},
    ReadingKind.LABELS_BY_MAJORITY: {"num_rows": 6, "num_images": 2, "num_tied": 1},
    ReadingKind.SPLITS_FROM_LISTS: {"splits": {"train": 3, "test": 1}},
    ReadingKind.ENCODING_GUESSED: {"file": "t.csv", "encoding": "Windows-1252"},
    ReadingKind.FOUND_ELSEWHERE: {"pairs": [["1.png", "images/1.png"]]},
    ReadingKind.IMAGES_ASSUMED_EMPTY: {"folders": {"images/": 2}},
    ReadingKind.IMAGES_IN_NO_SPLIT: {"folders": {"images/": 2}, "file": "data.yaml"},
    ReadingKind.IMAGES_NOT_ANNOTATED: {"folders": {"images/": 2}},
    ReadingKind.IMAGES_NOT_IN_TABLE: {"folders": {"images/": 2}},
    ReadingKind.LABELS_ELSEWHERE: {"folders": {"boxes/": 2}},
    ReadingKind.LABELS_MATCHED: {"names": {"Cat": "cat"}},
    ReadingKind.NAMES_FILE_UNUSED: {
        "file": "classes.txt", "reason": "ids_without_name", "num_names": 2, "smallest_id": 1, "largest_id": 9,
    },
    ReadingKind.NAMES_FROM_FILE: {**NAMING, "reason": "paths"},
    ReadingKind.OBJECTS_NOT_WRITTEN: {"format": "YOLO"},
    ReadingKind.OBJECTS_IGNORED: {"reasons": {"difficult": 2}},
    ReadingKind.NAMES_FROM_PATHS: {"source": "file_names", "names": {"1": "cat", "2": "dog"}},
    ReadingKind.NUMBERS_UNMAPPED: {"file": "validation_ground_truth.txt", "meta": "meta.mat"},
    ReadingKind.OTHER_FILES: {"extensions": {".txt": 2}},
    ReadingKind.PATHS_RESPELLED: {"pairs": [["1", "1.png"]]},
    ReadingKind.PLACES_MOVED: {"file": "data.yaml"},
    ReadingKind.SPLITS_FROM_FOLDERS: {"splits": {"train": 3, "test": 1}},
    ReadingKind.UNLABELED_IMAGES: {"folders": {"./": 2}},
}  # fmt: skip


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", ReadingKind)
def test_every_kind_has_a_message(kind: ReadingKind, count: int) -> None:
    text = reading_message(ReadingNote(kind, count, ("a.png", "b.png")[:count], EVIDENCE.get(kind, {})))
    assert text
    assert not text.endswith(".")


@pytest.mark.parametrize("reason", ["stated", "option", "zero_occurs", "last_id", "paths", "background", "format"])
def test_every_reason_of_a_naming_has_a_message(reason: str) -> None:
    assert "classes.txt" in reading_message(
        ReadingNote(ReadingKind.NAMES_FROM_FILE, 2, (), {**NAMING, "reason": reason})
    )


def test_json_separates_assumptions_and_unused_data() -> None:
    assumed = ReadingNote(ReadingKind.CLASSES_ALIKE, 1, ("Cat", "cat"), EVIDENCE[ReadingKind.CLASSES_ALIKE])
    unused = ReadingNote(ReadingKind.EMPTY_FOLDERS, 1, ("c",))
    assert json.loads(json.dumps(reading_to_json([assumed, unused]))) == {
        "assumptions": [
            {
                "kind": "classes_alike",
                "severity": Severity.WARNING.value,
                "count": 1,
                "examples": ["Cat", "cat"],
                "evidence": {"groups": [["Cat", "cat"]]},
                "message": reading_message(assumed),
            }
        ],
        "unused_data": [
            {
                "kind": "empty_folders",
                "severity": Severity.INFO.value,
                "count": 1,
                "examples": ["c"],
                "evidence": {},
                "message": reading_message(unused),
            }
        ],
    }
