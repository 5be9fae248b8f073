"""Define the run context of a detector's training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headstart.data.boxes.records import DetectionSamples
from headstart.detection.box_sizes import BoxSizes
from headstart.preprocessing.image_spec import ImageSpec
from headstart.quality.box_inspection import BoxReport
from headstart.runs.context import RunContext
from headstart.types.codes import Finding, FindingKind
from headstart.types.records import Split

__all__ = ["DetectorRunContext"]


@dataclass(kw_only=True)
class DetectorRunContext(RunContext):
    """Context of a detector run: settings, data, split and image spec."""

    started: float
    samples: DetectionSamples
    dataset_report: BoxReport
    split: Split
    sizes: BoxSizes
    spec: ImageSpec
    digests: tuple[str, ...]
    leaking: frozenset[int] = frozenset()  # scored images with a near-duplicate in training, excluded from the score
    findings: tuple[Finding, ...] = ()  # about the split

    @property
    def leaky_splits(self) -> frozenset[str]:
        """Return the scored splits in which every image has a near-duplicate in training; they are scored unchanged."""
        kind = FindingKind.ALL_SCORED_IMAGES_LEAK
        return frozenset(str(f.evidence["split"]) for f in self.findings if f.kind is kind)

    @property
    def temporary_folder(self) -> Path:
        """Return the folder of temporary files; removed when the run is complete or resumed."""
        return self.folder / ".detector.tmp"
