"""Turn reading problems and unreadable files into findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from headstart.types.codes import Finding, FindingKind, Severity
from headstart.types.records import Problem

__all__ = ["problem_findings", "unreadable_findings"]

_EXAMPLES = 5


def problem_findings(problems: Iterable[Problem]) -> list[Finding]:
    """Return one finding per kind of reading problem, the most frequent first."""
    return _findings(problems, FindingKind.FILES_NOT_USED, Severity.WARNING)


def unreadable_findings(problems: Iterable[Problem]) -> list[Finding]:
    """Return one finding per kind of decoding problem, the most frequent first."""
    return _findings(problems, FindingKind.UNREADABLE_FILES, Severity.ERROR)


def _findings(problems: Iterable[Problem], kind: FindingKind, severity: Severity) -> list[Finding]:
    by_problem: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_problem[problem.kind].append(problem)
    return [
        Finding(
            kind,
            severity,
            {
                "problem": name,
                "count": len(same),
                "examples": [p.name for p in same[:_EXAMPLES]],
                "detail": same[0].detail,
            },
        )
        for name, same in sorted(by_problem.items(), key=lambda item: -len(item[1]))
    ]
