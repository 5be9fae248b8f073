"""Render findings about scores, predictions and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headstart.messages.numbers import percent, pluralize, signed
from headstart.messages.values import count, names, plural, quote_path
from headstart.types.codes import FindingKind

__all__ = ["EVALUATION_MESSAGES", "EVALUATION_SUMMARIES"]

Render = Callable[[Mapping[str, Any]], str]


def _fraction(e: Mapping[str, Any], has_interval: bool = True) -> str:
    """Return e.g. `94.0 % (95 % CI 90-97)`."""
    text = percent(e["value"])
    if has_interval and e.get("low") is not None and e.get("high") is not None:
        text += f" (95 % CI {100 * e['low']:.0f}-{100 * e['high']:.0f})"
    return text


def _images_trained_on(e: Mapping[str, Any]) -> str:
    if e["count"] == e["total"]:
        return f"all {pluralize(e['total'], 'readable image')} are training images: there is no score on new images"
    text = f"{count(e['count'], 'training image')} {'is' if e['count'] == 1 else 'are'} not scored"
    return text + (f" (accuracy there: {percent(e['accuracy'])})" if e.get("accuracy") is not None else "")


def _classes_not_in_data(e: Mapping[str, Any], has_names: bool = True) -> str:
    text = f"{pluralize(e['num_classes'], 'class', 'classes')} of the model without {plural(e['unit'])} in the data"
    return f"{text}: {_class_names(e)}" if has_names else text


def _classes_not_in_model(e: Mapping[str, Any], has_names: bool = True) -> str:
    classes = pluralize(e["num_classes"], "class is", "classes are")
    text = f"{classes} not in the model, {count(e['count'], e['unit'])} not scored"
    return f"{text}: {_class_names(e)}" if has_names else text


def _class_names(e: Mapping[str, Any]) -> str:
    return names(list(e["classes"]), shown=2, width=16)


def _ood_rates(e: Mapping[str, Any], *, has_interval: bool = True) -> str:
    parts = [
        f"{name} {_fraction(e[key], has_interval)} of {e[key]['num_samples']:,}"
        for key, name in (("known", "known classes"), ("new", "new"))
        if e.get(key)
    ]
    return f"detected as OOD (target {percent(e['target'], 0)}): {', '.join(parts)}"


def _detection_limit(e: Mapping[str, Any], has_example: bool = True) -> str:
    text = f"{count(e['count'], 'image')} at the limit of {count(e['limit'], 'detection')} (--max-detections)"
    return f"{text}, e.g. {quote_path(e['examples'][0], 18)}" if has_example else text


def _scored_limit(e: Mapping[str, Any]) -> str:
    return f"{e['count']:,} of {count(e['total'], 'image')} scored by the {e['limit']:,} most confident detections only"


EVALUATION_MESSAGES: dict[FindingKind, Render] = {
    FindingKind.CLASSES_NOT_IN_DATA: _classes_not_in_data,
    FindingKind.CLASSES_NOT_IN_MODEL: _classes_not_in_model,
    FindingKind.CROWDED_IMAGES: lambda e: (
        f"{pluralize(e['count'], 'image has', 'images have')} more than {count(e['limit'], 'object')} of a class, the "
        "limit of detections"
    ),
    FindingKind.DETECTABLE_DIFFERENCE: lambda e: (
        f"with {pluralize(e['num_samples'], 'image')}, a difference of {100 * e['difference']:.1f} points is detected "
        "in 80 % of cases"
    ),
    FindingKind.DETECTION_LIMIT_REACHED: _detection_limit,
    FindingKind.FEW_GROUPS: lambda e: (
        f"only {pluralize(e['num_groups'], 'independent group')}: the comparison has little power"
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
        f"{percent(e['target'], 0)} prediction sets cover {_fraction(e)} of {count(e['num_samples'], 'label')}, mean "
        f"size {e['mean_size']:.2f}"
    ),
    FindingKind.SCORED_DETECTIONS_LIMITED: _scored_limit,
    FindingKind.SCORES_OF_TRAINING_IMAGES: lambda e: (
        f"measured on the {pluralize(e['num_samples'], 'training image')}: not valid for new images"
    ),
    FindingKind.SCORES_OUT_OF_FOLD: lambda e: (
        "predictions are cross-validated on the data of model selection: weaker than a test split"
    ),
    FindingKind.UNSCORABLE_IMAGES: lambda e: (
        f"{pluralize(e['count'], 'image')} of single-group classes cannot be predicted without their group and "
        f"{'counts' if e['count'] == 1 else 'count'} as wrong"
    ),
}

EVALUATION_SUMMARIES: dict[FindingKind, Callable[[Sequence[Mapping[str, Any]]], str | tuple[str, ...]]] = {
    FindingKind.CLASSES_NOT_IN_DATA: lambda es: (_classes_not_in_data(es[0]), _classes_not_in_data(es[0], False)),
    FindingKind.CLASSES_NOT_IN_MODEL: lambda es: (_classes_not_in_model(es[0]), _classes_not_in_model(es[0], False)),
    FindingKind.CROWDED_IMAGES: lambda es: (
        f"{pluralize(es[0]['count'], 'image')} with more than {count(es[0]['limit'], 'object')} of a class"
    ),
    FindingKind.DETECTION_LIMIT_REACHED: lambda es: (_detection_limit(es[0]), _detection_limit(es[0], False)),
    FindingKind.OOD_RATES: lambda es: (_ood_rates(es[0]), _ood_rates(es[0], has_interval=False)),
    FindingKind.UNSCORABLE_IMAGES: lambda es: (
        f"{pluralize(es[0]['count'], 'image')} of single-group classes count as wrong"
    ),
}
