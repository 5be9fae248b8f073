"""Render findings about scores, predictions and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headstart.messages.numbers import percent, pluralize, signed
from headstart.messages.values import count, names, quote_path
from headstart.types import FindingKind

__all__ = ["EVALUATION_MESSAGES", "EVALUATION_SUMMARIES"]

Render = Callable[[Mapping[str, Any]], str]


def _share(e: Mapping[str, Any]) -> str:
    """Return e.g. `94.0 % (95 % CI 90-97)`."""
    text = percent(e["value"])
    if e.get("low") is not None and e.get("high") is not None:
        text += f" (95 % CI {100 * e['low']:.0f}-{100 * e['high']:.0f})"
    return text


def _images_trained_on(e: Mapping[str, Any]) -> str:
    if e["count"] == e["total"]:
        return f"all {pluralize(e['total'], 'readable image')} were trained on: there is no score on new images"
    text = f"{count(e['count'], 'image')} the model was trained on {'is' if e['count'] == 1 else 'are'} not scored"
    return text + (f" (accuracy there: {percent(e['accuracy'])})" if e.get("accuracy") is not None else "")


def _classes_not_in_model(e: Mapping[str, Any]) -> str:
    classes = names(list(e["classes"]), shown=2, width=16)
    what = pluralize(e["num_classes"], "class is", "classes are")
    return f"{what} unknown to the model, {count(e['count'], e['unit'])} not scored: {classes}"


def _ood_rates(e: Mapping[str, Any]) -> str:
    parts = []
    if e.get("known"):
        known = e["known"]
        parts.append(f"known classes {_share(known)} of {known['num_samples']:,}")
    if e.get("new"):
        new = e["new"]
        parts.append(f"unknown {_share(new)} of {new['num_samples']:,}")
    return f"OOD images (target {percent(e['target'], 0)}): {', '.join(parts)}"


def _detection_limit(e: Mapping[str, Any]) -> str:
    return (
        f"{count(e['count'], 'image')} at the limit of {count(e['limit'], 'detection')} (--max-detections), e.g. "
        f"{quote_path(e['examples'][0], 18)}"
    )


EVALUATION_MESSAGES: dict[FindingKind, Render] = {
    FindingKind.CLASSES_NOT_IN_DATA: lambda e: (
        f"no {e['unit']} of {pluralize(e['num_classes'], 'class', 'classes')} of the model in the data: "
        f"{names(list(e['classes']), shown=2, width=16)}"
    ),
    FindingKind.CLASSES_NOT_IN_MODEL: _classes_not_in_model,
    FindingKind.CROWDED_IMAGES: lambda e: (
        f"{pluralize(e['count'], 'image has', 'images have')} more than {count(e['limit'], 'object')} of a class; no "
        "more than that can be detected"
    ),
    FindingKind.DETECTABLE_DIFFERENCE: lambda e: (
        f"with {pluralize(e['num_samples'], 'image')}, a difference of {100 * e['difference']:.1f} points is detected "
        "in 80 % of cases"
    ),
    FindingKind.DETECTION_LIMIT_REACHED: _detection_limit,
    FindingKind.FEW_GROUPS: lambda e: (
        f"the images form only {pluralize(e['num_groups'], 'independent group')}: the comparison has little power"
    ),
    FindingKind.IMAGES_TRAINED_ON: _images_trained_on,
    FindingKind.INTERVAL_NOT_MEASURABLE: lambda e: (
        f"no confidence interval: {pluralize(e['num_units'], 'independent ' + e['unit'])}, at least {e['minimum']} are "
        "needed"
    ),
    FindingKind.LOG_LOSS_DIFFERS: lambda e: (
        f"log-loss differs significantly ({signed(e['value'])}, p = {e['p_value']:.2g}), predicted classes hardly do"
    ),
    FindingKind.OOD_IMAGES: lambda e: (
        f"{e['count']:,} of {count(e['total'], 'image')} {'is' if e['count'] == 1 else 'are'} out of distribution "
        "(column `is_ood`)"
    ),
    FindingKind.OOD_RATES: _ood_rates,
    FindingKind.PREDICTION_SET_COVERAGE: lambda e: (
        f"{percent(e['target'], 0)} prediction sets cover {_share(e)} of {count(e['num_samples'], 'label')}, mean "
        f"size {e['mean_size']:.2f}"
    ),
    FindingKind.SCORES_OF_TRAINING_IMAGES: lambda e: (
        f"measured on the {pluralize(e['num_samples'], 'training image')}: does not apply to new images"
    ),
    FindingKind.SCORES_OUT_OF_FOLD: lambda e: (
        "predictions are cross-validated on the data of model selection: weaker than a test split"
    ),
    FindingKind.UNMEASURABLE_IMAGES: lambda e: (
        f"{pluralize(e['count'], 'image')} of classes in a single group cannot be predicted without that group and "
        f"{'counts' if e['count'] == 1 else 'count'} as wrong"
    ),
}

EVALUATION_SUMMARIES: dict[FindingKind, Callable[[Sequence[Mapping[str, Any]]], str]] = {
    FindingKind.UNMEASURABLE_IMAGES: lambda es: (
        f"{pluralize(es[0]['count'], 'image')} of classes in a single group count as wrong"
    ),
    FindingKind.CROWDED_IMAGES: lambda es: (
        f"{pluralize(es[0]['count'], 'image')} with more than {count(es[0]['limit'], 'object')} of a class"
    ),
}
