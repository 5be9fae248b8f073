"""Select the backbone stages used by the head: the last one, all, or all with down-weighted earlier ones.

Up to 1,024 images the set with the lowest out-of-fold log-loss is used; with more, sets are compared on 512 images and
`all stages` is replaced only by a set that is better by more than a standard error of the paired difference, because
earlier stages help more with more images (`benchmarks/bench_probe.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.probe.blas_threads import one_blas_thread
from headstart.probe.ensemble import PenaltyChoice, ScoredChoice, choose_penalties, leave_out, score_choice
from headstart.probe.feature_space import FeatureSubspace, block_kernels, open_space
from headstart.probe.labels import Labels
from headstart.probe.normalize import Normalizer
from headstart.probe.spectrum import Spectrum
from headstart.types.codes import DecisionReason, Evidence
from headstart.types.records import Decision

__all__ = ["PENALTIES", "FeatureSetFit", "fit_feature_sets"]

PENALTIES = np.logspace(-6, 1, 18)
"""Penalties of ridge and LDA as fractions of the total scatter; all of them cost little more than one."""

_ALL = "all stages"
_CODES = ("all_stages", "all_stages_earlier_half", "last_stage")  # of the three sets, in the order of `_block_sets`
_EARLIER_WEIGHT = 0.5  # of the earlier stages in the third set
_COMPARE_ALL = 1024  # samples up to which every set is fitted on all of them
_COMPARE_ROWS = 512  # samples for comparing sets, if there are more
_PATH_ROWS = 4096  # maximum number of samples for selecting penalties and mixture
_PATH_VALUES = 4_000_000  # maximum size of an array of out-of-fold scores
_LEADING = 128  # directions for the nearest-neighbor search


@dataclass(frozen=True)
class FeatureSetFit:
    """One set of blocks: fitted, selected and scored on all its samples.

    `leading` is (N, at most 128) unweighted coordinates on the leading directions.
    """

    name: str
    space: FeatureSubspace
    choice: PenaltyChoice
    score: ScoredChoice
    leading: NDArray[np.float32]


def fit_feature_sets(
    normalizer: Normalizer, rows: NDArray[np.float32], labels: Labels, rng: np.random.Generator
) -> tuple[FeatureSetFit, list[FeatureSetFit], Decision]:
    """Fit the sets of blocks and select one.

    Args:
        normalizer: Normalizer of all blocks at weight 1, from early to late; the last one is the embedding.
        rows: (N, D) float32 output of the normalizer.
        labels: Labels of the N samples.
        rng: Draws the subsample used with too many samples.

    Returns:
        The selected set on all samples, every set fitted on all samples, and the decision. Its evidence holds
        `log_loss`, the mean out-of-fold log-loss of each compared set in nats, `num_compared`, the samples, and
        `protocol`.
    """
    sets = _block_sets(normalizer)
    if len(labels) <= _COMPARE_ALL or len(sets) == 1:
        fits = _fit_each(sets, normalizer, rows, labels, rng)
        best = min(fits, key=lambda fit: fit.choice.loss)
        if len(sets) == 1:
            return best, fits, Decision("probe.blocks", best.name, DecisionReason.SINGLE_BLOCK)
        evidence = _evidence(fits, labels, len(labels))
        decision = Decision("probe.blocks", _code(best.name, sets), DecisionReason.BLOCKS_COMPARED, evidence=evidence)
        return best, fits, decision
    chosen, reason = _ALL, DecisionReason.TOO_FEW_TO_COMPARE_BLOCKS
    evidence = {"num_compared": 0}
    index = labels.subset(_COMPARE_ROWS, rng)
    part, _ = labels.take(index)
    if len(index) <= 2 * _COMPARE_ROWS and part.num_classes > 1 and not part.unscorable().all():
        with one_blas_thread():
            fits = _fit_each(sets, normalizer, rows[index], part, rng)
        chosen = _clearly_best(fits, part)
        reason = DecisionReason.BLOCKS_COMPARED_ON_SUBSET
        evidence = _evidence(fits, labels, len(index))
    final = _fit_set(chosen, open_space(sets[chosen], _columns(rows, normalizer, sets[chosen]), labels), rng)
    return final, [final], Decision("probe.blocks", _code(chosen, sets), reason, evidence=evidence)


def _block_sets(normalizer: Normalizer) -> dict[str, Normalizer]:
    names = normalizer.names
    if len(names) == 1:
        return {names[0]: normalizer}
    weights = (*[_EARLIER_WEIGHT] * (len(names) - 1), 1.0)
    return {
        _ALL: normalizer,
        f"{_ALL}, earlier ones at half": normalizer.restrict(names, weights),
        f"{names[-1]} only": normalizer.restrict(names[-1:], (1.0,)),
    }


def _columns(rows: NDArray[np.float32], normalizer: Normalizer, chosen: Normalizer) -> NDArray[np.float32]:
    """Return the rows of one set of blocks from those of all blocks at weight 1."""
    if len(chosen.names) < len(normalizer.names):
        return rows[:, -chosen.num_features :]
    if chosen.weights == normalizer.weights:
        return rows
    return np.asarray(rows * np.repeat(np.array(chosen.weights, dtype=np.float32), chosen.sizes))


def _fit_each(
    sets: dict[str, Normalizer],
    normalizer: Normalizer,
    rows: NDArray[np.float32],
    labels: Labels,
    rng: np.random.Generator,
) -> list[FeatureSetFit]:
    kernels = block_kernels(normalizer, rows, labels.weights) if len(rows) <= normalizer.num_features else None
    fits = []
    for name, chosen in sets.items():
        fits.append(_fit_set(name, open_space(chosen, _columns(rows, normalizer, chosen), labels, kernels), rng))
    return fits


def _clearly_best(fits: list[FeatureSetFit], labels: Labels) -> str:
    """The set with the least loss, if it is better than the first by more than a standard error; else the first."""
    share = labels.weights / labels.weights.sum()
    best = min(fits, key=lambda fit: fit.choice.loss)
    gain = fits[0].score.losses[-1] - best.score.losses[-1]
    mean = float(share @ gain)
    error = float(np.sqrt(np.sum(share**2 * (gain - mean) ** 2)))
    return best.name if mean > error else fits[0].name


def _code(name: str, sets: dict[str, Normalizer]) -> str:
    return _CODES[list(sets).index(name)]


def _evidence(fits: list[FeatureSetFit], labels: Labels, num_compared: int) -> Evidence:
    losses = {code: float(fit.choice.loss) for code, fit in zip(_CODES, fits, strict=True)}
    return {"log_loss": losses, "num_compared": num_compared, "protocol": labels.protocol.value}


def _fit_set(name: str, space: FeatureSubspace, rng: np.random.Generator) -> FeatureSetFit:
    """Select penalties and mixture on as many samples as the limit allows, then score all of them."""
    labels, num = space.labels, len(space.labels)
    unscorable = labels.unscorable()
    limit = max(512, min(_PATH_ROWS, _PATH_VALUES // (len(PENALTIES) * labels.num_classes)))
    index = np.arange(num) if num <= limit else labels.subset(limit, rng)
    if unscorable[index].all():
        index = np.arange(num)
    part = space.select(index)
    paths = leave_out(part, PENALTIES, labels.folds(index), unscorable[index])
    choice = choose_penalties(paths)
    if len(index) == num:
        return FeatureSetFit(name, space, choice, score_choice(paths, choice), _leading(part))
    num_candidates = 2 * len(PENALTIES) + 1
    losses = np.empty((num_candidates, num), dtype=np.float32)
    hits = np.empty((num_candidates, num), dtype=np.bool_)
    logits = np.empty((num, labels.num_classes))
    leading = np.empty((num, min(_LEADING, len(part.values))), dtype=np.float32)
    for chunk in labels.chunks(limit):
        part = space.select(chunk)
        score = score_choice(leave_out(part, PENALTIES, labels.folds(chunk), unscorable[chunk]), choice)
        losses[:, chunk], hits[:, chunk], logits[chunk] = score.losses, score.hits, score.logits
        leading[chunk] = _leading(part)
    return FeatureSetFit(name, space, choice, ScoredChoice(losses, hits, logits), leading)


def _leading(part: Spectrum) -> NDArray[np.float32]:
    scores = part.scores[:, -_LEADING:] / np.sqrt(part.weights)[:, None]
    return np.asarray(scores, dtype=np.float32)
