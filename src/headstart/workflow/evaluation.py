"""Scores a saved model on labelled pictures, and says which of them it has seen before."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.sources import read
from headstart.deploy.judge import Judge
from headstart.deploy.runtime import Runtime
from headstart.errors import DataError
from headstart.pixels.spec import PictureError, read_bytes
from headstart.records import Evaluation, Prediction
from headstart.results import EvaluationResult, Predictions
from headstart.talk import Talk
from headstart.trust.intervals import estimate_share, measure_worth
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
    strange = [s for s in samples if s.label is not None and s.label not in position]
    probabilities, novelty = runtime.judge([s.path for s in (*scored, *strange)])
    probabilities, strange_novelty = probabilities[: len(scored)], novelty[len(scored) :]
    novelty = novelty[: len(scored)]
    is_read = np.isfinite(probabilities).all(axis=1)

    def score(which: NDArray[np.bool_], protocol: str) -> Evaluation | None:
        return evaluate(probabilities[which], truth[which], names, protocol=protocol) if which.any() else None

    predictions = []
    for sample, row, value in zip(scored, probabilities, novelty, strict=True):
        predictions.append(_prediction(sample.name, row, float(value), runtime))
    present = {s.label for s in scored}
    new_ones = is_read & ~seen
    return EvaluationResult(
        evaluation=score(new_ones, "given"),
        known=score(is_read & seen, "resubstitution"),
        new_classes=new,
        missing_classes=tuple(name for name in names if name not in present),
        num_unreadable=int((~is_read).sum()) + len(samples.problems),
        predictions=Predictions(predictions),
        unknown=_unknown(runtime, probabilities[new_ones], truth[new_ones], novelty[new_ones], strange_novelty),
    )


def _unknown(
    runtime: Runtime,
    probabilities: NDArray[np.float64],
    truth: NDArray[np.int64],
    known: NDArray[np.float64],
    strange: NDArray[np.float64],
) -> dict[str, Any]:
    """How novelty and sets fare: shares with intervals, of pictures that the model was not trained on."""
    told: dict[str, Any] = {}
    rule, sets = runtime.bundle.novelty, runtime.bundle.sets
    if rule is not None and math.isfinite(rule.threshold()):
        told["reject"] = rule.reject
        for name, values in (("false_alarms", known), ("detected", strange[np.isfinite(strange)])):
            if len(values):
                told[name] = _share(values > rule.threshold())
    if sets is not None and len(truth):
        inside = sets.sets(probabilities)
        told["coverage"] = sets.coverage
        told["realised"] = {
            **_share(inside[np.arange(len(truth)), truth]),
            "mean_size": float(inside.sum(axis=1).mean()),
            "share_empty": float((~inside.any(axis=1)).mean()),
        }
    return told


def _share(hits: NDArray[np.bool_]) -> dict[str, Any]:
    estimate = estimate_share(float(hits.mean()), len(hits), measure_worth(hits, None, is_out_of_fold=False))
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "num_samples": len(hits)}


def _prediction(name: str, row: NDArray[np.float64], novelty: float, runtime: Runtime) -> Prediction:
    if not np.isfinite(row).all():
        return Prediction(file=name, label=None, probability=None, error="the picture cannot be read")
    judge, best, names = Judge(runtime.bundle), int(row.argmax()), runtime.class_names
    value = None if math.isnan(novelty) else novelty
    return Prediction(
        file=name,
        label=names[best],
        probability=float(row[best]),
        top=((names[best], float(row[best])),),
        novelty=value,
        is_unknown=judge.is_unknown(value),
        label_set=judge.label_set(row),
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
