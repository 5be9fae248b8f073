"""Small frozen values with stable codes that every layer may carry.

Text is not data: code compares the codes and numbers of these values, and `headstart.messages` renders them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

__all__ = ["Evidence", "Finding", "FindingKind", "JsonValue", "Severity"]

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
Evidence: TypeAlias = Mapping[str, JsonValue]
"""Numbers and names behind a finding or decision, by snake_case name; JSON-serializable."""


class Severity(StrEnum):
    """How much a finding matters.

    ERROR: a score on the data as they are would mislead, or data are lost. WARNING: results suffer or are uncertain.
    INFO: handled, or worth knowing.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class FindingKind(StrEnum):
    """Stable codes of findings; each has a message in `headstart.messages.findings`."""

    CLASS_IMBALANCE = "class_imbalance"
    CLASS_IN_ONE_GROUP = "class_in_one_group"
    CLASS_NOT_IN_TEST = "class_not_in_test"
    CLASS_NOT_IN_TRAIN = "class_not_in_train"
    CLASS_TOO_SMALL = "class_too_small"
    CLASS_WITH_ONE_IMAGE = "class_with_one_image"
    CLASS_WITHOUT_IMAGES = "class_without_images"
    COPIES_WITH_OTHER_BOXES = "copies_with_other_boxes"
    GROUPS_ACROSS_SPLITS = "groups_across_splits"
    MIXED_PIXEL_TYPES = "mixed_pixel_types"
    SINGLE_CLASS = "single_class"


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark of a check.

    Attributes:
        kind: Stable code.
        severity: How much it matters.
        evidence: Names and numbers behind it; the keys depend on the kind.
    """

    kind: FindingKind
    severity: Severity
    evidence: Evidence = field(default_factory=dict)
