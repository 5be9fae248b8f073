"""Every finding has a message, and its JSON carries the code beside the text."""

from __future__ import annotations

import json

import pytest

from headstart.messages.findings import finding_message, finding_to_json
from headstart.types import Evidence, Finding, FindingKind, Severity

EXAMPLES: dict[FindingKind, Evidence] = {
    FindingKind.ALL_SCORED_IMAGES_LEAK: {"split": "test", "num_images": 9, "pairs": [["a.png", "b.png"]]},
    FindingKind.CLASS_IMBALANCE: {
        "largest_class": "a", "largest_count": 1200, "smallest_class": "b", "smallest_count": 3, "unit": "images",
        "metric": "balanced_accuracy",
    },
    FindingKind.CLASS_IN_ONE_GROUP: {"class": "a"},
    FindingKind.CLASS_NOT_IN_TEST: {"class": "a"},
    FindingKind.CLASS_NOT_IN_TRAIN: {"class": "a", "splits": ["test", "val"]},
    FindingKind.CLASS_TOO_SMALL: {"class": "a", "count": 1, "minimum": 10, "unit": "boxes"},
    FindingKind.CLASS_WITH_ONE_IMAGE: {"class": "a"},
    FindingKind.CLASS_WITHOUT_IMAGES: {"class": "a"},
    FindingKind.COPIES_WITH_OTHER_BOXES: {"pairs": [["a.png", "b.png"]] * 5},
    FindingKind.GROUPS_ACROSS_SPLITS: {"num_groups": 2, "pattern_meaning": "column `patient`", "share_of_scored": 0.5},
    FindingKind.MIXED_PIXEL_TYPES: {"num_float": 2, "num_integer": 3},
    FindingKind.PAGES_NOT_USED: {"count": 2, "examples": ["a.tif", "b.gif"]},
    FindingKind.SINGLE_CLASS: {"class": "a"},
}  # fmt: skip


@pytest.mark.parametrize("kind", FindingKind)
def test_every_kind_has_a_message(kind: FindingKind) -> None:
    text = finding_message(Finding(kind, Severity.WARNING, EXAMPLES[kind]))
    assert text
    assert not text.endswith(".")


def test_json_holds_the_code_the_evidence_and_the_message() -> None:
    finding = Finding(FindingKind.CLASS_NOT_IN_TRAIN, Severity.ERROR, {"class": "a", "splits": ["val"]})
    assert json.loads(json.dumps(finding_to_json(finding))) == {
        "kind": "class_not_in_train",
        "severity": "error",
        "evidence": {"class": "a", "splits": ["val"]},
        "message": finding_message(finding),
    }
