"""Benchmark OOD detection on held-out classes and other datasets against the maximum probability.

Each measurement fits a probe and an OOD model without the class, and scores images that neither has seen. Datasets
with few test images are evaluated in four folds.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import Figures
from benchmarks._embedded import SETS, Embedded, load
from headstart.evaluation.ood import OodModel, fit_ood_model, rank_auc
from headstart.evaluation.softmax import softmax
from headstart.probe import ProbeFit, fit_probe

FOLDED = ("blood_cells", "covid_xray")
OTHERS = 300  # images of each other dataset
HALVES = 8  # random halves for the false-positive rate

Float = NDArray[np.float64]
Scores = dict[str, Float]


def main() -> None:
    """Measure everything; about ten minutes."""
    figures = Figures("ood")
    data = {name: load(name) for name in SETS}
    held_out_classes(figures, data)
    other_datasets(figures, data)
    false_positive_rates(figures, data)
    figures.save()


def held_out_classes(figures: Figures, data: dict[str, Embedded]) -> None:
    """Measure AUROC for each class held out in turn."""
    gains: dict[str, float] = {}
    for name, d in data.items():
        num_classes = len(d.class_names)
        if num_classes < 3:
            continue
        aurocs: list[Scores] = []
        for k in range(num_classes):
            known = d.class_ids != k
            for inside in splits(d):
                train, test = np.flatnonzero(inside & known), np.flatnonzero(~inside & known)
                unknown = np.flatnonzero(~inside & ~known) if name in FOLDED else np.flatnonzero(~known)
                ids = d.class_ids - (d.class_ids > k)
                fit, ood = fit_both(d, train, ids, num_classes - 1)
                aurocs.append(compare(score(fit, ood, d, test), score(fit, ood, d, unknown)))
        mean = {key: float(np.mean([a[key] for a in aurocs])) for key in aurocs[0]}
        gains[name] = mean["ood"] - mean["probability"]
        show(figures, f"held-out class, {name}", mean)
    mean_gain = float(np.mean(list(gains.values())))
    figures.add("held-out class, mean gain in AUROC", mean_gain, "at least 0.02", is_met=mean_gain >= 0.02)
    worst = min(gains, key=lambda n: gains[n])
    figures.add(
        "held-out class, smallest gain", gains[worst], "at least -0.01", is_met=bool(gains[worst] >= -0.01), note=worst
    )


def other_datasets(figures: Figures, data: dict[str, Embedded]) -> None:
    """Measure AUROC on images of all other datasets."""
    mean_aurocs: dict[str, float] = {}
    rng = np.random.default_rng(0)
    for name, d in data.items():
        inside = next(splits(d))
        fit, ood = fit_both(d, np.flatnonzero(inside), d.class_ids, len(d.class_names))
        known = score(fit, ood, d, np.flatnonzero(~inside))
        aurocs = []
        for other, o in data.items():
            if other != name:
                index = rng.choice(len(o.class_ids), OTHERS, replace=False)
                aurocs.append(compare(known, score(fit, ood, o, index)))
        mean = {key: float(np.mean([a[key] for a in aurocs])) for key in aurocs[0]}
        mean_aurocs[name] = mean["ood"]
        show(figures, f"other datasets, {name}", mean)
    mean_auroc, least = float(np.mean(list(mean_aurocs.values()))), min(mean_aurocs.values())
    figures.add("other datasets, mean AUROC", mean_auroc, "at least 0.98", is_met=mean_auroc >= 0.98)
    figures.add("other datasets, smallest AUROC", least, "at least 0.95", is_met=least >= 0.95)


def false_positive_rates(figures: Figures, data: dict[str, Embedded]) -> None:
    """Measure the false-positive rate on one random half with a threshold from the other."""
    for name, d in data.items():
        rates = []
        for seed in range(HALVES):
            order = np.random.default_rng(seed).permutation(len(d.class_ids))
            half = min(len(order) // 2, 500)
            train, test = np.sort(order[:half]), order[half:]
            fit, ood = fit_both(d, train, d.class_ids, len(d.class_names))
            rates.append(float((score(fit, ood, d, test)["ood"] > ood.threshold).mean()))
        error = float(np.std(rates, ddof=1)) / np.sqrt(HALVES)
        mean = float(np.mean(rates))
        is_met = bool(abs(mean - 0.05) <= max(2.5 * error, 0.005))
        what, note = f"false-positive rate at 5 %, {name}", f"standard error {error:.4f}"
        figures.add(what, mean, "0.05 within sampling error", is_met=is_met, note=note)


def splits(d: Embedded) -> Iterator[NDArray[np.bool_]]:
    """Yield (N,) training masks: the published split, or four random folds."""
    if d.name in FOLDED:
        fold = np.random.default_rng(0).permutation(len(d.class_ids)) % 4
        yield from (fold != f for f in range(4))
    else:
        yield d.is_train


def fit_both(
    d: Embedded, train: NDArray[np.int64], ids: NDArray[np.int64], num_classes: int
) -> tuple[ProbeFit, OodModel]:
    """Fit the probe and the OOD model."""
    blocks = d.take(train)
    fit = fit_probe(blocks, ids[train], num_classes)
    rows = fit.head.normalizer(blocks)
    space = (fit.row_mean, fit.row_directions)
    return fit, fit_ood_model(rows, softmax(fit.oof_logits), ids[train], space=space)


def score(fit: ProbeFit, ood: OodModel, d: Embedded, index: NDArray[np.int64]) -> Scores:
    """Return the OOD score and its alternatives; larger means more likely OOD."""
    blocks = d.take(index)
    logits = fit.head.logits(blocks).astype(np.float64)
    p = softmax(logits)
    top = logits.max(axis=1)
    return {
        "ood": ood.score(fit.head.normalizer(blocks), p),
        "probability": -p.max(axis=1),
        "energy": -(top + np.log(np.exp(logits - top[:, None]).sum(axis=1))),
        "entropy": -(p * np.log(np.maximum(p, 1e-12))).sum(axis=1),
    }


def compare(known: Scores, unknown: Scores) -> dict[str, float]:
    return {key: rank_auc(known[key], unknown[key]) for key in known}


def show(figures: Figures, what: str, aurocs: dict[str, float]) -> None:
    others = ", ".join(f"{key} {value:.3f}" for key, value in aurocs.items() if key != "ood")
    figures.add(f"{what}: AUROC", aurocs["ood"], note=f"against {others}")


if __name__ == "__main__":
    main()
