"""What is fitted beside a head so that its answers can be trusted: novelty and sets of classes, and how they fare.

Everything is fitted on images that the head had not seen, so it costs none; the test split
only checks what was promised.  Sets are fitted on a validation folder where a person kept one and nothing was
chosen on it: then, and only then, their coverage is called guaranteed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.conformal import PredictionSets, fit_prediction_sets
from headstart.evaluation.held_out_class import evaluate_held_out_classes
from headstart.evaluation.intervals import effective_sample_size, estimate_proportion
from headstart.evaluation.ood import HeldOutClassResult, OodModel, fit_ood_model
from headstart.evaluation.principal_directions import leading_directions, squared_residual
from headstart.evaluation.softmax import softmax
from headstart.export.prediction_writers import join_prediction_set
from headstart.messages.numbers import percent
from headstart.probe.blas_threads import one_blas_thread
from headstart.probe.linear import LinearHead
from headstart.probe.probe import ProbeFit
from headstart.records import Features, Samples, Split
from headstart.types import JsonValue

__all__ = ["UncertaintyModel", "fit_finetuned_uncertainty", "fit_probe_uncertainty"]

Float = NDArray[np.float64]
Ids = NDArray[np.int64]

_BINS = 24  # of the histogram of novelty
_ENOUGH = 5.0  # over the share that may be missed: validation images (or groups) from which on sets are fitted on them


@dataclass(frozen=True)
class UncertaintyModel:
    """Novelty and sets of one model.

    Attributes:
        novelty: What is stored in the bundle.
        sets: The same for sets of classes.
        shipped: (N,) novelty of every sample by the shipped model, for the parity check.
        honest: (N,) the same, training images out of fold; NaN where that is not known.
        json: The sections `novelty` and `coverage` of `metrics.json`.
    """

    novelty: OodModel
    sets: PredictionSets
    shipped: Float
    honest: Float
    json: dict[str, dict[str, Any]]

    def evidence(self) -> dict[str, JsonValue]:
        """Return the measured rates of OOD detection and prediction sets, without text, lists and histograms."""
        return {section: _numbers(self.json[section]) for section in ("novelty", "coverage")}

    def cells(self, probabilities: Float, class_names: Sequence[str]) -> list[tuple[str, str, str]]:
        """`novelty`, `is_ood` and `set` of every sample, as in a table of predictions; (N, K) probabilities."""
        inside = self.sets.sets(probabilities)
        order = np.argsort(-probabilities, axis=1, kind="stable")
        threshold = self.novelty.threshold
        rows = []
        for i, value in enumerate(self.honest):
            told = ("", "")
            if math.isfinite(value):
                told = (f"{value:.3f}", str(value > threshold).lower() if math.isfinite(threshold) else "")
            rows.append((*told, join_prediction_set(class_names[k] for k in order[i] if inside[i, k])))
        return rows

    def take(self, index: Ids) -> UncertaintyModel:
        """Return the same for some of the samples."""
        return replace(self, shipped=self.shipped[index], honest=self.honest[index])


def _numbers(values: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return the numbers, flags and nulls of nested sections."""
    kept = {k: _numbers(v) if isinstance(v, dict) else v for k, v in values.items()}
    return {k: v for k, v in kept.items() if not isinstance(v, (str, list, tuple)) and v != {}}


def fit_probe_uncertainty(
    samples: Samples,
    features: Features,
    split: Split,
    fit: ProbeFit,
    logits: NDArray[np.float32],
    *,
    reject: float,
    coverage: float,
    seed: int = 0,
) -> UncertaintyModel:
    """Fit and checks both for a head on frozen features.

    Args:
        samples, features, split: N samples.
        fit: The head, fitted on the training images.
        logits: (N, K) of the shipped head.
        reject: Share of known images that may be called unknown.
        coverage: Share of images whose set shall hold the right class.
        seed: Of everything that is drawn.
    """
    train = split.where("train")
    groups = None if split.groups is None else split.groups[train]
    with one_blas_thread():
        rows = fit.head.normalizer(features.blocks)  # (N, D)
        mine = rows[train]
        novelty = fit_ood_model(
            mine,
            softmax(fit.oof_logits),
            samples.class_ids[train],
            reject=reject,
            groups=groups,
            space=(fit.row_mean, fit.row_directions),
            seed=seed,
        )
        left_out = evaluate_held_out_classes(
            mine, samples.class_ids[train], reject=reject, groups=groups, penalty=fit.ridge_penalty, seed=seed
        )
        shipped = novelty.score(rows, softmax(logits))
    return summarize_uncertainty(
        samples, split, logits, novelty, shipped, train, fit.oof_logits,
        left_out=left_out, coverage=coverage, is_val_kept=True, seed=seed,
    )  # fmt: skip


