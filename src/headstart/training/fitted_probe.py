"""Define the fitted probe of a run."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.features.extractor import FeatureExtractor
from headstart.probe.probe import ProbeFit
from headstart.quality.dataset_split import SplitDataset

__all__ = ["FittedProbe"]


@dataclass(frozen=True)
class FittedProbe:
    """A fitted head with its data.

    Attributes:
        embedder: The frozen backbone.
        data: Images, split and features; features are averaged over flipped images where `has_flip_tta`.
        fit: The head.
        has_flip_tta: Whether predictions average over flipped images.
        positive: Positive class of two, or None.
    """

    embedder: FeatureExtractor
    data: SplitDataset
    fit: ProbeFit
    has_flip_tta: bool = False
    positive: str | None = None
