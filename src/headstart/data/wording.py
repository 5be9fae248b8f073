"""Render the check of a dataset: one line per finding, the worst first, and JSON for other programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from headstart.data.report_findings import dataset_findings
from headstart.messages.findings import finding_message, finding_to_json
from headstart.messages.reading import reading_line
from headstart.messages.shortcuts import shortcut_message
from headstart.records import Health, Problem
from headstart.types import Finding, ReadingNote, Severity

__all__ = ["doctor_lines", "finding_lines", "health_to_json", "one_line"]


def doctor_lines(health: Health, *, notes: Sequence[ReadingNote] = ()) -> list[str]:
    """Return one line for each finding, the worst first; a healthy data set gives one line.

    Args:
        health: The result of the check.
        notes: What the reader assumed or did not use; with a warning among them the data set is not called healthy.
    """
    severe = [n for n in notes if n.severity is not Severity.INFO]
    lines = _ranked_lines(
        [*((n.severity, reading_line(n)) for n in severe), *map(_finding_line, dataset_findings(health))]
    )
    lines = lines or ["No problems found: every file can be read, and no image occurs twice."]
    return [*lines, *(one_line(reading_line(n)) for n in notes if n.severity is Severity.INFO)]


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """Render findings, one line each, those of the same severity in their order."""
    return _ranked_lines(map(_finding_line, findings))


def health_to_json(health: Health) -> dict[str, Any]:
    """The judgement as a JSON-able value; `leaks` and the like name pictures relative to the data."""
    value = asdict(health)
    value["schema"] = 1
    value["findings"] = [finding_to_json(f) for f in health.findings]
    value["shortcuts"] = [{**row, "message": shortcut_message(row)} for row in value["shortcuts"]]
    value["group_patterns"] = [
        {**row, "status": p.status.value, "accepted": p.accepted, "is_used": p.is_used}
        for row, p in zip(value["group_patterns"], health.group_patterns, strict=True)
    ]
    for key in ("duplicates", "near_duplicates", "leaks", "label_conflicts"):
        value[key] = [{k: v for k, v in pair.items() if not k.startswith("index_")} for pair in value[key]]
    value["counts"] = {
        "unreadable": len(health.unreadable),
        "unreadable_by_kind": _by_kind(health.unreadable),
        "duplicates": len(health.duplicates),
        "near_duplicates": len(health.near_duplicates),
        "leaks": len(health.leaks),
        "label_conflicts": len(health.label_conflicts),
    }
    return _plain(value)  # type: ignore[no-any-return]


_WORDS = {Severity.ERROR: "Error", Severity.WARNING: "Warning", Severity.INFO: "Note"}


def _finding_line(finding: Finding) -> tuple[Severity, str]:
    text = finding_message(finding)
    return finding.severity, f"{_WORDS[finding.severity]}: {text}{'' if text.endswith('...') else '.'}"


def _ranked_lines(rows: Iterable[tuple[Severity, str]]) -> list[str]:
    order = list(Severity)
    return [one_line(text) for _, text in sorted(rows, key=lambda row: order.index(row[0]))]


def one_line(name: str) -> str:
    """A name with line breaks and control signs made visible."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def _by_kind(problems: Iterable[Problem]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.kind] = counts.get(problem.kind, 0) + 1
    return counts


def _plain(value: Any) -> Any:
    """Tuples to lists, numpy numbers to Python's, so that `json` can write it."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value
