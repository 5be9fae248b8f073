"""Fit the OOD score and the prediction sets of a model, and measure both.

Both are fitted on held-out images, so they cost no data; the test split only verifies them. Prediction sets are
fitted on a user's validation split if nothing was selected on it; only then is their coverage guaranteed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.conformal import PredictionSets, fit_prediction_sets
from headstart.evaluation.head_evaluation import ModelLogits
from headstart.evaluation.held_out_class import evaluate_held_out_classes
from headstart.evaluation.intervals import effective_sample_size, estimate_proportion
from headstart.evaluation.ood import HeldOutClassResult, OodModel, fit_ood_model
from headstart.evaluation.principal_directions import leading_directions, squared_residual
from headstart.evaluation.softmax import softmax
from headstart.probe.blas_threads import one_blas_thread
from headstart.probe.linear import LinearHead
from headstart.probe.probe import ProbeFit
from headstart.types.arrays import Float, Ids
from headstart.types.codes import JsonValue
from headstart.types.records import Features, Samples, Split
from headstart.utils.csv_cells import join_prediction_set

__all__ = ["UncertaintyModel", "UncertaintyTargets", "fit_finetuned_uncertainty", "fit_probe_uncertainty"]


_BINS = 24  # of the OOD-score histogram
_MIN_UNITS = 5.0  # divided by 1 - coverage: minimum number of validation images (or groups) to fit sets on


@dataclass(frozen=True)
class UncertaintyTargets:
    """What to aim at.

    Attributes:
        ood_fpr: OOD false-positive rate, 0 to 1.
        coverage: Coverage of prediction sets, 0 to 1.
        seed: Random seed.
    """

    ood_fpr: float
    coverage: float
    seed: int = 0


@dataclass(frozen=True)
class UncertaintyModel:
    """OOD score and prediction sets of one model.

    Attributes:
        ood: The OOD model, stored in the bundle.
        sets: The prediction sets, stored in the bundle.
        final: (N,) OOD scores of the final model, for the parity check.
        held_out: (N,) OOD scores, out-of-fold for training images; NaN where unknown.
        json: The sections `ood` and `coverage` of `metrics.json`.
    """

    ood: OodModel
    sets: PredictionSets
    final: Float
    held_out: Float
    json: dict[str, dict[str, Any]]

    def evidence(self) -> dict[str, JsonValue]:
        """Return the measured rates of OOD detection and prediction sets, without text, lists and histograms."""
        return {section: _numbers(self.json[section]) for section in ("ood", "coverage")}

    def cells(self, probabilities: Float, class_names: Sequence[str]) -> list[tuple[str, str, str]]:
        """Return the cells `ood_score`, `is_ood` and `prediction_set` of every sample, from (N, K) probabilities."""
        inside = self.sets.sets(probabilities)
        order = np.argsort(-probabilities, axis=1, kind="stable")
        threshold = self.ood.threshold
        rows = []
        for i, value in enumerate(self.held_out):
            cells = ("", "")
            if math.isfinite(value):
                cells = (f"{value:.3f}", str(value > threshold).lower() if math.isfinite(threshold) else "")
            rows.append((*cells, join_prediction_set(class_names[k] for k in order[i] if inside[i, k])))
        return rows


def _numbers(values: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return the numbers, flags and nulls of nested sections."""
    kept = {k: _numbers(v) if isinstance(v, dict) else v for k, v in values.items()}
    return {k: v for k, v in kept.items() if not isinstance(v, (str, list, tuple)) and v != {}}


