"""Hold the contents of a run folder for a report, read once and aligned."""

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
    """Predictions for N images; out of fold for training images.

    Attributes:
        names: Relative names.
        paths: Path of each file, None if unknown.
        split: (N,) `train`, `val` or `test`.
        truth: (N,) class ids.
        predicted: (N,) class ids.
        confidence: (N,) probability of the predicted class.
        logits: (N, K) with the temperature applied, or None.
        groups: (N,) group numbers, -1 without a group, or None.
        digests: (N,) leading hex digits of each file's sha256, or empty.
        ood_score: (N,) OOD scores, NaN if unknown, or None.
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
    ood_score: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_correct(self) -> NDArray[np.bool_]:
        """(N,) whether the prediction equals the label."""
        return np.asarray(self.truth == self.predicted)

    def groups_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return (M,) groups of the given rows, images without a group in their own; None without groups."""
        if self.groups is None:
            return None
        groups = self.groups[rows]
        alone = np.flatnonzero(groups < 0)
        groups[alone] = groups.max(initial=0) + 1 + np.arange(len(alone))
        return groups


@dataclass(frozen=True)
class RunData:
    """Contents of a finished run.

    Attributes:
        run: Name of the run folder.
        metrics: `metrics.json`.
        scored: Predictions for every image.
        settings: Rows of `config.resolved.yaml`: value, source and reason by name.
        environment: `environment.json`.
        dataset_report: `dataset_report.json`.
        bundle: `bundle.json`.
        tensors: Shape of each tensor of the model by name (`backbone.*`, `head.*`).
        epochs: Rows of `results.csv`, empty without gradient training.
        extra: Results of later steps, by section name (`ood_score`, `coverage`, `learning_curve` ...).
        problems: Notes about unreadable parts.
        beside: (name, path, label) of images that are shown but not scored (leaks); their positions follow the
            scored ones.
    """

    run: str
    metrics: Mapping[str, Any]
    scored: ScoredImages
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    dataset_report: Mapping[str, Any] = field(default_factory=dict)
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
        """Return the path of image `i`; None if unknown."""
        count = len(self.scored)
        return self.scored.paths[i] if i < count else self.beside[i - count][1]

    @property
    def headline_split(self) -> str:
        """Split of the headline."""
        return "test" if self.metrics.get("test") else "train"

    @property
    def headline_block(self) -> Mapping[str, Any]:
        """Block of `metrics.json` of the headline."""
        block = self.metrics.get("test") or self.metrics.get("cv")
        return dict(block or {})
