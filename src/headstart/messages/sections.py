"""Render the sections of a report: the headline, why a section is empty, OOD detection, prediction sets, suspects."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headstart.messages.numbers import percent, pluralize, pluralize_is, signed_points
from headstart.report_types import ReportKind

__all__ = [
    "ADVICE",
    "SECTION_TEXTS",
    "attribution_message",
    "class_gains_message",
    "coverage_message",
    "curve_message",
    "false_alarms_message",
    "headline_message",
    "new_class_message",
    "similarity_message",
    "size_message",
    "suspects_message",
]

E = Mapping[str, Any]
_NAMED = 5  # classes that more images help most

ADVICE: Mapping[tuple[str, str], str] = {
    ("small", "similar"): "a new head on the last features of the frozen backbone",
    ("large", "similar"): "fine-tune the backbone; there are enough images not to overfit",
    ("small", "different"): "a new head on features of earlier stages: the last ones are too specialized",
    ("large", "different"): "fine-tune all stages from the pretrained weights; training from scratch may do as well",
}
"""Common advice by (size, similarity). Source: Stanford CS231n, notes on transfer learning."""


def _not_measured(what: str) -> str:
    return f"{what} not measured in this run."


def _diagram(e: E) -> str:
    return f"A reliability diagram cannot be drawn: {pluralize_is(e['num_scored'], 'image')} too few."


def _operating(e: E) -> str:
    return f"{pluralize_is(e['num_scored'], 'scored image')} too few for an operating point."


_GAIN = "What more images would bring"

SECTION_TEXTS: Mapping[ReportKind, str | Callable[[E], str]] = {
    ReportKind.ATTRIBUTION_CONTROL_FAILED: lambda e: (
        "Attribution maps are held back: with shuffled weights they look nearly the same (rank correlation "
        f"{e['alike']:.2f}), so they would not show what the model learned."
    ),
    ReportKind.ATTRIBUTION_IMAGES_GONE: "None of the images can be opened, so no attribution map is drawn.",
    ReportKind.ATTRIBUTION_NOT_NEEDED: "There are no errors and no unsure predictions to draw an attribution map for.",
    ReportKind.ATTRIBUTION_NOT_POSSIBLE: lambda e: f"Attribution maps cannot be drawn for this model ({e['detail']}).",
    ReportKind.CURVE_CLASS_TOO_SMALL: lambda e: (
        f"{_GAIN} was not measured: a class has {pluralize(e['count'], 'image')}."
    ),
    ReportKind.CURVE_FAILED: lambda e: f"{_GAIN} could not be measured ({e['detail']}).",
    ReportKind.CURVE_IMAGES_GONE: f"The images are not there any more. {_GAIN} was not measured.",
    ReportKind.CURVE_NEEDS_SCORES: f"{_GAIN} cannot be measured: the run kept no scores.",
    ReportKind.CURVE_OF_PROBE_ONLY: f"{_GAIN} is measured for the probe only, not for a fine-tuned model.",
    ReportKind.CURVE_TOO_MANY_IMAGES: lambda e: (
        f"{_GAIN} was not measured: {pluralize_is(e['count'], 'image')} too many."
    ),
    ReportKind.IMAGES_LEFT_OUT: "Images are left out of this report.",
    ReportKind.CLOSED_FORM: (
        "There are no curves over epochs: the head was computed in closed form, in one step, and nothing was trained "
        "step by step."
    ),
    ReportKind.COPIES_NOT_CHECKED: "Copies were not looked for in this run (`headstart check` does).",
    ReportKind.COVERAGE_NOT_MEASURED: _not_measured("Prediction sets were"),
    ReportKind.CURVE_NOT_MEASURED: (
        "What more images would bring was not measured in this run; `headstart report` measures it."
    ),
    ReportKind.NO_EPOCHS_KEPT: "The run kept no record of its epochs.",
    ReportKind.NO_SCORES_KEPT: "A reliability diagram cannot be drawn: the run kept no scores of its images.",
    ReportKind.NOVELTY_NOT_MEASURED: _not_measured("The detection of images of unknown classes was"),
    ReportKind.SUSPECTS_NOT_CHECKED: "Wrong labels were not looked for in this run.",
    ReportKind.TOO_FEW_FOR_DIAGRAM: _diagram,
    ReportKind.TOO_FEW_FOR_OPERATING_POINT: _operating,
}
"""Why a section is empty."""


def headline_message(score: E, baselines: E) -> str:
    """Return the score in one sentence beside the two baselines.

    Args:
        score: `metric`, `value`, `low` and `high`.
        baselines: `majority` and `nearest_neighbor`, each with the metric; either may be absent.
    """
    value, low, high = score.get("value"), score.get("low"), score.get("high")
    metric = score.get("metric", "accuracy")
    if value is None:
        return "How often the model will be right cannot be measured on these images."
    text = f"Right on {100 * value:.0f} of 100 new images"
    text += " of each class, averaged over the classes" if metric == "balanced_accuracy" else ""
    if low is None or high is None:
        text += " (no confidence interval: too few independent images)"
    else:
        text += f" (95 % CI {100 * low:.0f} to {100 * high:.0f})"
    majority = (baselines.get("majority") or {}).get(metric)
    nearest = (baselines.get("nearest_neighbor") or {}).get(metric)
    if majority is not None:
        text += f"; always naming the most frequent class would be right on {100 * majority:.0f}"
    if nearest is not None:
        text += f", the nearest neighbor (1-NN) on {100 * nearest:.0f}"
    return text + "."


def size_message(basis: E) -> str:
    """Return why a data set counts as small or large."""
    if "gain_of_doubling" in basis:
        return (
            f"twice as many images would bring {signed_points(basis['gain_of_doubling'])} points; below "
            f"{100 * basis['threshold']:.0f} is large"
        )
    images = pluralize(basis["median_count"], "training image")
    return f"{images} per class (median); from {basis['threshold']:,} on is large"


def similarity_message(basis: E | None) -> str:
    """Return why images count as similar to those of pretraining or different; None where it was not measured."""
    if basis is None:
        return "the similarity of the images to those of pretraining was not measured"
    return (
        "features of earlier stages beside the last ones lower the log-loss of held-out images by "
        f"{percent(basis['fall'], 0)} (from {basis['log_loss_last_stage']:.3f} to {basis['log_loss_best']:.3f}); from "
        f"{100 * basis['threshold']:.0f} % on is different"
    )


def false_alarms_message(section: E) -> str:
    """Return how many images of known classes are called OOD.

    Args:
        section: `novelty` of `metrics.json`.
    """
    reject = f"{100 * section['reject']:g} of 100"
    if section["threshold"] is None:
        images = pluralize_is(section["out_of_fold"]["num_samples"], "known image")
        return (
            f"{images} too few for a threshold above which an image counts as unknown when at most {reject} known ones "
            f"may; {math.ceil(1 / section['reject']) - 1} are needed."
        )
    what = "how undecided the head is"
    if section.get("has_residual_norm"):
        what += " and how far the features lie off those of all training images"
    text = (
        f"An image counts as unknown (none of these classes) where its novelty is above {section['threshold']:.2f}; "
        f"novelty adds up {what}. The threshold is set so that at most {reject} known images are refused. "
    )
    test = section.get("test")
    if test:
        text += f"Of {pluralize(test['num_samples'], 'test image')} {_share(test['false_alarms'])} were."
    else:
        out = section["out_of_fold"]
        text += (
            f"Of {pluralize(out['num_samples'], 'training image')}, each predicted by a model that had not seen it, "
            f"{percent(out['false_alarms'])} were."
        )
    if section.get("is_by_group") is True:
        text += " It holds for an image of a new group, each group counting as one."
    elif section.get("is_by_group") is False:
        text += " The groups are too few for it to hold for an image of a new group."
    return text


def new_class_message(section: E, num_classes: int) -> str:
    """Return how many images of a class that the model does not know are called OOD."""
    left = section.get("left_out")
    if left is None and num_classes < 3:
        return (
            "How many images of a new class would be noticed cannot be measured: with two classes none can be left out."
        )
    if left is None:
        return "How many images of a new class would be noticed was not measured in this run."
    return (
        f"To measure what happens to a new class, each class was left out in turn: {100 * left['detected']:.0f} of 100 "
        "of its images were then called unknown, and one of them had a higher novelty than a known image "
        f"{100 * left['auroc']:.0f} times in 100 (by the probability alone {100 * left['auroc_of_probability']:.0f} "
        f"times). This was done with a simpler head on {pluralize(left['num_samples'], 'image')}, so it is a rough "
        "figure. Images of quite another kind are usually noticed much more often."
    )


def coverage_message(section: E) -> str:
    """Return what the prediction sets held.

    Args:
        section: `coverage` of `metrics.json`.
    """
    test = section.get("test")
    shown = test or section
    if section["is_guaranteed"]:
        how = (
            "This is guaranteed for images drawn like those of the validation split: "
            f"{section['num_fitted']:,} of them were kept for this and used for nothing else."
        )
        fitted = pluralize(section["num_fitted"], "validation image")
    else:
        how = (
            "This is what the method gives in practice, not a guarantee: the sets are made from scores of training "
            "images that were left out in turn. A validation split that is kept for this alone would make it one."
        )
        fitted = pluralize(section["num_fitted"], "left-out training image")
    measured = pluralize(test["num_samples"], "test image") if test else fitted
    return (
        "Beside the most probable class, each prediction holds the set of classes that fit; it is meant to hold the "
        f"right one for {100 * section['coverage']:g} of 100 images. {how} Measured on {measured}: "
        f"{_share(shown['empirical'])} of the sets contain the true class; mean size {shown['mean_size']:.2f} classes; "
        f"{percent(shown['single_fraction'], 0)} hold a single class, {percent(shown['empty_fraction'])} "
        "are empty, which means that no class fits."
    )


def suspects_message(evidence: E) -> str:
    """Return how many labels look wrong and what to do about them.

    Args:
        evidence: `num_ranked` (0 where nothing was ranked), `num_suspects`, and `num_held_out` of them that are scored.
    """
    if not evidence["num_ranked"]:
        return "No label stands out as wrong."
    num, held_out = evidence["num_suspects"], evidence["num_held_out"]
    text = "No label stands out as wrong"
    if num:
        text = f"{pluralize(num, 'label')} {'looks' if num == 1 else 'look'} wrong"
    if held_out:
        text += f", {'it' if num == 1 else f'{held_out:,} of them'} on an image that the score is measured on"
    text += (
        ". `label_errors.csv` ranks them: fill in its column `action` (keep, relabel:CLASS or drop) and train again "
        "with --corrections label_errors.csv; your own files are not touched."
    )
    return text if num else f"{text} Below are the labels that fit least."


def curve_message(n: E) -> str:
    """Return what twice as many images would bring, from the numbers of the learning curve."""
    measured, now, twice = (f"{100 * n[key]:.1f} %" for key in ("measured", "now", "twice"))
    gain, low, high = (signed_points(n[key]) for key in ("gain", "low", "high"))
    return (
        f"Accuracy measured with {pluralize(n['num_now'], 'training image')}: {measured}. The fitted curve goes from "
        f"{now} there to about {twice} with {n['num_twice']:,}, a change of {gain} points (95 % CI {low} to {high}). "
        "Dashed: the fitted curve; the band is its 95 % CI."
    )


def class_gains_message(per_class: Sequence[E]) -> str:
    """Return which classes more images help most; empty where none gains a tenth of a point."""
    gaining = sorted((c for c in per_class if round(c["gain"], 3) > 0), key=lambda c: -c["gain"])[:_NAMED]
    if not gaining:
        return ""
    names = ", ".join(f"{c['name']} ({signed_points(c['gain'])} points of recall)" for c in gaining)
    return f"Twice as many images help most: {names}."


def attribution_message(blocks: Sequence[str], alike: float) -> str:
    """Return how to read attribution maps, with the result of their control."""
    return (
        "Bright parts raised the score of the predicted class (Grad-CAM over the stages that the head uses: "
        f"{', '.join(blocks)}). As a control the same was drawn with all weights shuffled: the rank correlation is "
        f"{alike:.2f} (1 would mean that the map ignores what was learned). A bright part shows where the model "
        "looked, not why."
    )


def _share(share: E) -> str:
    if share.get("value") is None:
        return "an unknown share"
    text = percent(share["value"])
    if share.get("low") is not None and share.get("high") is not None:
        text += f" (95 % CI {100 * share['low']:.1f} to {100 * share['high']:.1f})"
    return text
