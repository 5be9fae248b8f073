"""The closing words: one headline that a layperson understands, where things lie, what to type next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headstart.records import Problem
from headstart.workflow.judgement import Judgement

__all__ = ["closing_lines", "headline", "name_files"]

_FIRST = 10


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


def how_measured(judgement: Judgement) -> str:
    """What the score was measured on, in plain words."""
    scored = judgement.headline
    count = f"{scored.num_samples:,} pictures"
    words = {
        "leave-one-out": f"each of {count} was predicted by a model that had not seen it",
        "leave-one-group-out": f"each of {count} was predicted by a model that had seen nothing of its group",
        "given": f"{count} of your own test folder, used once",
        "val": f"{count} of your validation folder, used for no choice",
    }
    return "Measured on: " + words.get(scored.protocol, f"{count} {scored.protocol}, used once") + "."


def closing_lines(judgement: Judgement, folder: Path, duration_s: float) -> list[str]:
    """At most 12 lines."""
    lines = ["", headline(judgement), how_measured(judgement)]
    weak = [s for s in judgement.headline.per_class if s.recall.value is not None and s.support >= 5]
    if len(weak) > 2:
        worst = min(weak, key=lambda s: s.recall.value or 0.0)
        lines.append(f"Hardest class: `{worst.name}`, {100 * (worst.recall.value or 0):.0f} of 100 found.")
    lines += [f"note: {note}" for note in judgement.headline.notes[:2]]
    lines += [
        f"Took {duration_s:.1f} s. Report: {folder / 'report.html'}; the model: {folder / 'bundle'}",
        f"Next: headstart predict {_quoted(folder)} NEW_PICTURES/",
    ]
    return lines


def name_files(problems: Sequence[Problem]) -> list[str]:
    """The first ten by name and reason, then a count."""
    lines = [f"  {p.name}: {p.detail}" for p in problems[:_FIRST]]
    if len(problems) > _FIRST:
        lines.append(f"  ... and {len(problems) - _FIRST:,} more")
    return lines


def _quoted(path: Path) -> str:
    text = str(path)
    return f'"{text}"' if " " in text else text
