"""Can something that is no content tell the classes apart?  Small classifiers on one cue at a time.

The one decision: each cue is judged by balanced accuracy on pictures it was not fitted to, so a cue with
many values gains nothing by remembering.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["balanced_accuracy", "folds", "from_categories", "from_numbers", "from_vectors", "tail_share", "told_apart"]

_FOLDS = 5
_BINS = 12


def folds(class_ids: NDArray[np.int64], groups: NDArray[np.int64] | None, seed: int = 0) -> NDArray[np.int64]:
    """(N,) fold 0-4 of each sample, spread over classes; a group is never parted."""
    rng = np.random.default_rng(seed)
    ids = np.arange(len(class_ids)) if groups is None else groups
    _, first, unit = np.unique(ids, return_index=True, return_inverse=True)
    order = rng.permutation(len(first))
    order = order[np.argsort(class_ids[first[order]], kind="stable")]
    fold = np.empty(len(first), dtype=np.int64)
    fold[order] = np.arange(len(first)) % _FOLDS
    return fold[unit.reshape(-1)]


def from_numbers(
    values: NDArray[np.float64], class_ids: NDArray[np.int64], fold: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(N,) out-of-fold predictions of a naive Bayes classifier on (N, D) binned numbers."""
    columns = []
    for column in values.T:
        edges = np.unique(np.quantile(column, np.linspace(0, 1, _BINS + 1)[1:-1]))
        columns.append(np.searchsorted(edges, column, side="right"))
    return _naive_bayes(columns, class_ids, fold)


def from_categories(values: list[str], class_ids: NDArray[np.int64], fold: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) out-of-fold predictions: the likeliest class of each value, classes weighted alike."""
    _, codes = np.unique(np.array(values, dtype=object).astype(str), return_inverse=True)
    return _naive_bayes([codes.reshape(-1)], class_ids, fold)


def from_vectors(
    values: NDArray[np.float32], class_ids: NDArray[np.int64], fold: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(N,) out-of-fold predictions of ridge regression on (N, D) vectors, classes weighted alike."""
    num_classes = int(class_ids.max()) + 1
    predicted = np.empty(len(class_ids), dtype=np.int64)
    for k in range(_FOLDS):
        train, test = fold != k, fold == k
        if not test.any():
            continue
        mean, scale = values[train].mean(axis=0), values[train].std(axis=0)
        scale = np.maximum(scale, 0.1 * max(float(np.median(scale)), 1e-6))
        x = np.clip((values[train] - mean) / scale, -5, 5).astype(np.float64)
        z = np.clip((values[test] - mean) / scale, -5, 5).astype(np.float64)
        counts = np.bincount(class_ids[train], minlength=num_classes)
        weight = 1.0 / np.maximum(counts, 1)[class_ids[train]]
        weight *= len(weight) / weight.sum()
        target = np.eye(num_classes)[class_ids[train]]
        x, z = np.c_[x, np.ones(len(x))], np.c_[z, np.ones(len(z))]
        gram = (x * weight[:, None]).T @ x
        gram[np.diag_indices_from(gram)] += 0.05 * len(x)
        predicted[test] = (z @ np.linalg.solve(gram, (x * weight[:, None]).T @ target)).argmax(axis=1)
    return predicted


def balanced_accuracy(predicted: NDArray[np.int64], class_ids: NDArray[np.int64]) -> float:
    """Mean over the classes of the share that is right, in [0, 1]."""
    return float(np.mean([(predicted[class_ids == k] == k).mean() for k in np.unique(class_ids)]))


def told_apart(predicted: NDArray[np.int64], class_ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K,) how well each class is told from the rest: hits minus false alarms (Youden's J), at most 1."""
    classes = range(int(class_ids.max()) + 1)
    values = [
        (predicted[class_ids == k] == k).mean() - (predicted[class_ids != k] == k).mean()
        for k in classes
        if (class_ids == k).any() and (class_ids != k).any()
    ]
    return np.array(values, dtype=np.float64)


def tail_share(values: NDArray[np.float64], is_in: NDArray[np.bool_]) -> tuple[float, NDArray[np.int64]]:
    """How much of one class lies where next to nothing of the others does.

    Args:
        values: (N,) one cue.
        is_in: (N,) members of the class.

    Returns:
        The larger share, in [0, 1], of the class below the lowest or above the highest 1 % of the others,
        with a margin of a fifth of the others' spread; and the members that lie there.
    """
    others = values[~is_in]
    if not len(others) or not is_in.any():
        return 0.0, np.empty(0, dtype=np.int64)
    low, middle_low, middle_high, high = np.quantile(others, (0.01, 0.1, 0.9, 0.99))
    margin = 0.2 * (middle_high - middle_low) + 1e-9
    best, members = 0.0, np.empty(0, dtype=np.int64)
    for outside in (values < low - margin, values > high + margin):
        share = float((outside & is_in).sum() / is_in.sum())
        if share > best:
            best, members = share, np.flatnonzero(outside & is_in)
    return best, members


def _naive_bayes(
    columns: list[NDArray[np.int64]], class_ids: NDArray[np.int64], fold: NDArray[np.int64]
) -> NDArray[np.int64]:
    num_classes = int(class_ids.max()) + 1
    predicted = np.empty(len(class_ids), dtype=np.int64)
    for k in range(_FOLDS):
        train, test = fold != k, fold == k
        total = np.zeros((int(test.sum()), num_classes))
        counts = np.bincount(class_ids[train], minlength=num_classes)
        for codes in columns:
            size = int(codes.max()) + 1
            table = np.zeros((size, num_classes))
            np.add.at(table, (codes[train], class_ids[train]), 1.0)
            rate = (table + 0.5 / size) / (counts + 0.5)
            total += np.log(rate[codes[test]])
        predicted[test] = total.argmax(axis=1)
    return predicted