def fit_probe_uncertainty(
    samples: Samples,
    features: Features,
    split: Split,
    fit: ProbeFit,
    logits: ModelLogits,
    targets: UncertaintyTargets,
) -> UncertaintyModel:
    """Fit and measure the OOD score and prediction sets of a head on frozen features.

    Args:
        samples, features, split: N samples.
        fit: The head, fitted on the training images.
        logits: Its logits.
        targets: What to aim at.
    """
    train = split.where("train")
    groups, ids = split.groups_of(train), samples.class_ids[train]
    ood_fpr, seed = targets.ood_fpr, targets.seed
    with one_blas_thread():
        rows = fit.head.normalizer(features.blocks)  # (N, D)
        space = (fit.row_mean, fit.row_directions)
        ood = fit_ood_model(
            rows[train], softmax(fit.oof_logits), ids, ood_fpr=ood_fpr, groups=groups, space=space, seed=seed
        )
        held_out_class = evaluate_held_out_classes(
            rows[train], ids, ood_fpr=ood_fpr, groups=groups, penalty=fit.ridge_penalty, seed=seed
        )
        final = ood.score(rows, softmax(logits.final))
    return _summarize(samples, split, logits, ood, final, held_out_class, targets, is_val_kept=True)


def fit_finetuned_uncertainty(
    samples: Samples,
    features: Features,
    split: Split,
    head: LinearHead | None,
    logits: ModelLogits,
    targets: UncertaintyTargets,
    *,
    frozen: Sequence[str],
) -> UncertaintyModel:
    """Fit and measure the OOD score and prediction sets of a fine-tuned model.

    Features of a network fine-tuned on an image are biased towards in-distribution. All features are used where the
    scored images were held out of the final training; else those of frozen stages; else the probabilities only.

    Args:
        samples, features, split: N samples; features of the final network.
        head: Its head; None inside the graph.
        logits: Its logits.
        targets: What to aim at.
        frozen: Feature blocks of frozen stages.
    """
    scored, seed = logits.scored, targets.seed
    groups, ids = split.groups_of(scored), samples.class_ids[scored]
    options: dict[str, Any] = {"ood_fpr": targets.ood_fpr, "groups": groups, "seed": seed}
    probabilities = softmax(logits.out_of_fold)
    is_seen = np.isin(scored, logits.trained_on).any()
    held_out_class = None
    with one_blas_thread():
        rows = None if head is None else head.normalizer(features.blocks)
        columns = np.zeros(0, dtype=bool)
        if head is not None:
            columns = np.repeat([name in frozen for name in head.normalizer.names], head.normalizer.sizes)
        if rows is None or (is_seen and not columns.any()):
            rows = None
            ood = fit_ood_model(None, probabilities, ids, **options)
        elif columns.all():
            ood = fit_ood_model(rows[scored], probabilities, ids, **options)
            held_out_class = evaluate_held_out_classes(rows[scored], ids, **options)
        elif is_seen:
            part = np.ascontiguousarray(rows[np.ix_(scored, np.flatnonzero(columns))])
            ood = fit_ood_model(part, probabilities, ids, **options).spread(columns)
        else:
            space = leading_directions(rows[logits.trained_on], seed=seed)
            rest = squared_residual(rows[scored], *space)
            ood = fit_ood_model(None, probabilities, ids, space=space, rest=rest, **options)
        final = ood.score(rows, softmax(logits.final))
    return _summarize(samples, split, logits, ood, final, held_out_class, targets, is_val_kept=False)


def _summarize(
    samples: Samples,
    split: Split,
    logits: ModelLogits,
    ood: OodModel,
    final: Float,
    held_out_class: HeldOutClassResult | None,
    targets: UncertaintyTargets,
    *,
    is_val_kept: bool,
) -> UncertaintyModel:
    """Fit prediction sets and measure both, for an OOD model fitted on the images with out-of-fold logits.

    Args:
        samples, split: N samples.
        logits: Logits of the model.
        ood: The OOD model.
        final: (N,) OOD scores of the final model.
        held_out_class: OOD detection of held-out classes; None if not measured.
        targets: What to aim at.
        is_val_kept: Whether nothing was selected on the validation split.
    """
    scored, coverage = logits.scored, targets.coverage
    ids, groups = samples.class_ids, split.groups
    val, test = split.where("val"), split.where("test")
    held_out = final.copy()
    held_out[split.where("train")] = np.nan
    held_out[scored] = ood.scores
    num_units = len(val) if groups is None else len(np.unique(groups[val]))
    is_separate = is_val_kept and num_units >= _MIN_UNITS / (1.0 - coverage)
    where, fitted_on = (val, logits.final[val]) if is_separate else (scored, logits.out_of_fold)
    with one_blas_thread():
        sets = fit_prediction_sets(
            softmax(fitted_on),
            ids[where],
            coverage=coverage,
            groups=split.groups_of(where),
            is_separate_split=is_separate,
            seed=targets.seed,
        )
    sections = {
        "ood": _ood_json(ood, held_out, final, scored, test, groups, held_out_class, samples.class_names),
        "coverage": _coverage_json(
            sets, softmax(logits.final[test]), ids[test], test, groups, len(where), samples.class_names
        ),
    }
    return UncertaintyModel(ood, sets, final, held_out, sections)


