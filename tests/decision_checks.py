"""Provide evidence of every kind of decision, and check the decisions of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from event_text import events_of

from headstart.config.settings import known_names
from headstart.messages.decisions import decision_message, reason_message
from headstart.types.codes import DecisionReason, Evidence
from headstart.types.records import Decision

__all__ = ["EXAMPLES", "check_decisions", "check_resolved"]

LOO = {"protocol": "leave_one_out"}
RANGE: Evidence = {
    "num_images": 12, "is_from_training": True, "smallest_value": 3.0, "largest_value": 4001.0,
}  # fmt: skip
LOGISTIC: Evidence = {
    "is_tried": False, "num_samples": 90, "num_features": 1904, "num_classes": 6, "min_per_feature": 8,
    "min_per_class": 20,
}  # fmt: skip
EPOCHS: Evidence = {
    "remaining_seconds": 41.0, "reserved_seconds": 8.0, "image_seconds": 0.012, "epoch_seconds": 12.0,
}  # fmt: skip
STEPS: Evidence = {
    "num_images": 90, "num_views": 4, "num_steps": 300, "num_train": 120, "full_steps": 900, "view_seconds": 0.05,
    "step_seconds": 0.2, "remaining_seconds": 75.0, "reserved_seconds": 21.0,
}  # fmt: skip
PILOTS: Evidence = {
    "pilots": [
        {"train_from": "stage6", "lr": 3e-4, "augment": "flip", "log_loss_gain": 0.012},
        {"train_from": "stage7", "lr": 1e-3, "augment": "none", "log_loss_gain": -0.002},
    ]
}
PHASES: Evidence = {
    "phases": [
        {"start": 0.0, "cut": "stage7", "needed_bytes": 100_000_000},
        {"start": 0.3, "cut": "stage6", "needed_bytes": 200_000_000},
    ],
    "free_bytes": 900_000_000,
    "cut": "stage6",
}
VERDICT: Evidence = {
    "gain": 0.02, "low": 0.01, "high": 0.03, "accuracy_gain": 0.015, "accuracy_error": 0.01, "alpha": 0.5,
    "inverse_temperature": 1.0, "is_better": True, "num_samples": 120, "best_gain": 0.03, "is_worse": False,
}  # fmt: skip
BLOCKS: Evidence = {
    "log_loss": {"all_stages": 0.31, "all_stages_earlier_half": 0.29, "last_stage": 0.4}, "num_compared": 512, **LOO,
}  # fmt: skip

EXAMPLES: Mapping[DecisionReason, Evidence] = {
    DecisionReason.REQUESTED_VALUE_ADAPTED: {"requested": "last-2", "num_train": 40},
    DecisionReason.BATCH_LIMITED_BY_DATA: {"requested": 64, "num_train": 40},
    DecisionReason.BLOCKS_COMPARED: BLOCKS,
    DecisionReason.BLOCKS_COMPARED_ON_SUBSET: BLOCKS,
    DecisionReason.BOXES_FOUND: {"layout": "VOC XML"},
    DecisionReason.BOXES_PER_CLASS: {"num_boxes_rarest": 20, "threshold": 50},
    DecisionReason.BOX_SIZES: {"smaller_fraction": 0.02, "side_pixels": 31.2, "image_size": 320},
    DecisionReason.BUDGET_SPENT: {"budget_seconds": 20.0, "spent_seconds": 18.0, "reserved_seconds": 8.0},
    DecisionReason.BUDGET_TOO_SHORT_FOR_EPOCH: EPOCHS,
    DecisionReason.BUDGET_TOO_SHORT_FOR_TRIAL: {"remaining_seconds": 4.0, "reserved_seconds": 8.0},
    DecisionReason.CACHE_TOO_SMALL: {"needed_bytes": 360_000_000, "free_bytes": 200_000_000},
    DecisionReason.CALIBRATIONS_COMPARED: {
        "log_loss": {"none": 0.41, "temperature": 0.4, "vector": 0.38}, "num_samples": 2527,
    },
    DecisionReason.CLASSES_WEIGH_THE_SAME: {"factors": {"cat": 0.5, "dog": 2.0}},
    DecisionReason.CLASS_WEIGHTS_FROM_FILE: {"factors": {"cat": 0.5, "dog": 2.0}},
    DecisionReason.CONFLICTING_LABELS: {"num_images": 2},
    DecisionReason.DUPLICATES_KEPT_TOGETHER: {"num_pairs": 5, "num_joined": 3},
    DecisionReason.DUPLICATE_THRESHOLD_FROM_DATA: {"num_pairs": 5, "min_agreement": 0.992},
    DecisionReason.BOX_FORMAT_OF_FILES: {},
    DecisionReason.OFF_BY_DEFAULT: {},
    DecisionReason.DEFAULT_FOR_NUM_TRAIN: {"num_train": 40},
    DecisionReason.DEFAULT_INPUT_SIZE: {},
    DecisionReason.DEFAULT_WEIGHTS: {},
    DecisionReason.DEVICE_OF_TRAINING: {},
    DecisionReason.EPOCHS_FIT_BUDGET: EPOCHS,
    DecisionReason.FEATURES_ON_CPU: {},
    DecisionReason.RESIZE_MODES_COMPARED: {
        "log_loss": {"crop": 0.4, "cover": 0.31, "squash": 0.3, "pad": 0.32}, "num_compared": 300, **LOO,
    },
    DecisionReason.RESIZE_MODES_NOT_COMPARABLE: {},
    DecisionReason.FLIP_LOWERS_ACCURACY: {"accuracy": 0.91, "accuracy_flipped": 0.6, "standard_error": 0.03},
    DecisionReason.FOLDS_FIT_BUDGET: {"remaining_seconds": 41.0, "image_seconds": 0.012, "num_folds": 5},
    DecisionReason.GROUPS_REQUESTED: {
        "grouped_by": "column", "name": "patient", "num_groups": 12, "num_without_group": 1,
    },
    DecisionReason.GROUPS_GIVEN_BY_DATA: {"num_groups": 12, "layout": "table"},
    DecisionReason.GROUPS_IN_QUESTION: {"questions": [{"pattern": "^(.)_", "status": "question_too_few_groups"}]},
    DecisionReason.GROUPS_NAMED_BY_COLUMN: {
        "grouping": {"grouped_by": "column", "name": "patient", "evidence": "column_name"}, "num_groups": 18,
        "p_value": 0.09, "accuracy_independent": 0.91, "accuracy_grouped": 0.78,
    },
    DecisionReason.GROUPS_PER_IMAGE: {},
    DecisionReason.GROUPS_SUPPORTED_BY_IMAGES: {
        "grouping": {"grouped_by": "column", "name": "patient"}, "num_groups": 18,
        "p_value": 0.001, "accuracy_independent": 0.91,
        "accuracy_grouped": 0.78,
    },
    DecisionReason.GROUPS_SWITCHED_OFF: {},
    DecisionReason.HELD_OUT_BY_DEFAULT: {},
    DecisionReason.IMAGES_FIT_BUDGET: STEPS,
    DecisionReason.LAYOUT_RECOGNIZED: {},
    DecisionReason.LOGISTIC_COMPARED: {
        "is_tried": True, "log_loss": {"with": 0.31, "without": 0.33}, "gain": 0.02, "gain_error": 0.005,
    },
    DecisionReason.LOGISTIC_NEEDS_SCIKIT_LEARN: {"is_tried": False},
    DecisionReason.LOGISTIC_SWITCHED_OFF: {"is_tried": False},
    DecisionReason.LOGISTIC_TAKES_TOO_LONG: LOGISTIC,
    DecisionReason.LOGISTIC_TOO_FEW_IMAGES_PER_CLASS: LOGISTIC,
    DecisionReason.LOGISTIC_TOO_FEW_IMAGES_PER_FEATURE: LOGISTIC,
    DecisionReason.FLIP_COMPARED: {"log_loss_change": -0.01, "standard_error": 0.002, **LOO},
    DecisionReason.FLIP_IS_TRAINING_VIEW: {},
    DecisionReason.FLIP_NEEDS_BUDGET: {"remaining_seconds": None, "needed_seconds": 3.0},
    DecisionReason.MIXTURE_COMPARED: {"log_loss": {"mixture": 0.02, "ridge": 0.03, "lda": 0.04}, **LOO},
    DecisionReason.NAMES_NUMBERED: {"file": "classes.txt"},
    DecisionReason.NEXT_FREE_FOLDER: {},
    DecisionReason.NO_BOXES: {},
    DecisionReason.NO_BUDGET: {},
    DecisionReason.NO_EFFECT: {"task": "classify", "strategy": "probe"},
    DecisionReason.NO_GROUPS_FOUND: {},
    DecisionReason.NO_PILOT_GAIN: PILOTS,
    DecisionReason.ONE_THREAD_PER_CORE: {},
    DecisionReason.PENALTIES_COMPARED: {"log_loss": 0.0197, "num_candidates": 18, **LOO},
    DecisionReason.PHASES_CANNOT_BE_CUT: {"cut": "stage6", "wanted_cuts": ["stage7", "stage6"]},
    DecisionReason.PHASES_FIT_CACHE: PHASES,
    DecisionReason.PHASES_TOO_LARGE: PHASES,
    DecisionReason.PILOTS_COMPARED: PILOTS,
    DecisionReason.POSITIVE_CLASS_IS_RARER: {"num_positive": 30, "num_negative": 90},
    DecisionReason.POSITIVE_CLASS_OF_MODEL: {},
    DecisionReason.PRECISIONS_COMPARED: {"speedup": 1.42},
    DecisionReason.SET_BY_USER: {},
    DecisionReason.SINGLE_BLOCK: {},
    DecisionReason.SECTIONS_FIT_RUN: {"expected_seconds": 1.9, "threshold_seconds": 2.2, "spent_seconds": 21.8},
    DecisionReason.SIZE_ROUNDED_UP: {"requested": 300, "multiple": 32},
    DecisionReason.STEPS_FIT_BUDGET: STEPS,
    DecisionReason.STRATEGY_FITS_BUDGET: STEPS,
    DecisionReason.TEMPERATURE_FITTED: {"log_loss": 0.0197, **LOO},
    DecisionReason.THREADS_MEASURED: {"num_threads": 8, "speedup": 0.8},
    DecisionReason.TOO_FEW_TO_COMPARE_BLOCKS: {"num_compared": 0},
    DecisionReason.TRAINING_TOO_SHORT_TO_MEASURE: {"speedup": None},
    DecisionReason.TRIAL_FITS_BUDGET: {"remaining_seconds": 200.0, "expected_seconds": 150.0},
    DecisionReason.TUNED_COMPARED_WITH_PROBE: VERDICT,
    DecisionReason.VALUE_RANGE_CONSTANT: RANGE,
    DecisionReason.VALUE_RANGE_OF_BITS: {**RANGE, "includes_held_out": True},
    DecisionReason.VALUE_RANGE_OF_FLOATS: RANGE,
    DecisionReason.VALUE_RANGE_OF_PERCENTILES: RANGE,
    DecisionReason.VIEWS_FIT_BUDGET: STEPS,
    DecisionReason.WHOLE_IMAGE_FOR_BOXES: {},
}  # fmt: skip
"""Evidence as real decisions carry it, for each reason."""

MAY_BE_NULL = frozenset(
    {
        "time_budget",  # no limit
        "label_corrections",  # labels are used as they are
        "first_id",  # no file of class names for numbered classes
        "folds",  # one part is held out, or nothing
        "group_from",  # no groups
        "label_pattern",  # labels do not come from file names
        *("table", "image_column", "label_column", "split_column", "group_column"),  # recognized, or no table
        "patience",  # training never stops early
        "positive",  # not two classes
        "split",  # no split file
        "test_size",  # no test split is drawn
        "finetune.head",  # the head is the linear map of the probe
        "unfreeze",  # all stages train from the first step
        "intensity_range",  # no image has more than 8 bits
        "pages",  # no image has several pages
        "name_encoding",  # no archive has names in a legacy encoding
    }
)
"""Settings that are null in `config.resolved.yaml` although they have an effect; any other null is an error."""

_OPTIONAL = frozenset({"includes_held_out", "spare_seconds"})
_NAMED = frozenset({"factors"})  # whose keys are names chosen by the user
_SNAKE = re.compile(r"[a-z][a-z0-9_]*")


def check_decisions(folder: Path) -> set[DecisionReason]:
    """Check the decisions in the `events.jsonl` of a run, and return their reasons."""
    return _check([event["decision"] for event in events_of(folder, "decision")])


def _check(rows: Iterable[Mapping[str, Any]]) -> set[DecisionReason]:
    reasons = set()
    for row in rows:
        decision = Decision(**{**row, "reason": DecisionReason(row["reason"])})
        assert decision.source in ("auto", "default", "config", "cli", "python")
        assert decision_message(decision).startswith(f"{decision.setting} = ")
        _check_keys(decision.evidence)
        assert not _missing(decision), decision
        reasons.add(decision.reason)
    return reasons


def _missing(decision: Decision) -> set[str]:
    """Return the keys of a reason's example that a decision lacks."""
    if decision.reason is DecisionReason.VIEWS_FIT_BUDGET:
        return {"view_seconds"} - set(decision.evidence)
    return set(EXAMPLES[decision.reason]) - set(decision.evidence) - _OPTIONAL


