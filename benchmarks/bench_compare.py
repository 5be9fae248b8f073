"""Benchmark `headstart compare`: false-positive rate and power.

Two runs on `clothing` (lite0 with and without class weights) give paired predictions. Swapping them at random per
image, or per group of ten, makes the models equal, so every verdict is a false positive.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks._common import Figures, bench_data
from headstart.api.functions import train
from headstart.evaluation.metrics import softmax
from headstart.evaluation.paired_comparison import ComparisonVerdict, compare_paired
from headstart.reports.record import read_record

REPLICATES = 2000
POWER_REPLICATES = 400
DRAWS = 499
CHURN = 0.03  # fraction of images that only one of two equally good models gets right, for each model


def main() -> None:
    """Measure everything; a few minutes."""
    figures = Figures("compare")
    data = bench_data() / "clothing"
    with tempfile.TemporaryDirectory() as scratch:
        runs = [
            train(data, out=str(Path(scratch) / "a")),
            train(data, out=str(Path(scratch) / "b"), class_weights="auto"),
        ]
        data_of_runs = [read_record(run.folder, has_paths=False) for run in runs]
    at = data_of_runs[0].scored.split == "test"
    truth, names = data_of_runs[0].scored.class_ids[at], data_of_runs[0].class_names
    a, b = (softmax(f.scored.logits[at].astype(np.float64)) for f in data_of_runs)
    rng = np.random.default_rng(0)
    alone = np.arange(len(truth))
    tens = rng.permutation(len(truth)) // 10
    for title, unit, groups in (("per image", alone, None), ("per group of ten", tens, tens)):
        false_positives = 0
        for draw in range(REPLICATES):
            swap = rng.integers(0, 2, int(unit.max()) + 1).astype(bool)[unit][:, None]
            comparison = compare_paired(
                (np.where(swap, b, a), np.where(swap, a, b)), truth, names, groups=groups, num_draws=DRAWS, seed=draw
            )
            false_positives += comparison.verdict is not ComparisonVerdict.UNDECIDED
        rate = false_positives / REPLICATES
        figures.add(f"false positives, swapped {title}", rate, "at most 0.06", is_met=rate <= 0.06)
    power(figures, rng)
    figures.save(replicates=REPLICATES, draws=DRAWS, churn=CHURN)


def power(figures: Figures, rng: np.random.Generator) -> None:
    """Measure the power: the fraction of true gains that are detected, by gain and number of scored images."""
    for gain in (0.02, 0.05):
        for num in (200, 400, 1000, 3000):
            detected = 0
            for draw in range(POWER_REPLICATES):
                truth = rng.integers(0, 4, num)
                hits = rng.random(num) < 0.85
                lost = hits & (rng.random(num) < CHURN / 0.85)
                won = ~hits & (rng.random(num) < (CHURN + gain) / 0.15)
                comparison = compare_paired(
                    (_as_probabilities(truth, hits), _as_probabilities(truth, (hits & ~lost) | won)), truth, "abcd",
                    num_draws=199, seed=draw,
                )  # fmt: skip
                detected += comparison.verdict is ComparisonVerdict.BETTER
            figures.add(f"power at +{100 * gain:.0f} points, {num} images", detected / POWER_REPLICATES)


def _as_probabilities(truth: np.ndarray, hits: np.ndarray) -> np.ndarray:
    return np.eye(4)[np.where(hits, truth, (truth + 1) % 4)] * 0.6 + 0.1


if __name__ == "__main__":
    main()
