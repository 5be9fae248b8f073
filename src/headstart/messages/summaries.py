"""Count findings by kind: one line per kind, the most severe first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

from headstart.messages.box_problems import BOX_PROBLEM_SUMMARIES
from headstart.messages.dataset import DATASET_SUMMARIES
from headstart.messages.decisions_data import grouping_message
from headstart.messages.evaluation import EVALUATION_MESSAGES, EVALUATION_SUMMARIES
from headstart.messages.findings import finding_message
from headstart.messages.reading import reading_message
from headstart.messages.values import count, fit, joined, one_line, quote, shorten_end, with_example
from headstart.types.codes import Finding, FindingKind, ReadingKind, ReadingNote, Severity

__all__ = [
    "AnyFinding",
    "Topic",
    "count_severities",
    "describe_finding",
    "rank_findings",
    "summarize_findings",
    "summarize_kinds",
    "topic_of",
]

AnyFinding: TypeAlias = Finding | ReadingNote
Ranked = TypeVar("Ranked", bound=Finding | ReadingNote)


class Topic(StrEnum):
    """Topic by which the screen groups findings."""

    READING = "reading"
    DATASET = "dataset"
    TRAINING = "training"
    EVALUATION = "evaluation"


def describe_finding(finding: AnyFinding) -> str:
    """Return one sentence about a finding or a reading note."""
    return reading_message(finding) if isinstance(finding, ReadingNote) else finding_message(finding)


def topic_of(finding: AnyFinding) -> Topic:
    """Return the topic of a finding."""
    if isinstance(finding, ReadingNote):
        return Topic.READING
    return _TOPICS.get(finding.kind, Topic.DATASET)


def rank_findings(findings: Sequence[Ranked]) -> list[Ranked]:
    """Return the findings with the most severe first, otherwise in their order."""
    return sorted(findings, key=lambda finding: _RANKS[finding.severity])


def count_severities(findings: Sequence[AnyFinding]) -> str:
    """Return e.g. `2 errors, 1 warning, 3 notes`; `no findings` without any."""
    words = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
    counts = {severity: sum(f.severity is severity for f in findings) for severity in Severity}
    return ", ".join(count(number, words[severity]) for severity, number in counts.items() if number) or "no findings"


def summarize_findings(
    findings: Sequence[AnyFinding], *, most: int, width: int = 90, details: str | None = None
) -> list[str]:
    """Return the texts of `summarize_kinds`."""
    return [text for _, text in summarize_kinds(findings, most=most, width=width, details=details)]


def summarize_kinds(
    findings: Sequence[AnyFinding], *, most: int, width: int = 90, details: str | None = None
) -> list[tuple[Severity, str]]:
    """Return at most `most` lines, one per kind, the most severe kinds first; the last line lists the other kinds.

    Args:
        findings: Of one topic.
        most: Maximum number of lines, at least 1.
        width: Maximum characters per line; a shorter form of the message is used where the full one does not fit.
        details: The command that shows all findings, appended to the last line.
    """
    by_kind: dict[FindingKind | ReadingKind, list[AnyFinding]] = defaultdict(list)
    for finding in rank_findings(findings):
        by_kind[finding.kind].append(finding)
    kinds = list(by_kind)
    shown = kinds if len(kinds) <= most else kinds[: max(most - 1, 0)]
    end = f"; details: {details}" if details and by_kind else ""
    room = max(width - len(end), 20)
    lines = []
    for kind in shown:
        is_last = kind is kinds[-1]
        text = fit(_variants(by_kind[kind]), room if is_last else width)
        lines.append((by_kind[kind][0].severity, text + (end if is_last else "")))
    rest = kinds[len(shown) :]
    if rest:
        amounts = [_amount(by_kind[kind]) for kind in rest]
        important = [a for a, kind in zip(amounts, rest, strict=True) if by_kind[kind][0].severity is not Severity.INFO]
        if most == 1 and len(joined(important, room - 4)) > 1 == len(joined(important, width - 4)):
            end, room = "", width  # every problem is named rather than the command
        text, *more = joined(amounts, room - 4)
        lines.append((by_kind[rest[0]][0].severity, shorten_end(text, room - 4) + (" ..." if more else "") + end))
    return lines


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}


def _variants(findings: Sequence[AnyFinding]) -> list[str]:
    """Return texts about all findings of one kind, longest first."""
    amount = _amount(findings)
    render = _ALL_SUMMARIES.get(findings[0].kind)
    if render is None and len(findings) == 1:
        return [one_line(describe_finding(findings[0]))]
    texts: Sequence[str] | str = f"{amount}, e.g. {describe_finding(findings[0])}"
    if render is not None:
        texts = render([f.evidence for f in findings])
    return [one_line(text) for text in (*([texts] if isinstance(texts, str) else texts), amount)]


def _amount(findings: Sequence[AnyFinding]) -> str:
    """Return the number of findings of one kind with its name, e.g. `1,500 unreadable files`."""
    kind = findings[0].kind
    words = _SHORT.get(kind, kind.value).split("_")
    if kind is FindingKind.CLASS_IMBALANCE:
        return _imbalance([f.evidence for f in findings])[1].removeprefix("class ")
    if kind in _UNCOUNTED:
        return " ".join(words)
    if isinstance(kind, ReadingKind) or kind in _COUNTED:
        number = sum(_count_of(f) for f in findings)
    else:
        number = len(findings)
    if number != 1:
        words = [_PLURALS.get(word, word) for word in words]
    elif kind in _COUNTED:
        words = [word.removesuffix("s") for word in words]
    return f"{number:,} {' '.join(words)}"


def _count_of(finding: AnyFinding) -> int:
    if isinstance(finding, ReadingNote):
        return finding.count
    evidence: Mapping[str, Any] = finding.evidence
    return int(evidence["count"])


_SHORT: Mapping[FindingKind | ReadingKind, str] = {
    FindingKind.CLASS_IMBALANCE: "imbalance",
    FindingKind.CLASS_TOO_SMALL: "small_class",
    FindingKind.LABEL_CONFLICTS: "conflicts",
    FindingKind.LEAKING_IMAGES: "leaks",
    FindingKind.OOD_RATES: "OOD_rates",
}
_PLURALS = {"class": "classes", "note": "notes", "shortcut": "shortcuts"}


def _total(es: Sequence[Mapping[str, Any]]) -> int:
    return sum(int(e["count"]) for e in es)


def _classes(one: str, many: str) -> Callable[[Sequence[Mapping[str, Any]]], str]:
    def render(es: Sequence[Mapping[str, Any]]) -> str:
        name = quote(str(es[0]["class"]), 24)
        return f"class {name} {one}" if len(es) == 1 else f"{len(es):,} classes {many}, e.g. {name}"

    return render


def _not_in_train(es: Sequence[Mapping[str, Any]]) -> str:
    rest = "not in train and cannot be learned" + (" (--exclude-classes)" if es[0].get("can_exclude") else "")
    return _classes(f"is {rest}", f"are {rest}")(es)


def _small_classes(es: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    text = f"{count(len(es), 'class')} with fewer than {es[0]['minimum']} {es[0]['unit']}"
    return f"{text}, e.g. {quote(str(es[0]['class']), 24)} ({es[0]['count']})", text


def _imbalance(es: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    e = es[0]
    largest, smallest = (f"{e[f'{k}_count']:,} {quote(str(e[f'{k}_class']), 20)}" for k in ("largest", "smallest"))
    text = f"class imbalance {e['largest_count'] / max(1, e['smallest_count']):.0f}:1"
    return f"{text} ({largest}, {smallest})", text


_TOPICS: Mapping[FindingKind, Topic] = {
    FindingKind.ANNOTATIONS_CORRECTED: Topic.READING,
    FindingKind.ANNOTATIONS_NOT_USED: Topic.READING,
    FindingKind.CORRECTIONS_APPLIED: Topic.READING,
    FindingKind.CORRECTIONS_OF_SCORED_IMAGES: Topic.READING,
    FindingKind.CORRECTIONS_OF_UNKNOWN_IMAGES: Topic.READING,
    FindingKind.FILES_NOT_USED: Topic.READING,
    **dict.fromkeys(EVALUATION_MESSAGES, Topic.EVALUATION),
}

_COUNTED = frozenset(
    {
        *(FindingKind.DUPLICATE_IMAGES, FindingKind.FILES_HANDLED, FindingKind.FILES_NOT_USED),
        *(FindingKind.LABEL_CONFLICTS, FindingKind.LEAKING_IMAGES, FindingKind.PAGES_NOT_USED),
        *(FindingKind.ANNOTATIONS_CORRECTED, FindingKind.ANNOTATIONS_NOT_USED, FindingKind.UNREADABLE_FILES),
        *(FindingKind.IMAGES_TRAINED_ON, FindingKind.OOD_IMAGES),
        *(FindingKind.CORRECTIONS_OF_SCORED_IMAGES, FindingKind.CORRECTIONS_OF_UNKNOWN_IMAGES),
    }
)
"""Kinds with a `count` of files, images or pairs per finding."""

_UNCOUNTED = frozenset(
    {
        *(FindingKind.ALL_SCORED_IMAGES_LEAK, FindingKind.CLASS_IMBALANCE, FindingKind.MIXED_PIXEL_TYPES),
        *(FindingKind.NARROW_CROP, FindingKind.SINGLE_CLASS, FindingKind.GROUPS_APPLIED),
        *(FindingKind.GROUPS_ACROSS_SPLITS, FindingKind.GROUPS_IN_QUESTION, FindingKind.GROUPS_NOT_APPLIED),
        *(FindingKind.GROUPS_REJECTED, FindingKind.DUPLICATES_WITH_OTHER_BOXES, FindingKind.CORRECTIONS_APPLIED),
        *(kind for kind in EVALUATION_MESSAGES if kind not in _COUNTED),
    }
)
"""Kinds about the dataset as a whole, without a count."""

_SUMMARIES: dict[FindingKind | ReadingKind, Callable[[Sequence[Mapping[str, Any]]], str | tuple[str, ...]]] = {
    FindingKind.ALL_SCORED_IMAGES_LEAK: lambda es: (
        f"every {es[0]['split']} image has a near-duplicate in training: the score is misleading"
    ),
    FindingKind.DUPLICATES_WITH_OTHER_BOXES: lambda es: with_example(
        f"{count(len(es[0]['pairs']), 'pair')} of identical images with different boxes", es[0]["pairs"][0][0]
    ),
    FindingKind.FILES_NOT_USED: lambda es: with_example(
        f"{_total(es):,} {'file or row' if _total(es) == 1 else 'files or rows'} not used",
        es[0]["examples"][0],
        after=f" ({es[0]['problem']})",
    ),
    FindingKind.GROUPS_ACROSS_SPLITS: lambda es: (
        f"{count(es[0]['num_groups'], 'group')} on both sides of your split "
        f"({es[0]['scored_fraction']:.0%} of the scored images)"
    ),
    FindingKind.GROUPS_APPLIED: lambda es: (
        f"{count(es[0]['num_groups'], 'group')} kept together ({grouping_message(es[0]['grouping'])})"
    ),
    FindingKind.GROUPS_NOT_APPLIED: lambda es: (
        f"{count(es[0]['num_groups'], 'candidate group')} not used ({grouping_message(es[0]['grouping'])})"
    ),
    FindingKind.MIXED_PIXEL_TYPES: lambda es: (
        f"{es[0]['num_float']:,} floating-point and {es[0]['num_integer']:,} 16-bit images share one value range"
    ),
    FindingKind.PAGES_NOT_USED: lambda es: (
        f"{count(_total(es), 'image')} with several pages or frames: only the first is used (--pages)"
    ),
    FindingKind.CLASS_IN_ONE_GROUP: _classes("is a single group", "are a single group each"),
    FindingKind.CLASS_NOT_IN_TEST: _classes("is not in test: no score", "are not in test: no score"),
    FindingKind.CLASS_NOT_IN_TRAIN: _not_in_train,
    FindingKind.CLASS_TOO_SMALL: _small_classes,
    FindingKind.CLASS_IMBALANCE: _imbalance,
    FindingKind.DUPLICATES_AT_BASELINE: lambda es: (
        f"the score is at the baseline with {count(es[0]['num_pairs'], 'pair')} of near-duplicates in one fold"
    ),
    FindingKind.GROUPS_IN_QUESTION: lambda es: (
        f"{count(es[0]['num_groups'], 'inferred group')} not applied "
        f"({str(es[0]['status']).removeprefix('question_').replace('_', ' ')})"
    ),
    FindingKind.CLASS_WITH_ONE_IMAGE: _classes("has 1 training image: too few", "have 1 training image: too few"),
    FindingKind.CLASS_WITHOUT_IMAGES: _classes("has no usable image", "have no usable image"),
}

_ALL_SUMMARIES = dict(_SUMMARIES)
for _more in (BOX_PROBLEM_SUMMARIES, DATASET_SUMMARIES, EVALUATION_SUMMARIES):
    _ALL_SUMMARIES.update(_more.items())
