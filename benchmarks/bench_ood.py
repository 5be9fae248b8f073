"""Benchmark OOD detection on held-out classes and other datasets against the maximum probability.

Every time the whole road is gone: a probe is fitted without the class, novelty is fitted on its training images,
and images that neither has seen are scored.  Sets with few test images are gone through in four folds.
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
OTHERS = 300  # images of each other set
HALVES = 8  # random halvings for the false alarms

Float = NDArray[np.float64]
Scores = dict[str, Float]


def main() -> None:
    """About ten minutes."""
    figures = Figures("ood")
    data = {name: load(name) for name in SETS}
    left_out(figures, data)
    other_sets(figures, data)
    false_alarms(figures, data)
    figures.save()


def left_out(figures: Figures, data: dict[str, Embedded]) -> None:
    """Each class left out in turn."""
    gains: dict[str, float] = {}
    for name, d in data.items():
        num_classes = len(d.class_names)
        if num_classes < 3:
            continue
        areas: list[Scores] = []
        for k in range(num_classes):
            known = d.class_ids != k
            for inside in splits(d):
                train, test = np.flatnonzero(inside & known), np.flatnonzero(~inside & known)
                strange = np.flatnonzero(~inside & ~known) if name in FOLDED else np.flatnonzero(~known)
                ids = d.class_ids - (d.class_ids > k)
                fit, novelty = fit_both(d, train, ids, num_classes - 1)
                areas.append(compare(score(fit, novelty, d, test), score(fit, novelty, d, strange)))
        mean = {key: float(np.mean([a[key] for a in areas])) for key in areas[0]}
        gains[name] = mean["novelty"] - mean["probability"]
        show(figures, f"class left out, {name}", mean)
    mean_gain = float(np.mean(list(gains.values())))
    figures.add("class left out, mean gain in AUROC", mean_gain, "at least 0.02", is_met=mean_gain >= 0.02)
    worst = min(gains, key=lambda n: gains[n])
    figures.add(
        "class left out, least gain", gains[worst], "at least -0.01", is_met=bool(gains[worst] >= -0.01), note=worst
    )


def other_sets(figures: Figures, data: dict[str, Embedded]) -> None:
    """Images of all other sets."""
    every: dict[str, float] = {}
    rng = np.random.default_rng(0)
    for name, d in data.items():
        inside = next(splits(d))
        fit, novelty = fit_both(d, np.flatnonzero(inside), d.class_ids, len(d.class_names))
        known = score(fit, novelty, d, np.flatnonzero(~inside))
        areas = []
        for other, o in data.items():
            if other != name:
                index = rng.choice(len(o.class_ids), OTHERS, replace=False)
                areas.append(compare(known, score(fit, novelty, o, index)))
        mean = {key: float(np.mean([a[key] for a in areas])) for key in areas[0]}
        every[name] = mean["novelty"]
        show(figures, f"images of other sets, {name}", mean)
    mean_area, least = float(np.mean(list(every.values()))), min(every.values())
    figures.add("images of other sets, mean AUROC", mean_area, "at least 0.98", is_met=mean_area >= 0.98)
    figures.add("images of other sets, least AUROC", least, "at least 0.95", is_met=least >= 0.95)


def false_alarms(figures: Figures, data: dict[str, Embedded]) -> None:
    """Fitted on a random half, empirical on the other."""
    for name, d in data.items():
        shares = []
        for seed in range(HALVES):
            order = np.random.default_rng(seed).permutation(len(d.class_ids))
            half = min(len(order) // 2, 500)
            train, test = np.sort(order[:half]), order[half:]
            fit, novelty = fit_both(d, train, d.class_ids, len(d.class_names))
            shares.append(float((score(fit, novelty, d, test)["novelty"] > novelty.threshold).mean()))
        error = float(np.std(shares, ddof=1)) / np.sqrt(HALVES)
        mean = float(np.mean(shares))
        is_met = bool(abs(mean - 0.05) <= max(2.5 * error, 0.005))
        what, note = f"known images refused at 5 %, {name}", f"standard error {error:.4f}"
        figures.add(what, mean, "0.05 within sampling error", is_met=is_met, note=note)


def splits(d: Embedded) -> Iterator[NDArray[np.bool_]]:
    """Return (N,) who is trained on: the set's own split, or four random ones."""
    if d.name in FOLDED:
        fold = np.random.default_rng(0).permutation(len(d.class_ids)) % 4
        yield from (fold != f for f in range(4))
    else:
        yield d.is_train


def fit_both(
    d: Embedded, train: NDArray[np.int64], ids: NDArray[np.int64], num_classes: int
) -> tuple[ProbeFit, OodModel]:
    blocks = d.take(train)
    fit = fit_probe(blocks, ids[train], num_classes)
    rows = fit.head.normalizer(blocks)
    space = (fit.row_mean, fit.row_directions)
    return fit, fit_ood_model(rows, softmax(fit.oof_logits), ids[train], space=space)


def score(fit: ProbeFit, novelty: OodModel, d: Embedded, index: NDArray[np.int64]) -> Scores:
    """Ours and what it is measured against, more is stranger."""
    blocks = d.take(index)
    logits = fit.head.logits(blocks).astype(np.float64)
    p = softmax(logits)
    top = logits.max(axis=1)
    return {
        "novelty": novelty.score(fit.head.normalizer(blocks), p),
        "probability": -p.max(axis=1),
        "energy": -(top + np.log(np.exp(logits - top[:, None]).sum(axis=1))),
        "entropy": -(p * np.log(np.maximum(p, 1e-12))).sum(axis=1),
    }


def compare(known: Scores, strange: Scores) -> dict[str, float]:
    return {key: rank_auc(known[key], strange[key]) for key in known}


def show(figures: Figures, what: str, areas: dict[str, float]) -> None:
    rest = ", ".join(f"{key} {value:.3f}" for key, value in areas.items() if key != "novelty")
    figures.add(f"{what}: AUROC", areas["novelty"], note=f"against {rest}")


if __name__ == "__main__":
    main()
