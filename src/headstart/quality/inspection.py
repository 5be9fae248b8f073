"""Check a dataset before training: duplicates, leaks, groups, shortcuts, classes, unreadable files.

Nothing is changed: `inspect_dataset` reports, `apply_report` states what training keeps together and excludes, and the
user can override each step.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from headstart.data.grouping import group_ids, number_groups
from headstart.data.image_scan import ScanResult, scan_images
from headstart.quality.class_balance import class_table, find_class_problems, overlap_fraction
from headstart.quality.confounding import find_confounding
from headstart.quality.duplicates import Pair, components, find_duplicates, find_leaks, have_same_pixels
from headstart.quality.group_candidates import GroupCandidate, inside_class_folders, propose_groups
from headstart.quality.group_evaluation import Score, downweight_duplicates, evaluate_groupings
from headstart.quality.group_rules import merge_duplicates
from headstart.quality.intensity_range import choose_range, find_mixed_depths
from headstart.quality.shortcuts import find_shortcuts
from headstart.types.codes import DecisionReason, Evidence, Finding, FindingKind, GroupStatus, JsonValue, Severity
from headstart.types.records import DatasetReport, Decision, GroupPattern, HandledFiles, ImagePair, Samples, Shortcut
from headstart.utils.limits import MAX_PIXELS

__all__ = ["AppliedReport", "apply_report", "inspect_dataset"]

_EXAMPLES = 5
_GIVEN = 0.2  # minimum fraction of a class predicted by a cue for the class to be listed
_SEVERAL_PAGES = frozenset({"stack", "animated"})


@dataclass(frozen=True)
class AppliedReport:
    """Effect of a report on training; arrays are aligned with the samples.

    Attributes:
        groups: (N,) groups that stay together (duplicates, accepted and requested groups), or None.
        excluded: (N,) images not trained on: unreadable, or duplicates with different labels.
        test_including_leaks: (N,) all readable scored images of the user's own split.
        test: (N,) the same without leaks, for the headline score.
        decisions: Decisions with their reasons.
    """

    groups: NDArray[np.int64] | None
    excluded: NDArray[np.bool_]
    test_including_leaks: NDArray[np.bool_]
    test: NDArray[np.bool_]
    decisions: tuple[Decision, ...]


def inspect_dataset(
    samples: Samples,
    *,
    scan: ScanResult | None = None,
    embeddings: NDArray[np.float32] | None = None,
    score: Score | None = None,
    intensity_range: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
    num_threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    group_from: str | None = None,
    strata: NDArray[np.int64] | None = None,
) -> DatasetReport:
    """Check a dataset.

    Args:
        samples: The images.
        scan: The scanned images, if available.
        embeddings: (N, D) backbone features (NaN rows for unreadable images), for more sensitive tests.
        score: Out-of-fold accuracy on the training images for (N,) groups (None: no groups); measures the effect of
            hidden groups on the score.
        intensity_range: Input range of 16-bit and float images; None chooses it.
        max_pixels: Larger images are refused.
        num_threads: Worker threads.
        progress: Called with (images done, all) during the scan.
        group_from: As in `apply_report`; the requested grouping is measured instead of proposals.
        strata: (N,) substitute for the class in the group rules where samples have no label, or None.

    Returns:
        The report.

    Raises:
        UsageError: `group_from` matches nothing.
    """
    if scan is None:
        scan = scan_images(samples, max_pixels=max_pixels, num_threads=num_threads, progress=progress)
    same = partial(have_same_pixels, samples.paths, max_pixels)
    exact, near, threshold = find_duplicates(scan, embeddings=embeddings, same_pixels=same, num_threads=num_threads)
    pairs = [*exact, *near]
    duplicates = components(len(samples), [(p.first, p.second) for p in pairs]) if pairs else None
    is_training = scan.is_ok & np.array([s.split in (None, "train") for s in samples], dtype=bool)
    requested = _requested_groups(samples, group_from)
    chain_evidence = downweight_duplicates(samples, is_training, pairs, score) if group_from is None else {}
    patterns = evaluate_groupings(
        samples,
        scan,
        is_training,
        embeddings=embeddings,
        duplicates=pairs,
        score=score,
        strata=strata,
        requested=requested,
    )
    if group_from is not None and requested is None:
        patterns = []
    chosen, range_decision = choose_range(samples, scan, intensity_range)
    named_pairs = [_name(samples, p) for p in pairs]
    leaks = [_name(samples, p) for p in find_leaks(samples, pairs)]
    conflicts = [p for p in named_pairs if p.label_a is not None and p.label_b is not None and p.label_a != p.label_b]
    unreadable = (*samples.problems, *scan.problems.values())
    findings = _findings(samples, scan, patterns, chain_evidence, None if requested is None else group_from)
    return DatasetReport(
        num_samples=len(samples),
        layout=samples.layout,
        classes=class_table(samples),
        formats=dict(Counter(f.format for f in scan.info if f is not None).most_common()),
        unreadable=unreadable,
        handled_files=_handled_files(samples, scan),
        duplicates=tuple(named_pairs[: len(exact)]),
        near_duplicates=tuple(named_pairs[len(exact) :]),
        leaks=tuple(leaks),
        label_conflicts=tuple(conflicts),
        group_patterns=tuple(p for _, p in patterns),
        shortcuts=tuple(_shortcuts(samples, scan, is_training, duplicates)),
        size_range=_sizes(scan),
        overlap_fraction=_visible_fractions(scan),
        intensity_range=chosen,
        decisions=(*_threshold_decision(near, threshold), *([range_decision] if range_decision else [])),
        findings=findings,
        is_misleading=bool(unreadable or leaks or conflicts or any(f.severity is Severity.ERROR for f in findings)),
    )


def _findings(
    samples: Samples,
    scan: ScanResult,
    patterns: Sequence[tuple[NDArray[np.int64], GroupPattern]],
    chain_evidence: Evidence,
    requested: str | None,
) -> tuple[Finding, ...]:
    """Return the findings that are not stored elsewhere in the report."""
    used = next((g for g, p in patterns if p.is_used), None)
    return (
        *_straddling(patterns),
        *([Finding(FindingKind.DUPLICATES_AT_BASELINE, Severity.WARNING, chain_evidence)] if chain_evidence else []),
        *_questions(patterns),
        *_find_unused_pages(samples, scan),
        *find_mixed_depths(scan),
        *find_class_problems(samples, scan.is_ok, used),
        *find_confounding(samples, requested),
    )


def _threshold_decision(near: Sequence[object], threshold: float) -> list[Decision]:
    """Return the decision on the threshold of near-duplicates, where it found any."""
    if not near:
        return []
    shared: Evidence = {"num_pairs": len(near), "min_agreement": 1 - 10**-threshold}
    reason = DecisionReason.DUPLICATE_THRESHOLD_FROM_DATA
    return [Decision("near_duplicates.threshold", round(threshold, 2), reason, evidence=shared)]


def apply_report(samples: Samples, report: DatasetReport, *, group_from: str | None = None) -> AppliedReport:
    """Return what training keeps together and excludes.

    Args:
        samples: The checked images.
        report: Their report.
        group_from: As the user requests: None uses the groups of the data, else accepted ones; `none` keeps
            only duplicates together, `image` nothing; a column, template or expression is used untested.

    Raises:
        UsageError: `group_from` matches nothing.
    """
    count = len(samples)
    unreadable = {p.name for p in report.unreadable}
    excluded = np.array([s.name in unreadable for s in samples], dtype=bool)
    in_training = np.array([s.split in (None, "train") for s in samples], dtype=bool)
    scored = ~in_training & ~excluded
    leaking = np.zeros(count, dtype=bool)
    for pair in report.leaks:
        order = {"train": 0, "val": 1, "test": 2}
        later = max((pair.index_a, pair.index_b), key=lambda i: order.get(samples.items[i].split or "train", 0))
        leaking[later] = True
    conflicting = [i for p in report.label_conflicts for i in (p.index_a, p.index_b)]
    if conflicting:  # with all their duplicates: large sets of one image list only pairs with the first
        duplicate_sets = components(count, [(p.index_a, p.index_b) for p in report.duplicates])
        two_labels = np.isin(duplicate_sets, duplicate_sets[conflicting])
        excluded |= two_labels & in_training
        leaking |= two_labels & ~in_training
    groups, decision = _chosen_groups(samples, report, group_from)
    decisions = [decision]
    duplicates = [*report.duplicates, *report.near_duplicates]
    if duplicates and decision.value != "image":
        groups, joined = merge_duplicates(groups, [(p.index_a, p.index_b, p.similarity) for p in duplicates], count)
        kept: Evidence = {"num_pairs": len(duplicates), "num_joined": joined}
        decisions.append(Decision("groups.duplicates", joined, DecisionReason.DUPLICATES_KEPT_TOGETHER, evidence=kept))
    out = int(sum(excluded[i] for i in range(count) if samples.items[i].name not in unreadable))
    if out:
        reason = DecisionReason.CONFLICTING_LABELS
        decisions.append(Decision("excluded.labels", out, reason, evidence={"num_images": out}))
    return AppliedReport(groups, excluded, scored, scored & ~leaking, tuple(decisions))


def _requested_groups(samples: Samples, group_from: str | None) -> GroupCandidate | None:
    """Return the grouping that the user requests, or None if there is none or groups are switched off."""
    if group_from is None:
        return None
    groups, decision = group_ids(samples, group_from)
    if groups is None:
        return None
    grouping = {key: decision.evidence[key] for key in ("grouped_by", "name")}
    return GroupCandidate(group_from, grouping, tuple(map(str, groups.tolist())), "requested")


def _chosen_groups(
    samples: Samples, report: DatasetReport, group_from: str | None
) -> tuple[NDArray[np.int64] | None, Decision]:
    used = next((p for p in report.group_patterns if p.is_used), None)
    is_refused = used is None and any(p.source == "inferred" for p in report.group_patterns)
    if group_from is not None or (any(s.group for s in samples) and not is_refused):
        return group_ids(samples, group_from)
    if used is None:
        questions = [p for p in report.group_patterns if p.status.is_question]
        if not questions:
            return None, Decision("group_from", None, DecisionReason.NO_GROUPS_FOUND)
        requested: Evidence = {"questions": [{"pattern": p.pattern, "status": p.status.value} for p in questions]}
        return None, Decision("group_from", None, DecisionReason.GROUPS_IN_QUESTION, evidence=requested)
    # Use exactly the tested groups: the expression may match names of other forms too, which stay ungrouped here.
    proposals = [g for proposal in propose_groups(samples) for g in (proposal, inside_class_folders(samples, proposal))]
    tested = next((g for g in proposals if g is not None and g.pattern == used.pattern), None)
    groups = group_ids(samples, used.pattern)[0] if tested is None else number_groups(list(tested.keys))
    evidence: Evidence = {
        "grouping": used.grouping,
        "num_groups": used.num_groups,
        "p_value": used.p_value,
        "accuracy_independent": used.accuracy_independent,
        "accuracy_grouped": used.accuracy_grouped,
    }
    is_named = used.source == "named"
    reason = DecisionReason.GROUPS_NAMED_BY_COLUMN if is_named else DecisionReason.GROUPS_SUPPORTED_BY_IMAGES
    return groups, Decision("group_from", used.pattern, reason, evidence=evidence)


def _name(samples: Samples, pair: Pair) -> ImagePair:
    a, b = samples.items[pair.first], samples.items[pair.second]
    return ImagePair(
        a=a.name,
        b=b.name,
        kind=pair.kind,
        similarity=round(pair.similarity, 5),
        split_a=a.split,
        split_b=b.split,
        label_a=a.label,
        label_b=b.label,
        index_a=pair.first,
        index_b=pair.second,
    )


def _find_unused_pages(samples: Samples, scan: ScanResult) -> list[Finding]:
    """Find files of which only the first page or frame is used."""
    names: list[JsonValue] = [
        sample.name
        for sample, info in zip(samples, scan.info, strict=True)
        if info is not None and any(kind in _SEVERAL_PAGES for kind, _ in info.notes)
    ]
    if not names:
        return []
    evidence: Evidence = {"count": len(names), "examples": names[:_EXAMPLES]}
    return [Finding(FindingKind.PAGES_NOT_USED, Severity.WARNING, evidence)]


def _handled_files(samples: Samples, scan: ScanResult) -> tuple[HandledFiles, ...]:
    """Return unusual properties by kind, the most frequent first, except those that are findings."""
    rows_by_kind: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for sample, info in zip(samples, scan.info, strict=True):
        for kind, detail in info.notes if info is not None else ():
            if kind not in _SEVERAL_PAGES:
                rows_by_kind[kind].append((sample.name, detail))
    handled_files = [
        HandledFiles(kind, len(rows), rows[0][1], tuple(name for name, _ in rows[:_EXAMPLES]))
        for kind, rows in rows_by_kind.items()
    ]
    return tuple(sorted(handled_files, key=lambda r: (-r.count, r.kind)))


def _shortcuts(
    samples: Samples, scan: ScanResult, is_training: NDArray[np.bool_], duplicates: NDArray[np.int64] | None
) -> list[Shortcut]:
    """Return flagged cues with names instead of positions, the most predictive first."""
    class_ids = np.where(is_training, samples.class_ids, -1)
    rows_by_kind = []
    for cue in find_shortcuts(scan, samples.paths, class_ids, samples.class_names, groups=duplicates):
        if not cue.is_flagged:
            continue
        by_fraction = sorted(cue.revealed_fractions, key=lambda name: -cue.revealed_fractions[name])
        given_fraction = 0.0 if cue.given_class is None else cue.revealed_fractions[cue.given_class]
        rows_by_kind.append(
            Shortcut(
                what=cue.cue,
                accuracy=round(cue.accuracy, 4),
                chance=round(cue.chance, 4),
                given_class=cue.given_class,
                given_class_fraction=given_fraction,
                classes=tuple(name for name in by_fraction[:3] if cue.revealed_fractions[name] > _GIVEN),
                examples=tuple(samples.items[i].name for i in cue.examples),
            )
        )
    return rows_by_kind


def _sizes(scan: ScanResult) -> tuple[int, int, int] | None:
    sides = sorted(max(f.size_hw) for f in scan.info if f is not None)
    return (sides[0], sides[len(sides) // 2], sides[-1]) if sides else None


def _visible_fractions(scan: ScanResult) -> dict[str, float]:
    """Return the median fraction of an image that the network sees, by resize mode, at a crop of 0.875."""
    sizes = [f.size_hw for f in scan.info if f is not None]
    if not sizes:
        return {}
    fits = ("crop", "cover", "squash", "pad")
    return {
        mode: round(float(np.median([overlap_fraction(s, (224, 224), mode, 0.875) for s in sizes])), 3) for mode in fits
    }


def _straddling(patterns: Sequence[tuple[NDArray[np.int64], GroupPattern]]) -> list[Finding]:
    """Find groups in use that lie on both sides of the user's own split."""
    return [
        Finding(
            FindingKind.GROUPS_ACROSS_SPLITS,
            Severity.ERROR,
            {
                "num_groups": p.evidence.num_straddling,
                "grouping": p.grouping,
                "scored_fraction": p.evidence.straddling_fraction,
            },
        )
        for _, p in patterns
        if p.is_used and p.evidence.num_straddling
    ]


def _questions(patterns: Sequence[tuple[NDArray[np.int64], GroupPattern]]) -> list[Finding]:
    """Return groups that look real but are not applied; an ERROR where one of two scores must be misleading.

    Where other groups are applied, probable recording conditions are not reported.
    """
    severities = {
        GroupStatus.QUESTION_SCORE_AT_BASELINE: Severity.ERROR,
        GroupStatus.QUESTION_TOO_FEW_GROUPS: Severity.WARNING,
    }
    has_groups = any(p.is_used for _, p in patterns)
    return [
        Finding(
            FindingKind.GROUPS_IN_QUESTION,
            severities.get(p.status, Severity.INFO),
            {
                "status": p.status.value,
                "pattern": p.pattern,
                "grouping": p.grouping,
                "num_groups": p.num_groups,
                "accuracy_independent": p.accuracy_independent,
                "accuracy_grouped": p.accuracy_grouped,
                **asdict(p.evidence),
            },
        )
        for _, p in patterns
        if p.status.is_question and (p.status in severities or not has_groups)
    ]