def _check_keys(value: Any) -> None:
    if isinstance(value, Mapping):
        for name, part in value.items():
            assert _SNAKE.fullmatch(name), name
            if name not in _NAMED:
                _check_keys(part)
    elif isinstance(value, list):
        for part in value:
            _check_keys(part)


def check_resolved(folder: Path) -> dict[str, dict[str, Any]]:
    """Check the rows of the `config.resolved.yaml` of a run, and return them."""
    rows: dict[str, dict[str, Any]] = yaml.safe_load((folder / "config.resolved.yaml").read_text(encoding="utf-8"))
    assert set(known_names()) <= set(rows)
    chosen = {name: row for name, row in rows.items() if row["reason"] is not None}
    decisions = [
        {"setting": name, **{k: v for k, v in row.items() if k not in ("text", "requested")}}
        for name, row in chosen.items()
    ]
    _check(decisions)
    for row, decision in zip(chosen.values(), decisions, strict=True):
        assert row["text"] == reason_message(Decision(**{**decision, "reason": DecisionReason(decision["reason"])}))
    assert all(row["reason"] is not None for row in rows.values() if row["source"] == "auto")
    assert json.loads(json.dumps(rows)) == rows
    unused = {name for name, row in rows.items() if row["reason"] == DecisionReason.NO_EFFECT}
    assert rows["patience"]["value"] is not None or rows["patience"]["reason"] in (None, "off_by_default", "no_effect")
    unknown = {name for name in set(known_names()) - unused if rows[name]["value"] in (None, "auto", "")}
    assert unknown <= MAY_BE_NULL
    assert not unused & {
        "data",
        "task",
        "strategy",
        "backbone",
        "weights",
        "image_size",
        "resize_mode",
        "device",
        "num_threads",
        "out",
    }
    return rows
