"""The data doctor: one judgement of a data set, made before any number is printed.

It changes nothing.  `inspect_dataset` finds and names, `apply_report` says what training should
keep together and leave out, and a person can see and overrule each step.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.data.class_balance import class_table, find_class_problems, overlap_fraction
from headstart.data.duplicates import Pair, components, find_duplicates
from headstart.data.group_candidates import GroupCandidate, guess_groups, inside_class_folders
from headstart.data.group_evaluation import Score, downweight_duplicates, evaluate_groupings
from headstart.data.group_rules import merge_duplicates
from headstart.data.grouping import group_ids, number_groups
from headstart.data.image_scan import ScanResult, scan_images
from headstart.data.intensity_range import choose_range, find_mixed_depths
from headstart.data.leaks import find_leaks
from headstart.data.pixel_comparison import SamePixels
from headstart.data.shortcuts import find_shortcuts
from headstart.limits import MAX_PIXELS
from headstart.messages.decisions_data import grouping_message
from headstart.records import DatasetReport, Decision, GroupPattern, ImagePair, Remark, Samples, Shortcut
from headstart.types import DecisionReason, Evidence, Finding, FindingKind, GroupStatus, JsonValue, Severity

__all__ = ["AppliedReport", "apply_report", "inspect_dataset"]

_EXAMPLES = 5
_GIVEN = 0.2  # share of a class that a cue gives away from which the class is listed
_SEVERAL_PAGES = frozenset({"stack", "animated"})


@dataclass(frozen=True)
class AppliedReport:
    """What training does with a judgement; arrays are aligned with the samples.

    Attributes:
        groups: (N,) what must not be parted (copies, and accepted or asked-for groups), or None.
        left_out: (N,) images that are not trained on: unreadable, or one image under two labels.
        test_including_leaks: (N,) scored images of the person's own split, all that can be read.
        test: (N,) the same without those that leak: the headline.
        decisions: What was chosen, and why.
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
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    group_from: str | None = None,
    strata: NDArray[np.int64] | None = None,
) -> DatasetReport:
    """Evaluate a data set.

    Args:
        samples: The images.
        looks: What was seen of them, where that is known already.
        embeddings: (N, D) what a network says of them (NaN rows where it could not): finer evidence.
        score: Out-of-fold accuracy on the training images for (N,) groups (None: each alone); measures what
            hidden groups do to the score.
        intensity_range: What 16-bit and float images are to be mapped from; None chooses.
        max_pixels: Larger images are refused.
        threads: Worker threads.
        progress: Called with (images done, all) while they are looked at.
        group_from: As in `apply_report`: what the user asks for is measured instead of guesses.
        strata: (N,) what stands for the class in the rules for groups where samples have no label, or None.

    Returns:
        The judgement.

    Raises:
        UsageError: `group_from` fits nothing.
    """
    if scan is None:
        scan = scan_images(samples, max_pixels=max_pixels, threads=threads, progress=progress)
    is_ok = scan.is_ok
    same = SamePixels(samples.paths, max_pixels)
    exact, near, bar = find_duplicates(scan, embeddings=embeddings, same_pixels=same, threads=threads)
    pairs = [*exact, *near]
    copies = components(len(samples), [(p.first, p.second) for p in pairs]) if pairs else None
    is_training = is_ok & np.array([s.split in (None, "train") for s in samples], dtype=bool)
    asked = _asked(samples, group_from)
    chains = downweight_duplicates(samples, is_training, pairs, score) if group_from is None else {}
    patterns = evaluate_groupings(
        samples,
        scan,
        is_training,
        embeddings=embeddings,
        copies=pairs,
        score=score,
        strata=strata,
        asked=asked,
    )
    if group_from is not None and asked is None:
        patterns = []
    chosen, range_decision = choose_range(samples, scan, intensity_range)
    named = [_name(samples, p) for p in pairs]
    leaks = [_name(samples, p) for p in find_leaks(samples, pairs)]
    conflicts = [p for p in named if p.label_a is not None and p.label_b is not None and p.label_a != p.label_b]
    unreadable = [*samples.problems, *scan.problems.values()]
    shortcuts = _shortcuts(samples, scan, is_training, copies)
    used = next((g for g, p in patterns if p.is_used), None)
    findings = (
        *_straddling(patterns),
        *([Finding(FindingKind.COPIES_AT_BASELINE, Severity.WARNING, chains)] if chains else []),
        *_in_question(patterns),
        *_find_unused_pages(samples, scan),
        *find_mixed_depths(scan),
        *find_class_problems(samples, is_ok, used),
    )
    is_misleading = any(f.severity is Severity.ERROR for f in findings)
    decisions = []
    if near:
        shared: Evidence = {"num_pairs": len(near), "least_agreement": 1 - 10**-bar}
        reason = DecisionReason.COPY_THRESHOLD_FROM_DATA
        decisions.append(Decision("copies.bar", round(bar, 2), reason, evidence=shared))
    decisions += [range_decision] if range_decision else []
    return DatasetReport(
        num_samples=len(samples),
        layout=samples.layout,
        classes=class_table(samples),
        formats=dict(Counter(f.format for f in scan.info if f is not None).most_common()),
        unreadable=tuple(unreadable),
        remarks=_remarks(samples, scan),
        duplicates=tuple(named[: len(exact)]),
        near_duplicates=tuple(named[len(exact) :]),
        leaks=tuple(leaks),
        label_conflicts=tuple(conflicts),
        group_patterns=tuple(p for _, p in patterns),
        shortcuts=tuple(shortcuts),
        size_range=_sizes(scan),
        overlap_fraction=_seen(scan),
        intensity_range=chosen,
        decisions=tuple(decisions),
        findings=findings,
        is_misleading=bool(unreadable or leaks or conflicts or is_misleading),
    )