def fit_finetuned_uncertainty(
    samples: Samples,
    features: Features,
    split: Split,
    head: LinearHead | None,
    logits: NDArray[np.float32],
    scored: Ids,
    oof_logits: NDArray[np.floating[Any]],
    trained_on: Ids,
    *,
    frozen: Sequence[str],
    reject: float,
    coverage: float,
    seed: int = 0,
) -> UncertaintyModel:
    """Return the same for a model that was trained by gradient.

    Features of a network that was tuned on an image look more usual than they would had it not been.  So all features
    count where images were held out of its last training; else those of the stages that were frozen; else the doubt
    alone.

    Args:
        samples, features, split: N samples; features of the network as it is shipped.
        head: Its head, None where that lies inside the graph.
        logits: (N, K) of the shipped model.
        scored: (M,) positions of the images with out-of-fold logits.
        oof_logits: (M, K).
        trained_on: Positions of what the shipped weights were trained on.
        frozen: Blocks of features that are as they were before training.
        reject, coverage, seed: As in `fit_probe_uncertainty`.
    """
    groups = None if split.groups is None else split.groups[scored]
    options: dict[str, Any] = {"reject": reject, "groups": groups, "seed": seed}
    probabilities, ids = softmax(oof_logits), samples.class_ids[scored]
    left_out = None
    with one_blas_thread():
        rows = None if head is None else head.normalizer(features.blocks)
        norm = None if head is None else head.normalizer
        columns = np.zeros(0, dtype=bool)
        if norm is not None:
            columns = np.repeat([name in frozen for name in norm.names], norm.sizes)
        if rows is None or (np.isin(scored, trained_on).any() and not columns.any()):
            rows = None
            novelty = fit_ood_model(None, probabilities, ids, **options)
        elif columns.all():
            novelty = fit_ood_model(rows[scored], probabilities, ids, **options)
            left_out = evaluate_held_out_classes(rows[scored], ids, reject=reject, groups=groups, seed=seed)
        elif np.isin(scored, trained_on).any():
            part = np.ascontiguousarray(rows[np.ix_(scored, np.flatnonzero(columns))])
            novelty = fit_ood_model(part, probabilities, ids, **options).spread(columns)
        else:
            space = leading_directions(rows[trained_on], seed=seed)
            novelty = fit_ood_model(
                None, probabilities, ids, space=space, rest=squared_residual(rows[scored], *space), **options
            )
        shipped = novelty.score(rows, softmax(logits))
    return summarize_uncertainty(
        samples, split, logits, novelty, shipped, scored, oof_logits,
        left_out=left_out, coverage=coverage, is_val_kept=False, seed=seed,
    )  # fmt: skip


def summarize_uncertainty(
    samples: Samples,
    split: Split,
    logits: NDArray[np.float32],
    novelty: OodModel,
    shipped: Float,
    scored: Ids,
    oof_logits: NDArray[np.floating[Any]],
    *,
    left_out: HeldOutClassResult | None,
    coverage: float,
    is_val_kept: bool,
    seed: int = 0,
) -> UncertaintyModel:
    """Sets, and both checked, for a model whose novelty is fitted.

    Args:
        samples, split: N samples.
        logits: (N, K) of the shipped model.
        novelty: Fitted on the images that are scored out of fold.
        shipped: (N,) novelty by the shipped model.
        scored: (M,) positions of the images with out-of-fold logits.
        oof_logits: (M, K).
        left_out: How left-out classes are noticed, where that was measured.
        coverage: As in `fit_probe_uncertainty`.
        is_val_kept: Whether the validation split was used for no choice.
        seed: Of the folds.
    """
    ids, groups = samples.class_ids, split.groups
    val, test = split.where("val"), split.where("test")
    honest = shipped.copy()
    honest[split.where("train")] = np.nan
    honest[scored] = novelty.scores
    is_separate = is_val_kept and _num_units(groups, val) >= _ENOUGH / (1.0 - coverage)
    where, fitted_on = (val, logits[val]) if is_separate else (scored, oof_logits)
    with one_blas_thread():
        sets = fit_prediction_sets(
            softmax(fitted_on),
            ids[where],
            coverage=coverage,
            groups=None if groups is None else groups[where],
            is_separate_split=is_separate,
            seed=seed,
        )
    told = {
        "novelty": _novelty_json(novelty, honest, shipped, scored, test, groups, left_out, samples.class_names),
        "coverage": _coverage_json(
            sets, softmax(logits[test]), ids[test], test, groups, len(where), samples.class_names
        ),
    }
    return UncertaintyModel(novelty, sets, shipped, honest, told)


