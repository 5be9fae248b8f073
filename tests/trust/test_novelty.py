"""Strange pictures are noticed, known ones are refused as seldom as promised."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from headstart.trust.directions import leading_directions, left_out_rest, squared_rest
from headstart.trust.novelty import Novelty, fit_novelty, leave_one_class_out, rank_auc

WIDTH = 60


class World:
    """Pictures of five classes in a plane of ten directions, a little noise off it."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.plane = np.linalg.qr(self.rng.normal(size=(WIDTH, 10)))[0]
        self.centres = self.rng.normal(size=(5, 10)) * 1.5

    def known(self, num: int) -> tuple[np.ndarray, np.ndarray]:
        ids = self.rng.integers(0, 5, num)
        inside = self.centres[ids] + self.rng.normal(size=(num, 10))
        return inside @ self.plane.T + 0.1 * self.rng.normal(size=(num, WIDTH)), ids

    def strange(self, num: int) -> np.ndarray:
        """In the middle of the known ones, but with much that lies off their plane."""
        return 0.3 * self.rng.normal(size=(num, WIDTH)) + self.known(num)[0] * 0.9


def head(rows: np.ndarray, ids: np.ndarray) -> LogisticRegression:
    return LogisticRegression(max_iter=500).fit(rows, ids)


def test_known_pictures_are_refused_as_seldom_as_promised_and_strange_ones_mostly() -> None:
    world = World()
    alarms, found = [], []
    for seed in range(8):
        rows, ids = world.known(300)
        fresh, _ = world.known(300)
        model = head(rows, ids)
        # Probabilities of pictures the head has not seen stand in for out-of-fold ones.
        half = head(rows[::2], ids[::2]), head(rows[1::2], ids[1::2])
        oof = np.empty((300, 5))
        oof[::2], oof[1::2] = half[1].predict_proba(rows[::2]), half[0].predict_proba(rows[1::2])
        novelty = fit_novelty(rows, oof, ids, reject=0.1, seed=seed)
        assert novelty.realised <= 0.1
        alarms.append(novelty.is_unknown(fresh, model.predict_proba(fresh)).mean())
        strange = world.strange(300)
        found.append(novelty.is_unknown(strange, model.predict_proba(strange)).mean())
    assert 0.05 < np.mean(alarms) < 0.13
    assert np.mean(found) > 0.9


def test_what_is_written_is_read_again() -> None:
    rows, ids = World().known(200)
    p = head(rows, ids).predict_proba(rows)
    a = fit_novelty(rows, p, ids)
    b = Novelty.from_json(json.loads(json.dumps(a.to_json())), a.arrays())
    np.testing.assert_array_equal(a.score(rows, p), b.score(rows, p))
    assert b.threshold == a.threshold
    rest = squared_rest(rows, b.mean, b.directions)
    np.testing.assert_array_equal(b.combine(p.max(axis=1), rest), b.score(rows, p))


def test_ten_pictures_get_a_score_but_no_threshold() -> None:
    rows, ids = World().known(10)
    p = np.full((10, 5), 0.2)
    novelty = fit_novelty(rows, p, ids)
    assert math.isinf(novelty.threshold)
    assert novelty.to_json()["threshold"] is None
    assert math.isinf(Novelty.from_json(novelty.to_json(), novelty.arrays()).threshold)
    assert not novelty.is_unknown(World().strange(50), np.full((50, 5), 0.2)).any()
    assert np.isfinite(novelty.score(rows, p)).all()


def test_a_sure_head_and_copies_of_training_pictures_stay_finite() -> None:
    rows, ids = World().known(40)
    rows[20:] = rows[:20]
    ids[20:] = ids[:20]
    novelty = fit_novelty(rows, np.eye(5)[ids], ids, groups=np.r_[np.arange(20), np.arange(20)])
    assert np.isfinite(novelty.score(rows, np.eye(5)[ids])).all()