def apply_report(samples: Samples, report: DatasetReport, *, group_from: str | None = None) -> AppliedReport:
    """Return what training does with a judgement.

    Args:
        samples: The images that were judged.
        health: The judgement.
        group_from: As the person said: None uses what the data give, else what was accepted; `none` keeps
            only copies together, `image` nothing; a column, template or expression is used untested.

    Raises:
        UsageError: `group_from` fits nothing.
    """
    count = len(samples)
    unreadable = {p.name for p in report.unreadable}
    excluded = np.array([s.name in unreadable for s in samples], dtype=bool)
    in_training = np.array([s.split in (None, "train") for s in samples], dtype=bool)
    as_given = ~in_training & ~excluded
    leaking = np.zeros(count, dtype=bool)
    for pair in report.leaks:
        order = {"train": 0, "val": 1, "test": 2}
        later = max((pair.index_a, pair.index_b), key=lambda i: order.get(samples.items[i].split or "train", 0))
        leaking[later] = True
    conflicting = [i for p in report.label_conflicts for i in (p.index_a, p.index_b)]
    if conflicting:  # with all that equal them: of large sets of one image only pairs with the first are listed
        twins = components(count, [(p.index_a, p.index_b) for p in report.duplicates])
        two_labels = np.isin(twins, twins[conflicting])
        excluded |= two_labels & in_training
        leaking |= two_labels & ~in_training
    groups, decision = _chosen_groups(samples, report, group_from)
    decisions = [decision]
    copies = [*report.duplicates, *report.near_duplicates]
    if copies and decision.value != "image":
        groups, joined = merge_duplicates(groups, [(p.index_a, p.index_b, p.similarity) for p in copies], count)
        kept: Evidence = {"num_pairs": len(copies), "num_joined": joined}
        decisions.append(Decision("groups.copies", joined, DecisionReason.COPIES_KEPT_TOGETHER, evidence=kept))
    out = int(sum(excluded[i] for i in range(count) if samples.items[i].name not in unreadable))
    if out:
        reason = DecisionReason.CONFLICTING_LABELS
        decisions.append(Decision("left_out.labels", out, reason, evidence={"num_images": out}))
    return AppliedReport(groups, excluded, as_given, as_given & ~leaking, tuple(decisions))


def _asked(samples: Samples, group_from: str | None) -> GroupCandidate | None:
    """Return the grouping that the user asks for, or None if none is asked for or groups are switched off."""
    if group_from is None:
        return None
    groups, decision = group_ids(samples, group_from)
    if groups is None:
        return None
    return GroupCandidate(group_from, grouping_message(decision.evidence), tuple(map(str, groups.tolist())), "asked")


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
        asked: Evidence = {"questions": [{"pattern": p.pattern, "status": p.status.value} for p in questions]}
        return None, Decision("group_from", None, DecisionReason.GROUPS_IN_QUESTION, evidence=asked)
    # What was tested is what is used: the expression may fit names of other forms too, which stand alone here.
    guesses = [g for guess in guess_groups(samples) for g in (guess, inside_class_folders(samples, guess))]
    tested = next((g for g in guesses if g is not None and g.pattern == used.pattern), None)
    groups = group_ids(samples, used.pattern)[0] if tested is None else number_groups(list(tested.keys))
    evidence: Evidence = {
        "pattern_meaning": used.meaning,
        "num_groups": used.num_groups,
        "p_value": used.p_value,
        "accuracy_independent": used.accuracy_independent,
        "accuracy_grouped": used.accuracy_grouped,
    }
    return groups, Decision("group_from", used.pattern, DecisionReason.GROUPS_SUPPORTED_BY_IMAGES, evidence=evidence)


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
        if info is not None and any(kind in _SEVERAL_PAGES for kind, _ in info.remarks)
    ]
    if not names:
        return []
    evidence: Evidence = {"count": len(names), "examples": names[:_EXAMPLES]}
    return [Finding(FindingKind.PAGES_NOT_USED, Severity.WARNING, evidence)]


