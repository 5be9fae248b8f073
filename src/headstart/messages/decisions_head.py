"""Render the reasons of decisions about the probe, with held-out log-losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstart.messages.numbers import pluralize, signed
from headstart.messages.protocols import protocol_name
from headstart.types.codes import DecisionReason, EvaluationProtocol, EvaluationSetup

__all__ = ["HEAD_REASONS", "candidate_name"]

_NAMES = {
    "all_stages": "all stages",
    "all_stages_earlier_half": "earlier stages at half weight",
    "class_shares": "class frequencies",
    "last_stage": "last stage",
    "lda": "LDA",
    "none": "uncalibrated",
    "vector": "vector scaling",
}


def candidate_name(code: str) -> str:
    """Return the name of a candidate, e.g. `LDA`."""
    return _NAMES.get(code, code)


def _log_loss(e: Mapping[str, Any]) -> str:
    """Return e.g. `leave-one-out log-loss`."""
    return f"{protocol_name(EvaluationSetup(EvaluationProtocol(e['protocol'])))} log-loss"


def _losses(e: Mapping[str, Any]) -> str:
    return ", ".join(f"{candidate_name(name)} {loss:.4f}" for name, loss in e["log_loss"].items())


def _compared_on(e: Mapping[str, Any]) -> str:
    return f"{_log_loss(e)} on {pluralize(e['num_compared'], 'image')}: {_losses(e)}"


def _logistic_compared(e: Mapping[str, Any]) -> str:
    losses = e["log_loss"]
    return f"log-loss {losses['with']:.4f} with, {losses['without']:.4f} without (SE {e['gain_error']:.4f})"


def _flip_needs_budget(e: Mapping[str, Any]) -> str:
    if e["remaining_seconds"] is None:
        return "not tried: doubles the prediction time; --budget 5m tries it"
    return f"not tried: needs {e['needed_seconds']:.0f} s, {max(e['remaining_seconds'], 0):.0f} s of the budget left"


def _positive_is_rarer(e: Mapping[str, Any]) -> str:
    positive, negative = e["num_positive"], e["num_negative"]
    if positive == negative:
        return f"last of two classes with {pluralize(positive, 'training image')} each"
    return f"rarer class, {positive:,} of {pluralize(positive + negative, 'training image')}"


HEAD_REASONS: Mapping[DecisionReason, Callable[[Mapping[str, Any]], str]] = {
    DecisionReason.BLOCKS_COMPARED: lambda e: f"{_log_loss(e)}: {_losses(e)}",
    DecisionReason.BLOCKS_COMPARED_ON_SUBSET: _compared_on,
    DecisionReason.CALIBRATIONS_COMPARED: lambda e: f"cross-fitted log-loss: {_losses(e)}",
    DecisionReason.CLASSES_WEIGH_THE_SAME: lambda e: "every class has the same total weight",
    DecisionReason.CLASS_WEIGHTS_FROM_FILE: lambda e: (
        f"factors {min(e['factors'].values()):.3g} to {max(e['factors'].values()):.3g} from the file"
    ),
    DecisionReason.RESIZE_MODES_COMPARED: _compared_on,
    DecisionReason.RESIZE_MODES_NOT_COMPARABLE: lambda e: "resize modes cannot be compared on these images",
    DecisionReason.LOGISTIC_COMPARED: _logistic_compared,
    DecisionReason.LOGISTIC_NEEDS_SCIKIT_LEARN: lambda e: "scikit-learn is not installed",
    DecisionReason.LOGISTIC_SWITCHED_OFF: lambda e: "disabled",
    DecisionReason.LOGISTIC_TAKES_TOO_LONG: lambda e: (
        f"too slow for {pluralize(e['num_samples'], 'image')} and {pluralize(e['num_classes'], 'class', 'classes')}"
    ),
    DecisionReason.LOGISTIC_TOO_FEW_IMAGES_PER_CLASS: lambda e: (
        f"{e['num_samples'] / e['num_classes']:.1f} images per class, at least {e['min_per_class']} are needed"
    ),
    DecisionReason.LOGISTIC_TOO_FEW_IMAGES_PER_FEATURE: lambda e: (
        f"{pluralize(e['num_samples'], 'image')} for {pluralize(e['num_features'], 'feature')}, at least "
        f"{e['min_per_feature']} per feature are needed"
    ),
    DecisionReason.FLIP_COMPARED: lambda e: (
        f"{_log_loss(e)} {signed(e['log_loss_change'], 4)} with flipped images (SE {e['standard_error']:.4f})"
    ),
    DecisionReason.FLIP_IS_TRAINING_VIEW: lambda e: "flipped images are training views",
    DecisionReason.FLIP_NEEDS_BUDGET: _flip_needs_budget,
    DecisionReason.MIXTURE_COMPARED: lambda e: f"{_log_loss(e)}: {_losses(e)}",
    DecisionReason.PENALTIES_COMPARED: lambda e: (
        f"{_log_loss(e)} {e['log_loss']:.4f}, lowest of {pluralize(e['num_candidates'], 'penalty', 'penalties')}"
    ),
    DecisionReason.POSITIVE_CLASS_IS_RARER: _positive_is_rarer,
    DecisionReason.POSITIVE_CLASS_OF_MODEL: lambda e: "positive class of the trained model",
    DecisionReason.SINGLE_BLOCK: lambda e: "the backbone has one feature block",
    DecisionReason.TEMPERATURE_FITTED: lambda e: f"fitted with the ensemble, {_log_loss(e)} {e['log_loss']:.4f}",
    DecisionReason.TOO_FEW_TO_COMPARE_BLOCKS: lambda e: "too few images, or too large groups, to compare stages",
}
