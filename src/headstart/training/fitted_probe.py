"""Define the run context and the fitted probe of a classifier's training."""

from __future__ import annotations

from dataclasses import dataclass, field

from headstart.features.extractor import FeatureExtractor
from headstart.probe.probe import ProbeFit
from headstart.runs.context import RunContext
from headstart.types.codes import Finding
from headstart.types.records import DatasetReport, Features, Samples, Split

__all__ = ["FittedProbe", "ProbeRunContext"]


@dataclass
class ProbeRunContext(RunContext):
    """Context of a classifier's run."""

    paths: dict[str, str] = field(default_factory=dict)  # path of each image by name, for the report
    findings: tuple[Finding, ...] = ()  # of the dataset check, for the summary
    positive: str | None = None  # positive class of two


@dataclass(frozen=True)
class FittedProbe:
    """A fitted head with its data; features are averaged over flipped images where `has_flip_tta`.

    `leaking` are scored images of the user's split with a near-duplicate in training; they are not in `samples`.
    """

    embedder: FeatureExtractor
    samples: Samples
    features: Features
    split: Split
    fit: ProbeFit
    has_flip_tta: bool
    dataset_report: DatasetReport
    leaking: Samples
    leaking_features: Features
