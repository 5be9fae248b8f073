"""What the steps of a classifier's training hand on."""

from __future__ import annotations

from dataclasses import dataclass, field

from headstart.heads.probe import ProbeFit
from headstart.records import Features, Health, Samples, Split
from headstart.types import Finding
from headstart.workflow.embedding import Embedder
from headstart.workflow.road import Road

__all__ = ["FoundProbe", "ProbeRoad"]


@dataclass
class ProbeRoad(Road):
    """The road to a classifier."""

    paths: dict[str, str] = field(default_factory=dict)  # where each picture lies, by name: for the report
    findings: tuple[Finding, ...] = ()  # of the data check: for the closing lines
    positive: str | None = None  # the positive class of two


@dataclass(frozen=True)
class FoundProbe:
    """A fitted head with all it was fitted on; the features are averaged over the mirror image where `has_mirror`.

    `leaking` are scored pictures of the person's own split that training has seen: not among the samples.
    """

    embedder: Embedder
    samples: Samples
    features: Features
    split: Split
    fit: ProbeFit
    has_mirror: bool
    health: Health
    leaking: Samples
    leaking_features: Features
