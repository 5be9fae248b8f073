"""Judges every guess about what belongs together, and measures what it does to the score.

Of the guesses that may be applied (see `group_rules`), the one that costs the score most is used,
for that is the one that would flatter it most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart.data.capture_times import guess_times
from headstart.data.descriptors import describe_thumbnails
from headstart.data.duplicates import Pair
from headstart.data.group_candidates import GroupCandidate, guess_groups, inside_class_folders
from headstart.data.group_rules import (
    MAX_ACROSS,
    MIN_SKILL_KEPT,
    camera_of,
    collect_evidence,
    decide_status,
    is_at_baseline,
    merge_duplicates,
)
from headstart.data.group_tests import (
    LEAST_NEARNESS,
    image_vectors,
    number_keys,
    off_axis_fraction,
    permutation_test,
    similarity_across,
)
from headstart.data.group_tests import Evidence as Likeness
from headstart.data.image_scan import ScanResult
from headstart.records import GroupPattern, Samples
from headstart.types import Evidence, GroupStatus

__all__ = ["Score", "downweight_duplicates", "evaluate_groupings"]

Score = Callable[[NDArray[np.int64] | None], float]
"""Out-of-fold accuracy on the training images for (N,) groups; None leaves single images out."""

_ALPHA = 0.05  # for all guesses together
_DROP = 0.005


def evaluate_groupings(
    samples: Samples,
    scan: ScanResult,
    is_training: NDArray[np.bool_],
    *,
    embeddings: NDArray[np.float32] | None = None,
    copies: Sequence[Pair] = (),
    score: Score | None = None,
    strata: NDArray[np.int64] | None = None,
    asked: GroupCandidate | None = None,
) -> list[tuple[NDArray[np.int64], GroupPattern]]:
    """Test all guesses on the training images.

    Args:
        samples: The images; without any labels they are tested as one class, and the score is not measured.
        looks: What was seen of them.
        is_training: (N,) the images to test on.
        embeddings: (N, D) what a network says of them, or None.
        copies: Pairs of copies: kept together throughout.
        score: Measures the effect on the score, or None.
        strata: (N,) what stands for the class in the rules where samples have no label, or None.
        asked: The grouping that the user asked for: it is measured and applied, and nothing is guessed.

    Returns:
        (N,) groups (-1 for none) and the judgement of each guess; the one in use first.
    """
    guesses = [asked] if asked is not None else [*guess_groups(samples), *guess_times(scan)]
    class_ids = samples.class_ids if samples.class_names else np.zeros(len(samples), dtype=np.int64)
    rows = np.flatnonzero(is_training & (class_ids >= 0))
    if not guesses or len(rows) < 4:
        return []
    views = [image_vectors(scan.colors, scan.histograms, describe_thumbnails(scan.thumbs))[rows]]
    if embeddings is not None:
        views.append(np.nan_to_num(np.asarray(embeddings[rows], dtype=np.float32)))
    judge = _Judge(
        rows=rows,
        classes=class_ids[rows],
        strata=class_ids if strata is None else strata,
        splits=np.array([s.split or "" for s in samples]),
        is_ok=scan.is_ok,
        camera=camera_of(scan, rows),
        copies=copies,
        views=views,
        level=_ALPHA / (len(guesses) * len(views)),
        effects=_Effects(score if samples.class_names else None, copies, len(samples), class_ids[rows]),
    )
    finished = []
    for guess in guesses:
        groups, pattern = judge(guess)
        if pattern.status is GroupStatus.QUESTION_TOO_FEW_GROUPS and judge.is_own_of_class(groups):
            inside = inside_class_folders(samples, guess)
            if inside is not None:
                own_groups, own = judge(inside)
                if own.status is GroupStatus.ALTERNATIVE:
                    groups, pattern = own_groups, own
        finished.append((groups, pattern))
    chosen = _choose([pattern for _, pattern in finished])
    out = [(groups, replace(p, status=GroupStatus.APPLIED) if p is chosen else p) for groups, p in finished]
    return sorted(out, key=lambda x: (not x[1].is_used, x[1].status.is_rejected, x[1].status.is_question, x[1].p_value))


def downweight_duplicates(
    samples: Samples, is_training: NDArray[np.bool_], copies: Sequence[Pair], score: Score | None
) -> Evidence:
    """Measure whether near-copies that chain, as frames of a video do, leave nothing to score.

    Args:
        samples: All samples.
        is_training: (N,) the ones to measure on.
        copies: Pairs of copies.
        score: Measures the effect, or None.

    Returns:
        Both scores, where keeping all copies together leaves nothing to measure or takes the score to the baseline,
        while images that stand alone do not; else nothing.
    """
    rows = np.flatnonzero(is_training & (samples.class_ids >= 0))
    if score is None or not samples.class_names or not len(rows) or not copies:
        return {}
    effects = _Effects(score, copies, len(samples), samples.class_ids[rows])
    joined, baseline, error = effects.independent, effects.baseline, effects.standard_error
    if joined is not None and joined - baseline >= MIN_SKILL_KEPT * (1.0 - baseline):
        return {}  # whatever the other score is
    separate = _measured(score(None))
    is_dropped = separate is not None and joined is None and separate - baseline > 2.0 * error
    if not is_dropped and not is_at_baseline(separate, joined, baseline, error):
        return {}
    return {
        "num_pairs": len(copies),
        "accuracy_separate": separate,
        "accuracy_joined": joined,
        "accuracy_baseline": round(baseline, 4),
    }


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """Everything that a guess is judged by.

    Attributes:
        rows: (M,) positions of the training samples.
        classes: (M,) their classes.
        strata: (N,) what stands for the class in the rules.
        splits: (N,) split that the data bring, empty without one.
        is_ok: (N,) whether a sample can be read.
        camera: (M,) cameras, or None.
        copies: Pairs of copies.
        views: (M, D) each: what the training samples look like.
        level: p-value at which a guess is borne out.
        effects: What groupings do to the score.
    """

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    strata: NDArray[np.int64]
    splits: NDArray[np.str_]
    is_ok: NDArray[np.bool_]
    camera: NDArray[np.int64] | None
    copies: Sequence[Pair]
    views: Sequence[NDArray[np.float32]]
    level: float
    effects: _Effects

    def __call__(self, guess: GroupCandidate) -> tuple[NDArray[np.int64], GroupPattern]:
        """Return (N,) groups of a guess, and what becomes of it."""
        groups = number_keys(guess.keys)
        found = [permutation_test(view, groups[self.rows], self.classes) for view in self.views]
        likeness = min(found, key=lambda e: (e.p_value, -e.nearness))
        telling = [v for v, e in zip(self.views, found, strict=True) if self._is_telling(e)]
        evidence = collect_evidence(
            groups,
            self.rows,
            class_ids=self.strata,
            splits=self.splits,
            is_ok=self.is_ok,
            camera=self.camera,
            copies=self.copies,
        )
        independent, grouped = self.effects.independent, self.effects.grouped(groups)
        off_axis = [off_axis_fraction(view, groups[self.rows], self.classes) for view in telling]
        evidence = replace(
            evidence,
            accuracy_baseline=None if independent is None else self.effects.baseline,
            off_axis_fraction=round(max(off_axis), 4) if off_axis else None,
        )
        status = decide_status(
            evidence,
            source=guess.origin,
            is_counter=guess.is_counter,
            is_near=bool(telling),
            independent=independent,
            grouped=grouped,
            standard_error=self.effects.standard_error,
        )
        sizes = np.bincount(groups[self.rows][groups[self.rows] >= 0], minlength=1)
        pattern = GroupPattern(
            pattern=guess.pattern,
            meaning=guess.meaning,
            num_groups=int((sizes > 1).sum()),
            status=status,
            p_value=likeness.p_value,
            nearness=round(likeness.nearness, 4),
            accuracy_independent=independent,
            accuracy_grouped=grouped,
            evidence=evidence,
            source=guess.origin,
        )
        return groups, pattern

    def is_own_of_class(self, groups: NDArray[np.int64]) -> bool:
        """Return whether one key stands for different objects in different classes, like a number that starts anew.

        Then images with the same key look alike inside a class, but not across classes.
        """
        here = groups[self.rows]
        found = [
            (permutation_test(v, here, self.classes), similarity_across(v, here, self.classes)) for v in self.views
        ]
        telling = [(within, across) for within, across in found if self._is_telling(within)]
        return bool(telling) and all(across <= MAX_ACROSS * within.nearness for within, across in telling)

    def _is_telling(self, evidence: Likeness) -> bool:
        return evidence.p_value <= self.level and evidence.nearness >= LEAST_NEARNESS


class _Effects:
    """What groupings do to the score.

    Args:
        score: Measures it, or None.
        copies: Pairs of copies, kept together in every measurement as in training.
        num_samples: N.
        class_ids: (M,) classes of the training samples.
    """

    def __init__(
        self, score: Score | None, copies: Sequence[Pair], num_samples: int, class_ids: NDArray[np.int64]
    ) -> None:
        self._score, self._num_samples = score, num_samples
        self._copies = [(p.first, p.second, p.similarity) for p in copies]
        self.baseline = float(np.bincount(class_ids).max() / len(class_ids))
        self.standard_error = float(np.sqrt(self.baseline * (1.0 - self.baseline) / len(class_ids)))
        alone = merge_duplicates(None, self._copies, num_samples)[0] if copies else None
        self.independent = None if score is None else _measured(score(alone))

    def grouped(self, groups: NDArray[np.int64]) -> float | None:
        """Return the accuracy with whole groups left out, or None if it cannot be measured."""
        if self._score is None:
            return None
        return _measured(self._score(merge_duplicates(groups, self._copies, self._num_samples)[0]))


def _choose(patterns: Sequence[GroupPattern]) -> GroupPattern | None:
    """Return what the data gave; else, of what may be applied, what costs the score most; else the coarsest."""
    given = next((p for p in patterns if p.status is GroupStatus.APPLIED), None)
    if given is not None:
        return given
    applicable = [p for p in patterns if p.status is GroupStatus.ALTERNATIVE]
    if not applicable:
        return None

    def rank(pattern: GroupPattern) -> tuple[float, int]:
        drop = 0.0
        if pattern.accuracy_independent is not None and pattern.accuracy_grouped is not None:
            drop = pattern.accuracy_independent - pattern.accuracy_grouped
        return -round(drop / _DROP) * _DROP, pattern.num_groups

    return min(applicable, key=rank)


def _measured(accuracy: float) -> float | None:
    """None where no honest score can be had (too few groups or classes), which is told as NaN."""
    return None if np.isnan(accuracy) else accuracy
