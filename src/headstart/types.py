"""Small frozen values with stable codes that every layer may carry.

Text is not data: code compares the codes and numbers of these values, and `headstart.messages` renders them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, TypeAlias

__all__ = [
    "RESUBSTITUTION",
    "USER_TEST_SPLIT",
    "USER_VALIDATION_SPLIT",
    "EvaluationProtocol",
    "EvaluationSetup",
    "Evidence",
    "Finding",
    "FindingKind",
    "GroupStatus",
    "JsonValue",
    "NoteKind",
    "ReadingKind",
    "ReadingNote",
    "Severity",
    "SplitSource",
]

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

    ALL_SCORED_IMAGES_LEAK = "all_scored_images_leak"
    CLASS_IMBALANCE = "class_imbalance"
    CLASS_IN_ONE_GROUP = "class_in_one_group"
    CLASS_NOT_IN_TEST = "class_not_in_test"
    CLASS_NOT_IN_TRAIN = "class_not_in_train"
    CLASS_TOO_SMALL = "class_too_small"
    CLASS_WITH_ONE_IMAGE = "class_with_one_image"
    CLASS_WITHOUT_IMAGES = "class_without_images"
    COPIES_AT_BASELINE = "copies_at_baseline"
    COPIES_WITH_OTHER_BOXES = "copies_with_other_boxes"
    DUPLICATE_IMAGES = "duplicate_images"
    FILES_HANDLED = "files_handled"
    FILES_NOT_USED = "files_not_used"
    GROUPS_ACROSS_SPLITS = "groups_across_splits"
    GROUPS_APPLIED = "groups_applied"
    GROUPS_IN_QUESTION = "groups_in_question"
    GROUPS_NOT_APPLIED = "groups_not_applied"
    GROUPS_REJECTED = "groups_rejected"
    LABEL_CONFLICTS = "label_conflicts"
    LEAKING_IMAGES = "leaking_images"
    MIXED_PIXEL_TYPES = "mixed_pixel_types"
    NARROW_CROP = "narrow_crop"
    PAGES_NOT_USED = "pages_not_used"
    SCORE_NOTE = "score_note"
    SHORTCUT = "shortcut"
    SINGLE_CLASS = "single_class"
    UNREADABLE_FILES = "unreadable_files"


class NoteKind(StrEnum):
    """Stable codes of what a pipeline reports about its own work; each has a message in `headstart.messages.notes`."""

    FEATURES_NOT_CACHED = "features_not_cached"
    TEXT = "text"  # text that has no code yet


class GroupStatus(StrEnum):
    """What becomes of a grouping that was guessed from names, columns or times, and why."""

    APPLIED = "applied"
    ALTERNATIVE = "alternative"
    REJECTED_COUNTER_PREFIX = "rejected_counter_prefix"
    REJECTED_NO_SIMILARITY = "rejected_no_similarity"
    QUESTION_CONTRADICTED_BY_COPIES = "question_contradicted_by_copies"
    QUESTION_CONFOUNDED_WITH_CLASS = "question_confounded_with_class"
    QUESTION_CONFOUNDED_WITH_SPLIT = "question_confounded_with_split"
    QUESTION_CONFOUNDED_WITH_CAMERA = "question_confounded_with_camera"
    QUESTION_CONFOUNDED_WITH_EXPOSURE = "question_confounded_with_exposure"
    QUESTION_TOO_FEW_GROUPS = "question_too_few_groups"
    QUESTION_SCORE_AT_BASELINE = "question_score_at_baseline"

    @property
    def is_question(self) -> bool:
        """Whether only the user can say if the groups are real; they are not applied."""
        return self.value.startswith("question_")

    @property
    def is_rejected(self) -> bool:
        """Whether the name itself or the images speak against the groups."""
        return self.value.startswith("rejected_")


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


class ReadingKind(StrEnum):
    """Stable codes of what a reader assumed or did not use; each has a message in `headstart.messages.reading`."""

    # assumed
    BOX_FORMAT_ASSUMED = "box_format_assumed"
    CLASSES_ALIKE = "classes_alike"
    ENCODING_GUESSED = "encoding_guessed"
    FOUND_ELSEWHERE = "found_elsewhere"
    LABELS_MATCHED = "labels_matched"
    FILE_NAMES_STALE = "file_names_stale"
    IMAGES_ASSUMED_EMPTY = "images_assumed_empty"
    NAMES_FROM_FILE = "names_from_file"
    OUTLINES_BOXED = "outlines_boxed"
    PATHS_RESPELLED = "paths_respelled"
    PLACES_MOVED = "places_moved"
    SPLITS_FROM_FOLDERS = "splits_from_folders"
    # not used
    AUXILIARY_IMAGES = "auxiliary_images"
    BOX_SCORES = "box_scores"
    EMPTY_FOLDERS = "empty_folders"
    IMAGES_IN_NO_SPLIT = "images_in_no_split"
    IMAGES_NOT_ANNOTATED = "images_not_annotated"
    IMAGES_NOT_IN_TABLE = "images_not_in_table"
    KEYPOINTS = "keypoints"
    NAMES_FILE_UNUSED = "names_file_unused"
    OTHER_FILES = "other_files"
    REPEATED_ROWS = "repeated_rows"
    UNLABELED_IMAGES = "unlabeled_images"


_UNUSED = frozenset(
    {
        *(ReadingKind.EMPTY_FOLDERS, ReadingKind.IMAGES_NOT_IN_TABLE, ReadingKind.NAMES_FILE_UNUSED),
        *(ReadingKind.OTHER_FILES, ReadingKind.REPEATED_ROWS, ReadingKind.UNLABELED_IMAGES),
        *(ReadingKind.AUXILIARY_IMAGES, ReadingKind.BOX_SCORES, ReadingKind.KEYPOINTS),
        *(ReadingKind.IMAGES_IN_NO_SPLIT, ReadingKind.IMAGES_NOT_ANNOTATED),
    }
)
_INFO = frozenset(
    {
        *(ReadingKind.EMPTY_FOLDERS, ReadingKind.OTHER_FILES, ReadingKind.PATHS_RESPELLED),
        *(ReadingKind.REPEATED_ROWS, ReadingKind.SPLITS_FROM_FOLDERS),
        *(ReadingKind.AUXILIARY_IMAGES, ReadingKind.KEYPOINTS, ReadingKind.OUTLINES_BOXED),
        *(ReadingKind.FILE_NAMES_STALE, ReadingKind.IMAGES_ASSUMED_EMPTY, ReadingKind.PLACES_MOVED),
    }
)


@dataclass(frozen=True, slots=True)
class ReadingNote:
    """One thing that the reader of a data set assumed or did not use.

    Attributes:
        kind: Stable code.
        count: How many images, rows, files or classes it concerns; the unit depends on the kind.
        examples: Some of their names, at most five.
        evidence: Further names and numbers; the keys depend on the kind.
    """

    kind: ReadingKind
    count: int
    examples: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_unused(self) -> bool:
        """Whether something of the data is not used; otherwise the reader assumed something."""
        return self.kind in _UNUSED

    @property
    def severity(self) -> Severity:
        """WARNING where labels or splits may be wrong or images are not used because of it, else INFO."""
        return Severity.INFO if self.kind in _INFO else Severity.WARNING


class EvaluationProtocol(StrEnum):
    """How the scored samples relate to the samples that the model was fitted on."""

    RESUBSTITUTION = "resubstitution"
    LEAVE_ONE_OUT = "leave_one_out"
    LEAVE_ONE_GROUP_OUT = "leave_one_group_out"
    K_FOLD = "k_fold"
    VALIDATION_SPLIT = "validation_split"
    TEST_SPLIT = "test_split"

    @property
    def is_out_of_fold(self) -> bool:
        """Whether the scored samples also trained one another's models."""
        return self in (self.LEAVE_ONE_OUT, self.LEAVE_ONE_GROUP_OUT, self.K_FOLD)


