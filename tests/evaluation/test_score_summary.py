"""Test the headline score: metric, baselines, hardest class, score with leaks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from headstart.evaluation.head_evaluation import HeadEvaluation, ModelLogits
from headstart.evaluation.metrics import evaluate
from headstart.evaluation.score_summary import summarize_classification, summarize_run
from headstart.types.codes import USER_TEST_SPLIT, EvaluationProtocol, EvaluationSetup


def summary(signal: float = 3.0, groups: Any = None, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 40)
    logits = rng.normal(size=(120, 3))
    logits[np.arange(120), truth] += signal
    setup = EvaluationSetup(EvaluationProtocol.LEAVE_ONE_OUT)
    scored = evaluate(logits, truth, ["a", "b", "c"], setup=setup, is_logits=True, groups=groups)
    baselines: dict[str, dict[str, Any]] = {
        "majority": {"class_name": "a", "accuracy": 0.4, "balanced_accuracy": 0.33},
        "nearest_neighbor": {"accuracy": 0.5, "balanced_accuracy": 0.45},
    }
    given = {"val": None, "test": None, "is_imbalanced": False} | changes
    every, rows = np.arange(120), logits.astype(np.float32)
    model_logits = ModelLogits(rows, every, rows, every)
    evaluation = HeadEvaluation(train=scored, cv=scored, baselines=baselines, logits=model_logits, **given)
    metrics = {**evaluation.blocks_json(), "baselines": baselines}
    metric, leaky = metrics["headline"]["metric"], evaluation.test_including_leaks
    score = summarize_classification(evaluation.headline, metric, baselines, leaky)
    assert summarize_run(json.loads(json.dumps(metrics))) == score, "the stored run gives the same score"
    return score


def test_baselines_use_headline_metric() -> None:
    even, skewed = summary(), summary(is_imbalanced=True)
    assert (even["metric"], even["majority"], even["nearest_neighbor"]) == ("accuracy", 0.4, 0.5)
    assert (skewed["metric"], skewed["majority"]) == ("balanced_accuracy", 0.33)
    assert skewed["accuracy"] == even["accuracy"]
    assert even["correct"] == round(even["value"] * even["total"])


def test_hardest_class_needs_imperfect_recall() -> None:
    assert summary()["hardest_class"]["recall"] < 1.0
    assert summary(signal=30.0)["hardest_class"] is None


def test_too_few_groups_have_no_interval() -> None:
    score = summary(groups=np.repeat([0, 1, 2], 40))
    assert score["value"] is not None
    assert (score["low"], score["high"], score["num_groups"]) == (None, None, 3)


@pytest.mark.parametrize("skill", [-50.0, 50.0])
def test_leaking_images_are_scored_separately(skill: float) -> None:
    truth = np.repeat([0, 1, 2], 2)
    logits, names = skill * np.eye(3)[truth], ("a", "b", "c")
    clean = evaluate(logits, truth, names, setup=USER_TEST_SPLIT, is_logits=True)
    given = evaluate(np.r_[logits, logits[:1]], np.r_[truth, truth[:1]], names, setup=USER_TEST_SPLIT, is_logits=True)
    score = summary(test=clean, test_including_leaks=given)
    assert (score["total"], score["is_users_split"]) == (6, True)
    assert score["leaky"]["num_leaks"] == 1
    assert score["leaky"]["value"] == given.accuracy.value
