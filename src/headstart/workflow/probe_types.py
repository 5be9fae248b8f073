"""What the steps of a classifier's training hand on."""

from __future__ import annotations

from dataclasses import dataclass, field

from headstart.probe.probe import ProbeFit
from headstart.records import DatasetReport, Features, Samples, Split
from headstart.types import Finding
from headstart.workflow.feature_extraction import FeatureExtractor
from headstart.workflow.run_context import RunContext

__all__ = ["FittedProbe", "ProbeRunContext"]


@dataclass
class ProbeRunContext(RunContext):
    """The road to a classifier."""

    paths: dict[str, str] = field(default_factory=dict)  # where each image lies, by name: for the report
    findings: tuple[Finding, ...] = ()  # of the data check: for the closing lines
    positive: str | None = None  # the positive class of two


@dataclass(frozen=True)
class FittedProbe:
    """A fitted head with all it was fitted on; the features are averaged over the mirror image where `has_mirror`.

    `leaking` are scored images of the person's own split that training has seen: not among the samples.
    """

    embedder: FeatureExtractor
    samples: Samples
    features: Features
    split: Split
    fit: ProbeFit
    has_mirror: bool
    health: DatasetReport
    leaking: Samples
    leaking_features: Features