class SplitSource(StrEnum):
    """Who drew a split: the user (folders, a table or a manifest) or headstart."""

    USER = "user"
    MADE = "made"


@dataclass(frozen=True, slots=True)
class EvaluationSetup:
    """An evaluation protocol with its details; None and False where they do not apply.

    Attributes:
        protocol: How the samples were scored.
        num_folds: Folds of a k-fold cross-validation.
        num_folds_used: How many of them were scored, where not all were.
        held_out_fraction: Share of the samples that was held out, in (0, 1), of a split that headstart drew.
        split_source: Who drew the split.
        is_used_for_selection: Whether the same samples also chose between models.
        includes_leaks: Whether samples with a copy in the training data are among them.
    """

    protocol: EvaluationProtocol
    num_folds: int | None = None
    num_folds_used: int | None = None
    held_out_fraction: float | None = None
    split_source: SplitSource | None = None
    is_used_for_selection: bool = False
    includes_leaks: bool = False

    def to_json(self) -> dict[str, JsonValue]:
        """Return `protocol` and, as `protocol_detail`, every detail that applies."""
        detail = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name != "protocol" and getattr(self, f.name) not in (None, False)
        }
        return {"protocol": self.protocol.value, "protocol_detail": detail}

    @classmethod
    def from_json(cls, block: Mapping[str, Any]) -> EvaluationSetup:
        """Read what `to_json` wrote; other keys of the block are ignored.

        Raises:
            ValueError: There is no known protocol.
        """
        detail = dict(block.get("protocol_detail") or {})
        known = {f.name for f in fields(cls)} - {"protocol"}
        if detail.get("split_source") is not None:
            detail["split_source"] = SplitSource(detail["split_source"])
        protocol = EvaluationProtocol(str(block.get("protocol")))
        return cls(protocol, **{name: value for name, value in detail.items() if name in known})


RESUBSTITUTION = EvaluationSetup(EvaluationProtocol.RESUBSTITUTION)
USER_TEST_SPLIT = EvaluationSetup(EvaluationProtocol.TEST_SPLIT, split_source=SplitSource.USER)
USER_VALIDATION_SPLIT = EvaluationSetup(EvaluationProtocol.VALIDATION_SPLIT, split_source=SplitSource.USER)
