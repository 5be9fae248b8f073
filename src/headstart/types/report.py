"""Define report findings: stable codes with evidence.

`headstart.messages.comment`, `headstart.messages.sections` and `headstart.messages.detection_comment` render them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from headstart.types.codes import Evidence, Severity

__all__ = ["ReportFinding", "ReportKind", "ReportSection"]


class ReportKind(StrEnum):
    """Stable codes of report findings."""

    # comment on a classifier
    CHANCE_LEVEL = "chance_level"
    FINE = "fine"
    GROUPS_IN_QUESTION = "groups_in_question"
    IMBALANCE = "imbalance"
    LABELS = "labels"
    LEAK = "leak"
    NEAR_CHANCE_LEVEL = "near_chance_level"
    OTHER_IMAGES = "other_images"
    OVERFITTING = "overfitting"
    SHORTCUT = "shortcut"
    TOO_LITTLE_DATA = "too_little_data"
    TWO_CONFUSED_CLASSES = "two_confused_classes"
    UNMEASURED = "unmeasured"
    # next steps
    BACKBONE_FROZEN = "backbone_frozen"
    MOST_FREQUENT_CONFUSION = "most_frequent_confusion"
    FINE_TUNING_COMPARED = "fine_tuning_compared"
    GAIN_OF_MORE_IMAGES = "gain_of_more_images"
    GAIN_NOT_MEASURED = "gain_not_measured"
    # limitations
    CONFIDENCE_IS_NOT_CORRECTNESS = "confidence_is_not_correctness"
    FEW_SCORED_IMAGES = "few_scored_images"
    IMAGES_LEFT_OUT_ALONE = "images_left_out_alone"
    MEAN_OVER_CLASSES = "mean_over_classes"
    SAME_ORIGIN_ONLY = "same_origin_only"
    VALIDATION_SPLIT_REUSED = "validation_split_reused"
    # comment on a detector
    DATA_FINDING = "data_finding"
    LOOSE_BOXES = "loose_boxes"
    MOSTLY_FALSE_POSITIVES = "mostly_false_positives"
    MOSTLY_FALSE_NEGATIVES = "mostly_false_negatives"
    MOSTLY_MISCLASSIFIED = "mostly_misclassified"
    NOTHING_FOUND = "nothing_found"
    WEAK_CLASS = "weak_class"
    WIDE_INTERVAL = "wide_interval"
    # reasons for empty sections
    ATTRIBUTION_CONTROL_FAILED = "attribution_control_failed"
    ATTRIBUTION_IMAGES_GONE = "attribution_images_gone"
    ATTRIBUTION_NOT_MEASURED = "attribution_not_measured"
    ATTRIBUTION_NOT_NEEDED = "attribution_not_needed"
    ATTRIBUTION_NOT_POSSIBLE = "attribution_not_possible"
    CLOSED_FORM = "closed_form"
    DUPLICATES_NOT_CHECKED = "duplicates_not_checked"
    COVERAGE_NOT_MEASURED = "coverage_not_measured"
    CURVE_CLASS_TOO_SMALL = "curve_class_too_small"
    CURVE_FAILED = "curve_failed"
    CURVE_IMAGES_GONE = "curve_images_gone"
    CURVE_NEEDS_SCORES = "curve_needs_scores"
    CURVE_NOT_MEASURED = "curve_not_measured"
    CURVE_OF_PROBE_ONLY = "curve_of_probe_only"
    CURVE_TOO_MANY_IMAGES = "curve_too_many_images"
    IMAGES_LEFT_OUT = "images_left_out"
    NO_EPOCHS_KEPT = "no_epochs_kept"
    NO_SCORES_KEPT = "no_scores_kept"
    OOD_NOT_MEASURED = "ood_not_measured"
    LABEL_ERRORS_NOT_CHECKED = "label_errors_not_checked"
    TOO_FEW_FOR_DIAGRAM = "too_few_for_diagram"
    TOO_FEW_FOR_OPERATING_POINT = "too_few_for_operating_point"


@dataclass(frozen=True, slots=True)
class ReportFinding:
    """One finding about a result.

    Attributes:
        kind: Stable code.
        severity: WARNING if it limits the use of model or score, otherwise INFO.
        evidence: Names and numbers behind it; the keys depend on the kind.
    """

    kind: ReportKind
    severity: Severity = Severity.INFO
    evidence: Evidence = field(default_factory=dict)

    @property
    def is_problem(self) -> bool:
        """Whether it is a problem."""
        return self.severity is not Severity.INFO


@dataclass(frozen=True)
class ReportSection:
    """A section of a report whose page has no layout of its own.

    Attributes:
        title: Heading.
        text: Paragraph below it; empty for none.
        columns: Heads of a table; a head that starts with `#` is a column of numbers.
        rows: Cells of the table.
        images: Positions of images to show.
    """

    title: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str | float | int | None, ...], ...] = ()
    images: tuple[int, ...] = ()