def _novelty_json(
    novelty: OodModel,
    honest: Float,
    shipped: Float,
    scored: Ids,
    test: Ids,
    groups: Ids | None,
    left_out: HeldOutClassResult | None,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Return the section, with what is said of it in words."""
    threshold = novelty.threshold
    known = honest[scored][np.isfinite(honest[scored])]
    section: dict[str, Any] = {
        "reject": novelty.reject,
        "threshold": threshold if math.isfinite(threshold) else None,
        "has_residual_norm": novelty.rule.has_residual_norm,
        "is_by_group": novelty.is_by_group if groups is not None else None,
        "out_of_fold": {"false_alarms": novelty.empirical, "num_samples": len(known)},
        "test": None,
        "left_out": None,
        "histogram": _histogram(known, threshold),
    }
    if len(test) and math.isfinite(threshold):
        alarms = _share(shipped[test] > threshold, test, groups)
        section["test"] = {"false_alarms": alarms, "num_samples": len(test)}
    if left_out is not None:
        section["left_out"] = {
            **{k: v for k, v in asdict(left_out).items() if k != "per_class"},
            "per_class": [
                {"name": class_names[k], "auroc": auc, "detected": found}
                for k, (auc, found) in left_out.per_class.items()
            ],
        }
    section["sentence"] = _novelty_sentence(section, len(class_names))
    return section


def _novelty_sentence(section: dict[str, Any], num_classes: int) -> str:
    reject = f"{100 * section['reject']:g}"
    if section["threshold"] is None:
        return (
            "unknown images: too few known ones were seen to say from where on an image is unknown "
            f"({math.ceil(1 / section['reject']) - 1} are needed for --reject {reject}%)."
        )
    test, left = section["test"], section["left_out"]
    alarms = test["false_alarms"]["value"] if test else section["out_of_fold"]["false_alarms"]
    of = "your held-out images" if test else "known images it had not seen"
    text = f"unknown images: {percent(alarms)} of {of} are called unknown (asked: at most {reject} %)"
    if left is not None:
        text += f"; of a class it was never shown, about {percent(left['detected'], 0)} are noticed"
    elif num_classes < 3:
        text += "; how many of a new class are noticed cannot be measured with two classes, since none can be left out"
    return text + "."


def _coverage_json(
    sets: PredictionSets,
    probabilities: Float,
    class_ids: Ids,
    test: Ids,
    groups: Ids | None,
    num_fitted: int,
    class_names: Sequence[str],
) -> dict[str, Any]:
    section: dict[str, Any] = {
        "coverage": sets.coverage,
        "is_guaranteed": sets.is_guaranteed,
        "fitted_on": "validation images" if sets.is_guaranteed else "out of fold",
        "num_fitted": num_fitted,
        "empirical": asdict(sets.empirical),
        "mean_size": sets.mean_size,
        "single_fraction": sets.single_fraction,
        "empty_fraction": sets.empty_fraction,
        "per_class": [
            {"name": name, "empirical": None if math.isnan(value) else float(value), "is_own": bool(own)}
            for name, value, own in zip(class_names, sets.realised_per_class, sets.is_per_class, strict=True)
        ],
        "test": None,
    }
    if len(test):
        inside = sets.sets(probabilities)
        held = inside[np.arange(len(test)), class_ids]
        section["test"] = {
            "empirical": _share(held, test, groups),
            "num_samples": len(test),
            "mean_size": float(inside.sum(axis=1).mean()),
            "single_fraction": float((inside.sum(axis=1) == 1).mean()),
            "empty_fraction": float((~inside.any(axis=1)).mean()),
        }
    shown = section["test"] or section
    word = "guaranteed" if sets.is_guaranteed else "aimed at"
    held_share = percent(shown["empirical"]["value"])
    section["sentence"] = (
        f"sets of classes at {100 * sets.coverage:g} % ({word}): {held_share} held the right class, with "
        f"{shown['mean_size']:.2f} classes in a set."
    )
    return section


def _share(hits: NDArray[np.bool_], index: Ids, groups: Ids | None) -> dict[str, Any]:
    """Return a share of held-out images with its interval."""
    worth = effective_sample_size(hits, None if groups is None else groups[index], is_out_of_fold=False)
    return asdict(estimate_proportion(float(hits.mean()), len(hits), worth))


def _histogram(known: Float, threshold: float) -> dict[str, list[float]] | None:
    """Counts of known images by novelty, the threshold well inside."""
    if len(known) == 0:
        return None
    low = float(known.min())
    high = max(float(np.quantile(known, 0.999)), low + 1.0, threshold + 1.0 if math.isfinite(threshold) else low)
    counts, edges = np.histogram(np.clip(known, low, high), bins=_BINS, range=(low, high))
    return {"edges": [round(float(e), 4) for e in edges], "known": [int(c) for c in counts]}


def _num_units(groups: Ids | None, index: Ids) -> int:
    return len(index) if groups is None else len(np.unique(groups[index]))
