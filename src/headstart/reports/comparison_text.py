"""Represent the comparison of two runs: numbers, findings and curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from headstart.evaluation.paired_comparison import ComparisonVerdict, Difference, PairedComparison
from headstart.events import Event, FindingMade, RunsCompared
from headstart.messages.comparisons import comparison_verdict
from headstart.messages.findings import finding_to_json
from headstart.messages.objects import story_html, story_lines
from headstart.types.codes import EvaluationProtocol, Finding, FindingKind, Severity

__all__ = ["Comparison", "comparison_findings", "comparison_json"]

_FEW_GROUPS = 6
_LEVEL = 0.05


@dataclass(frozen=True, repr=False)
class Comparison:
    """Comparison of runs A and B on the same images.

    Attributes:
        names: Names of the two runs.
        numbers: All figures, JSON-able: see `headstart.messages.comparisons` for the keys.
        findings: Limitations of the comparison.
        reports: `report.json` of both.
    """

    names: tuple[str, str]
    numbers: dict[str, Any]
    findings: tuple[Finding, ...]
    reports: tuple[Mapping[str, Any], Mapping[str, Any]]

    @property
    def verdict(self) -> ComparisonVerdict:
        """Whether B is better or worse than A, or undecided."""
        return ComparisonVerdict(self.numbers["verdict"])

    @property
    def events(self) -> tuple[Event, ...]:
        """Events for the screen."""
        return (*map(FindingMade, self.findings), RunsCompared(self.numbers))

    def to_json(self) -> dict[str, Any]:
        """Return everything but the reports."""
        findings = [finding_to_json(finding) for finding in self.findings]
        return {**self.numbers, "findings": findings, "message": comparison_verdict(self.numbers)}

    def plot(self) -> Any:
        """Plot the curves of both runs as a matplotlib figure."""
        from headstart.reports.figures import draw_compare

        return draw_compare(self.names, self.reports)

    def __repr__(self) -> str:
        return "\n".join(story_lines(self.events))

    def _repr_html_(self) -> str:
        return story_html(self.events)


def comparison_json(
    comparison: PairedComparison, names: tuple[str, str], protocol: EvaluationProtocol, *, is_new_data: bool
) -> dict[str, Any]:
    """Return the numbers with the keys of `headstart.messages.comparisons`.

    Args:
        comparison: Paired comparison.
        names: Names of the two runs.
        protocol: Evaluation protocol of both runs.
        is_new_data: Whether both were scored on new data.
    """
    return {"runs": list(names), "protocol": protocol.value, "is_new_data": is_new_data, **asdict(comparison)}


def comparison_findings(comparison: PairedComparison) -> list[Finding]:
    """Return limitations of a comparison and its smallest detectable difference."""
    d: Difference = getattr(comparison, comparison.metric)
    findings = []
    if comparison.is_out_of_fold:
        findings.append(Finding(FindingKind.SCORES_OUT_OF_FOLD, Severity.WARNING))
    if comparison.num_groups is not None and comparison.num_groups < _FEW_GROUPS:
        findings.append(Finding(FindingKind.FEW_GROUPS, Severity.WARNING, {"num_groups": comparison.num_groups}))
    evidence = {"num_samples": comparison.num_samples, "difference": d.detectable}
    findings.append(Finding(FindingKind.DETECTABLE_DIFFERENCE, Severity.INFO, evidence))
    losses = comparison.log_loss
    if comparison.verdict is ComparisonVerdict.UNDECIDED and losses.p_value < _LEVEL and round(losses.value, 3):
        loss_evidence = {"value": losses.value, "p_value": losses.p_value}
        findings.append(Finding(FindingKind.LOG_LOSS_DIFFERS, Severity.INFO, loss_evidence))
    return findings
