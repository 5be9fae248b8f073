"""Render the reasons of decisions about gradient training, detectors and time budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstart.messages.numbers import percent, pluralize, signed, signed_points
from headstart.messages.values import duration
from headstart.types.codes import DecisionReason

__all__ = ["TRAINING_REASONS", "verdict_message"]


def verdict_message(e: Mapping[str, Any]) -> str:
    """Return the comparison of fine-tuning with the probe, from the evidence of `TUNED_COMPARED_WITH_PROBE`."""
    text = (
        f"fine-tuned against probe on {pluralize(e['num_samples'], 'held-out image')}: accuracy "
        f"{signed_points(e['accuracy_gain'])} points (SE {100 * e['accuracy_error']:.1f}), log-loss "
        f"{signed(-e['gain'], 4)}"
    )
    if e["is_better"]:
        return f"{text}; better with 80 % confidence"
    return f"{text}; {'worse with 80 % confidence' if e['is_worse'] else 'no clear difference'}"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms" if seconds < 0.1 else f"{1e3 * seconds:.0f} ms"


def _megabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:,.0f} MB" if num_bytes >= 1e6 else "less than 1 MB"


def _reserved(e: Mapping[str, Any]) -> str:
    return f"{duration(e['reserved_seconds'])} reserved for export and scores"


def _pilots(e: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{p['train_from']} at {p['lr']:g}{' without augmentation' if p['augment'] == 'none' else ''} "
        f"{signed(-p['log_loss_gain'], 4)}"
        for p in e["pilots"]
    )


def _phase_sizes(e: Mapping[str, Any]) -> str:
    return ", ".join(f"{p['cut']} from {percent(p['start'], 0)} ({_megabytes(p['needed_bytes'])})" for p in e["phases"])


def _strategy_fits_budget(e: Mapping[str, Any]) -> str:
    return (
        f"{e['num_steps']:,} of {e['full_steps']:,} default steps fit, at {_milliseconds(e['step_seconds'])} per step"
    )


TRAINING_REASONS: Mapping[DecisionReason, Callable[[Mapping[str, Any]], str]] = {
    DecisionReason.BATCH_LIMITED_BY_DATA: lambda e: (
        f"{e['requested']:,} requested, {pluralize(e['num_train'], 'training image')} available"
    ),
    DecisionReason.BOXES_PER_CLASS: lambda e: (
        f"{pluralize(e['num_boxes_rarest'], 'training box', 'training boxes')} of the rarest class, fine-tuning needs "
        f"more than {e['threshold']}"
    ),
    DecisionReason.BOX_SIZES: lambda e: (
        f"{percent(1 - e['smaller_fraction'], 0)} of the boxes measure at least {e['side_pixels']:.0f} pixels each way "
        f"at {e['image_size']} pixels"
    ),
    DecisionReason.BUDGET_SPENT: lambda e: (
        f"{duration(e['spent_seconds'])} of {duration(e['budget_seconds'])} spent on the probe, {_reserved(e)}"
    ),
    DecisionReason.BUDGET_TOO_SHORT_FOR_EPOCH: lambda e: (
        f"one epoch takes {duration(e['epoch_seconds'])}, {duration(e['remaining_seconds'])} left, {_reserved(e)}"
    ),
    DecisionReason.BUDGET_TOO_SHORT_FOR_TRIAL: lambda e: (
        f"{duration(e['remaining_seconds'])} left, too short for a trial; {_reserved(e)}"
    ),
    DecisionReason.CACHE_TOO_SMALL: lambda e: (
        f"stored views need {_megabytes(e['needed_bytes'])}, {_megabytes(e['free_bytes'])} of the cache are free"
    ),
    DecisionReason.EPOCHS_FIT_BUDGET: lambda e: (
        f"{duration(e['remaining_seconds'])} left, {_milliseconds(e['image_seconds'])} per image and epoch"
    ),
    DecisionReason.FLIP_LOWERS_ACCURACY: lambda e: (
        f"accuracy {percent(e['accuracy_flipped'], 0)} on flipped images, {percent(e['accuracy'], 0)} on upright ones"
    ),
    DecisionReason.FOLDS_FIT_BUDGET: lambda e: (
        f"of {e['num_folds']}; {duration(e['remaining_seconds'])} left after the pilots, "
        f"{_milliseconds(e['image_seconds'])} per image and epoch"
    ),
    DecisionReason.IMAGES_FIT_BUDGET: lambda e: (
        f"too little time for views of all {pluralize(e['num_train'], 'training image')}"
    ),
    DecisionReason.NO_BUDGET: lambda e: "no budget for fine-tuning; --budget 5m tries it",
    DecisionReason.NO_PILOT_GAIN: lambda e: f"no pilot lowers the log-loss of the probe: {_pilots(e)}",
    DecisionReason.PHASES_CANNOT_BE_CUT: lambda e: (
        f"all phases train from {e['cut']}: the network cannot be cut at {', '.join(e['wanted_cuts'])}"
    ),
    DecisionReason.PHASES_FIT_CACHE: lambda e: f"each phase trains from its own cached activations: {_phase_sizes(e)}",
    DecisionReason.PHASES_TOO_LARGE: lambda e: (
        f"all phases train from {e['cut']}: {_megabytes(e['free_bytes'])} free, needed: {_phase_sizes(e)}"
    ),
    DecisionReason.PILOTS_COMPARED: lambda e: f"log-loss of the pilots against the probe: {_pilots(e)}",
    DecisionReason.PRECISIONS_COMPARED: lambda e: f"bfloat16 is {e['speedup']:.2f} times as fast as float32",
    DecisionReason.SECTIONS_FIT_RUN: lambda e: (
        f"expected time {duration(e['expected_seconds'])} of {duration(e['threshold_seconds'])}, a tenth of the run or "
        "what is left of its budget"
    ),
    DecisionReason.SIZE_ROUNDED_UP: lambda e: (
        f"{e['requested']} requested, rounded up to a multiple of {e['multiple']}"
    ),
    DecisionReason.STEPS_FIT_BUDGET: lambda e: (
        f"{pluralize(e['num_steps'], 'step')} fit, {_milliseconds(e['step_seconds'])} per step; {_reserved(e)}"
    ),
    DecisionReason.STRATEGY_FITS_BUDGET: _strategy_fits_budget,
    DecisionReason.TRAINING_TOO_SHORT_TO_MEASURE: lambda e: "the training is too short to compare precisions",
    DecisionReason.TRIAL_FITS_BUDGET: lambda e: (
        f"{duration(e['remaining_seconds'])} left, expected time {duration(e['expected_seconds'])}"
    ),
    DecisionReason.TUNED_COMPARED_WITH_PROBE: verdict_message,
    DecisionReason.VIEWS_FIT_BUDGET: lambda e: (
        f"{_milliseconds(e['view_seconds'])} per view" if e["view_seconds"] else "the views are cached"
    ),
    DecisionReason.WHOLE_IMAGE_FOR_BOXES: lambda e: "the whole image is used, boxes are transformed with it",
}
