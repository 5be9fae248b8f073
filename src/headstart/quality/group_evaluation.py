"""Test every proposed grouping and measure its effect on the score.

Of the groupings that may be applied (see `group_rules`), the one that lowers the score most is used: ignoring it
would inflate the score most.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart.data.image_scan import ScanResult
from headstart.data.reading import ask_between, listed
from headstart.messages.numbers import pluralize
from headstart.quality.descriptors import describe_thumbnails
from headstart.quality.duplicates import Pair
from headstart.quality.group_candidates import (
    GroupCandidate,
    inside_class_folders,
    propose_capture_groups,
    propose_groups,
)
from headstart.quality.group_rules import (
    MAX_ACROSS,
    MIN_SKILL_KEPT,
    camera_of,
    collect_evidence,
    decide_status,
    is_at_baseline,
    merge_duplicates,
)
from headstart.quality.group_tests import (
    MIN_NEARNESS,
    image_vectors,
    number_keys,
    off_axis_fraction,
    permutation_test,
    similarity_across,
)
from headstart.quality.group_tests import Evidence as Likeness
from headstart.types.codes import Evidence, GroupStatus, ReadingKind
from headstart.types.records import GroupPattern, Samples

__all__ = ["Score", "downweight_duplicates", "evaluate_groupings"]

Score = Callable[[NDArray[np.int64] | None], float]
"""Out-of-fold accuracy on the training images for (N,) groups; None holds out single images."""

_ALPHA = 0.05  # for all proposals together
_DROP = 0.005


def evaluate_groupings(
    samples: Samples,
    scan: ScanResult,
    is_training: NDArray[np.bool_],
    *,
    embeddings: NDArray[np.float32] | None = None,
    duplicates: Sequence[Pair] = (),
    score: Score | None = None,
    strata: NDArray[np.int64] | None = None,
    requested: GroupCandidate | None = None,
) -> list[tuple[NDArray[np.int64], GroupPattern]]:
    """Test all proposed groupings on the training images.

    Args:
        samples: The images; without any labels they are tested as one class, and the score is not measured.
        scan: The scanned images.
        is_training: (N,) images to test on.
        embeddings: (N, D) backbone features, or None.
        duplicates: Pairs of duplicates, which always stay together.
        score: Measures the effect on the score, or None.
        strata: (N,) substitute for the class in the rules where samples have no label, or None.
        requested: Grouping that the user requested; it is measured and applied, and nothing else is proposed.

    Returns:
        (N,) groups (-1 for none) and the test result of each proposal; the one in use first.

    Raises:
        UsageError: Folders or ids of several classes may be one group or several, and the images do not tell.
    """
    proposals = [requested] if requested is not None else [*propose_groups(samples), *propose_capture_groups(scan)]
    class_ids = samples.class_ids if samples.class_names else np.zeros(len(samples), dtype=np.int64)
    rows = np.flatnonzero(is_training & (class_ids >= 0))
    if not proposals or len(rows) < 4:
        return []
    views = [image_vectors(scan.colors, scan.histograms, describe_thumbnails(scan.thumbnails))[rows]]
    if embeddings is not None:
        views.append(np.nan_to_num(np.asarray(embeddings[rows], dtype=np.float32)))
    tester = _GroupTester(
        rows=rows,
        classes=class_ids[rows],
        strata=class_ids if strata is None else strata,
        splits=np.array([s.split or "" for s in samples]),
        is_ok=scan.is_ok,
        camera=camera_of(scan, rows),
        duplicates=duplicates,
        views=views,
        level=_ALPHA / (len(proposals) * len(views)),
        effects=_Effects(score if samples.class_names else None, duplicates, len(samples), class_ids[rows]),
    )
    results = []
    for proposal in proposals:
        groups, pattern = tester(proposal)
        if pattern.is_used and proposal.source in ("inferred", "given"):
            _ask_about_shared_names(samples, tester, groups)
        if pattern.status is GroupStatus.QUESTION_TOO_FEW_GROUPS and tester.is_specific_to_class(groups):
            inside = inside_class_folders(samples, proposal)
            if inside is not None:
                own_groups, own = tester(inside)
                if own.status is GroupStatus.ALTERNATIVE:
                    groups, pattern = own_groups, own
        results.append((groups, pattern))
    chosen = _choose([pattern for _, pattern in results])
    out = [(groups, replace(p, status=GroupStatus.APPLIED) if p is chosen else p) for groups, p in results]
    return sorted(out, key=lambda x: (not x[1].is_used, x[1].status.is_rejected, x[1].status.is_question, x[1].p_value))


def downweight_duplicates(
    samples: Samples, is_training: NDArray[np.bool_], duplicates: Sequence[Pair], score: Score | None
) -> Evidence:
    """Check whether chained near-duplicates, such as frames of a video, leave nothing to score.

    Args:
        samples: All samples.
        is_training: (N,) images to measure on.
        duplicates: Pairs of duplicates.
        score: Measures the effect, or None.

    Returns:
        Both scores, if keeping all duplicates together leaves nothing to measure or lowers the score to the baseline
        while treating images as independent does not; else nothing.
    """
    rows = np.flatnonzero(is_training & (samples.class_ids >= 0))
    if score is None or not samples.class_names or not len(rows) or not duplicates:
        return {}
    effects = _Effects(score, duplicates, len(samples), samples.class_ids[rows])
    joined, baseline, error = effects.independent, effects.baseline, effects.standard_error
    if joined is not None and joined - baseline >= MIN_SKILL_KEPT * (1.0 - baseline):
        return {}  # regardless of the other score
    separate = _nan_to_none(score(None))
    is_dropped = separate is not None and joined is None and separate - baseline > 2.0 * error
    if not is_dropped and not is_at_baseline(separate, joined, baseline, error):
        return {}
    return {
        "num_pairs": len(duplicates),
        "accuracy_separate": separate,
        "accuracy_joined": joined,
        "accuracy_baseline": round(baseline, 4),
    }


@dataclass(frozen=True, kw_only=True)
class _GroupTester:
    """Tests of one proposal.

    Attributes:
        rows: (M,) positions of the training samples.
        classes: (M,) their classes.
        strata: (N,) class, or its substitute, in the rules.
        splits: (N,) split given by the data, empty without one.
        is_ok: (N,) whether an image is readable.
        camera: (M,) cameras, or None.
        duplicates: Pairs of duplicates.
        views: Feature matrices (M, D) of the training samples.
        level: p-value at which a proposal is accepted.
        effects: Effect of groupings on the score.
    """

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    strata: NDArray[np.int64]
    splits: NDArray[np.str_]
    is_ok: NDArray[np.bool_]
    camera: NDArray[np.int64] | None
    duplicates: Sequence[Pair]
    views: Sequence[NDArray[np.float32]]
    level: float
    effects: _Effects

    def __call__(self, proposal: GroupCandidate) -> tuple[NDArray[np.int64], GroupPattern]:
        """Return (N,) groups of a proposal, and its test result."""
        groups = number_keys(proposal.keys)
        results = [permutation_test(view, groups[self.rows], self.classes) for view in self.views]
        similarity = min(results, key=lambda e: (e.p_value, -e.nearness))
        significant = [v for v, e in zip(self.views, results, strict=True) if self.is_significant(e)]
        evidence = collect_evidence(
            groups,
            self.rows,
            class_ids=self.strata,
            splits=self.splits,
            is_ok=self.is_ok,
            camera=self.camera,
            duplicates=self.duplicates,
        )
        independent, grouped = self.effects.independent, self.effects.grouped(groups)
        off_axis = [off_axis_fraction(view, groups[self.rows], self.classes) for view in significant]
        evidence = replace(
            evidence,
            accuracy_baseline=None if independent is None else self.effects.baseline,
            off_axis_fraction=round(max(off_axis), 4) if off_axis else None,
        )
        status = decide_status(
            evidence,
            source=proposal.origin,
            is_counter=proposal.is_counter,
            is_near=bool(significant),
            independent=independent,
            grouped=grouped,
            standard_error=self.effects.standard_error,
        )
        sizes = np.bincount(groups[self.rows][groups[self.rows] >= 0], minlength=1)
        pattern = GroupPattern(
            pattern=proposal.pattern,
            grouping=proposal.grouping,
            num_groups=int((sizes > 1).sum()),
            status=status,
            p_value=similarity.p_value,
            nearness=round(similarity.nearness, 4),
            accuracy_independent=independent,
            accuracy_grouped=grouped,
            evidence=evidence,
            source=proposal.origin,
        )
        return groups, pattern

    def is_specific_to_class(self, groups: NDArray[np.int64]) -> bool:
        """Return whether one key means different objects in different classes, like a number that restarts.

        Images with the same key then look alike within a class, but not across classes.
        """
        significant = [r for r in self.likeness(groups) if self.is_significant(r[0])]
        return bool(significant) and all(across <= MAX_ACROSS * within.nearness for within, across in significant)

    def likeness(self, groups: NDArray[np.int64]) -> list[tuple[Likeness, float]]:
        """Return the similarity within groups and classes, and that of groups across classes, for each view."""
        here = groups[self.rows]
        return [(permutation_test(v, here, self.classes), similarity_across(v, here, self.classes)) for v in self.views]

    def is_significant(self, evidence: Likeness) -> bool:
        return evidence.p_value <= self.level and evidence.nearness >= MIN_NEARNESS


def _ask_about_shared_names(samples: Samples, tester: _GroupTester, groups: NDArray[np.int64]) -> None:
    """Ask whether folders or ids of one name in several classes are one group, where the images do not tell.

    Raises:
        UsageError: No similarity within groups shows whether they extend across classes.
    """
    note = next((n for n in samples.notes if n.kind is ReadingKind.GROUPS_SHARED), None)
    if note is None or not samples.class_names or not note.evidence.get("may_restart", True):
        return
    results = tester.likeness(groups)
    if any(tester.is_significant(within) for within, _ in results):
        return
    within, across = min(results, key=lambda r: (r[0].p_value, -r[0].nearness))
    e, names = note.evidence, listed(note.examples[:3]) + (f" ... ({note.count:,})" if note.count > 3 else "")
    shown = f"{names} of column `{e['column']}`" if "column" in e else f"folders {names}"
    together = (
        f"{shown} in several classes are one group each: {pluralize(int(str(e['num_groups'])), 'group')}",
        f"--group-from {shlex.quote(str(e['pattern']))}",
    )
    separate = (
        f"{shown} are another group in each class: {pluralize(int(str(e['num_if_separate'])), 'group')}",
        f"--group-from {shlex.quote(str(e['pattern_if_separate']))}",
    )
    is_separate = across <= MAX_ACROSS * within.nearness
    raise ask_between([separate, together] if is_separate else [together, separate])


class _Effects:
    """Effect of groupings on the score.

    Args:
        score: Measures the accuracy, or None.
        duplicates: Pairs of duplicates, kept together in every measurement as in training.
        num_samples: N.
        class_ids: (M,) classes of the training samples.
    """

    def __init__(
        self, score: Score | None, duplicates: Sequence[Pair], num_samples: int, class_ids: NDArray[np.int64]
    ) -> None:
        self._score, self._num_samples = score, num_samples
        self._duplicates = [(p.first, p.second, p.similarity) for p in duplicates]
        self.baseline = float(np.bincount(class_ids).max() / len(class_ids))
        self.standard_error = float(np.sqrt(self.baseline * (1.0 - self.baseline) / len(class_ids)))
        groups_of_one = merge_duplicates(None, self._duplicates, num_samples)[0] if duplicates else None
        self.independent = None if score is None else _nan_to_none(score(groups_of_one))

    def grouped(self, groups: NDArray[np.int64]) -> float | None:
        """Return the accuracy with whole groups held out, or None if it cannot be measured."""
        if self._score is None:
            return None
        return _nan_to_none(self._score(merge_duplicates(groups, self._duplicates, self._num_samples)[0]))


def _choose(patterns: Sequence[GroupPattern]) -> GroupPattern | None:
    """Return the given grouping; else the applicable one, of named columns first, that lowers the score most."""
    applied = next((p for p in patterns if p.status is GroupStatus.APPLIED), None)
    if applied is not None:
        return applied
    applicable = [p for p in patterns if p.status is GroupStatus.ALTERNATIVE]
    if not applicable:
        return None

    def rank(pattern: GroupPattern) -> tuple[bool, float, int]:
        drop = 0.0
        if pattern.accuracy_independent is not None and pattern.accuracy_grouped is not None:
            drop = pattern.accuracy_independent - pattern.accuracy_grouped
        return pattern.source != "named", -round(drop / _DROP) * _DROP, pattern.num_groups  # the coarsest of equals

    return min(applicable, key=rank)


def _nan_to_none(accuracy: float) -> float | None:
    """Return None for NaN: no unbiased score is possible (too few groups or classes)."""
    return None if np.isnan(accuracy) else accuracy
