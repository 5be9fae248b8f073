"""Evaluate uncertainty: calibration, prediction sets, label errors, thresholds, comparison, forecast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import Figures
from benchmarks._embedded import SETS, Embedded, load
from headstart.evaluation.calibration import calibrate, calibration_error
from headstart.evaluation.conformal import fit_prediction_sets
from headstart.evaluation.label_errors import find_label_errors_or_pairs
from headstart.evaluation.learning_curve import forecast_curve, nested_parts
from headstart.evaluation.metrics import log_loss
from headstart.evaluation.operating_points import accept_above
from headstart.evaluation.paired_comparison import ComparisonVerdict, compare_paired
from headstart.evaluation.selection_bias import selection_bias
from headstart.evaluation.softmax import softmax
from headstart.probe import fit_probe

DRAWS = 200  # random datasets for prediction sets and thresholds
NUM = 300  # images per dataset
REPLICATES = 2000  # random swaps
FORECASTS = 10  # random datasets for the learning curve

Float = NDArray[np.float64]


def main() -> None:
    """Measure everything; about half an hour."""
    figures = Figures("uncertainty")
    data = {name: load(name) for name in SETS}
    calibration(figures, [d for d in data.values() if len(d.class_ids) >= 500])
    sets_and_thresholds(figures, [data[name] for name in ("hand_drawn_shapes", "elpv", "clothing")])
    label_errors(figures, data["clothing"], 0.85)
    label_errors(figures, data["hand_drawn_shapes"], 0.95)
    swaps(figures, data["clothing"])
    swaps(figures, data["hand_drawn_shapes"])
    power(figures)
    forecasts(figures, [data[name] for name in ("hand_drawn_shapes", "elpv", "clothing")])
    figures.save()


def calibration(figures: Figures, data: list[Embedded]) -> None:
    """Measure calibration error, cross-fitted on out-of-fold logits and on the test images."""
    errors, gains = [], []
    for d in data:
        train, test = np.flatnonzero(d.is_train), np.flatnonzero(~d.is_train)
        groups = None if d.groups is None else d.groups[train]
        fit = fit_probe(d.take(train), d.class_ids[train], len(d.class_names), groups=groups)
        c = calibrate(fit.oof_logits, d.class_ids[train], groups=groups)
        error = calibration_error(softmax(c.logits), d.class_ids[train])
        before = log_loss(softmax(fit.oof_logits), d.class_ids[train])
        after = log_loss(softmax(c.logits), d.class_ids[train])
        errors.append(error.value)
        gains.append(before - after)
        figures.add(
            f"calibration error, cross-fitted, {d.name}",
            error.value,
            note=f"{error.low:.3f} to {error.high:.3f}, {c.kind}, log-loss {before:.4f} to {after:.4f}",
        )
        logits = fit.head.logits(d.take(test))
        unseen = calibration_error(softmax(c.apply(logits)), d.class_ids[test])
        figures.add(f"calibration error on test images, {d.name}", unseen.value,
                    note=f"{unseen.low:.3f} to {unseen.high:.3f}, {len(test)} images, "
                    f"uncalibrated {calibration_error(softmax(logits), d.class_ids[test]).value:.3f}")  # fmt: skip
    mean = float(np.mean(errors))
    figures.add("calibration error, cross-fitted, mean", mean, "at most 0.03", is_met=mean <= 0.03)
    figures.add("smallest gain in log-loss by calibration", min(gains), "not below 0", is_met=min(gains) >= 0)


def sets_and_thresholds(figures: Figures, data: list[Embedded]) -> None:
    """Measure coverage of prediction sets at 0.9 and error of 5 % thresholds on images that were not drawn."""
    for d in data:
        covered, sizes, empty, exceeded, available, accepted = [], [], [], [], 0, []
        for seed in range(DRAWS):
            train, rest = drawn(d, NUM, seed)
            fit = fit_probe(d.take(train), d.class_ids[train], len(d.class_names), logistic=False)
            oof = softmax(fit.oof_logits)
            sets = fit_prediction_sets(oof, d.class_ids[train], coverage=0.9, num_folds=2)
            p, ids = softmax(fit.head.logits(d.take(rest))), d.class_ids[rest]
            inside = sets.sets(p)
            covered.append(inside[np.arange(len(ids)), ids].mean())
            sizes.append(inside.sum(axis=1).mean())
            empty.append((~inside.any(axis=1)).mean())
            hits = oof.argmax(axis=1) == d.class_ids[train]
            point = accept_above(oof.max(axis=1), hits, targets=(0.05,))[0.05]
            if point is not None:
                available += 1
                is_accepted = p.max(axis=1) >= point.threshold
                accepted.append(is_accepted.mean())
                exceeded.append((p[is_accepted].argmax(axis=1) != ids[is_accepted]).mean() > 0.05)
        mean = float(np.mean(covered))
        figures.add(f"prediction sets at 0.9, mean empirical coverage, {d.name}", mean, "in 0.88 to 0.93",
                    is_met=0.88 <= mean <= 0.93,
                    note=f"mean size {np.mean(sizes):.2f}, {np.mean(empty):.3f} empty, {DRAWS} draws")  # fmt: skip
        if available:
            share = float(np.mean(exceeded))
            figures.add(f"threshold for 5 % errors, fraction of draws above 5 %, {d.name}", share, "at most 0.05",
                        is_met=share <= 0.05,
                        note=f"available in {available} of {DRAWS}, {np.mean(accepted):.2f} accepted")  # fmt: skip


def label_errors(figures: Figures, d: Embedded, aim: float) -> None:
    """Measure the recall of label errors with 5 % of the labels flipped at random."""
    train, test = np.flatnonzero(d.is_train), np.flatnonzero(~d.is_train)
    blocks, test_blocks, num_classes = d.take(train), d.take(test), len(d.class_names)
    recalls, changed, called = [], [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        given = d.class_ids[train].copy()
        flipped = rng.choice(len(train), round(0.05 * len(train)), replace=False)
        given[flipped] = (given[flipped] + rng.integers(1, num_classes, len(flipped))) % num_classes
        fit = fit_probe(blocks, given, num_classes)
        ranked = find_label_errors_or_pairs(softmax(fit.oof_logits), given, limit=2 * len(flipped))
        first = np.array([s.index for s in ranked.items])
        recalls.append(float(np.isin(flipped, first).mean()))
        called.append(ranked.num_flagged / len(flipped))
        keep = np.setdiff1d(np.arange(len(train)), first)
        cleaned = fit_probe({k: b[keep] for k, b in blocks.items()}, given[keep], num_classes)
        before, after = (
            float((f.head.logits(test_blocks).argmax(axis=1) == d.class_ids[test]).mean()) for f in (fit, cleaned)
        )
        changed.append(after - before)
    recall, change = float(np.mean(recalls)), float(np.mean(changed))
    figures.add(f"recall of flips among the first 2 x, {d.name}", recall, f"at least {aim}", is_met=recall >= aim,
                note=f"{np.mean(called):.2f} x as many errors estimated")  # fmt: skip
    figures.add(f"gain in test accuracy by dropping those, {d.name}", change, "not below 0", is_met=change >= 0)


def swaps(figures: Figures, d: Embedded) -> None:
    """Measure the false-positive rate of the comparison on two heads with randomly swapped predictions."""
    train, test = np.flatnonzero(d.is_train), np.flatnonzero(~d.is_train)
    ids, groups = d.class_ids[test], None if d.groups is None else d.groups[test]
    unit = np.arange(len(test)) if groups is None else np.unique(groups, return_inverse=True)[1]
    num_classes = len(d.class_names)
    a, b = (
        softmax(fit_probe(d.take(part), d.class_ids[part], num_classes).head.logits(d.take(test)))
        for part in (train, train[::3])
    )
    rng = np.random.default_rng(0)
    called = {"accuracy": 0, "balanced_accuracy": 0, "log_loss": 0}
    for seed in range(REPLICATES):
        swap = (rng.random(unit.max() + 1) < 0.5)[unit][:, None]
        result = compare_paired(
            (np.where(swap, a, b), np.where(swap, b, a)), ids, d.class_names, groups=groups, num_draws=300, seed=seed
        )
        for name in called:
            called[name] += getattr(result, name).p_value < 0.05
    what = f"swapped {'by groups' if groups is not None else 'by image'}, {d.name}"
    for name, count in called.items():
        share = count / REPLICATES
        figures.add(f"{what}: false positives in {name}", share, "at most 0.06", is_met=share <= 0.06)


def power(figures: Figures) -> None:
    """Measure the power for two heads that differ on 8 % (+2 points) or 10 % (+5 points) of the images."""
    rng = np.random.default_rng(0)
    for gain, differ in ((0.02, 0.08), (0.05, 0.10)):
        for num in (200, 400, 1000):
            detected = 0
            for seed in range(200):
                kind = rng.choice(3, size=num, p=[(differ + gain) / 2, (differ - gain) / 2, 1 - differ])
                right_b, right_a = kind != 1, kind != 0
                a, b = (np.where(right[:, None], [0.9, 0.1], [0.1, 0.9]) for right in (right_a, right_b))
                ids = np.zeros(num, dtype=np.int64)
                detected += (
                    compare_paired((a, b), ids, ("x", "y"), num_draws=300, seed=seed).verdict
                    is ComparisonVerdict.BETTER
                )
            figures.add(f"power to detect +{100 * gain:.0f} points with {num} images", detected / 200,
                        note=f"the two differ on {100 * differ:.0f} % of them")  # fmt: skip


def forecasts(figures: Figures, data: list[Embedded]) -> None:
    """Compare the forecast gain from 200 to 400 and 800 images with the measured one."""
    errors, covered = [], []
    for d in data:
        own_errors = []
        for seed in range(FORECASTS):
            order = np.random.default_rng(seed).permutation(len(d.class_ids))
            index = order[:200]
            curve = forecast_of(d, index, seed)
            now = accuracy_of(d, index, order[200:])
            for (value, low, high), size in zip(curve, (400, 800), strict=True):
                truth = accuracy_of(d, order[:size], order[size:]) - now
                own_errors.append(abs(value - truth))
                covered.append(low <= truth <= high)
        errors += own_errors
        figures.add(f"gain at 2 x and 4 x the images, mean error of the forecast, {d.name}", float(np.mean(own_errors)))
    figures.add("gain at 2 x and 4 x the images, mean error of the forecast", float(np.mean(errors)))
    figures.add("coverage of the forecast's 95 % interval", float(np.mean(covered)))


def forecast_of(d: Embedded, index: NDArray[np.int64], seed: int) -> tuple[tuple[float, float, float], ...]:
    """Return the forecast gains of one dataset."""
    ids, blocks, num_classes = d.class_ids[index], d.take(index), len(d.class_names)
    sizes, hits = [], []
    for count, parts in nested_parts(ids, seed=seed).items():
        right, times = np.zeros(len(ids)), np.zeros(len(ids))
        for part in parts:
            rest = np.setdiff1d(np.arange(len(ids)), part)
            fit = fit_probe({k: b[part] for k, b in blocks.items()}, ids[part], num_classes, logistic=False)
            right[rest] += fit.head.logits({k: b[rest] for k, b in blocks.items()}).argmax(axis=1) == ids[rest]
            times[rest] += 1
        sizes.append(len(ids) // count)
        hits.append(right / np.maximum(times, 1))
    fit = fit_probe(blocks, ids, num_classes, logistic=False)
    sizes.append(len(ids))
    hits.append(fit.candidate_hits[-1].astype(np.float64))
    bias = selection_bias(fit.candidate_losses, fit.candidate_hits)
    return forecast_curve(np.array(sizes), np.array(hits), ids, num_classes, bias=bias, seed=seed).gains


def accuracy_of(d: Embedded, train: NDArray[np.int64], rest: NDArray[np.int64]) -> float:
    """Return the accuracy on `rest` of a probe fitted on `train`."""
    fit = fit_probe(d.take(train), d.class_ids[train], len(d.class_names), logistic=False)
    return float((fit.head.logits(d.take(rest)).argmax(axis=1) == d.class_ids[rest]).mean())


def drawn(d: Embedded, num: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of `num` random images, and of the rest."""
    order = np.random.default_rng(seed).permutation(len(d.class_ids))
    return order[:num], order[num:]


if __name__ == "__main__":
    main()
