"""Provide events of large pipelines: 2,500 images, 300 classes and 40 kinds of bad file."""

from __future__ import annotations

from typing import Any

from test_scores import PLAIN

from headstart.events import (
    CheckFinished,
    DatasetRead,
    DecisionMade,
    Event,
    FileWritten,
    FindingMade,
    Progress,
    RunFinished,
    RunsCompared,
    ScoreMeasured,
    Stage,
    StageFinished,
    StageStarted,
)
from headstart.types.codes import DecisionReason, Evidence, Finding, FindingKind, ReadingKind, ReadingNote, Severity
from headstart.types.records import Decision

__all__ = ["STORIES"]

CLASSES = tuple(f"class {i:03d} with a long name" for i in range(300))
SPLITS = {"train": 1750, "val": 325, "test": 425}


def finding(kind: FindingKind, severity: Severity, **evidence: Any) -> FindingMade:
    return FindingMade(Finding(kind, severity, evidence))


def reading(num_boxes: int | None = None) -> list[Event]:
    """Return the events of reading, with five kinds of assumptions."""
    return [
        DatasetRead("photos", "class folders", 2500, CLASSES, SPLITS, num_boxes),
        FindingMade(ReadingNote(ReadingKind.CLASSES_ALIKE, 1, ("Cat", "cat"), {"groups": [["Cat", "cat"]]})),
        FindingMade(ReadingNote(ReadingKind.UNLABELED_IMAGES, 31, ("loose.jpg",), {"folders": {"./": 31}})),
        FindingMade(ReadingNote(ReadingKind.EMPTY_FOLDERS, 2, ("old", "new"))),
        FindingMade(ReadingNote(ReadingKind.OTHER_FILES, 7, (), {"extensions": {".txt": 5, ".md": 2}})),
        FindingMade(ReadingNote(ReadingKind.REPEATED_ROWS, 4, ("a/1.jpg",))),
        StageStarted(Stage.SCAN),
    ]


def unreadable() -> list[Event]:
    """Return 40 kinds of bad file, 3 to 42 of each: 900 files."""
    return [
        finding(
            FindingKind.UNREADABLE_FILES, Severity.ERROR, problem=f"problem-{k}", count=42 - k,
            examples=[f"class {k:03d}/a rather long folder name/file {k}.jpg"], detail="it cannot be decoded",
        )
        for k in range(40)
    ]  # fmt: skip


def dataset() -> list[Event]:
    """Return the findings of a check: leaks, conflicts, 900 bad files, small classes, imbalance, copies, odd files."""
    pair = ["test/a.jpg", "train/b.jpg"]
    small: list[Event] = [
        finding(FindingKind.CLASS_TOO_SMALL, Severity.WARNING, **{"class": name, "count": 3}, minimum=10, unit="images")
        for name in CLASSES[:280]
    ]
    odd: list[Event] = [
        finding(
            FindingKind.FILES_HANDLED, Severity.INFO, what=f"oddity {k}", count=2, detail="handled", examples=["o.jpg"]
        )
        for k in range(20)
    ]
    return [
        finding(
            FindingKind.LEAKING_IMAGES, Severity.ERROR, split="test", other_split="train", count=9, pairs=[pair],
            is_headline=True,
        ),
        finding(FindingKind.LABEL_CONFLICTS, Severity.ERROR, count=4, pairs=[["a.jpg", "cat", "b.jpg", "dog"]]),
        *unreadable(),
        *small,
        finding(
            FindingKind.CLASS_IMBALANCE, Severity.WARNING, largest_class=CLASSES[0], largest_count=600,
            smallest_class=CLASSES[9], smallest_count=3, unit="images", metric="balanced_accuracy",
        ),
        finding(FindingKind.DUPLICATE_IMAGES, Severity.INFO, pair_kind="bytes", count=17, pairs=[pair]),
        finding(FindingKind.PAGES_NOT_USED, Severity.WARNING, count=6, examples=["p.tif"]),
        finding(FindingKind.NARROW_CROP, Severity.WARNING, crop=0.4, cover=0.5),
        finding(
            FindingKind.SHORTCUT, Severity.WARNING, what="camera", accuracy=0.9, chance=0.3, given_class=None,
            given_class_fraction=0.0, classes=[], examples=[],
        ),
        *odd,
    ]  # fmt: skip


def features() -> StageFinished:
    evidence: Evidence = {
        "backbone": "efficientnet_lite0", "width": 224, "height": 224, "num_computed": 2500, "num_cached": 0,
        "is_cached": True,
    }  # fmt: skip
    return StageFinished(Stage.FEATURES, 17.0, evidence)


