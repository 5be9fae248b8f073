"""Convert a dataset report to JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from headstart.messages.findings import finding_to_json
from headstart.messages.shortcuts import shortcut_message
from headstart.quality.report_findings import dataset_findings
from headstart.types.records import DatasetReport, Problem

__all__ = ["report_to_json"]


def report_to_json(report: DatasetReport) -> dict[str, Any]:
    """Return a JSON-able report; `leaks` and the like name images relative to the data folder."""
    value = asdict(report)
    value["schema"] = 1
    value["findings"] = [finding_to_json(f) for f in dataset_findings(report)]
    value["shortcuts"] = [{**row, "message": shortcut_message(row)} for row in value["shortcuts"]]
    value["group_patterns"] = [
        {**row, "status": p.status.value, "accepted": p.accepted, "is_used": p.is_used}
        for row, p in zip(value["group_patterns"], report.group_patterns, strict=True)
    ]
    for key in ("duplicates", "near_duplicates", "leaks", "label_conflicts"):
        value[key] = [{k: v for k, v in pair.items() if not k.startswith("index_")} for pair in value[key]]
    value["counts"] = {
        "unreadable": len(report.unreadable),
        "unreadable_by_kind": _by_kind(report.unreadable),
        "duplicates": len(report.duplicates),
        "near_duplicates": len(report.near_duplicates),
        "leaks": len(report.leaks),
        "label_conflicts": len(report.label_conflicts),
    }
    return _plain(value)  # type: ignore[no-any-return]


def _by_kind(problems: Iterable[Problem]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.kind] = counts.get(problem.kind, 0) + 1
    return counts


def _plain(value: Any) -> Any:
    """Convert tuples to lists and numpy numbers to Python numbers, for `json`."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value