def _remarks(samples: Samples, scan: ScanResult) -> tuple[Remark, ...]:
    """Oddities by kind, the commonest first; those that are findings are left to them."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for sample, info in zip(samples, scan.info, strict=True):
        for kind, detail in info.remarks if info is not None else ():
            if kind not in _SEVERAL_PAGES:
                found[kind].append((sample.name, detail))
    remarks = [
        Remark(kind, len(rows), rows[0][1], tuple(name for name, _ in rows[:_EXAMPLES])) for kind, rows in found.items()
    ]
    return tuple(sorted(remarks, key=lambda r: (-r.count, r.kind)))


def _shortcuts(
    samples: Samples, scan: ScanResult, is_training: NDArray[np.bool_], copies: NDArray[np.int64] | None
) -> list[Shortcut]:
    """Flagged cues, with names instead of positions, the most telling first."""
    class_ids = np.where(is_training, samples.class_ids, -1)
    found = []
    for cue in find_shortcuts(scan, samples.paths, class_ids, samples.class_names, groups=copies):
        if not cue.is_flagged:
            continue
        told = sorted(cue.given_away, key=lambda name: -cue.given_away[name])
        share = 0.0 if cue.given_class is None else cue.given_away[cue.given_class]
        found.append(
            Shortcut(
                what=cue.cue,
                accuracy=round(cue.accuracy, 4),
                chance=round(cue.chance, 4),
                given_class=cue.given_class,
                given_class_fraction=share,
                classes=tuple(name for name in told[:3] if cue.given_away[name] > _GIVEN),
                examples=tuple(samples.items[i].name for i in cue.examples),
            )
        )
    return found


def _sizes(scan: ScanResult) -> tuple[int, int, int] | None:
    sides = sorted(max(f.size_hw) for f in scan.info if f is not None)
    return (sides[0], sides[len(sides) // 2], sides[-1]) if sides else None


def _seen(scan: ScanResult) -> dict[str, float]:
    """Return median share of an image that is seen, by fit, at the usual crop of 0.875."""
    sizes = [f.size_hw for f in scan.info if f is not None]
    if not sizes:
        return {}
    fits = ("crop", "cover", "squash", "pad")
    return {
        fit: round(float(np.median([overlap_fraction(s, (224, 224), fit, 0.875) for s in sizes])), 3) for fit in fits
    }


def _straddling(patterns: Sequence[tuple[NDArray[np.int64], GroupPattern]]) -> list[Finding]:
    """Find groups in use that lie on both sides of the user's own split."""
    return [
        Finding(
            FindingKind.GROUPS_ACROSS_SPLITS,
            Severity.ERROR,
            {
                "num_groups": p.evidence.num_straddling,
                "pattern_meaning": p.meaning,
                "share_of_scored": p.evidence.straddling_fraction,
            },
        )
        for _, p in patterns
        if p.is_used and p.evidence.num_straddling
    ]


def _in_question(patterns: Sequence[tuple[NDArray[np.int64], GroupPattern]]) -> list[Finding]:
    """Ask about groups that look real but are not applied; an ERROR where one of two scores must mislead.

    Where other groups are applied, what is likely a condition is no question any more.
    """
    severities = {
        GroupStatus.QUESTION_SCORE_AT_BASELINE: Severity.ERROR,
        GroupStatus.QUESTION_TOO_FEW_GROUPS: Severity.WARNING,
    }
    is_settled = any(p.is_used for _, p in patterns)
    return [
        Finding(
            FindingKind.GROUPS_IN_QUESTION,
            severities.get(p.status, Severity.INFO),
            {
                "status": p.status.value,
                "pattern": p.pattern,
                "pattern_meaning": p.meaning,
                "num_groups": p.num_groups,
                "accuracy_independent": p.accuracy_independent,
                "accuracy_grouped": p.accuracy_grouped,
                **asdict(p.evidence),
            },
        )
        for _, p in patterns
        if p.status.is_question and (p.status in severities or not is_settled)
    ]
