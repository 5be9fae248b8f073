"""Rank suspected label errors by the out-of-fold odds of another class.

Confident learning, which accounts for difficult classes, determines the number of suspected errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.types.arrays import Float

__all__ = ["LabelError", "LabelErrorList", "find_label_errors_or_pairs"]

_EPS = 1e-12


@dataclass(frozen=True, slots=True)
class LabelError:
    """One suspected label error.

    Attributes:
        index: Position of the sample.
        given: Its class id.
        suggested: Most probable other class id.
        error_probability: Probability of the suggested class relative to the given one, in [0, 1].
        probability_given, probability_suggested: Out of fold.
        conflicting_duplicates: Positions of near-duplicates with another label.
    """

    index: int
    given: int
    suggested: int
    error_probability: float
    probability_given: float
    probability_suggested: float
    conflicting_duplicates: tuple[int, ...] = ()


@dataclass(frozen=True)
class LabelErrorList:
    """Ranked labels, most probable errors first.

    Attributes:
        items: Ranked.
        num_flagged: Number of suspected label errors, the first of `items`.
        joint: (K, K) samples by given and confidently predicted class.
    """

    items: tuple[LabelError, ...]
    num_flagged: int
    joint: NDArray[np.int64]


def find_label_errors_or_pairs(
    probabilities: Float,
    class_ids: NDArray[np.int64],
    *,
    unscorable: NDArray[np.bool_] | None = None,
    duplicate_pairs: NDArray[np.int64] | None = None,
    limit: int | None = None,
) -> LabelErrorList:
    """Rank label errors by out-of-fold probabilities and near-duplicates.

    Args:
        probabilities: (N, K) out of fold (whole groups held out).
        class_ids: (N,) given labels.
        unscorable: (N,) samples whose class is in a single group; excluded.
        duplicate_pairs: (P, 2) positions of near-duplicates; pairs with different labels come first, since at least
            one of the two labels is wrong.
        limit: Length of the list; by default twice the number of suspected errors (at least 20).

    Source: Northcutt, Jiang and Chuang (2021) for the count; on 5 % planted flips the odds found .97 and .99 of
    them among the first twice as many (benchmarks/bench_uncertainty.py).
    """
    num, num_classes = probabilities.shape
    rows = np.arange(num)
    given = probabilities[rows, class_ids]
    others = probabilities.copy()
    others[rows, class_ids] = -1.0
    suggested = others.argmax(axis=1)
    best_other = others[rows, suggested]
    error_probability = (best_other + _EPS) / (best_other + given + 2 * _EPS)

    threshold = np.full(num_classes, np.inf)  # mean probability of a class among those labeled so
    for k in range(num_classes):
        if (class_ids == k).any():
            threshold[k] = given[class_ids == k].mean()
    confident = np.where(probabilities >= threshold, probabilities, -1.0)
    predicted = np.where(confident.max(axis=1) >= 0.0, confident.argmax(axis=1), -1)
    joint = np.zeros((num_classes, num_classes), dtype=np.int64)
    is_counted = predicted >= 0
    if unscorable is not None:
        is_counted &= ~unscorable
    np.add.at(joint, (class_ids[is_counted], predicted[is_counted]), 1)
    num_flagged = int(joint.sum() - np.trace(joint))

    partners: dict[int, list[int]] = {}
    for a, b in np.empty((0, 2), dtype=np.int64) if duplicate_pairs is None else duplicate_pairs:
        if class_ids[a] != class_ids[b]:
            partners.setdefault(int(a), []).append(int(b))
            partners.setdefault(int(b), []).append(int(a))
    rank = error_probability + np.array([1.0 if i in partners else 0.0 for i in range(num)])
    order = np.argsort(-rank, kind="stable")
    if unscorable is not None:
        order = order[~unscorable[order] | (rank[order] > 1.0)]
    # Conflicting duplicates always count; other samples only if another class is more probable.
    flagged = max(num_flagged, len(partners))
    flagged = min(flagged, int(((error_probability[order] > 0.5) | (rank[order] > 1.0)).sum()))
    length = max(20, 2 * flagged) if limit is None else limit
    items = tuple(
        LabelError(
            index=int(i),
            given=int(class_ids[i]),
            suggested=int(class_ids[partners[int(i)][0]]) if int(i) in partners else int(suggested[i]),
            error_probability=float(error_probability[i]),
            probability_given=float(given[i]),
            probability_suggested=float(best_other[i]),
            conflicting_duplicates=tuple(sorted(partners.get(int(i), ()))),
        )
        for i in order[:length]
    )
    return LabelErrorList(items=items, num_flagged=min(flagged, len(items)), joint=joint)
