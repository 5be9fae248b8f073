"""Build runs for report tests, with any number of classes and without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from headstart.evaluation.learning_curve import CurvePoint, LearningCurve
from headstart.evaluation.metrics import evaluate, evaluation_to_json
from headstart.reports.record import ClassifierRecord
from headstart.reports.slow_sections import SlowSections
from headstart.runs.scores import ScoredImages
from headstart.types.codes import RESUBSTITUTION, USER_TEST_SPLIT, EvaluationProtocol, EvaluationSetup


def build_facts(
    class_names: Sequence[str] = ("cat", "dog", "owl"),
    per_class: int = 20,
    has_test: bool = True,
    paths: dict[str, str] | None = None,
    seed: int = 0,
    skill: float = 2.0,
    sections: Mapping[str, Any] | None = None,
    slow: SlowSections | None = None,
    **changes: Any,
) -> ClassifierRecord:
    """Return a run with random scores of the given skill; `sections` go into its metrics."""
    rng = np.random.default_rng(seed)
    k = len(class_names)
    truth = np.repeat(np.arange(k), per_class)
    logits = rng.normal(size=(len(truth), k)).astype(np.float32)
    logits[np.arange(len(truth)), truth] += skill
    split = np.where(np.arange(len(truth)) % 2 == 0, "train", "test") if has_test else np.full(len(truth), "train")
    positive = class_names[-1] if k == 2 else None
    names = tuple(f"{class_names[t]}/{i:03d}.jpg" for i, t in enumerate(truth))

    def block(name: str, setup: EvaluationSetup) -> dict[str, Any]:
        at = split == name
        scores = evaluate(logits[at], truth[at], class_names, setup=setup, is_logits=True, positive=positive)
        return evaluation_to_json(scores)

    test = block("test", USER_TEST_SPLIT) if has_test else None
    cv = block("train", EvaluationSetup(EvaluationProtocol.LEAVE_ONE_OUT))
    scored = test or cv
    metrics = {
        "schema": 1,
        "task": "classify",
        "strategy": "probe",
        "backbone": "efficientnet_lite0",
        "num_samples": len(truth),
        "num_groups": None,
        "class_names": list(class_names),
        "positive": positive,
        "baselines": {
            "majority": {"class_name": class_names[0], "accuracy": 1 / k, "balanced_accuracy": 1 / k},
            "nearest_neighbor": {"accuracy": 0.5, "balanced_accuracy": 0.5},
        },
        "train": block("train", RESUBSTITUTION),
        "cv": cv,
        "val": None,
        "test": test,
        "headline": {"metric": "accuracy", "protocol": scored["protocol"], "num_samples": scored["num_samples"],
                     **{key: scored["accuracy"][key] for key in ("value", "low", "high")}},
        "duration_s": {"total": 1.0},
        **(sections or {}),
    }  # fmt: skip
    return ClassifierRecord(
        run="train1",
        metrics=metrics,
        scored=ScoredImages(
            names=names,
            split=split,
            class_ids=truth,
            logits=logits,
        ),
        paths=paths or {},
        sections=slow or SlowSections(),
        settings={"seed": {"value": 0, "source": "default", "reason": None}},
        bundle={"temperature": 1.1, "pixels": {"size_hw": [224, 224]}, "weights_license": "Apache-2.0"},
        tensors={"backbone.conv_stem.weight": (8, 3, 3, 3), "backbone.blocks.0.w": (8, 8, 1, 1), "head.weight": (k, 8),
                 "head.bias": (k,)},
        **changes,
    )  # fmt: skip


def build_curve(num_classes: int = 3) -> SlowSections:
    """Return a learning curve from 20 to 80 images with accuracy 0.8, and its forecast."""
    points = tuple(CurvePoint(n, v, v - 0.1, v + 0.1) for n, v in ((20, 0.6), (40, 0.7), (80, 0.8)))
    gain = (0.08, 0.05, 0.1)
    per_class = (gain, *[None] * (num_classes - 1))
    return SlowSections(LearningCurve(points, points[-1], (CurvePoint(160, 0.88, 0.78, 0.98),), (gain,), per_class))


@pytest.fixture(scope="session")
def make_facts() -> Callable[..., ClassifierRecord]:
    """`build_facts`."""
    return build_facts


@pytest.fixture(scope="session")
def make_curve() -> Callable[..., SlowSections]:
    """`build_curve`."""
    return build_curve
