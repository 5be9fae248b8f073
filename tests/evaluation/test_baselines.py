"""Test that baselines are measured on the images of the headline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import headstart
from headstart.evaluation.head_evaluation import measure_baselines
from headstart.types.records import Features, Samples, Split

NAMES = ("a", "b", "c")


def arrange(train: list[int], test: list[int]) -> tuple[Any, Any, Any, Any]:
    """Return samples whose feature is their class; all but the first training image have a correct neighbor."""
    labels = np.array([*train, *test])
    samples: Samples = SimpleNamespace(class_ids=labels, class_names=NAMES)  # type: ignore[assignment]
    rows = labels[:, None].astype(np.float32)
    features: Features = SimpleNamespace(blocks={"embedding": rows})  # type: ignore[assignment]
    split = Split(np.array(["train"] * len(train) + ["test"] * len(test)), None, "given", None, 0)
    head = SimpleNamespace(normalizer=lambda blocks: blocks["embedding"])
    hits = np.ones(len(train), dtype=bool)
    hits[0] = False
    return samples, features, split, SimpleNamespace(head=head, neighbor_hits=hits)


def test_majority_baseline_uses_training_class() -> None:
    samples, features, split, fit = arrange([0] * 8 + [1, 2], [0, 1, 1, 1])
    baselines = measure_baselines(samples, features, split, fit, split.where("test"))
    assert baselines["majority"] == {"class_name": "b", "accuracy": 0.75, "balanced_accuracy": 0.5}
    assert baselines["nearest_neighbor"]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("scored", "majority", "nearest"), [([0, 8], 0.5, 0.5), ([0, 1, 8], 2 / 3, 2 / 3), ([9], 1.0, 1.0)]
)
def test_baselines_use_held_out_part_only(scored: list[int], majority: float, nearest: float) -> None:
    samples, features, split, fit = arrange([0] * 8 + [1, 2], [1])
    baselines = measure_baselines(samples, features, split, fit, np.array(scored))
    assert baselines["majority"]["accuracy"] == pytest.approx(majority)
    assert baselines["nearest_neighbor"]["accuracy"] == pytest.approx(nearest)


def test_majority_baseline_matches_confusion(tmp_path: Path, make_images: Callable[..., Path]) -> None:
    make_images(tmp_path / "data" / "train", {"stripes": 12, "discs": 7, "checks": 7})
    make_images(tmp_path / "data" / "test", {"stripes": 2, "discs": 9, "checks": 3}, first_seed=100)
    run = headstart.train(tmp_path / "data", out=tmp_path / "run")
    support = np.array(run.metrics["test"]["confusion"]).sum(axis=1)
    majority = run.metrics["baselines"]["majority"]
    assert majority["accuracy"] == pytest.approx(support.max() / support.sum())
    assert majority["balanced_accuracy"] == pytest.approx(1 / 3)
    assert majority["class_name"] == "discs"
