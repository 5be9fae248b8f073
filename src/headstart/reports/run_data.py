"""Everything a report is made from, as values: what a run folder holds, read once and aligned.

Nothing else is consulted later on, so a report of a run whose images have been moved
differs only by the images that it cannot show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.events import Note

__all__ = ["RunData", "ScoredImages"]


@dataclass(frozen=True)
class ScoredImages:
    """What was said of N images; training images by a model that had not seen them.

    Attributes:
        names: Relative names, as the person would write them.
        paths: Where each file lies, None where that is not known any more.
        split: (N,) `train`, `val` or `test`.
        truth: (N,) class ids.
        predicted: (N,) class ids.
        confidence: (N,) probability of the predicted class.
        logits: (N, K) with the temperature applied, or None where the run kept none.
        groups: (N,) group numbers, -1 where an image stands alone, or None.
        digests: (N,) leading hex digits of each file's sha256, or empty.
        novelty: (N,) how unlike all training images each is, NaN where that is not known, or None.
    """

    names: tuple[str, ...]
    paths: tuple[str | None, ...]
    split: NDArray[np.str_]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    logits: NDArray[np.float32] | None = None
    groups: NDArray[np.int64] | None = None
    digests: tuple[str, ...] = ()
    novelty: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """(N,) whether the prediction is the label."""
        return np.asarray(self.truth == self.predicted)

    def groups_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return (M,) groups of some images, one that stands alone in a group of its own; None where there are none."""
        if self.groups is None:
            return None
        groups = self.groups[rows]
        alone = np.flatnonzero(groups < 0)
        groups[alone] = groups.max(initial=0) + 1 + np.arange(len(alone))
        return groups


@dataclass(frozen=True)
class RunData:
    """A finished run.

    Attributes:
        run: Name of the run folder.
        metrics: `metrics.json`.
        scored: What was said of every image.
        settings: Rows of `config.resolved.yaml`: value, source and reason by name.
        environment: `environment.json`.
        health: `dataset_report.json`.
        bundle: `bundle.json`.
        tensors: Shape of each tensor of the model by name (`backbone.*`, `head.*`).
        epochs: Rows of `results.csv`, empty where nothing was trained step by step.
        extra: What later steps measured, by section name (`novelty`, `coverage`, `learning_curve` ...).
        problems: What could not be read.
        beside: (name, path, label) of images that are shown and were not scored (those that leak); they are
            counted on after the scored ones.
    """

    run: str
    metrics: Mapping[str, Any]
    scored: ScoredImages
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    health: Mapping[str, Any] = field(default_factory=dict)
    bundle: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    epochs: tuple[Mapping[str, str], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Note, ...] = ()
    beside: tuple[tuple[str, str | None, str], ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.metrics["class_names"])

    def path(self, i: int) -> str | None:
        """Return where image `i` lies, scored or beside them; None where that is not known any more."""
        count = len(self.scored)
        return self.scored.paths[i] if i < count else self.beside[i - count][1]

    @property
    def headline_split(self) -> str:
        """The split that the headline was measured on."""
        return "test" if self.metrics.get("test") else "train"

    @property
    def headline_block(self) -> Mapping[str, Any]:
        """The block of `metrics.json` behind the headline."""
        block = self.metrics.get("test") or self.metrics.get("cv")
        return dict(block or {})
