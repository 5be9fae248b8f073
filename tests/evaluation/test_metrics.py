"""Test metrics against scikit-learn, and the errors of invalid input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from headstart.evaluation.intervals import OUT_OF_FOLD_RATIO
from headstart.evaluation.metrics import evaluate, evaluation_to_json, softmax
from headstart.types.codes import (
    RESUBSTITUTION,
    USER_TEST_SPLIT,
    USER_VALIDATION_SPLIT,
    EvaluationProtocol,
    EvaluationSetup,
    FindingKind,
    SplitSource,
)

NAMES = ["ant", "bee", "<script>", "wasp"]


def draw(num: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(NAMES), size=num, p=[0.5, 0.3, 0.15, 0.05])
    logits = rng.normal(size=(num, len(NAMES)))
    logits[np.arange(num), truth] += 1.5
    return logits, truth


def test_softmax_of_extreme_logits() -> None:
    p = softmax(np.array([[1e4, -1e4, 0.0], [-np.inf, 0.0, 0.0]]))
    np.testing.assert_allclose(p, [[1, 0, 0], [0, 0.5, 0.5]])


def test_scores_match_scikit_learn() -> None:
    logits, truth = draw()
    e = evaluate(logits, truth, NAMES, setup=USER_TEST_SPLIT, is_logits=True)
    predicted = logits.argmax(axis=1)
    assert e.accuracy.value == pytest.approx(reference.accuracy_score(truth, predicted))
    assert e.balanced_accuracy.value == pytest.approx(reference.balanced_accuracy_score(truth, predicted))
    assert e.f1_macro.value == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    assert e.log_loss == pytest.approx(reference.log_loss(truth, softmax(logits)))
    np.testing.assert_array_equal(e.confusion, reference.confusion_matrix(truth, predicted))
    precision, recall, f1, support = reference.precision_recall_fscore_support(truth, predicted)
    for k, score in enumerate(e.per_class):
        assert score.name == NAMES[k]
        assert score.precision.value == pytest.approx(precision[k])
        assert score.recall.value == pytest.approx(recall[k])
        assert score.f1.value == pytest.approx(f1[k])
        assert score.support == support[k]
        for share in (score.precision, score.recall, score.f1):
            assert 0 <= share.low <= share.value <= share.high <= 1


def test_probabilities_and_logits_give_equal_scores() -> None:
    logits, truth = draw()
    a = evaluate(logits, truth, NAMES, setup=USER_TEST_SPLIT, is_logits=True)
    b = evaluate(softmax(logits), truth, NAMES, setup=USER_TEST_SPLIT)
    assert a.accuracy == b.accuracy
    assert a.log_loss == pytest.approx(b.log_loss)


def test_logits_as_probabilities_raise() -> None:
    logits, truth = draw()
    with pytest.raises(ValueError, match="is_logits"):
        evaluate(logits, truth, NAMES, setup=USER_TEST_SPLIT)


@pytest.mark.parametrize("bad", [-1, 4])
def test_class_id_out_of_range_raises(bad: int) -> None:
    logits, truth = draw(10)
    truth[3] = bad
    with pytest.raises(ValueError, match="class ids"):
        evaluate(logits, truth, NAMES, setup=USER_TEST_SPLIT, is_logits=True)


def test_invalid_shapes_raise() -> None:
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(np.zeros((0, 2)), np.zeros(0, int), ["a", "b"], setup=USER_TEST_SPLIT)
    with pytest.raises(ValueError, match="shape"):
        evaluate(np.zeros((3, 2)), np.zeros(3, int), ["a", "b", "c"], setup=USER_TEST_SPLIT)


def test_json_keys() -> None:
    logits, truth = draw()
    block = json.loads(
        json.dumps(evaluation_to_json(evaluate(logits, truth, NAMES, setup=USER_VALIDATION_SPLIT, is_logits=True)))
    )
    assert {"protocol", "num_samples", "log_loss", "ece", "per_class", "confusion", "per_group"} <= set(block)
    for key in ("accuracy", "balanced_accuracy", "f1_macro"):
        assert set(block[key]) == {"value", "low", "high", "raw_value", "n_eff"}
    assert set(block["per_class"][0]) == {"name", "precision", "recall", "f1", "support"}
    assert set(block["per_class"][0]["f1"]) == {"value", "low", "high"}


def test_out_of_fold_interval_is_wider() -> None:
    logits, truth = draw()
    test = evaluate(
        logits,
        truth,
        NAMES,
        setup=EvaluationSetup(EvaluationProtocol.TEST_SPLIT, held_out_fraction=0.2, split_source=SplitSource.MADE),
        is_logits=True,
    )
    oof = evaluate(logits, truth, NAMES, setup=EvaluationSetup(EvaluationProtocol.LEAVE_ONE_OUT), is_logits=True)
    assert test.accuracy.n_eff == len(truth)
    assert oof.accuracy.n_eff == pytest.approx(OUT_OF_FOLD_RATIO * len(truth))
    assert oof.accuracy.high - oof.accuracy.low > test.accuracy.high - test.accuracy.low


def test_training_images_have_no_interval() -> None:
    logits, truth = draw()
    e = evaluate(logits, truth, NAMES, setup=RESUBSTITUTION, is_logits=True)
    assert e.accuracy.value is not None
    assert e.accuracy.low is None
    assert [f.kind for f in e.findings] == [FindingKind.SCORES_OF_TRAINING_IMAGES]


def test_class_without_images_is_excluded_from_balanced_accuracy() -> None:
    logits = np.eye(3)[[0, 0, 1, 1]] * 9
    e = evaluate(logits, np.array([0, 0, 1, 1]), ["a", "b", "c"], setup=USER_TEST_SPLIT, is_logits=True)
    assert e.per_class[2].recall.value is None
    assert e.balanced_accuracy.value == 1.0
    assert e.f1_macro.value == 1.0


def test_unscorable_class_counts_as_wrong() -> None:
    logits, truth = np.eye(3)[[0, 1, 2, 2]] * 9, np.array([0, 1, 2, 2])
    e = evaluate(
        logits,
        truth,
        ["a", "b", "c"],
        setup=EvaluationSetup(EvaluationProtocol.LEAVE_ONE_GROUP_OUT),
        is_logits=True,
        unscorable=np.array([False, False, True, True]),
    )
    assert e.accuracy.raw_value == 0.5
    assert e.per_class[2].recall.value == 0.0
    assert FindingKind.UNSCORABLE_IMAGES in [f.kind for f in e.findings]


def test_group_metrics_and_few_groups() -> None:
    logits, truth = draw(60)
    groups = np.arange(60) % 4
    e = evaluate(
        logits, truth, NAMES, setup=USER_TEST_SPLIT, is_logits=True, groups=groups, group_names=["p", "q", "r", "s"]
    )
    assert e.accuracy.low is None
    assert FindingKind.INTERVAL_NOT_MEASURABLE in [f.kind for f in e.findings]
    assert set(e.per_group) == {"p", "q", "r", "s"}
    total = sum(g["num_samples"] * g["accuracy"] for g in e.per_group.values())
    assert total == pytest.approx((logits.argmax(axis=1) == truth).sum())


def test_selection_bias_lowers_accuracy() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 80)
    losses = rng.exponential(size=(30, 80))
    hits = losses < np.log(2)  # a low loss is a hit, so selection by loss overestimates accuracy
    best = losses.mean(axis=1).argmin()
    logits = np.where(hits[best], 1.0, -1.0)[:, None] * np.where(np.eye(2)[truth] == 1, 1.0, -1.0)
    e = evaluate(
        logits,
        truth,
        ["a", "b"],
        setup=EvaluationSetup(EvaluationProtocol.LEAVE_ONE_OUT),
        is_logits=True,
        candidates=(losses, hits),
    )
    assert e.accuracy.raw_value == pytest.approx(hits[best].mean())
    assert e.accuracy.value < e.accuracy.raw_value
    assert e.accuracy.low < e.accuracy.value < e.accuracy.high
