"""The closing words: one headline that a layperson understands, where things lie, what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.data.wording import one_line
from headstart.messages.numbers import percent, pluralize
from headstart.messages.protocols import measured_on
from headstart.records import Decision, Problem
from headstart.types import Finding, FindingKind
from headstart.workflow.judgement import Judgement

__all__ = ["closing_lines", "decision_line", "headline", "name_files", "not_kept_line", "report_line"]

_FIRST = 10

_MEANINGS = {
    "group_from": "what belongs together",
    "groups.copies": "pictures that occur more than once",
    "head.blocks": "depths of the network that are used",
    "head.calibration": "correction of how sure it says it is, class by class",
    "head.class_weights": "weight of each class",
    "head.lda_penalty": "smoothing of the second way to draw the borders between classes",
    "head.logistic": "a third way to draw the borders",
    "head.mirror": "also looking at each picture mirrored",
    "head.mixture": "how the ways are mixed",
    "head.ridge_penalty": "smoothing of the first way to draw the borders between classes",
    "head.temperature": "correction of how sure it says it is",
    "left_out.labels": "left out of training",
    "tune.phases": "stored rows of each phase",
    "value_range": "what counts as black and as white",
}
"""What a setting is, for a person who has never met it."""


def headline(judgement: Judgement) -> str:
    """The score in one plain sentence, e.g. `Right on 91 of 100 new pictures (95 %: 88-93); ...`."""
    scored = judgement.headline
    estimate = scored.balanced_accuracy if judgement.is_imbalanced else scored.accuracy
    if estimate.value is None:
        return "How often it will be right cannot be said from these pictures."
    if judgement.is_imbalanced:
        text = f"Right on {100 * estimate.value:.0f} of 100 new pictures of each class, averaged over the classes"
    else:
        text = f"Right on {100 * estimate.value:.0f} of 100 new pictures"
    if estimate.low is not None and estimate.high is not None:
        text += f" (95 %: {100 * estimate.low:.0f}-{100 * estimate.high:.0f})"
    else:
        text += " (how sure that is cannot be measured: too few independent groups)"
    metric = "balanced_accuracy" if judgement.is_imbalanced else "accuracy"
    commonest = judgement.baselines["majority"][metric]
    nearest = judgement.baselines["nearest_neighbour"][metric]
    return (
        f"{text}; always guessing the commonest class: {100 * commonest:.0f}, "
        f"copying the most similar known picture: {100 * nearest:.0f}."
    )


def decision_line(decision: Decision) -> str:
    """One automatic choice in plain words: what it is, its value, why."""
    meaning = _MEANINGS.get(decision.what)
    value = decision.value
    if isinstance(value, dict):
        value = ", ".join(f"{name} {share}" for name, share in value.items())
    elif isinstance(value, float):
        value = f"{value:.3g}"
    what = f"{meaning} ({decision.what})" if meaning else decision.what
    return f"  {what}: {'none' if value is None else value} - {decision.reason}"


def _copies_at_baseline(findings: Sequence[Finding]) -> list[str]:
    """One line that says beside the score what the chains of copies do to it, or none."""
    evidence: Any = next((f.evidence for f in findings if f.kind is FindingKind.COPIES_AT_BASELINE), None)
    if evidence is None:
        return []
    return [
        f"note: chains of near-duplicates ({pluralize(evidence['num_pairs'], 'pair')}) are left out whole; with every "
        f"image left out alone accuracy is {percent(evidence['accuracy_separate'])} (--group-from image)."
    ]


def _group_question(findings: Sequence[Finding]) -> list[str]:
    """One line about the groups in question that change the score most, or none."""
    evidence: list[Any] = [f.evidence for f in findings if f.kind is FindingKind.GROUPS_IN_QUESTION]
    measured = [e for e in evidence if e["accuracy_independent"] is not None and e["accuracy_grouped"] is not None]
    if not measured:
        return []
    worst = max(measured, key=lambda e: e["accuracy_independent"] - e["accuracy_grouped"])
    return [
        f"note: not applied: {pluralize(worst['num_groups'], 'group')} guessed from the data ({worst['status']}); with "
        "them, "
        f"accuracy is {100 * worst['accuracy_grouped']:.0f} of 100 instead of "
        f"{100 * worst['accuracy_independent']:.0f}: --group-from {shlex.quote(worst['pattern'])}, or none."
    ]


def how_measured(judgement: Judgement) -> str:
    """What the score was measured on, in plain words."""
    scored = judgement.headline
    return f"Measured on {measured_on(scored.setup, scored.num_samples)}."


def closing_lines(
    judgement: Judgement,
    folder: Path,
    duration_s: float,
    *,
    num_shown: int | None = None,
    findings: Sequence[Finding] = (),
) -> list[str]:
    """At most 12 lines; `num_shown` pictures stand in the report, None where it was not written.

    Of `findings`, groups in question stand beside the score where both scores are known.
    """
    lines = ["", headline(judgement), how_measured(judgement)]
    if judgement.test_as_given is not None:
        given = judgement.test_as_given
        name = "balanced_accuracy" if judgement.is_imbalanced else "accuracy"
        num_copies = given.num_samples - (judgement.test.num_samples if judgement.test else 0)
        lines.append(_as_given_line(getattr(judgement.headline, name).value, getattr(given, name).value, num_copies))
    weak = [s for s in judgement.headline.per_class if s.recall.value is not None and s.support >= 5]
    worst = min(weak, key=lambda s: s.recall.value or 0.0, default=None)
    if worst is not None and len(weak) > 2 and (worst.recall.value or 0.0) < 1.0:
        lines.append(f"Hardest class: `{worst.name}`, {100 * (worst.recall.value or 0):.0f} of 100 found.")
    lines += [f"note: {note}" for note in judgement.headline.notes[:2]]
    lines += _copies_at_baseline(findings)
    lines += _group_question(findings)
    lines += [
        f"Took {duration_s:.1f} s. The model: {folder / 'bundle'}",
        *([] if num_shown is None else [report_line(num_shown, folder)]),
        f"Next: headstart predict {_quoted(folder)} NEW_PICTURES/",
    ]
    return lines


def _as_given_line(clean: float | None, given: float | None, num_copies: int) -> str:
    """What the test split scores with the images in it that are copies of others, beside the score without them."""
    if given is None:
        return "As given, with images that leak from training, the test split has no score."
    text = f"As given, with {pluralize(num_copies, 'test image')} leaking from training: {100 * given:.0f} of 100"
    if clean is None:
        return f"{text}."
    change = round(100 * given) - round(100 * clean)
    return f"{text}, {'which flatters' if change > 0 else 'the same' if change == 0 else 'even less'}."


def report_line(num_shown: int, folder: Path) -> str:
    """Where the report is, and what of a person's data is in it."""
    if num_shown:
        holds = f"shows {pluralize(num_shown, 'image')} of yours by file name; --no-pictures leaves both out"
    else:
        holds = "no photographs, no file names in it or the files beside it; tables such as predictions.csv name files"
    return f"Report ({holds}): {folder / 'report.html'}"


def not_kept_line(what: str, reason: str) -> str:
    """That the disk refused what would have saved time."""
    return f"{what} could not be kept ({reason}); the result is the same, it only takes longer."


def name_files(problems: Sequence[Problem]) -> list[str]:
    """The first ten by name and reason, then a count."""
    lines = [f"  {one_line(p.name)}: {p.detail}" for p in problems[:_FIRST]]
    if len(problems) > _FIRST:
        lines.append(f"  ... and {len(problems) - _FIRST:,} more")
    return lines


def _quoted(path: Path) -> str:
    text = str(path)
    return f'"{text}"' if " " in text else text
