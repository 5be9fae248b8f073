"""Test the choice of the positive class, and ROC AUC, sensitivity and specificity against scikit-learn."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.config.effects import validate_detector_combination
from headstart.config.settings import resolve
from headstart.errors import SettingError
from headstart.evaluation.binary import binary_scores, choose_positive, rarer_class, roc_auc
from headstart.evaluation.intervals import effective_sample_size, estimate_proportion
from headstart.evaluation.metrics import evaluate
from headstart.types.codes import RESUBSTITUTION, USER_TEST_SPLIT


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60))
def test_auc_matches_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    score = np.array([s for s, _ in rows], dtype=np.float64)
    is_positive = np.array([p for _, p in rows])
    estimate = roc_auc(score, is_positive)
    if is_positive.all() or not is_positive.any():
        assert estimate.value is None
        return
    assert estimate.value == pytest.approx(metrics.roc_auc_score(is_positive, score), abs=1e-12)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_interval_of_perfect_auc_narrows_with_samples() -> None:
    lows = []
    for num in (5, 20, 200):
        estimate = roc_auc(np.arange(2.0 * num), np.arange(2 * num) >= num)
        assert estimate.value == estimate.high == 1.0
        lows.append(estimate.low)
    assert lows == sorted(lows)
    assert lows[0] < 0.6
    assert lows[-1] > 0.97


def test_groups_widen_or_suppress_interval() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10)
    is_positive = groups % 2 == 0
    score = is_positive + rng.normal(size=20)[groups] + 0.3 * rng.normal(size=200)
    alone, grouped = roc_auc(score, is_positive), roc_auc(score, is_positive, groups=groups)
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
    few = roc_auc(score, is_positive, groups=groups % 10)
    assert (few.low, few.high) == (None, None)


@pytest.mark.parametrize("present", [0, 1])
def test_absent_class_has_no_auc(present: int) -> None:
    truth = np.full(8, present)
    scores = binary_scores(np.linspace(0, 1, 8), truth, np.zeros(8, np.int64), 1)
    absent = "sensitivity" if present == 0 else "specificity"
    assert scores["roc_auc"] == scores[absent] == {"value": None, "low": None, "high": None}
    assert scores["sensitivity" if present else "specificity"]["value"] == (0.0 if present else 1.0)


def test_evaluation_has_sensitivity_and_specificity() -> None:
    rng = np.random.default_rng(1)
    truth = (rng.random(200) < 0.3).astype(np.int64)
    p = np.clip(0.3 + 0.3 * truth + 0.2 * rng.normal(size=200), 0, 1)
    scores = np.stack([1 - p, p], axis=1)
    block = evaluate(scores, truth, ["defect", "good"], setup=USER_TEST_SPLIT, positive="defect")
    binary = block.extra["binary"]
    assert binary["positive"] == "defect"
    assert binary["sensitivity"]["value"] == block.per_class[0].recall.value
    assert binary["specificity"]["low"] == block.per_class[1].recall.low
    other = evaluate(scores, truth, ["defect", "good"], setup=USER_TEST_SPLIT, positive="good").extra["binary"]
    assert other["roc_auc"]["value"] == pytest.approx(binary["roc_auc"]["value"])
    assert other["sensitivity"] == binary["specificity"]
    assert "binary" not in evaluate(scores, truth, ["a", "b"], setup=USER_TEST_SPLIT).extra


def test_training_and_unscorable_images_have_no_interval() -> None:
    truth = np.array([0] * 20 + [1] * 20)
    scores = np.eye(2)[truth] * 0.8 + 0.1
    trained = evaluate(scores, truth, ["a", "b"], setup=RESUBSTITUTION, positive="b").extra["binary"]
    assert trained["roc_auc"] == {"value": 1.0, "low": None, "high": None}
    lost = evaluate(scores, truth, ["a", "b"], setup=USER_TEST_SPLIT, positive="b", unscorable=truth == 1)
    assert lost.extra["binary"]["roc_auc"]["value"] is None
    assert lost.extra["binary"]["sensitivity"]["value"] == 0.0


def test_rarer_class() -> None:
    assert rarer_class(np.array([0, 0, 1])) == 1
    assert rarer_class(np.array([0, 1, 1])) == 0
    assert rarer_class(np.array([0, 1])) == 1


def _auc_coverage(auc: float, num_positive: int, num_negative: int, draws: int, *, group_size: int = 1) -> float:
    """Return the fraction of draws whose interval contains the true AUC of two normal distributions.

    With `group_size` above 1, samples come in groups of one class with an intraclass correlation of 0.5.
    """
    rng = np.random.default_rng(0)
    distance = NormalDist().inv_cdf(auc) * 2**0.5
    num = num_positive + num_negative
    is_positive = np.arange(num) < num_positive
    groups = np.arange(num) // group_size
    held = 0
    for _ in range(draws):
        shared = rng.normal(size=groups[-1] + 1)[groups]
        noise = shared if group_size == 1 else (shared + rng.normal(size=num)) / 2**0.5
        estimate = roc_auc(noise + distance * is_positive, is_positive, groups=None if group_size == 1 else groups)
        held += estimate.low <= auc <= estimate.high
    return held / draws


@pytest.mark.parametrize(("auc", "num"), [(0.6, (15, 15)), (0.9, (10, 200)), (0.99, (50, 50))])
def test_auc_interval_covers(auc: float, num: tuple[int, int]) -> None:
    assert _auc_coverage(auc, *num, draws=200) >= 0.92


def test_auc_interval_covers_with_groups() -> None:
    assert _auc_coverage(0.8, 80, 160, 200, group_size=8) >= 0.92


def test_sensitivity_interval_covers_with_groups() -> None:
    rng = np.random.default_rng(0)
    groups, held = np.repeat(np.arange(20), 6), 0
    for _ in range(200):
        rate = rng.beta(8, 2, 20)[groups]  # mean 0.8
        hits = (rng.random(120) < rate).astype(np.int64)
        share = binary_scores(np.zeros(120), np.ones(120, np.int64), hits, 1, groups=groups)["sensitivity"]
        held += share["low"] <= 0.8 <= share["high"]
    assert held / 200 >= 0.9
    size = effective_sample_size(hits == 1, groups, is_out_of_fold=False)
    assert share["low"] == estimate_proportion(float(hits.mean()), 120, size).low


@pytest.mark.long
@pytest.mark.parametrize("auc", [0.6, 0.8, 0.9, 0.95, 0.99, 0.998])
@pytest.mark.parametrize("num", [(5, 100), (15, 15), (10, 200), (50, 50), (100, 1000)])
@pytest.mark.parametrize("group_size", [1, 5])
def test_auc_interval_covers_over_a_grid(auc: float, num: tuple[int, int], group_size: int) -> None:
    if group_size > 1 and min(num) < 50:
        pytest.skip("fewer than six groups a class have no interval")
    assert _auc_coverage(auc, *num, draws=2000, group_size=group_size) >= 0.93


IDS = np.array([0, 0, 0, 1])


def test_rarer_class_is_positive() -> None:
    name, decision = choose_positive(None, ("defect", "good"), 1 - IDS)
    assert (name, decision.setting, decision.value) == ("defect", "positive", "defect")
    assert decision.evidence == {"num_positive": 1, "num_negative": 3}
    assert choose_positive(None, ("a", "b"), np.array([0, 1]))[0] == "b"


def test_explicit_positive_class_is_no_decision() -> None:
    assert choose_positive("good", ("defect", "good"), 1 - IDS) == ("good", None)
    assert choose_positive(None, ("a", "b", "c"), IDS) == (None, None)


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_positive_class_needs_two_classes(names: tuple[str, ...]) -> None:
    with pytest.raises(SettingError, match=f"{len(names)} class"):
        choose_positive("a", names, IDS)


def test_unknown_positive_class_is_refused() -> None:
    with pytest.raises(SettingError) as caught:
        choose_positive("bad", ("defect", "good"), IDS)
    assert all(name in caught.value.hint for name in ("defect", "good"))


def test_positive_setting_and_aliases() -> None:
    assert resolve({"data": "x", "pos_label": "a"}).settings.positive == "a"
    with pytest.raises(SettingError, match="no effect on a detector"):
        resolve({"data": "x", "positive": "a"}, validate=validate_detector_combination)
