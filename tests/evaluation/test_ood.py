"""Test OOD detection: recall and false-positive rate."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from headstart.evaluation.decision_rules import OodRule, PredictionSetRule, add_up, log_ood_score
from headstart.evaluation.folds import draw_folds
from headstart.evaluation.held_out_class import evaluate_held_out_classes
from headstart.evaluation.ood import fit_ood_model, rank_auc, threshold_of
from headstart.evaluation.principal_directions import leading_directions, out_of_fold_residual, squared_residual

WIDTH = 60


class World:
    """Five classes in a ten-dimensional subspace, with little noise outside it."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.plane = np.linalg.qr(self.rng.normal(size=(WIDTH, 10)))[0]
        self.centers = self.rng.normal(size=(5, 10)) * 1.5

    def known(self, num: int) -> tuple[np.ndarray, np.ndarray]:
        ids = self.rng.integers(0, 5, num)
        inside = self.centers[ids] + self.rng.normal(size=(num, 10))
        return inside @ self.plane.T + 0.1 * self.rng.normal(size=(num, WIDTH)), ids

    def unknown(self, num: int) -> np.ndarray:
        """Return unknown images: close to the known ones, but far from their subspace."""
        return 0.3 * self.rng.normal(size=(num, WIDTH)) + self.known(num)[0] * 0.9


def head(rows: np.ndarray, ids: np.ndarray) -> LogisticRegression:
    return LogisticRegression(max_iter=500).fit(rows, ids)


def test_false_positive_rate_and_recall() -> None:
    world = World()
    false_positives, detected = [], []
    for seed in range(8):
        rows, ids = world.known(300)
        fresh, _ = world.known(300)
        model = head(rows, ids)
        # Two half fits give the out-of-fold probabilities.
        half = head(rows[::2], ids[::2]), head(rows[1::2], ids[1::2])
        oof = np.empty((300, 5))
        oof[::2], oof[1::2] = half[1].predict_proba(rows[::2]), half[0].predict_proba(rows[1::2])
        ood = fit_ood_model(rows, oof, ids, ood_fpr=0.1, seed=seed)
        assert ood.empirical <= 0.1
        false_positives.append(ood.is_ood(fresh, model.predict_proba(fresh)).mean())
        unknown = world.unknown(300)
        detected.append(ood.is_ood(unknown, model.predict_proba(unknown)).mean())
    assert 0.05 < np.mean(false_positives) < 0.13
    assert np.mean(detected) > 0.9


def test_json_round_trip() -> None:
    rows, ids = World().known(200)
    p = head(rows, ids).predict_proba(rows)
    a = fit_ood_model(rows, p, ids)
    b = OodRule.from_json(json.loads(json.dumps(a.rule.to_json())))
    assert b == a.rule
    rest = squared_residual(rows, a.mean, a.directions)
    np.testing.assert_array_equal(b.combine(p.max(axis=1), rest), a.score(rows, p))


def test_ten_images_get_a_score_but_no_threshold() -> None:
    rows, ids = World().known(10)
    p = np.full((10, 5), 0.2)
    ood = fit_ood_model(rows, p, ids)
    assert math.isinf(ood.threshold)
    assert math.isinf(OodRule.from_json(ood.rule.to_json()).threshold())
    assert ood.rule.threshold(0.5) < math.inf, "ten images suffice for a rate of 0.5"
    assert not ood.is_ood(World().unknown(50), np.full((50, 5), 0.2)).any()
    assert np.isfinite(ood.score(rows, p)).all()


def test_scores_stay_finite() -> None:
    rows, ids = World().known(40)
    rows[20:] = rows[:20]
    ids[20:] = ids[:20]
    ood = fit_ood_model(rows, np.eye(5)[ids], ids, groups=np.r_[np.arange(20), np.arange(20)])
    assert np.isfinite(ood.score(rows, np.eye(5)[ids])).all()


@pytest.mark.parametrize("ood_fpr", [0.0, 1.0, -0.1])
def test_invalid_fractions_raise(ood_fpr: float) -> None:
    rows, ids = World().known(20)
    with pytest.raises(ValueError, match="false-positive rate"):
        fit_ood_model(rows, np.full((20, 5), 0.2), ids, ood_fpr=ood_fpr)


def test_leading_directions_match_svd() -> None:
    rows, _ = World().known(300)
    mean, directions = leading_directions(rows, 10)
    exact = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][:10].T
    np.testing.assert_allclose(np.linalg.svd(directions.T @ exact)[1], 1.0, atol=1e-3)
    np.testing.assert_allclose(directions.T @ directions, np.eye(10), atol=1e-5)
    rest = squared_residual(rows, mean, directions)
    full = rows - rows.mean(axis=0)
    np.testing.assert_allclose(rest, ((full - full @ exact @ exact.T) ** 2).sum(axis=1), rtol=1e-2)