SCORE = {
    **PLAIN, "metric": "balanced_accuracy", "value": 0.886, "low": 0.85, "high": 0.92, "protocol": "test_split",
    "is_users_split": True, "correct": 378, "total": 416, "leaky": {"value": 0.91, "num_leaks": 9},
}  # fmt: skip
ROWS = [{"name": n, "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 5} for n in CLASSES]
DETECTION = {
    "metric": "map50", "value": 0.713, "low": 0.66, "high": 0.76, "protocol": "test_split",
    "is_users_split": True, "map50_95": 0.442, "num_images": 425, "num_boxes": 9120,
    "by_size": {"small": 0.2, "medium": 0.45, "large": 0.61}, "hardest_class": {"name": CLASSES[7], "ap50": 0.21},
}  # fmt: skip
DIFFERENCE = {"a": 0.86, "b": 0.886, "value": 0.026, "low": 0.004, "high": 0.048, "p_value": 0.02, "num_needed": 380}
COMPARISON = {
    "runs": ["train1", "train2"], "verdict": "better", "metric": "balanced_accuracy", "num_samples": 425,
    "protocol": "test_split", "is_new_data": False, "accuracy": DIFFERENCE, "balanced_accuracy": DIFFERENCE,
    "log_loss": {**DIFFERENCE, "a": 0.41, "b": 0.38, "value": -0.03, "low": -0.05, "high": -0.01},
    "only_a": 12, "only_b": 23, "mcnemar_p": 0.06,
    "per_class": [
        {"name": n, "num_samples": 2, "recall_a": 0.5, "recall_b": 0.5 + k / 600, "p_value": 0.4}
        for k, n in enumerate(CLASSES)
    ],
}  # fmt: skip


def train() -> list[Event]:
    return [
        *reading(),
        *(Progress(Stage.FEATURES, i, 2500, "image", float(i)) for i in range(0, 2500, 200)),
        features(),
        *dataset(),
        CheckFinished("photos", 2500),
        DecisionMade(Decision("strategy", "probe", DecisionReason.NO_BUDGET)),
        StageFinished(
            Stage.PROBE, 3.0,
            {"methods": ["ridge", "lda"], "num_blocks": 4, "log_loss": 0.276, "protocol": "leave_one_out"},
        ),
        finding(FindingKind.UNSCORABLE_IMAGES, Severity.WARNING, count=40),
        ScoreMeasured(SCORE),
        FileWritten("report", "runs/train1/report.html", {"num_images": 24}),
        RunFinished(
            19.0, "runs/train1",
            (("headstart predict runs/train1 NEW_IMAGES", None), ("headstart train photos --budget 5m", "fine-tune")),
        ),
    ]  # fmt: skip


def check() -> list[Event]:
    return [
        *reading(),
        *dataset(),
        FileWritten("check", "check.json"),
        FileWritten("sheet", "pairs.png", {"width": 900, "height": 4000}),
        CheckFinished("photos", 2500, is_final=True),
        RunFinished(30.0),
    ]


def evaluate() -> list[Event]:
    return [
        *reading(),
        *unreadable(),
        finding(FindingKind.INTERVAL_NOT_MEASURABLE, Severity.WARNING, num_units=4, minimum=6, unit="group"),
        finding(FindingKind.IMAGES_TRAINED_ON, Severity.WARNING, count=120, total=1600, accuracy=0.99),
        finding(
            FindingKind.CLASSES_NOT_IN_MODEL, Severity.WARNING, num_classes=12, classes=list(CLASSES[:5]), count=60,
            unit="image",
        ),
        finding(
            FindingKind.CLASSES_NOT_IN_DATA, Severity.INFO, num_classes=3, classes=list(CLASSES[5:8]), unit="image",
        ),
        finding(
            FindingKind.OOD_RATES, Severity.INFO, target=0.05,
            known={"value": 0.04, "low": 0.02, "high": 0.06, "num_samples": 416},
            new={"value": 0.5, "low": 0.4, "high": 0.6, "num_samples": 60},
        ),
        ScoreMeasured({**SCORE, "nearest_neighbor": None, "leaky": None, "per_class": ROWS}),
        RunFinished(12.0),
    ]  # fmt: skip


def compare() -> list[Event]:
    return [
        *reading(),
        finding(FindingKind.IMAGES_TRAINED_ON, Severity.WARNING, count=120, total=1600),
        *unreadable(),
        finding(FindingKind.SCORES_OUT_OF_FOLD, Severity.WARNING),
        finding(FindingKind.FEW_GROUPS, Severity.WARNING, num_groups=4),
        finding(FindingKind.DETECTABLE_DIFFERENCE, Severity.INFO, num_samples=425, difference=0.028),
        RunsCompared(COMPARISON),
        FileWritten("comparison", "out/compare.json"),
        FileWritten("comparison", "out/compare.png"),
        RunFinished(2.0),
    ]


def predict() -> list[Event]:
    return [
        FindingMade(ReadingNote(ReadingKind.OTHER_FILES, 7, ("new",), {"extensions": {".txt": 5, ".md": 2}})),
        StageStarted(Stage.PREDICT, {"num_images": 2500}),
        StageFinished(Stage.PREDICT, 12.0, {"num_images": 2500, "num_failed": 900}),
        finding(FindingKind.OOD_IMAGES, Severity.INFO, count=113, total=2500),
        *unreadable(),
        FileWritten("predictions", "predictions.csv"),
        RunFinished(13.0),
    ]


def detect() -> list[Event]:
    """Return the evaluation of a detector."""
    problems: list[Event] = [
        finding(
            FindingKind.ANNOTATIONS_NOT_USED, Severity.ERROR, problem=f"problem-{k}", count=40 - k, examples=["a.txt"],
            detail="line 3",
        )
        for k in range(30)
    ]  # fmt: skip
    return [
        DatasetRead("boxes", "YOLO text files", 2500, CLASSES, SPLITS, 9120),
        *problems,
        finding(
            FindingKind.ANNOTATIONS_CORRECTED, Severity.INFO, problem="over-edge", count=12, examples=["a.txt"],
            detail="line 3",
        ),
        StageStarted(Stage.SCAN),
        *unreadable(),
        finding(FindingKind.CROWDED_IMAGES, Severity.WARNING, count=3, limit=100),
        finding(FindingKind.IMAGES_TRAINED_ON, Severity.WARNING, count=120, total=1600),
        ScoreMeasured(DETECTION),
        RunFinished(80.0),
    ]  # fmt: skip


STORIES = {
    "train": train(), "check": check(), "evaluate": evaluate(), "compare": compare(), "predict": predict(),
    "detect": detect(),
}  # fmt: skip
