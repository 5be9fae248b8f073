"""What the steps of a detector's training hand on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headstart.data.boxes.inspection import BoxReport
from headstart.data.boxes.records import DetectionSamples
from headstart.detection.box_sizes import BoxSizes
from headstart.preprocessing.image_spec import ImageSpec
from headstart.records import Split
from headstart.types import Finding, FindingKind
from headstart.workflow.run_context import RunContext

__all__ = ["DetectorRunContext"]


@dataclass(kw_only=True)
class DetectorRunContext(RunContext):
    """The road to a detector, and what is known of the images."""

    started: float
    samples: DetectionSamples
    health: BoxReport
    split: Split
    sizes: BoxSizes
    spec: ImageSpec
    digests: tuple[str, ...]
    leaking: frozenset[int] = frozenset()  # scored images with a near-duplicate in training, left out of the score
    findings: tuple[Finding, ...] = ()  # about the split

    @property
    def leaky_splits(self) -> frozenset[str]:
        """Return the scored splits in which every image has a near-duplicate in training; they are scored as given."""
        kind = FindingKind.ALL_SCORED_IMAGES_LEAK
        return frozenset(str(f.evidence["split"]) for f in self.findings if f.kind is kind)

    @property
    def workshop(self) -> Path:
        """Where files lie that are gone when the run is whole; what a killed run leaves is cleared away."""
        return self.folder / ".detector.tmp"