def test_few_images_leave_a_residual() -> None:
    rows, _ = World().known(20)
    mean, directions = leading_directions(rows)
    assert directions.shape == (WIDTH, 10)
    assert (squared_residual(rows, mean, directions) > 0).all()


def test_auc_matches_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    known, novel = np.round(rng.normal(size=80), 1), np.round(rng.normal(0.5, 1, size=50), 1)
    expected = roc_auc_score(np.r_[np.zeros(80), np.ones(50)], np.r_[known, novel])
    assert rank_auc(known, novel) == pytest.approx(expected)


@pytest.mark.parametrize("num", [120, 800])
@pytest.mark.parametrize("copies", [1, 3])
def test_training_residuals_are_out_of_fold(num: int, copies: int) -> None:
    """By folds (few rows) and by leverages (many), with and without groups: as large as for new rows."""
    rng = np.random.default_rng(0)
    spectrum = 1.0 / np.sqrt(np.arange(1, 201))
    rows = rng.normal(size=(num, 200)) * spectrum
    fresh = rng.normal(size=(2000, 200)) * spectrum
    groups = None
    if copies > 1:
        groups = np.repeat(np.arange(num), copies)
        rows = np.repeat(rows, copies, axis=0) + 1e-3 * rng.normal(size=(num * copies, 200))
    mean, directions = leading_directions(rows, 40)
    new = np.log(squared_residual(fresh, mean, directions))
    naive = np.log(squared_residual(rows, mean, directions))
    ours = np.log(out_of_fold_residual(rows, np.zeros(len(rows), int), mean, directions, groups=groups))
    assert abs(ours.mean() - new.mean()) < 0.25 * abs(naive.mean() - new.mean())


def test_group_leverages_match_rows() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(800, 80))
    mean, directions = leading_directions(rows)
    ids = np.zeros(800, int)
    alone = out_of_fold_residual(rows, ids, mean, directions)
    np.testing.assert_allclose(out_of_fold_residual(rows, ids, mean, directions, groups=np.arange(800)), alone)


def test_intermediate_false_positive_rates_are_conservative() -> None:
    rows, ids = World().known(400)
    ood = fit_ood_model(rows, head(rows, ids).predict_proba(rows), ids, ood_fpr=0.05)
    rule = ood.rule
    for share in (0.01, 0.02, 0.05, 0.1, 0.2):
        assert (ood.scores > rule.threshold(share)).mean() <= share
    assert rule.threshold(0.055) == rule.threshold(0.05) > rule.threshold(0.06) > rule.threshold(0.2)
    assert math.isinf(rule.threshold(0.002)), "400 images cannot tell that"
    with pytest.raises(ValueError, match="false-positive rate"):
        rule.threshold(1.0)


def test_score_without_features_uses_confidence() -> None:
    rows, ids = World().known(300)
    p = head(rows, ids).predict_proba(rows)
    ood = fit_ood_model(None, p, ids)
    assert not ood.rule.has_residual_norm
    order = np.argsort(ood.score(None, p))
    np.testing.assert_array_equal(np.diff(p.max(axis=1)[order]) <= 0, True)
    assert 0 < (ood.scores > ood.threshold).mean() <= 0.05


def test_false_positive_rate_of_new_group() -> None:
    """Groups differ in size and are shifted as a whole; ignoring groups would exceed the rate."""
    rng = np.random.default_rng(0)
    by_group, by_image = [], []
    for _ in range(200):
        sizes = rng.integers(1, 60, 41)
        scores = np.concatenate([rng.normal(rng.normal(0, 2), 1, n) for n in sizes])
        groups = np.repeat(np.arange(41), sizes)
        old = groups < 40
        new = scores[~old]
        by_group.append((new > threshold_of(scores[old], 0.1, groups[old])).mean())
        by_image.append((new > threshold_of(scores[old], 0.1)).mean())
    assert 0.02 < np.mean(by_group) <= 0.1
    assert np.mean(by_image) > np.mean(by_group)


def test_too_few_groups_are_reported() -> None:
    rows, ids = World().known(200)
    p = head(rows, ids).predict_proba(rows)
    few = fit_ood_model(rows, p, ids, groups=np.arange(200) % 10)
    assert not few.is_by_group
    assert math.isfinite(few.threshold)
    assert fit_ood_model(rows, p, ids, groups=np.arange(200) % 50).is_by_group


