"""Test label errors: recall of planted ones and few false positives."""

from __future__ import annotations

import numpy as np

from headstart.evaluation.label_errors import find_label_errors_or_pairs
from headstart.evaluation.softmax import softmax


def draw(num: int = 600, flips: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, num)
    logits = rng.normal(size=(num, 4))
    logits[np.arange(num), truth] += 5
    flipped = rng.choice(num, flips, replace=False)
    given = truth.copy()
    given[flipped] = (truth[flipped] + rng.integers(1, 4, flips)) % 4
    return softmax(logits), given, flipped


def test_planted_flips_rank_first() -> None:
    p, given, flipped = draw()
    label_errors = find_label_errors_or_pairs(p, given)
    first = [s.index for s in label_errors.items[: 2 * len(flipped)]]
    assert np.isin(flipped, first).mean() >= 0.95
    assert 20 <= label_errors.num_flagged <= 40
    assert [s.error_probability for s in label_errors.items] == sorted(
        (s.error_probability for s in label_errors.items), reverse=True
    )
    for s in label_errors.items:
        assert s.given == given[s.index] != s.suggested


def test_clean_labels_give_few_errors() -> None:
    p, given, _ = draw(flips=0)
    assert find_label_errors_or_pairs(p, given).num_flagged <= 6


def test_conflicting_duplicates_rank_first() -> None:
    p, given, _ = draw(flips=0)
    a, b = np.flatnonzero(given == 0)[0], np.flatnonzero(given == 1)[0]
    same = np.flatnonzero(given == 2)[:2]
    label_errors = find_label_errors_or_pairs(p, given, duplicate_pairs=np.array([[a, b], same]))
    assert {s.index for s in label_errors.items[:2]} == {a, b}
    assert label_errors.items[0].conflicting_duplicates
    assert label_errors.num_flagged >= 2
    assert {s.suggested for s in label_errors.items[:2]} == {0, 1}
    assert not any(s.conflicting_duplicates for s in label_errors.items[2:])


def test_unscorable_samples_are_not_listed() -> None:
    p, given, flipped = draw()
    hidden = np.zeros(len(given), bool)
    hidden[flipped[:10]] = True
    label_errors = find_label_errors_or_pairs(p, given, unscorable=hidden, limit=600)
    assert not set(flipped[:10]) & {s.index for s in label_errors.items}


def test_few_certain_samples() -> None:
    label_errors = find_label_errors_or_pairs(np.eye(3), np.array([0, 1, 2]), limit=2)
    assert len(label_errors.items) == 2
    assert label_errors.num_flagged == 0
