"""Provide the probe as a scikit-learn estimator, `ImageClassifier`.

X is a list or array of paths, PIL images or (H, W, 3) uint8 arrays. Features are cached by content, so
cross-validation extracts the features of each image once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.memory import encode_image, images_of
from headstart.errors import DataError, MissingExtraError
from headstart.messages.numbers import pluralize

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:  # pragma: no cover (the base install)
    raise MissingExtraError("ImageClassifier", "train") from error

__all__ = ["ImageClassifier"]


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A linear head on a frozen pretrained backbone, fitted in closed form.

    Args:
        backbone: The pretrained network.
        image_size: Input size in pixels; default: that of the network.
        resize_mode: Resize mode: `crop`, `cover`, `squash` or `pad`.
        class_weight: None, or `balanced` (equal total weight per class).
        logistic: Whether to also try logistic regression: `auto`, True or False.
        random_state: Random seed.
        offline: Whether to forbid downloads.
        num_threads: CPU threads; default: one per core.

    Attributes:
        classes_: (K,) labels in the order of `predict_proba`'s columns.
        oof_logits_: (N, K) out-of-fold logits of the training images.
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        *,
        image_size: int | None = None,
        resize_mode: str = "crop",
        class_weight: str | None = None,
        logistic: str | bool = "auto",
        random_state: int = 0,
        offline: bool = False,
        num_threads: int | None = None,
    ) -> None:
        self.backbone = backbone
        self.image_size = image_size
        self.resize_mode = resize_mode
        self.class_weight = class_weight
        self.logistic = logistic
        self.random_state = random_state
        self.offline = offline
        self.num_threads = num_threads

    def fit(self, X: Sequence[Any], y: Sequence[Any], groups: Sequence[Any] | None = None) -> ImageClassifier:
        """Fit the head.

        Args:
            X: N paths, PIL images or arrays.
            y: N labels.
            groups: N group names or numbers; images of one group are held out together.

        Raises:
            DataError: An image cannot be read, or there are fewer than two classes.
        """
        from headstart.probe.probe import fit_probe

        if len(X) != len(y):
            raise DataError(f"X and y differ in length: {len(X)} images, {len(y)} labels.")
        if self.class_weight not in (None, "balanced"):
            raise ValueError(f"class_weight must be None or 'balanced', not {self.class_weight!r}")
        self.classes_, class_ids = np.unique(_labels(y), return_inverse=True)
        blocks = self._embed(X)
        counts = np.bincount(class_ids)
        weights = len(class_ids) / (len(counts) * counts) if self.class_weight == "balanced" else None
        fitted = fit_probe(
            blocks,
            class_ids.astype(np.int64),
            len(self.classes_),
            groups=None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64),
            class_weights=weights,
            seed=self.random_state,
            logistic=self.logistic,  # type: ignore[arg-type]
        )
        self.head_ = fitted.head
        self.oof_logits_ = fitted.oof_logits
        self.decisions_ = fitted.decisions
        return self

    def decision_function(self, X: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, K) logits; for two classes (N,) log-odds of the second class, as in scikit-learn."""
        check_is_fitted(self, "head_")
        logits = self.head_.logits(self._embed(X))
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Sequence[Any]) -> NDArray[np.float64]:
        """Return (N, K) calibrated probabilities."""
        from headstart.evaluation.metrics import softmax

        check_is_fitted(self, "head_")
        return softmax(self.head_.logits(self._embed(X)))

    def predict(self, X: Sequence[Any]) -> NDArray[Any]:
        """Return the (N,) most probable labels."""
        best = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _embed(self, X: Sequence[Any]) -> dict[str, NDArray[np.float32]]:
        from headstart.events import EventStream
        from headstart.features.extractor import ExtractorOptions, open_embedder

        options = ExtractorOptions(
            self.backbone,
            image_size=self.image_size,
            resize_mode=self.resize_mode,
            num_threads=self.num_threads,
            offline=self.offline,
        )
        sources = [_as_source(x, f"image {i}") for i, x in enumerate(images_of(X))]
        names = [x if isinstance(x, str) else f"image {i}" for i, x in enumerate(sources)]
        features = open_embedder(options, EventStream()).embed(sources, names, EventStream()).features
        if features.problems:
            first = features.problems[0]
            raise DataError(f"{len(features.problems)} images are unreadable, first `{first.name}`: {first.detail}.")
        return features.blocks


def _as_source(x: Any, name: str) -> str | bytes:
    """Return a path as text, or an image in memory as lossless file bytes (for its content digest)."""
    return os.fspath(x) if isinstance(x, (str, os.PathLike)) else encode_image(x, name)


def _labels(y: Sequence[Any]) -> NDArray[Any]:
    """Return the labels as an array.

    Raises:
        DataError: A label is missing.
    """
    listed = y.tolist() if hasattr(y, "tolist") else list(y)
    missing = [i for i, label in enumerate(listed) if label is None or label != label or label == ""]
    if missing:
        raise DataError(
            f"{pluralize(len(missing), 'label')} missing, the first of image {missing[0]}.",
            hint="leave out images without a label",
        )
    return np.asarray(y)
