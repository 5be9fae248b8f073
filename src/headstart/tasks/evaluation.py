"""Evaluate a saved model on new annotated images: what all tasks share.

Classes are matched by name, so the data may have other class ids or additional classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart.data.name_matching import match_names
from headstart.data.problem_findings import unreadable_findings
from headstart.data.reading_notes import merge_notes, similar_name_notes
from headstart.errors import DataError
from headstart.events import EventStream
from headstart.preprocessing.image_spec import ImageError, read_bytes
from headstart.types.codes import (
    RESUBSTITUTION,
    USER_TEST_SPLIT,
    EvaluationSetup,
    Evidence,
    Finding,
    FindingKind,
    JsonValue,
    ReadingKind,
    ReadingNote,
    Severity,
)
from headstart.types.records import Problem

__all__ = [
    "check_classes",
    "class_findings",
    "is_training_image",
    "renamed_classes",
    "renaming_notes",
    "report_unreadable",
    "score_parts",
    "trained_on_finding",
]

_EXAMPLES = 5
_DIGEST_LENGTH = 16  # hex digits stored in a bundle


class _Scores(Protocol):
    @property
    def findings(self) -> Sequence[Finding]: ...


Scores = TypeVar("Scores", bound=_Scores)


def check_classes(present: Sequence[str], names: Sequence[str]) -> None:
    """Raise an error if the data have none of the classes of the model."""
    if not set(present) & set(names):
        raise DataError(
            "none of the classes in the data match the model's classes.",
            hint=f"model: {', '.join(names[:20])}; data: {', '.join(present[:20])}",
        )


def report_unreadable(unreadable: Sequence[Problem], is_read: NDArray[np.bool_], events: EventStream) -> None:
    """Emit the findings on unreadable images, or raise an error if no image can be read."""
    if not is_read.any():
        first = unreadable[0]
        raise DataError(
            f"cannot read any of the images: `{first.name}`: {first.detail}.",
            hint="headstart check lists every unreadable file",
        )
    events.report(*unreadable_findings(unreadable))


def score_parts(
    score: Callable[[NDArray[np.int64], EvaluationSetup], Scores],
    is_read: NDArray[np.bool_],
    is_trained_on: NDArray[np.bool_],
    events: EventStream,
) -> tuple[Scores | None, Scores | None]:
    """Return the scores of new and of training images, None without any; emit the findings of the former."""
    new, known = np.flatnonzero(is_read & ~is_trained_on), np.flatnonzero(is_read & is_trained_on)
    evaluation = score(new, USER_TEST_SPLIT) if len(new) else None
    if evaluation is not None:
        events.report(*evaluation.findings)
    return evaluation, score(known, RESUBSTITUTION) if len(known) else None


def trained_on_finding(count: int, is_read: NDArray[np.bool_], **evidence: JsonValue) -> Finding:
    """Return the finding on images used in training; an ERROR if all readable images were."""
    total = int(is_read.sum())
    severity = Severity.ERROR if count == total else Severity.WARNING
    return Finding(FindingKind.IMAGES_TRAINED_ON, severity, {"count": count, "total": total, **evidence})


def class_findings(new: tuple[str, ...], count: int, missing: tuple[str, ...], unit: str) -> list[Finding]:
    """Return findings on classes that only the data (in `count` units) or only the model has."""
    findings = []
    if new:
        evidence: Evidence = {"num_classes": len(new), "classes": list(new[:_EXAMPLES]), "count": count, "unit": unit}
        findings.append(Finding(FindingKind.CLASSES_NOT_IN_MODEL, Severity.WARNING, evidence))
    if missing:
        evidence = {"num_classes": len(missing), "classes": list(missing[:_EXAMPLES]), "unit": unit}
        findings.append(Finding(FindingKind.CLASSES_NOT_IN_DATA, Severity.INFO, evidence))
    return findings


def renamed_classes(class_names: Iterable[str], names: Sequence[str]) -> dict[str, str]:
    """Return the class of the model for each name that differs from it only in case, spaces or Unicode form."""
    return {label: name for label, name in match_names(class_names, names).items() if label != name}


def renaming_notes(
    notes: Sequence[ReadingNote], renamed: dict[str, str], count: int, class_names: Sequence[str]
) -> tuple[ReadingNote, ...]:
    """Return the notes of the reader with one on renamed classes, whose similar names are looked for anew."""
    note = ReadingNote(ReadingKind.LABELS_MATCHED, count, tuple(renamed)[:_EXAMPLES], {"names": renamed})
    kept = [n for n in notes if n.kind is not ReadingKind.CLASSES_ALIKE]
    return tuple(merge_notes([note, *similar_name_notes(class_names), *kept]))


def is_training_image(paths: list[str], trained_on: frozenset[str]) -> NDArray[np.bool_]:
    """Return (N,) whether a file is identical to a training image."""
    is_known = np.zeros(len(paths), dtype=bool)
    if trained_on:
        for i, path in enumerate(paths):
            try:
                is_known[i] = hashlib.sha256(read_bytes(path)).hexdigest()[:_DIGEST_LENGTH] in trained_on
            except ImageError:
                continue
    return is_known
