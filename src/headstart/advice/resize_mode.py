"""Choose the resize mode (`auto`): compare all modes by cross-validation on some of the training images.

The comparison uses at most 300 images. Its selection bias is corrected in proportion to these images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart.config.settings import TrainSettings
from headstart.data.grouping import group_ids
from headstart.errors import HeadstartError
from headstart.events import EventStream
from headstart.features.extractor import ExtractorOptions, open_embedder
from headstart.probe.probe import ProbeFit, fit_probe
from headstart.types.codes import DecisionReason, Evidence, NoteKind
from headstart.types.records import Decision, Samples

__all__ = ["ResizeModeChoice", "add_choice_candidates", "choose_resize_mode"]

_MODES = ("crop", "cover", "squash", "pad")
_MAX_IMAGES = 300


@dataclass(frozen=True)
class ResizeModeChoice:
    """Result of the comparison.

    Attributes:
        fit: The mode with the lowest out-of-fold log-loss.
        decision: The decision with its evidence.
        paths: The n images compared.
        losses: (4, n) out-of-fold log-loss of each mode per image, the chosen mode last.
        hits: (4, n) whether each prediction is correct.
    """

    resize_mode: str
    decision: Decision
    paths: tuple[str, ...]
    losses: NDArray[np.float64]
    hits: NDArray[np.bool_]


def choose_resize_mode(
    samples: Samples, settings: TrainSettings, intensity_range: tuple[float, float] | None, events: EventStream
) -> ResizeModeChoice | None:
    """Compare all four modes.

    Args:
        samples: The images; only training images are used.
        settings: Settings of the backbone, the groups and the seed.
        intensity_range: Intensity range chosen for the data.
        events: The event stream.

    Returns:
        The choice, or None where it cannot be measured (too few images, groups or classes).
    """
    seed = settings.seed
    chosen = _draw(samples, seed)
    part = samples.take(chosen)
    groups, _ = group_ids(samples, settings.group_from)
    all_features = []
    readable = np.ones(len(part), dtype=bool)
    for mode in _MODES:
        options = ExtractorOptions.of(settings, resize_mode=mode, intensity_range=intensity_range)
        features = open_embedder(options, events).embed(part.paths, part.names, events).features
        readable &= features.is_ok
        all_features.append(features)
    rows = np.flatnonzero(readable)
    counts = np.bincount(part.class_ids[rows], minlength=len(part.class_names)) if len(rows) else np.zeros(1)
    rows = rows[counts[part.class_ids[rows]] >= 2] if len(rows) else rows
    classes, class_ids = np.unique(part.class_ids[rows], return_inverse=True)
    results = []
    try:
        for features in all_features:
            fitted = fit_probe(
                {name: block[rows] for name, block in features.blocks.items()},
                class_ids.astype(np.int64),
                len(classes),
                groups=None if groups is None else groups[chosen][rows],
                seed=seed,
                logistic=False,
            )
            results.append((fitted.candidate_losses[-1].astype(np.float64), fitted.candidate_hits[-1]))
    except HeadstartError:
        events.warn(NoteKind.RESIZE_MODE_NOT_MEASURED, resize_mode=_MODES[0])
        return None
    means = [float(losses.mean()) for losses, _ in results]
    best = int(np.argmin(means))
    order = [k for k in range(len(_MODES)) if k != best] + [best]
    evidence: Evidence = {
        "log_loss": dict(zip(_MODES, means, strict=True)),
        "num_compared": len(rows),
        "protocol": fitted.setup.protocol.value,
    }
    return ResizeModeChoice(
        resize_mode=_MODES[best],
        decision=Decision("resize_mode", _MODES[best], DecisionReason.RESIZE_MODES_COMPARED, evidence=evidence),
        paths=tuple(part.paths[i] for i in rows),
        losses=np.stack([results[k][0] for k in order]),
        hits=np.stack([results[k][1] for k in order]),
    )


def add_choice_candidates(fitted: ProbeFit, paths: list[str], choice: ResizeModeChoice) -> ProbeFit:
    """Add the rejected modes to the candidates of a fit, so that its selection bias is corrected.

    Args:
        fitted: The head on all training images.
        paths: Their paths.
        choice: The comparison.
    """
    position = {path: i for i, path in enumerate(paths)}
    both = [(row, position[path]) for row, path in enumerate(choice.paths) if path in position]
    rows, positions = (np.array(column, dtype=np.int64) for column in zip(*both, strict=True)) if both else ([], [])
    losses, hits = [], []
    for k in range(len(choice.losses) - 1):
        loss, hit = fitted.candidate_losses[-1].copy(), fitted.candidate_hits[-1].copy()
        loss[positions] += (choice.losses[k] - choice.losses[-1])[rows]
        hit[positions] = choice.hits[k][rows]
        losses.append(loss)
        hits.append(hit)
    names = tuple(f"other resize mode {k + 1}" for k in range(len(losses)))
    return replace(
        fitted,
        candidate_names=(*names, *fitted.candidate_names),
        candidate_losses=np.concatenate([np.stack(losses), fitted.candidate_losses]).astype(np.float32),
        candidate_hits=np.concatenate([np.stack(hits), fitted.candidate_hits]),
    )


def _draw(samples: Samples, seed: int) -> NDArray[np.int64]:
    """Draw at most 300 training images, stratified by class."""
    in_training = np.array([s.split in (None, "train") for s in samples], dtype=bool)
    usable = np.flatnonzero(in_training & (samples.class_ids >= 0))
    if len(usable) <= _MAX_IMAGES:
        return usable
    rng = np.random.default_rng(seed)
    fraction = _MAX_IMAGES / len(usable)
    parts = []
    for k in np.unique(samples.class_ids[usable]):
        members = usable[samples.class_ids[usable] == k]
        parts.append(rng.choice(members, min(len(members), max(2, round(fraction * len(members)))), replace=False))
    return np.sort(np.concatenate(parts))
