"""Render report sections: headline, empty sections, OOD detection, prediction sets, label errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headstart.messages.decisions_head import candidate_name
from headstart.messages.numbers import percent, pluralize, pluralize_is, signed_points
from headstart.messages.values import interval
from headstart.types.report import ReportKind

__all__ = [
    "ADVICE",
    "SECTION_TEXTS",
    "attribution_message",
    "class_gains_message",
    "coverage_message",
    "curve_message",
    "false_alarms_message",
    "head_origin_message",
    "headline_message",
    "label_errors_message",
    "new_class_message",
    "similarity_message",
    "size_message",
]

E = Mapping[str, Any]
_NUM_NAMED = 5  # classes with the largest expected gain

ADVICE: Mapping[tuple[str, str], str] = {
    ("small", "similar"): "a new head on the last features of the frozen backbone",
    ("large", "similar"): "fine-tune the backbone; there are enough images not to overfit",
    ("small", "different"): "a new head on features of earlier stages; the last ones are too specialized",
    ("large", "different"): "fine-tune all stages from the pretrained weights; training from scratch may be as good",
}
"""Common advice by (size, similarity). Source: Stanford CS231n, notes on transfer learning."""


def _not_measured(subject: str) -> str:
    return f"{subject} not measured in this run."


def _diagram(e: E) -> str:
    return f"No reliability diagram: {pluralize_is(e['num_scored'], 'image')} too few."


def _operating(e: E) -> str:
    return f"{pluralize_is(e['num_scored'], 'scored image')} too few for an operating point."


_GAIN = "The gain from more images"

SECTION_TEXTS: Mapping[ReportKind, str | Callable[[E], str]] = {
    ReportKind.ATTRIBUTION_CONTROL_FAILED: lambda e: (
        "Attribution maps are omitted: with shuffled weights they are nearly the same (rank correlation "
        f"{e['similarity']:.2f}), so they do not depend on the trained weights."
    ),
    ReportKind.ATTRIBUTION_IMAGES_GONE: "No attribution maps: none of the images can be opened.",
    ReportKind.ATTRIBUTION_NOT_MEASURED: (
        "No attribution maps: they were not computed in this run; `headstart report --attributions` adds them."
    ),
    ReportKind.ATTRIBUTION_NOT_NEEDED: "No attribution maps: there are no errors and no uncertain predictions.",
    ReportKind.ATTRIBUTION_NOT_POSSIBLE: lambda e: f"No attribution maps for this model ({e['detail']}).",
    ReportKind.CURVE_CLASS_TOO_SMALL: lambda e: (
        f"{_GAIN} was not measured: a class has {pluralize(e['count'], 'image')}."
    ),
    ReportKind.CURVE_FAILED: lambda e: f"{_GAIN} could not be measured ({e['detail']}).",
    ReportKind.CURVE_IMAGES_GONE: f"{_GAIN} was not measured: the images are missing.",
    ReportKind.CURVE_NEEDS_SCORES: f"{_GAIN} cannot be measured: the run has no saved scores.",
    ReportKind.CURVE_OF_PROBE_ONLY: f"{_GAIN} is measured for the probe only, not for a fine-tuned model.",
    ReportKind.CURVE_TOO_MANY_IMAGES: lambda e: (
        f"{_GAIN} was not measured: {pluralize_is(e['count'], 'image')} too many."
    ),
    ReportKind.IMAGES_LEFT_OUT: "This report omits images.",
    ReportKind.CLOSED_FORM: ("No training curves: the head was computed in closed form, without epochs."),
    ReportKind.DUPLICATES_NOT_CHECKED: "Near-duplicates were not checked in this run (`headstart check` does).",
    ReportKind.COVERAGE_NOT_MEASURED: _not_measured("Prediction sets were"),
    ReportKind.CURVE_NOT_MEASURED: f"{_GAIN} was not measured in this run; `headstart report --curve` measures it.",
    ReportKind.NO_EPOCHS_KEPT: "The run has no record of its epochs.",
    ReportKind.NO_SCORES_KEPT: "No reliability diagram: the run has no saved scores.",
    ReportKind.OOD_NOT_MEASURED: _not_measured("OOD detection was"),
    ReportKind.LABEL_ERRORS_NOT_CHECKED: "Labels were not checked in this run.",
    ReportKind.TOO_FEW_FOR_DIAGRAM: _diagram,
    ReportKind.TOO_FEW_FOR_OPERATING_POINT: _operating,
}
"""Reasons for empty sections."""


def headline_message(score: E, baselines: E) -> str:
    """Return the score with its interval, a short explanation and the baselines.

    Args:
        score: `metric`, `value`, `low` and `high`.
        baselines: `majority` and `nearest_neighbor`, each with the metric; either may be absent.
    """
    value, low, high = score.get("value"), score.get("low"), score.get("high")
    metric = score.get("metric", "accuracy")
    name = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy"}[metric]
    if value is None:
        return f"{name} cannot be measured on these images."
    mean = " of each class on average" if metric == "balanced_accuracy" else ""
    text = (
        f"{name} {percent(value)} ({interval(low, high)}): about {100 * value:.0f} of 100 new images{mean} are correct."
    )
    shares = [
        f"{title} {percent(baselines[key][metric])}"
        for key, title in (("majority", "most frequent class"), ("nearest_neighbor", "nearest neighbor (1-NN)"))
        if (baselines.get(key) or {}).get(metric) is not None
    ]
    return f"{text} Baselines: {', '.join(shares)}." if shares else text


def size_message(basis: E) -> str:
    """Return the reason why a dataset counts as small or large."""
    if "gain_of_doubling" in basis:
        return (
            f"doubling the images changes accuracy by {signed_points(basis['gain_of_doubling'])} points; for a large "
            f"dataset by less than {100 * basis['threshold']:.0f}"
        )
    images = pluralize(basis["median_count"], "training image")
    return f"{images} per class (median); a large dataset has at least {basis['threshold']:,}"


def similarity_message(basis: E | None) -> str:
    """Return the reason why images count as similar to the pretraining images or different."""
    if basis is None:
        return "the similarity to the pretraining images was not measured"
    return (
        "adding features of earlier stages lowers the log-loss of held-out images by "
        f"{percent(basis['fall'], 0)} (from {basis['log_loss_last_stage']:.3f} to {basis['log_loss_best']:.3f}); from "
        f"{100 * basis['threshold']:.0f} % on, the images count as different"
    )


def false_alarms_message(section: E) -> str:
    """Return the false-positive rate of OOD detection.

    Args:
        section: `ood` of `metrics.json`.
    """
    ood_fpr = f"{100 * section['ood_fpr']:g} %"
    if section["threshold"] is None:
        images = pluralize_is(section["out_of_fold"]["num_samples"], "known image")
        return (
            f"{images} too few for an OOD threshold with a false-positive rate of at most {ood_fpr}; "
            f"{math.ceil(1 / section['ood_fpr']) - 1} are needed."
        )
    parts = "the uncertainty of the head"
    if section.get("has_residual_norm"):
        parts += " and the distance of the features from those of the training images"
    text = (
        "An image is out of distribution (OOD, probably none of these classes) if its OOD score is above "
        f"{section['threshold']:.2f}. The OOD score combines {parts}. The threshold aims at a "
        f"false-positive rate of at most {ood_fpr}. "
    )
    test = section.get("test")
    if test:
        text += f"Measured on {pluralize(test['num_samples'], 'test image')}: {_fraction(test['false_positive_rate'])}."
    else:
        out = section["out_of_fold"]
        text += (
            f"Measured out of fold on {pluralize(out['num_samples'], 'training image')}: "
            f"{percent(out['false_positive_rate'])}."
        )
    if section.get("is_by_group") is True:
        text += " The rate applies to new groups; each group counts once."
    elif section.get("is_by_group") is False:
        text += " There are too few groups for the rate to apply to new groups."
    return text


def new_class_message(section: E, num_classes: int) -> str:
    """Return the OOD recall on held-out classes."""
    left = section.get("held_out_classes")
    if left is None and num_classes < 3:
        return (
            "The OOD recall on new classes cannot be measured: with two classes, no class can be held out of training."
        )
    if left is None:
        return "The OOD recall on new classes was not measured in this run."
    return (
        f"Each class was held out of training in turn: OOD recall {percent(left['ood_recall'], 0)} of its images, "
        f"AUROC {left['auroc']:.2f} (by the maximum probability alone {left['auroc_of_probability']:.2f}). This is a "
        f"rough estimate with a simpler head on {pluralize(left['num_samples'], 'image')}; images of another kind are "
        "usually detected more often."
    )


def coverage_message(section: E) -> str:
    """Return the coverage and size of the prediction sets.

    Args:
        section: `coverage` of `metrics.json`.
    """
    test = section.get("test")
    shown = test or section
    if section["is_guaranteed"]:
        how = (
            "The coverage is guaranteed for images from the distribution of the validation split: "
            f"{section['num_fitted']:,} of its images were used for calibration only."
        )
        fitted = pluralize(section["num_fitted"], "validation image")
    else:
        how = (
            "The coverage is empirical, not guaranteed: thresholds come from out-of-fold scores of training images. "
            "A validation split reserved for calibration would guarantee it."
        )
        fitted = f"{pluralize(section['num_fitted'], 'training image')} out of fold"
    measured = pluralize(test["num_samples"], "test image") if test else fitted
    return (
        "Each prediction has a conformal prediction set: the classes that contain the true one for "
        f"{100 * section['coverage']:g} in 100 images (the coverage). {how} Measured on {measured}: coverage "
        f"{_fraction(shown['empirical'])}, mean size {shown['mean_size']:.2f} classes; "
        f"{percent(shown['single_fraction'], 0)} have a single class, {percent(shown['empty_fraction'])} "
        "are empty (no class fits)."
    )


def label_errors_message(evidence: E) -> str:
    """Return the number of suspected label errors and the next step.

    Args:
        evidence: `num_ranked` (0 without a ranking), `num_label_errors`, and `num_held_out` of them that are scored.
    """
    if not evidence["num_ranked"]:
        return "No suspected label errors."
    num, held_out = evidence["num_label_errors"], evidence["num_held_out"]
    text = pluralize(num, "suspected label error") if num else "No suspected label errors"
    if held_out:
        text += f", {held_out:,} in scored images"
    text += (
        ". `label_errors.csv` ranks the labels: fill in its column `action` (keep, relabel:CLASS or drop) and train "
        "again with --label-corrections label_errors.csv; your own files are not changed."
    )
    return text if num else f"{text} The least probable labels are shown below."


def curve_message(n: E) -> str:
    """Return the expected gain from doubling the training images, from the learning curve."""
    measured, now, doubled = (f"{100 * n[key]:.1f} %" for key in ("measured", "now", "doubled"))
    gain, low, high = (signed_points(n[key]) for key in ("gain", "low", "high"))
    return (
        f"Accuracy with {pluralize(n['num_now'], 'training image')}: {measured}. The fitted curve (dashed, with 95 % "
        f"CI) rises from {now} to about {doubled} with {n['num_doubled']:,}, a change of {gain} points "
        f"(95 % CI {low} to {high})."
    )


def class_gains_message(per_class: Sequence[E]) -> str:
    """Return the classes that gain most from more images; empty if none gains a tenth of a point."""
    gaining = sorted((c for c in per_class if round(c["gain"], 3) > 0), key=lambda c: -c["gain"])[:_NUM_NAMED]
    if not gaining:
        return ""
    names = ", ".join(f"{c['name']} ({signed_points(c['gain'])} points of recall)" for c in gaining)
    return f"Classes that gain most from twice as many images: {names}."


def attribution_message(blocks: Sequence[str], similarity: float) -> str:
    """Return the explanation of the attribution maps and the result of their control."""
    return (
        "Bright regions increase the score of the predicted class (Grad-CAM over the stages used by the head: "
        f"{', '.join(blocks)}). Control with shuffled weights: rank correlation {similarity:.2f} (1 means that the "
        "maps do not depend on the trained weights). A map shows which regions matter, not why."
    )


def _fraction(fraction: E) -> str:
    text = percent(fraction.get("value"))
    if fraction.get("low") is not None and fraction.get("high") is not None:
        text += f" ({interval(fraction['low'], fraction['high'], 1)})"
    return text


def head_origin_message(plan: Mapping[str, Any], mixture: Mapping[str, float] | None) -> str | None:
    """Return the origin of the head's weights as a sentence."""
    if plan.get("refit_head"):
        return "The head is the mean of the trained head and a closed-form head refitted on the fine-tuned features."
    if plan:
        return "The head was trained by gradient descent."
    parts = [f"{candidate_name(name)} {100 * weight:.0f} %" for name, weight in (mixture or {}).items() if weight]
    return f"The head is an ensemble of {', '.join(parts)}, weighted on held-out predictions." if parts else None
