"""`ImageClassifier`: the probe with scikit-learn's estimator contract.

X is a list (or array) of paths or PIL images, so it can be cloned, put into a pipeline and
cross-validated like any other classifier.  Features are cached by content, so cross-validation looks at
every image once.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.errors import DataError, MissingExtraError

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:  # pragma: no cover (the base install)
    raise MissingExtraError("ImageClassifier", "train") from error

__all__ = ["ImageClassifier"]


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A new head on a frozen pretrained backbone, fitted in closed form.

    Args:
        backbone: The pretrained network.
        image_size: Side that the network sees, pixels; its own by default.
        resize_mode: How an image is brought to size: `crop`, `cover`, `squash` or `pad`.
        class_weight: None, or `balanced` (each class weighs the same).
        logistic: Whether logistic regression is tried as well: `auto`, True or False.
        random_state: Seed of everything that is drawn.
        offline: Never use the network.
        num_threads: Threads; one a core by default.

    Attributes:
        classes_: (K,) labels in the order of `predict_proba`'s columns.
        oof_logits_: (N, K) of every training image by a model that had not seen it.
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
            X: N paths or PIL images.
            y: N labels.
            groups: N group names or numbers; images of one group are left out together.

        Raises:
            DataError: An image cannot be read, or there are fewer than two classes.
        """
        from headstart.probe.probe import fit_probe

        if len(X) != len(y):
            raise DataError(f"there are {len(X)} images and {len(y)} labels.")
        if self.class_weight not in (None, "balanced"):
            raise ValueError(f"class_weight is None or 'balanced', not {self.class_weight!r}")
        self.classes_, class_ids = np.unique(np.asarray(y), return_inverse=True)
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
        """(N, K) logits; (N,) of the second class against the first where there are two, as scikit-learn has it."""
        check_is_fitted(self, "head_")
        logits = self.head_.logits(self._embed(X))
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Sequence[Any]) -> NDArray[np.float64]:
        """Return (N, K) calibrated probabilities."""
        from headstart.evaluation.metrics import softmax

        check_is_fitted(self, "head_")
        return softmax(self.head_.logits(self._embed(X)))

    def predict(self, X: Sequence[Any]) -> NDArray[Any]:
        """Return (N,) most probable label of each image."""
        best = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _embed(self, X: Sequence[Any]) -> dict[str, NDArray[np.float32]]:
        from headstart.events import EventStream
        from headstart.workflow.feature_extraction import open_embedder

        embedder = open_embedder(
            self.backbone,
            EventStream(),
            image_size=self.image_size,
            resize_mode=self.resize_mode,
            num_threads=self.num_threads,
            offline=self.offline,
        )
        sources = [_as_source(x) for x in X]
        names = [x if isinstance(x, str) else f"image {i}" for i, x in enumerate(sources)]
        features, _, _ = embedder.embed(sources, names, EventStream())
        if features.problems:
            first = features.problems[0]
            raise DataError(f"{len(features.problems)} images cannot be read, first `{first.name}`: {first.detail}.")
        return features.blocks


def _as_source(x: Any) -> str | bytes:
    """Return a path as text; an image in memory as the bytes of a lossless file, so that it has a content digest."""
    if isinstance(x, (str, os.PathLike)):
        return os.fspath(x)
    if isinstance(x, np.str_):
        return str(x)
    if isinstance(x, Image.Image):
        buffer = io.BytesIO()
        x.save(buffer, format="TIFF" if x.mode in ("F", "CMYK", "LAB", "YCbCr") else "PNG")
        return buffer.getvalue()
    raise DataError(f"images are paths or PIL images, not {type(x).__name__}.")
