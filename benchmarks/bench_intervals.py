"""Measure the coverage of confidence intervals on resampled real images.

Each draw is a random dataset of n images, with equal class frequencies or the most frequent class six times as
frequent as the rarest. The 95 % interval of its probe is compared with the accuracy of that head on all other images,
weighted by class frequency. With duplicates, 30 % of the n images are copies of the others with noise of a tenth of a
standard deviation on their features; an image and its copies form one group. A dataset is used at size n if it has
four times as many other images.

    python -m benchmarks.bench_intervals --draws 1000      # one to two hours; resumable

Only runs with at least 1,000 draws are saved in `results/intervals.json`.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import RESULTS, Figures, commit
from benchmarks._embedded import Embedded, load
from headstart.evaluation.intervals import effective_sample_size, estimate_proportion
from headstart.evaluation.metrics import evaluate
from headstart.probe import fit_probe

SETS = ("blood_cells", "hand_drawn_shapes", "elpv", "clothing")
SIZES = (100, 200, 400)
REST_FACTOR = 4  # other images needed per drawn image
COPIES = 0.3
SAVED_DRAWS = 1000


def main(draws: int = 20) -> None:
    """Measure coverage on real images and with few groups; the default of 20 draws only shows that it runs."""
    figures = Figures("intervals")
    store = Store(RESULTS / "intervals.partial.jsonl", draws)
    cells = [store.get(key, lambda key=key: measure(key, draws)) for key in cells_of_images()]
    pooled(figures, "images, accuracy", cells, "accuracy", 0.93, 0.91)
    pooled(figures, "images, balanced accuracy", cells, "balanced", None, None)
    pooled(figures, "images, Wilson interval at n (for comparison)", cells, "plain", None, None)
    figures.add("images, bias of the uncorrected estimate, points", 100 * mean(cells, "bias_plain"))
    figures.add("images, bias of the corrected estimate, points", 100 * mean(cells, "bias"))
    figures.add("images, variance relative to the binomial", mean(cells, "variance_ratio"))
    few = few_groups(max(draws, 1000))
    pooled(figures, "10 to 20 groups", few, "accuracy", 0.91, 0.87)
    if draws >= SAVED_DRAWS:
        figures.save(draws=draws, cells=cells, few_groups=few)
        store.path.unlink(missing_ok=True)


class Store:
    """Finished cells, one line each, so that a long run can be resumed."""

    def __init__(self, path: Path, draws: int) -> None:
        self.path, self.draws, self.commit = path, draws, commit()
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        rows = [json.loads(line) for line in lines]
        self.done = {tuple(r["key"]): r for r in rows if r["draws"] == draws}

    def get(self, key: tuple[Any, ...], measure_cell: Any) -> dict[str, Any]:
        """Return the cell; measure it if it is not stored."""
        if key not in self.done:
            self.done[key] = {"key": list(key), "draws": self.draws, "commit": self.commit, **measure_cell()}
            if self.draws >= SAVED_DRAWS:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(self.done[key]) + "\n")
        row = self.done[key]
        print(f"  {key}: accuracy {row['truth']:.3f}, coverage {row['accuracy']:.3f}", flush=True)
        return row


def cells_of_images() -> list[tuple[str, int, str, str]]:
    """Return (dataset, n, balance, duplicates) of every cell."""
    return [
        (name, num, balance, copies)
        for name, num, balance, copies in product(SETS, SIZES, ("balanced", "imbalanced"), ("alone", "duplicates"))
        if len(embedded(name).class_ids) >= (1 + REST_FACTOR) * num * 0.99
    ]


_loaded: dict[str, Embedded] = {}


def embedded(name: str) -> Embedded:
    """Return a dataset, loaded once."""
    if name not in _loaded:
        _loaded[name] = load(name)
    return _loaded[name]


def measure(key: tuple[str, int, str, str], draws: int) -> dict[str, Any]:
    """Return the coverage, width and bias of one cell."""
    name, num, balance, copies = key
    data = embedded(name)
    rows = [one_draw(data, num, balance, copies, seed) for seed in range(draws)]
    table = {field: np.array([row[field] for row in rows]) for field in rows[0]}
    truth = table["truth"]
    binomial = float((truth * (1 - truth)).mean()) / num
    return {
        "truth": float(truth.mean()),
        "accuracy": float(table["covered"].mean()),
        "balanced": float(table["balanced_covered"].mean()),
        "plain": float(table["plain_covered"].mean()),
        "above": float((table["high"] < truth).mean()),
        "below": float((table["low"] > truth).mean()),
        "width": float((table["high"] - table["low"]).mean()),
        "bias": float((table["value"] - truth).mean()),
        "bias_plain": float((table["raw_value"] - truth).mean()),
        "variance_ratio": float((table["raw_value"] - truth).var() / binomial),
    }


def one_draw(data: Embedded, num: int, balance: str, copies: str, seed: int) -> dict[str, float]:
    """Return the interval of one random dataset, and the true accuracy."""
    rng = np.random.default_rng([seed, num, len(balance), len(copies)])
    frequencies = class_frequencies(data, balance)
    num_classes = len(frequencies)
    num_copies = round(COPIES * num) if copies == "duplicates" else 0
    drawn = draw(data.class_ids, frequencies, num - num_copies, rng)
    index = np.concatenate([drawn, rng.choice(drawn, num_copies)])
    blocks = data.take(index)
    for block in blocks.values():
        noise = rng.normal(size=(num_copies, block.shape[1])) * block.std(axis=0)
        block[len(drawn) :] += (0.1 * noise).astype(np.float32)
    groups = index if num_copies else None
    fit = fit_probe(blocks, data.class_ids[index], num_classes, groups=groups)
    result = evaluate(
        fit.oof_logits,
        data.class_ids[index],
        data.class_names,
        setup=fit.setup,
        is_logits=True,
        groups=groups,
        candidates=(fit.candidate_losses, fit.candidate_hits),
        unscorable=fit.unscorable,
        seed=seed,
    )
    rest = np.setdiff1d(np.arange(len(data.class_ids)), index)
    hits = fit.head.logits(data.take(rest)).argmax(axis=1) == data.class_ids[rest]
    recall = np.array([hits[data.class_ids[rest] == k].mean() for k in range(num_classes)])
    truth, balanced_truth = float(recall @ frequencies), float(recall.mean())
    a, b = result.accuracy, result.balanced_accuracy
    assert a.value is not None
    assert a.low is not None
    assert a.high is not None
    assert a.raw_value is not None
    plain = estimate_proportion(a.raw_value, num, effective_sample_size(hits, None, is_out_of_fold=False))
    return {
        "truth": truth,
        "value": a.value,
        "raw_value": a.raw_value,
        "low": a.low,
        "high": a.high,
        "covered": covers(a, truth),
        "balanced_covered": covers(b, balanced_truth),
        "plain_covered": covers(plain, truth),
    }


def covers(estimate: Any, truth: float) -> float:
    return float(estimate.low <= truth <= estimate.high)


def class_frequencies(data: Embedded, balance: str) -> NDArray[np.float64]:
    """Return (K,) class frequencies: equal, or from 6 to 1 in the order of the dataset's frequencies."""
    num_classes = len(data.class_names)
    frequencies = np.ones(num_classes)
    if balance == "imbalanced":
        order = np.argsort(-np.bincount(data.class_ids), kind="stable")
        frequencies[order] = np.geomspace(6, 1, num_classes)
    return frequencies / frequencies.sum()


