"""Scores a saved model on labelled pictures, and says which of them it has seen before."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from headstart.data.sources import read
from headstart.deploy.runtime import Runtime
from headstart.errors import DataError
from headstart.pixels.spec import PictureError, read_bytes
from headstart.records import Evaluation, Prediction
from headstart.results import EvaluationResult, Predictions
from headstart.talk import Talk
from headstart.trust.metrics import evaluate

__all__ = ["evaluate_model", "seen_in_training"]

_DIGEST_LENGTH = 16  # hex digits that a bundle keeps


def evaluate_model(runtime: Runtime, data: str, allow_outside: bool, talk: Talk) -> EvaluationResult:
    """See `api.evaluate`."""
    samples = read(data, allow_outside=allow_outside)
    talk.say(samples.sentence)
    names = runtime.class_names
    position = {name: i for i, name in enumerate(names)}
    new = tuple(name for name in samples.class_names if name not in position)
    scored = [s for s in samples if s.label in position]
    if not scored:
        raise DataError(
            "no picture has a label that the model knows.",
            hint=f"the model knows: {', '.join(names[:20])}; the data have: {', '.join(samples.class_names[:20])}",
        )
    truth = np.array([position[s.label or ""] for s in scored], dtype=np.int64)
    seen = seen_in_training([s.path for s in scored], runtime.bundle.trained_on())
    probabilities = runtime.predict_proba([s.path for s in scored])
    is_read = np.isfinite(probabilities).all(axis=1)

    def score(which: NDArray[np.bool_], protocol: str) -> Evaluation | None:
        return evaluate(probabilities[which], truth[which], names, protocol=protocol) if which.any() else None

    predictions = []
    for sample, row in zip(scored, probabilities, strict=True):
        predictions.append(_prediction(sample.name, row, names))
    present = {s.label for s in scored}
    return EvaluationResult(
        evaluation=score(is_read & ~seen, "given"),
        known=score(is_read & seen, "resubstitution"),
        new_classes=new,
        missing_classes=tuple(name for name in names if name not in present),
        num_unreadable=int((~is_read).sum()) + len(samples.problems),
        predictions=Predictions(predictions),
    )


def _prediction(name: str, row: NDArray[np.float64], names: tuple[str, ...]) -> Prediction:
    if not np.isfinite(row).all():
        return Prediction(file=name, label=None, probability=None, error="the picture cannot be read")
    best = int(row.argmax())
    return Prediction(
        file=name, label=names[best], probability=float(row[best]), top=((names[best], float(row[best])),)
    )


def seen_in_training(paths: list[str], trained_on: frozenset[str]) -> NDArray[np.bool_]:
    """Which files have the very bytes of a training picture."""
    seen = np.zeros(len(paths), dtype=bool)
    if trained_on:
        for i, path in enumerate(paths):
            try:
                seen[i] = hashlib.sha256(read_bytes(path)).hexdigest()[:_DIGEST_LENGTH] in trained_on
            except PictureError:
                continue
    return seen
