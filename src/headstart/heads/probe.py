"""Fits the head on frozen features: candidates in closed form, chosen by what they say about left-out pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headstart.errors import DataError, DishonestError
from headstart.heads.linear import LinearHead
from headstart.heads.losses import best_multipliers, log_losses
from headstart.heads.normalise import Blocks, fit_normaliser
from headstart.heads.ridge import ridge_coefficients, ridge_out_of_fold, signed_targets
from headstart.heads.spectrum import Float, decompose
from headstart.records import Decision

__all__ = ["ProbeFit", "fit_probe"]


@dataclass(frozen=True)
class ProbeFit:
    """A fitted head with everything that is known about it out of fold.

    Attributes:
        head: What is shipped.
        oof_logits: (N, K) float32, each row from a fit without that sample (and its group), temperature applied.
        protocol: `leave-one-out`, or `leave-one-group-out` with groups.
        decisions: What was chosen, and why.
        candidate_names: M names of everything that was chosen among; the last one is the final head.
        candidate_losses: (M, N) float32 out-of-fold log-loss of each.
        candidate_hits: (M, N) whether each is right out of fold.
        neighbour_hits: (N,) whether the nearest picture outside the sample's group has its class.
        unmeasurable: (N,) True where the whole class is left out with the sample: counted as wrong.
    """

    head: LinearHead
    oof_logits: NDArray[np.float32]
    protocol: Literal["leave-one-out", "leave-one-group-out"]
    decisions: tuple[Decision, ...]
    candidate_names: tuple[str, ...]
    candidate_losses: NDArray[np.float32]
    candidate_hits: NDArray[np.bool_]
    neighbour_hits: NDArray[np.bool_]
    unmeasurable: NDArray[np.bool_]


def fit_probe(
    blocks: Blocks,
    class_ids: NDArray[np.int64],
    num_classes: int,
    *,
    groups: NDArray[np.int64] | None = None,
    class_weights: NDArray[np.floating] | None = None,
    seed: int = 0,
    logistic: Literal["auto"] | bool = "auto",
) -> ProbeFit:
    """Fits, chooses and scores out of fold.

    Args:
        blocks: (N, D_b) float32 pooled features by name, the last one the embedding.
        class_ids: (N,) in 0..K-1.
        num_classes: K.
        groups: (N,) samples with one number are left out together.
        class_weights: (K,) positive factors on the samples of each class.
        seed: Of everything random.
        logistic: Whether logistic regression is tried.

    Raises:
        DataError: The labels do not allow a classifier.
        DishonestError: Every sample is in one group, so nothing can be left out.
    """
    class_ids = np.asarray(class_ids, dtype=np.int64)
    if len(class_ids) < 2 or len(np.unique(class_ids)) < 2:
        raise DataError("A classifier needs pictures of at least 2 classes.")
    folds = None
    if groups is not None:
        folds = [np.flatnonzero(groups == g) for g in np.unique(groups)]
        if len(folds) < 2:
            raise DishonestError(
                "All pictures are in one group, so none can be scored by a model that has not seen it."
            )
    unmeasurable = _unmeasurable(class_ids, num_classes, groups)
    per_class = np.ones(num_classes) if class_weights is None else np.asarray(class_weights, dtype=np.float64)
    weights = per_class[class_ids]

    normaliser = fit_normaliser(blocks)
    rows = normaliser.transform(blocks)
    spectrum = decompose(rows, weights)
    targets = signed_targets(class_ids, num_classes)
    relative = np.logspace(-5, 1, 19)
    penalties = relative * spectrum.trace
    scores = ridge_out_of_fold(spectrum, targets, penalties, folds)
    scores[:, unmeasurable, class_ids[unmeasurable]] = scores.min() - 1.0
    judged = np.where(unmeasurable, 0.0, weights)
    if not judged.any():
        raise DishonestError("No picture can be scored by a model that has seen its class.")
    multipliers = best_multipliers(scores, class_ids, judged)
    logits = multipliers[:, None, None] * scores
    losses = log_losses(logits, class_ids)
    hits = logits.argmax(axis=2) == class_ids
    best = int((losses @ judged).argmin())
    weight, bias = ridge_coefficients(spectrum, targets, float(penalties[best]))
    head = LinearHead(normaliser, weight.astype(np.float32), bias.astype(np.float32), float(1.0 / multipliers[best]))
    order = [*range(len(penalties)), best]
    decision = Decision(
        "head.penalty", float(relative[best]), f"least out-of-fold log-loss of {len(penalties)} penalties"
    )
    return ProbeFit(
        head=head,
        oof_logits=logits[best].astype(np.float32),
        protocol="leave-one-out" if folds is None else "leave-one-group-out",
        decisions=(decision,),
        candidate_names=(*(f"ridge {p:.1e}" for p in relative), "final"),
        candidate_losses=losses[order].astype(np.float32),
        candidate_hits=hits[order],
        neighbour_hits=_neighbour_hits(rows, class_ids, groups),
        unmeasurable=unmeasurable,
    )


def _unmeasurable(
    class_ids: NDArray[np.int64], num_classes: int, groups: NDArray[np.int64] | None
) -> NDArray[np.bool_]:
    """True where no picture of the class is left when the sample's group is left out."""
    total = np.bincount(class_ids, minlength=num_classes)
    if groups is None:
        return np.asarray(total[class_ids] == 1)
    _, group = np.unique(groups, return_inverse=True)
    pair = group * num_classes + class_ids
    return np.asarray(np.bincount(pair)[pair] == total[class_ids])


def _neighbour_hits(rows: Float, class_ids: NDArray[np.int64], groups: NDArray[np.int64] | None) -> NDArray[np.bool_]:
    """Whether the nearest row outside the sample's own group has its class."""
    group = np.arange(len(class_ids)) if groups is None else groups
    squared = np.einsum("nd,nd->n", rows, rows)
    hits = np.empty(len(class_ids), dtype=np.bool_)
    for start in range(0, len(class_ids), 1024):
        part = slice(start, start + 1024)
        distance = squared - 2.0 * rows[part] @ rows.T
        distance[group[part, None] == group] = np.inf
        hits[part] = class_ids[distance.argmin(axis=1)] == class_ids[part]
    return hits
