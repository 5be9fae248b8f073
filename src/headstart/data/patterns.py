"""Judges every guess about what belongs together, and measures what it does to the score.

The one decision: of the guesses that the pictures bear out, the one that costs the score most is used, for
that is the one that would flatter it most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart.data.descriptors import describe
from headstart.data.duplicates import components
from headstart.data.groups import LEAST_NEARNESS, Evidence, number_keys, permutation_test, picture_vectors
from headstart.data.looks import Looks
from headstart.data.names import Guess, guess_groups
from headstart.data.times import guess_times
from headstart.records import GroupPattern, Samples

__all__ = ["Score", "judge_patterns"]

Score = Callable[[NDArray[np.int64] | None], float]
"""Out-of-fold accuracy on the training pictures for (N,) groups; None leaves single pictures out."""

_ALPHA = 0.05  # for all guesses together
_DROP = 0.005


def judge_patterns(
    samples: Samples,
    looks: Looks,
    is_training: NDArray[np.bool_],
    *,
    embeddings: NDArray[np.float32] | None = None,
    copies: NDArray[np.int64] | None = None,
    score: Score | None = None,
) -> list[tuple[NDArray[np.int64], GroupPattern]]:
    """Tests all guesses on the training pictures.

    Args:
        samples: The pictures; without any labels they are tested as one class, and the score is not measured.
        looks: What was seen of them.
        is_training: (N,) the pictures to test on.
        embeddings: (N, D) what a network says of them, or None.
        copies: (N,) pictures that are copies, or None: kept together throughout.
        score: Measures the effect on the score, or None.

    Returns:
        (N,) groups (-1 for none) and the judgement of each guess; the one in use first.
    """
    guesses = [*guess_groups(samples), *guess_times(looks)]
    class_ids = samples.class_ids if samples.class_names else np.zeros(len(samples), dtype=np.int64)
    rows = np.flatnonzero(is_training & (class_ids >= 0))
    if not guesses or len(rows) < 4:
        return []
    views = [picture_vectors(looks.colours, looks.histograms, describe(looks.thumbs))[rows]]
    if embeddings is not None:
        views.append(np.nan_to_num(np.asarray(embeddings[rows], dtype=np.float32)))
    level = _ALPHA / (len(guesses) * len(views))
    judged = []
    for guess in guesses:
        groups = number_keys(guess.keys)
        evidence = _strongest(views, groups[rows], class_ids[rows])
        is_near = evidence.p_value <= level and evidence.nearness >= LEAST_NEARNESS
        judged.append((guess, groups, evidence, is_near or guess.source == "given"))
    if not samples.class_names:
        score = None
    independent = _measured(score(copies)) if score is not None else None
    finished = []
    for guess, groups, evidence, accepted in judged:
        grouped = None
        if score is not None:
            grouped = _measured(score(_joined(groups, copies)))
        finished.append((guess, groups, _pattern(guess, groups[rows], evidence, accepted, independent, grouped)))
    chosen = _choose(finished)
    out = [(groups, pattern if guess is not chosen else _used(pattern)) for guess, groups, pattern in finished]
    return sorted(out, key=lambda x: (not x[1].is_used, not x[1].accepted, x[1].p_value))


def _strongest(views: list[NDArray[np.float32]], groups: NDArray[np.int64], class_ids: NDArray[np.int64]) -> Evidence:
    found = [permutation_test(view, groups, class_ids) for view in views]
    return min(found, key=lambda e: (e.p_value, -e.nearness))


def _joined(groups: NDArray[np.int64], copies: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """(N,) groups in which copies stay together too; -1 stands alone."""
    links = []
    first: dict[tuple[int, int], int] = {}
    for kind, ids in enumerate((groups, copies)):
        for i, group in enumerate(ids.tolist() if ids is not None else ()):
            if group >= 0:
                links.append((first.setdefault((kind, group), i), i))
    return components(len(groups), links)


def _pattern(
    guess: Guess,
    groups: NDArray[np.int64],
    evidence: Evidence,
    accepted: bool,
    independent: float | None,
    grouped: float | None,
) -> GroupPattern:
    sizes = np.bincount(groups[groups >= 0]) if (groups >= 0).any() else np.zeros(1, dtype=np.int64)
    return GroupPattern(
        pattern=guess.pattern,
        meaning=guess.meaning,
        num_groups=int((sizes > 1).sum()),
        accepted=accepted,
        p_value=evidence.p_value,
        nearness=round(evidence.nearness, 4),
        accuracy_independent=independent,
        accuracy_grouped=grouped,
        is_used=False,
    )


def _choose(finished: list[tuple[Guess, NDArray[np.int64], GroupPattern]]) -> Guess | None:
    """What the data gave; else, of what was accepted, what costs the score most; else the coarsest."""
    given = next((guess for guess, _, _ in finished if guess.source == "given"), None)
    if given is not None:
        return given
    accepted = [(guess, pattern) for guess, _, pattern in finished if pattern.accepted]
    if not accepted:
        return None

    def rank(item: tuple[Guess, GroupPattern]) -> tuple[float, int]:
        pattern = item[1]
        drop = 0.0
        if pattern.accuracy_independent is not None and pattern.accuracy_grouped is not None:
            drop = pattern.accuracy_independent - pattern.accuracy_grouped
        return -round(drop / _DROP) * _DROP, pattern.num_groups

    return min(accepted, key=rank)[0]


def _used(pattern: GroupPattern) -> GroupPattern:
    return replace(pattern, is_used=True)


def _measured(accuracy: float) -> float | None:
    """None where no honest score can be had (too few groups or classes), which is told as NaN."""
    return None if np.isnan(accuracy) else accuracy
