"""Write `label_errors.csv`, and apply the corrections that a user adds to it without changing any file.

Corrections of scored images are reported and not applied, since the model helped to choose them and its score
would be biased.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.errors import DataError, UsageError
from headstart.evaluation.head_evaluation import HeadEvaluation
from headstart.evaluation.label_errors import LabelError, find_label_errors_or_pairs
from headstart.evaluation.metrics import softmax
from headstart.events import EventStream
from headstart.probe.normalize import Normalizer
from headstart.probe.probe import ProbeFit
from headstart.runs.files import write_csv
from headstart.types.codes import Evidence, Finding, FindingKind, Severity
from headstart.types.records import Features, Samples, Split
from headstart.utils.csv_cells import escape_formula, unescape_formula

__all__ = ["COLUMNS", "correct_labels", "write_label_errors"]

COLUMNS = ("image", "label", "suggested", "error_probability", "probability_label", "probability_suggested", "split",
           "is_label_error", "neighbor1", "neighbor2", "neighbor3", "action")  # fmt: skip
_NEIGHBORS = 3
_EXAMPLES = 5


def write_label_errors(
    path: Path, samples: Samples, features: Features, split: Split, fit: ProbeFit, evaluation: HeadEvaluation
) -> list[dict[str, str]]:
    """Write the likely label errors, most doubtful first, with an empty column `action`; return the rows.

    Training images use out-of-fold predictions; val and test images follow, with predictions of the final model.
    Identical files with different labels come first.
    """
    rows: list[tuple[str, ...]] = []
    for names in (("train",), ("val", "test")):
        index = np.flatnonzero(np.isin(split.assignment, names))
        if len(index) < 2:
            continue
        is_train = names == ("train",)
        logits = fit.oof_logits if is_train else evaluation.logits.final[index]
        errors = find_label_errors_or_pairs(
            softmax(logits),
            samples.class_ids[index],
            unscorable=fit.unscorable if is_train else None,
            duplicate_pairs=_identical_pairs([features.digests[i] for i in index]),
        )
        positions = np.array([index[s.index] for s in errors.items], dtype=np.int64)
        neighbors = _neighbors(fit.head.normalizer, features, split.where("train"), positions)
        rows += [
            _row(samples, split, int(i), suspect, rank < errors.num_flagged, near)
            for rank, (i, suspect, near) in enumerate(zip(positions, errors.items, neighbors, strict=True))
        ]
    return write_csv(path, COLUMNS, ([escape_formula(cell) for cell in row] for row in rows))


def correct_labels(samples: Samples, path: str | None, events: EventStream) -> Samples:
    """Return the samples with the user's corrections applied.

    Args:
        samples: As read.
        path: A `label_errors.csv` with a filled-in column `action`; None returns the samples unchanged.
        events: The event stream; receives applied and skipped corrections.

    Raises:
        UsageError: The file cannot be read or lacks a column.
        DataError: An action is none of `keep`, `drop` and `relabel:CLASS`, or names an unknown class.
    """
    if path is None:
        return samples
    decisions = _read_decisions(Path(path), samples)
    known = {s.name: i for i, s in enumerate(samples)}
    items, drop = list(samples.items), set()
    relabeled = 0
    scored, unknown = [], []
    for name, label, split in decisions:
        i = known.get(name)
        if i is None:
            unknown.append(name)
        elif split in ("val", "test") or items[i].split in ("val", "test"):
            scored.append(name)
        elif label is None:
            drop.add(i)
        else:
            items[i] = replace(items[i], label=label)
            relabeled += 1
    for kind, names in (
        (FindingKind.CORRECTIONS_OF_UNKNOWN_IMAGES, unknown),
        (FindingKind.CORRECTIONS_OF_SCORED_IMAGES, scored),
    ):
        if names:
            evidence: Evidence = {"count": len(names), "examples": names[:_EXAMPLES]}
            events.report(Finding(kind, Severity.WARNING, evidence))
    applied: Evidence = {"num_relabeled": relabeled, "num_dropped": len(drop)}
    events.report(Finding(FindingKind.CORRECTIONS_APPLIED, Severity.INFO, applied))
    keep = np.array([i for i in range(len(items)) if i not in drop], dtype=np.int64)
    return replace(samples, items=tuple(items)).take(keep)


def _read_decisions(path: Path, samples: Samples) -> list[tuple[str, str | None, str]]:
    """Return (name, new label or None to drop, split) of every correction."""
    try:
        with open(path, encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        hint = "pass the label_errors.csv of a run with its column `action` filled in"
        raise UsageError(f"cannot read the corrections `{path}` ({reason}).", hint=hint) from error
    missing = {"image", "action"} - set(rows[0] if rows else ("image", "action"))
    if missing:
        raise UsageError(
            f"the corrections `{path}` have no column {', '.join(sorted(missing))}.",
            hint="pass the label_errors.csv of a run with its column `action` filled in",
        )
    decisions: list[tuple[str, str | None, str]] = []
    problems = []
    for line, row in enumerate(rows, start=2):
        action = unescape_formula((row.get("action") or "").strip())
        name, split = unescape_formula(row.get("image") or ""), row.get("split") or ""
        if action in ("", "keep"):
            continue
        if action == "drop":
            decisions.append((name, None, split))
        elif action.startswith("relabel:"):
            label = unescape_formula(action.removeprefix("relabel:").strip())
            if label not in samples.class_names:
                near = difflib.get_close_matches(label, samples.class_names, n=1)
                problems.append(f"line {line}: unknown class `{label}`" + (f"; `{near[0]}`?" if near else ""))
            decisions.append((name, label, split))
        else:
            problems.append(f"line {line}: unknown action `{action}`; use keep, drop or relabel:CLASS")
    if problems:
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise DataError(f"cannot apply the corrections `{path}`:\n  " + "\n  ".join(problems[:10]) + more)
    return decisions


def _row(
    samples: Samples, split: Split, i: int, suspect: LabelError, is_called: bool, near: NDArray[np.int64]
) -> tuple[str, ...]:
    names = [samples.names[j] for j in near[:_NEIGHBORS]]
    return (
        samples.names[i],
        samples.class_names[suspect.given],
        samples.class_names[suspect.suggested],
        f"{suspect.error_probability:.4f}",
        f"{suspect.probability_given:.4f}",
        f"{suspect.probability_suggested:.4f}",
        str(split.assignment[i]),
        str(is_called).lower(),
        *names,
        *[""] * (_NEIGHBORS - len(names)),
        "",
    )


def _identical_pairs(digests: Sequence[str]) -> NDArray[np.int64] | None:
    """Return (P, 2) positions of identical files."""
    first_of: dict[str, int] = {}
    pairs = [(first_of[d], i) for i, d in enumerate(digests) if first_of.setdefault(d, i) != i]
    return np.array(pairs, dtype=np.int64) if pairs else None


def _neighbors(
    normalizer: Normalizer, features: Features, train: NDArray[np.int64], positions: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return (S, 3) positions of the nearest other training images in the head's feature space."""
    if len(positions) == 0:
        return np.empty((0, _NEIGHBORS), dtype=np.int64)
    known = normalizer({name: block[train] for name, block in features.blocks.items()})
    queries = normalizer({name: block[positions] for name, block in features.blocks.items()})
    distance = np.einsum("nd,nd->n", known, known)[None] - 2.0 * queries @ known.T  # (S, N), up to a constant per row
    distance[positions[:, None] == train[None]] = np.inf
    nearest = np.argsort(distance, axis=1)[:, : min(_NEIGHBORS, max(0, len(train) - 1))]
    return np.asarray(train[nearest], dtype=np.int64)