@pytest.mark.parametrize(
    "change",
    [
        {"ood_scale": 0.0},
        {"residual_scale": -1.0},
        {"ood_center": "0"},
        {"ood_center": float("nan")},
        {"residual_center": None},
        {"ood_fpr": 1.5},
        {"thresholds": [[0.2, 1.0], [0.1, 2.0]]},
        {"thresholds": [[0.0, 1.0]]},
        {"thresholds": [[0.1, True]]},
    ],
)
def test_invalid_json_raises(change: dict[str, object]) -> None:
    good = {"ood_center": 0.1, "ood_scale": 1.0, "residual_center": 0.2, "residual_scale": 1.0, "ood_fpr": 0.05,
            "thresholds": [[0.05, 2.0], [0.1, 1.5]]}  # fmt: skip
    assert OodRule.from_json(good).threshold() == 2.0
    with pytest.raises((ValueError, TypeError)):
        OodRule.from_json({**good, **change})


def test_invalid_floors_raise() -> None:
    good = {"coverage": 0.9, "is_guaranteed": False, "thresholds": {"0.9": [0.1, 0.2], "0.5": [0.4, 0.5]}}
    rule = PredictionSetRule.from_json(good, 2)
    assert rule.at()[0] == 0.9
    assert rule.at(0.6)[0] == 0.9, "never the one that covers less"
    assert rule.sets(np.array([[0.15, 0.15], [0.05, 0.1]])).tolist() == [[True, False], [False, False]]
    assert PredictionSetRule.from_json(json.loads(json.dumps(rule.to_json())), 2).to_json() == rule.to_json()
    with pytest.raises(ValueError, match="coverage must be at most"):
        rule.at(0.95)
    for bad in ({"thresholds": {}}, {"thresholds": {"0.9": [0.1]}}, {"thresholds": {"2": [0, 0]}}, {"coverage": 0}):
        with pytest.raises(ValueError):
            PredictionSetRule.from_json({**good, **bad}, 2)


def left_out_in_full(rows: np.ndarray, ids: np.ndarray, ood_fpr: float) -> tuple[float, float, float]:
    """Return mean AUROC, recall and false-positive rate over held-out classes, refitting head and directions.

    Known images are divided into thirds: to fit, to set the threshold, and to score.
    """
    fold = draw_folds(ids, 3)
    rates = []
    for left_out in np.unique(ids):
        fit, tune, known = (np.flatnonzero((ids != left_out) & (fold == f)) for f in range(3))
        unknown = np.flatnonzero(ids == left_out)
        classifier = head(rows[fit], ids[fit])
        mean, directions = leading_directions(rows[fit])

        def parts(
            index: np.ndarray, classifier: LogisticRegression = classifier, space: tuple = (mean, directions)
        ) -> tuple[np.ndarray, np.ndarray]:
            doubt = log_ood_score(classifier.predict_proba(rows[index]).max(axis=1))
            return doubt, np.log(squared_residual(rows[index], *space))

        scales = [(float(x.mean()), float(x.std())) for x in parts(tune)]
        of_tune, of_known, of_strange = (
            add_up(*((x - center) / scale for x, (center, scale) in zip(parts(index), scales, strict=True)))
            for index in (tune, known, unknown)
        )
        threshold = threshold_of(of_tune, ood_fpr)
        rates.append((rank_auc(of_known, of_strange), (of_strange > threshold).mean(), (of_known > threshold).mean()))
    auroc, noticed, false_positives = np.mean(rates, axis=0)
    return float(auroc), float(noticed), float(false_positives)


def test_held_out_class_recall_equals_full_fit() -> None:
    rows, ids = World(3).known(600)
    auroc, noticed, false_positives = left_out_in_full(rows, ids, 0.1)
    assert auroc > 0.6
    assert 0.03 < false_positives < 0.2
    assert noticed > false_positives
    quick = evaluate_held_out_classes(rows, ids, ood_fpr=0.1)
    assert set(quick.per_class) == set(range(5))
    assert quick.auroc == pytest.approx(auroc, abs=0.1)
    assert quick.false_positive_rate <= 0.1
    assert quick.ood_recall > quick.false_positive_rate
    assert len(evaluate_held_out_classes(rows, ids, max_classes=2).per_class) == 2


@pytest.mark.parametrize("num", [3, 8, 20, 60, 2000])
def test_held_out_class_evaluation_with_any_count(num: int) -> None:
    rows, ids = World().known(num)
    evaluation = evaluate_held_out_classes(rows, ids)
    assert evaluation is None if num <= 20 else evaluation.num_samples == min(num, 500)
    grouped = evaluate_held_out_classes(rows, ids, groups=np.arange(num) // 4)
    assert grouped is None if num <= 20 else grouped.num_samples <= 500
    assert evaluate_held_out_classes(rows, ids % 2) is None, "two classes cannot be left out"
