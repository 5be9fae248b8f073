"""Measure the learning curve of a run: fit probes on 1/8, 1/4 and 1/2 of its training images and forecast more."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import HeadstartError
from headstart.evaluation.learning_curve import LearningCurve, forecast_curve, nested_parts
from headstart.events import EventStream
from headstart.features.extractor import ExtractorOptions, open_embedder
from headstart.probe.probe import fit_probe
from headstart.reports.record import ClassifierRecord
from headstart.types.arrays import Blocks
from headstart.types.report import ReportFinding, ReportKind
from headstart.utils.limits import MAX_PIXELS

__all__ = ["measure_curve"]

_MIN_PER_CLASS = 8  # images per class; fewer leave eighths without every class
_MAX_IMAGES = 20_000  # training images; more would take minutes


def measure_curve(record: ClassifierRecord, blocks: Blocks | None = None) -> LearningCurve | ReportFinding:
    """Return the learning curve of a probe, or the reason why there is none.

    Args:
        record: The run.
        blocks: Features of the training images; by default from the cache, with the run's own settings.
    """
    scored = record.scored
    train = np.flatnonzero(scored.split == "train")
    class_ids, num_classes = scored.class_ids[train], len(record.class_names)
    smallest = int(np.bincount(class_ids, minlength=num_classes).min())
    if not len(scored):
        return ReportFinding(ReportKind.CURVE_NEEDS_SCORES)
    if record.metrics.get("strategy") != "probe":
        return ReportFinding(ReportKind.CURVE_OF_PROBE_ONLY)
    if smallest < _MIN_PER_CLASS:
        return ReportFinding(ReportKind.CURVE_CLASS_TOO_SMALL, evidence={"count": smallest})
    if len(train) > _MAX_IMAGES:
        return ReportFinding(ReportKind.CURVE_TOO_MANY_IMAGES, evidence={"count": len(train)})
    groups = scored.groups_of(train)
    try:
        blocks = _features(record, train) if blocks is None else blocks
        if blocks is None:
            return ReportFinding(ReportKind.CURVE_IMAGES_GONE)
        sizes, hits = _measure(blocks, class_ids, num_classes, groups)
        hits.append(scored.is_correct[train].astype(np.float64))
        bias = float((record.metrics.get("cv") or {}).get("selection_bias") or 0.0)
        counts = np.array([*sizes, len(train)])
        return forecast_curve(counts, np.array(hits), class_ids, num_classes, groups=groups, bias=bias)
    except (HeadstartError, ValueError) as error:
        return ReportFinding(ReportKind.CURVE_FAILED, evidence={"detail": str(error).splitlines()[0]})


def _features(record: ClassifierRecord, train: NDArray[np.int64]) -> Blocks | None:
    """Return pooled features of the training images; None where an image is missing."""

    def value(name: str, default: Any = None) -> Any:
        setting = (record.settings.get(name) or {}).get("value")
        return default if setting is None else setting

    names = [record.scored.names[i] for i in train]
    if any(name not in record.paths for name in names):
        return None
    intensity_range = value("intensity_range")
    options = ExtractorOptions(
        value("backbone", "efficientnet_lite0"),
        image_size=value("image_size"),
        resize_mode=value("resize_mode", "crop"),
        intensity_range=None if intensity_range is None else (float(intensity_range[0]), float(intensity_range[1])),
        max_pixels=value("max_pixels", MAX_PIXELS),
        weights=value("weights"),
        device=value("device", "auto"),
        num_threads=value("num_threads"),
        offline=bool(value("offline", False)),
        cache=bool(value("cache", True)),
    )
    sources = [record.paths[name] for name in names]
    features = open_embedder(options, EventStream()).embed(sources, names, EventStream()).features
    return features.blocks if features.is_ok.all() else None


def _measure(
    blocks: Blocks, class_ids: NDArray[np.int64], num_classes: int, groups: NDArray[np.int64] | None
) -> tuple[list[int], list[NDArray[np.float64]]]:
    """Return training sizes, and (N,) accuracy per held-out image for each size."""
    sizes, hits = [], []
    for _, pieces in sorted(nested_parts(class_ids, groups=groups).items(), reverse=True):
        right, total = np.zeros(len(class_ids)), np.zeros(len(class_ids))
        for piece in pieces:
            fit = fit_probe(
                {name: block[piece] for name, block in blocks.items()},
                class_ids[piece],
                num_classes,
                groups=None if groups is None else groups[piece],
                logistic=False,
            )
            others = np.setdiff1d(np.arange(len(class_ids)), piece)
            best = fit.head.logits({name: block[others] for name, block in blocks.items()}).argmax(axis=1)
            right[others] += best == class_ids[others]
            total[others] += 1
        sizes.append(round(float(np.mean([len(p) for p in pieces]))))
        hits.append(right / np.maximum(total, 1))
    return sizes, hits
