"""Create the report sections for OOD detection and prediction sets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.messages.comment import empty_section
from headstart.messages.sections import coverage_message, false_alarms_message, new_class_message
from headstart.reports.record import ClassifierRecord
from headstart.types.report import ReportKind

__all__ = ["coverage_section", "ood_section"]

_NUM_SHOWN = 12  # images with the highest OOD score


def ood_section(record: ClassifierRecord, where: NDArray[np.int64]) -> dict[str, Any]:
    """Return the false-positive rate and recall of OOD detection, and the images with the highest OOD scores.

    Args:
        record: The run; `ood_score` as `metrics.json` has it.
        where: Positions of the images of the headline.
    """
    section = _measured(record, "ood")
    if section is None:
        return empty_section(ReportKind.OOD_NOT_MEASURED)
    section["text"] = false_alarms_message(section)
    section["noticed"] = new_class_message(section, len(record.class_names))
    ood_score = record.scored.ood_score
    if ood_score is not None:
        known = where[np.isfinite(ood_score[where])]
        section["strangest"] = [int(i) for i in known[np.argsort(-ood_score[known], kind="stable")][:_NUM_SHOWN]]
    return section


def coverage_section(record: ClassifierRecord) -> dict[str, Any]:
    """Return the coverage of the prediction sets as numbers and text."""
    section = _measured(record, "coverage")
    if section is None:
        return empty_section(ReportKind.COVERAGE_NOT_MEASURED)
    return {**section, "text": coverage_message(section)}


def _measured(record: ClassifierRecord, name: str) -> dict[str, Any] | None:
    measured = record.metrics.get(name)
    return dict(measured) if measured else None