def _ood_json(
    ood: OodModel,
    held_out: Float,
    final: Float,
    scored: Ids,
    test: Ids,
    groups: Ids | None,
    held_out_class: HeldOutClassResult | None,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Return the `ood` section of `metrics.json`."""
    threshold = ood.threshold
    known = held_out[scored][np.isfinite(held_out[scored])]
    section: dict[str, Any] = {
        "ood_fpr": ood.ood_fpr,
        "threshold": threshold if math.isfinite(threshold) else None,
        "has_residual_norm": ood.rule.has_residual_norm,
        "is_by_group": ood.is_by_group if groups is not None else None,
        "out_of_fold": {"false_positive_rate": ood.empirical, "num_samples": len(known)},
        "test": None,
        "held_out_classes": None,
        "histogram": _histogram(known, threshold),
    }
    if len(test) and math.isfinite(threshold):
        rate = _proportion(final[test] > threshold, test, groups)
        section["test"] = {"false_positive_rate": rate, "num_samples": len(test)}
    if held_out_class is not None:
        section["held_out_classes"] = {
            **{k: v for k, v in asdict(held_out_class).items() if k != "per_class"},
            "per_class": [
                {"name": class_names[k], "auroc": auc, "ood_recall": ood_recall}
                for k, (auc, ood_recall) in held_out_class.per_class.items()
            ],
        }
    return section


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
        "fitted_on": "val" if sets.is_guaranteed else "out_of_fold",
        "num_fitted": num_fitted,
        "empirical": asdict(sets.empirical),
        "mean_size": sets.mean_size,
        "single_fraction": sets.single_fraction,
        "empty_fraction": sets.empty_fraction,
        "per_class": [
            {"name": name, "empirical": None if math.isnan(value) else float(value), "is_own": bool(own)}
            for name, value, own in zip(class_names, sets.empirical_per_class, sets.is_per_class, strict=True)
        ],
        "test": None,
    }
    if len(test):
        inside = sets.sets(probabilities)
        held = inside[np.arange(len(test)), class_ids]
        section["test"] = {
            "empirical": _proportion(held, test, groups),
            "num_samples": len(test),
            "mean_size": float(inside.sum(axis=1).mean()),
            "single_fraction": float((inside.sum(axis=1) == 1).mean()),
            "empty_fraction": float((~inside.any(axis=1)).mean()),
        }
    return section


def _proportion(hits: NDArray[np.bool_], index: Ids, groups: Ids | None) -> dict[str, Any]:
    """Return a proportion of held-out images with its confidence interval."""
    n_eff = effective_sample_size(hits, None if groups is None else groups[index], is_out_of_fold=False)
    return asdict(estimate_proportion(float(hits.mean()), len(hits), n_eff))


def _histogram(known: Float, threshold: float) -> dict[str, list[float]] | None:
    """Return the histogram of OOD scores of in-distribution images, with the threshold inside its range."""
    if len(known) == 0:
        return None
    low = float(known.min())
    high = max(float(np.quantile(known, 0.999)), low + 1.0, threshold + 1.0 if math.isfinite(threshold) else low)
    counts, edges = np.histogram(np.clip(known, low, high), bins=_BINS, range=(low, high))
    return {"edges": [round(float(e), 4) for e in edges], "known": [int(c) for c in counts]}