@pytest.mark.parametrize("reject", [0.0, 1.0, -0.1])
def test_impossible_shares_are_refused(reject: float) -> None:
    rows, ids = World().known(20)
    with pytest.raises(ValueError, match="refuse"):
        fit_novelty(rows, np.full((20, 5), 0.2), ids, reject=reject)


def test_the_leading_directions_are_those_of_the_exact_decomposition() -> None:
    rows, _ = World().known(300)
    mean, directions = leading_directions(rows, 10)
    exact = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][:10].T
    np.testing.assert_allclose(np.linalg.svd(directions.T @ exact)[1], 1.0, atol=1e-3)
    np.testing.assert_allclose(directions.T @ directions, np.eye(10), atol=1e-5)
    rest = squared_rest(rows, mean, directions)
    full = rows - rows.mean(axis=0)
    np.testing.assert_allclose(rest, ((full - full @ exact @ exact.T) ** 2).sum(axis=1), rtol=1e-2)


def test_few_pictures_leave_a_rest() -> None:
    rows, _ = World().known(20)
    mean, directions = leading_directions(rows)
    assert directions.shape == (WIDTH, 10)
    assert (squared_rest(rows, mean, directions) > 0).all()


def test_left_out_classes_are_measured() -> None:
    rows, ids = World(3).known(600)

    def classify(train: np.ndarray, train_ids: np.ndarray, asked: np.ndarray) -> np.ndarray:
        return head(rows[train], train_ids).predict_proba(rows[asked])

    found = leave_one_class_out(rows, ids, classify, reject=0.1)
    assert set(found.per_class) == set(range(5))
    assert found.auroc > 0.6
    assert 0.03 < found.false_alarms < 0.2
    assert found.detected > found.false_alarms
    assert len(leave_one_class_out(rows, ids, classify, max_classes=2).per_class) == 2


def test_two_classes_cannot_be_left_out() -> None:
    rows, ids = World().known(50)
    assert leave_one_class_out(rows, ids % 2, lambda *_: np.ones((1, 1))) is None


def test_area_under_the_curve_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    known, novel = np.round(rng.normal(size=80), 1), np.round(rng.normal(0.5, 1, size=50), 1)
    expected = roc_auc_score(np.r_[np.zeros(80), np.ones(50)], np.r_[known, novel])
    assert rank_auc(known, novel) == pytest.approx(expected)


@pytest.mark.parametrize("num", [120, 800])
@pytest.mark.parametrize("copies", [1, 3])
def test_a_training_row_counts_as_if_it_had_been_left_out(num: int, copies: int) -> None:
    """By folds (few rows) and by leverages (many), with and without groups: as far off as new rows are."""
    rng = np.random.default_rng(0)
    spectrum = 1.0 / np.sqrt(np.arange(1, 201))
    rows = rng.normal(size=(num, 200)) * spectrum
    fresh = rng.normal(size=(2000, 200)) * spectrum
    groups = None
    if copies > 1:
        groups = np.repeat(np.arange(num), copies)
        rows = np.repeat(rows, copies, axis=0) + 1e-3 * rng.normal(size=(num * copies, 200))
    mean, directions = leading_directions(rows, 40)
    new = np.log(squared_rest(fresh, mean, directions))
    naive = np.log(squared_rest(rows, mean, directions))
    ours = np.log(left_out_rest(rows, np.zeros(len(rows), int), mean, directions, groups=groups))
    assert abs(ours.mean() - new.mean()) < 0.25 * abs(naive.mean() - new.mean())


def test_leverages_of_a_group_equal_those_of_its_rows_alone() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(800, 80))
    mean, directions = leading_directions(rows)
    ids = np.zeros(800, int)
    alone = left_out_rest(rows, ids, mean, directions)
    np.testing.assert_allclose(left_out_rest(rows, ids, mean, directions, groups=np.arange(800)), alone)