def draw(
    class_ids: NDArray[np.int64], frequencies: NDArray[np.float64], num: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the indices of `num` different images; at least a quarter of every class is not drawn."""
    available = np.bincount(class_ids)
    while True:
        counts = rng.multinomial(num, frequencies)
        if (counts <= 0.75 * available).all() and (counts > 0).sum() > 1:
            break
    return np.concatenate([rng.choice(np.flatnonzero(class_ids == k), c, replace=False) for k, c in enumerate(counts)])


def few_groups(draws: int) -> list[dict[str, Any]]:
    """Simulate 10, 14 and 20 groups of uneven size (20 images on average) with beta-distributed accuracy."""
    cells = []
    for num_groups, correlation, truth in product((10, 14, 20), (0.05, 0.15), (0.75, 0.9, 0.97)):
        rng = np.random.default_rng([num_groups, round(100 * correlation), round(100 * truth)])
        scale = (1 - correlation) / correlation
        covered = 0.0
        for _ in range(draws):
            sizes = np.maximum(1, np.round(rng.lognormal(np.log(20), 0.5, num_groups))).astype(int)
            accuracy = rng.beta(truth * scale, (1 - truth) * scale, num_groups)
            groups = np.repeat(np.arange(num_groups), sizes)
            hits = rng.random(len(groups)) < accuracy[groups]
            size = effective_sample_size(hits, groups, is_out_of_fold=False)
            covered += covers(estimate_proportion(float(hits.mean()), len(hits), size), truth)
        cells.append({"key": [num_groups, correlation, truth], "accuracy": covered / draws})
    return cells


def mean(cells: list[dict[str, Any]], field: str) -> float:
    return float(np.mean([cell[field] for cell in cells]))


def pooled(
    figures: Figures, what: str, cells: list[dict[str, Any]], field: str, aim: float | None, least: float | None
) -> None:
    """Report the coverage over all cells and of the worst cell."""
    worst = min(cells, key=lambda cell: cell[field])
    value = mean(cells, field)
    figures.add(
        f"{what}: pooled coverage of 95 %",
        value,
        f"at least {aim}" if aim else "",
        is_met=None if aim is None else value >= aim,
        note=f"{len(cells)} cells",
    )
    figures.add(
        f"{what}: coverage of the worst cell",
        worst[field],
        f"at least {least}" if least else "",
        is_met=None if least is None else worst[field] >= least,
        note=" ".join(map(str, worst["key"])),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20)
    main(parser.parse_args().draws)
