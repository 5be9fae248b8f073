"""Hold and read the scores of a classifier's images (`scores.npz`)."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.metrics import softmax

__all__ = ["ScoredImages", "read_scores", "stored_name"]


@dataclass(frozen=True)
class ScoredImages:
    """Scores of N images; out of fold for training images.

    Attributes:
        names: Relative names.
        split: (N,) `train`, `val` or `test`.
        class_ids: (N,) class ids.
        logits: (N, K) with the temperature applied.
        groups: (N,) group numbers, negative without a group, or None.
        digests: (N,) leading 16 hex digits of each file's SHA-256, or empty.
        ood_score: (N,) OOD scores, NaN if unknown, or None.
    """

    names: tuple[str, ...]
    split: NDArray[np.str_]
    class_ids: NDArray[np.int64]
    logits: NDArray[np.float32]
    groups: NDArray[np.int64] | None = None
    digests: tuple[str, ...] = ()
    ood_score: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """(N, K) calibrated probabilities."""
        return softmax(self.logits.astype(np.float64))

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) predicted class ids."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """(N,) probability of the predicted class."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @property
    def is_correct(self) -> NDArray[np.bool_]:
        """(N,) whether the prediction equals the label."""
        return np.asarray(self.class_ids == self.predicted)

    def groups_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return (M,) groups of the given rows, images without a group in their own; None without groups."""
        if self.groups is None:
            return None
        groups = self.groups[rows]
        alone = np.flatnonzero(groups < 0)
        groups[alone] = groups.max(initial=0) + 1 + np.arange(len(alone))
        return groups


def read_scores(path: Path, names: dict[str, str], groups: dict[str, int], num_classes: int) -> ScoredImages | None:
    """Read `scores.npz`; None where it is missing or damaged.

    Args:
        path: The file.
        names: Name of each image by its stored name.
        groups: Group of each image by its name; empty without groups.
        num_classes: Number of classes K.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = [str(p) for p in file["paths"]]
            scored = ScoredImages(
                names=tuple(names.get(p, p) for p in stored),
                split=np.asarray(file["split"], dtype=str),
                class_ids=np.asarray(file["label"], dtype=np.int64),
                logits=np.asarray(file["logits"], dtype=np.float32),
                groups=np.array([groups.get(names.get(p, p), -1) for p in stored], np.int64) if groups else None,
                digests=tuple(str(d) for d in file["digests"]),
                ood_score=np.asarray(file["ood_score"], dtype=np.float32),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    lengths = {len(scored), len(scored.split), len(scored.class_ids), len(scored.digests), len(scored.logits)}
    is_whole = len(lengths) == 1 and scored.logits.shape == (len(scored), num_classes)
    return scored if is_whole and ((scored.class_ids >= 0) & (scored.class_ids < num_classes)).all() else None


def stored_name(name: str) -> str:
    """Return a file name as arrays store it: undecodable bytes replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
