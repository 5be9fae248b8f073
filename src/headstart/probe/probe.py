"""Fit the probe; hyperparameters minimize the out-of-fold log-loss.

Stages, penalties, ensemble weights and temperature are selected on out-of-fold predictions without a hold-out; the
losses of all candidates are returned to correct the score for selection bias.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headstart.errors import MissingExtraError
from headstart.probe.baseline import nearest_neighbor_hits
from headstart.probe.blas_threads import one_blas_thread
from headstart.probe.ensemble import UNSCORABLE_LOSS, PenaltyChoice, mixed_coefficients
from headstart.probe.feature_sets import PENALTIES, FeatureSetFit, fit_feature_sets
from headstart.probe.labels import Labels, check_labels
from headstart.probe.linear import LinearHead
from headstart.probe.logistic import LogisticFit, fit_logistic, why_not_tried
from headstart.probe.losses import best_mixture, log_losses
from headstart.probe.normalize import Normalizer, fit_normalizer
from headstart.types.arrays import Blocks, Float
from headstart.types.codes import DecisionReason, EvaluationSetup, Evidence
from headstart.types.records import Decision

__all__ = ["ProbeFit", "fit_probe"]

_FEW = 1024  # samples up to which one thread is faster
_DIRECTIONS = 128  # leading directions to return; more change little (`benchmarks/bench_ood.py`)
_ABSENT = 20.0  # margin of the logit of a class without samples below all others


@dataclass(frozen=True)
class ProbeFit:
    """A fitted head with its out-of-fold predictions.

    Attributes:
        head: The final head.
        oof_logits: (N, K) float32, each row from a fit without that sample (and its group), temperature applied.
        setup: Leave-one-out, or leave-one-group-out with groups.
        decisions: The decisions with their evidence.
        candidate_names: Names of the M candidates; the last one is the final head.
        candidate_losses: (M, N) float32 out-of-fold log-loss of each.
        candidate_hits: (M, N) whether each is correct out of fold.
        neighbor_hits: (N,) whether the nearest image outside the sample's group has its class.
        unscorable: (N,) True where the whole class is held out with the sample: counted as wrong.
        choice: Penalties and mixture of the closed forms.
        row_mean: (D,) float32 mean of the head's normalized rows.
        row_directions: (D, r) float32 their leading directions, at most 128 and no more than half of N or a
            quarter of D; the OOD score uses them.
    """

    head: LinearHead
    oof_logits: NDArray[np.float32]
    setup: EvaluationSetup
    decisions: tuple[Decision, ...]
    candidate_names: tuple[str, ...]
    candidate_losses: NDArray[np.float32]
    candidate_hits: NDArray[np.bool_]
    neighbor_hits: NDArray[np.bool_]
    unscorable: NDArray[np.bool_]
    choice: PenaltyChoice
    row_mean: NDArray[np.float32]
    row_directions: NDArray[np.float32]

    @property
    def ridge_penalty(self) -> float:
        """The chosen ridge penalty, as a fraction of the total scatter."""
        return float(PENALTIES[self.choice.ridge_index])


@dataclass(frozen=True)
class _EnsembleFit:
    """Ensemble of the closed forms and, if it helps, logistic regression."""

    weight: Float
    bias: Float
    logits: Float
    decision: Decision
    tried: LogisticFit | None


def fit_probe(
    blocks: Blocks,
    class_ids: NDArray[np.integer[Any]],
    num_classes: int,
    *,
    groups: NDArray[np.integer[Any]] | None = None,
    class_weights: NDArray[np.floating[Any]] | None = None,
    seed: int = 0,
    logistic: Literal["auto"] | bool = "auto",
) -> ProbeFit:
    """Fit the probe, select hyperparameters and score out of fold.

    Args:
        blocks: (N, D_b) float32 pooled features by name, from early to late; the last one is the embedding.
        class_ids: (N,) in 0..K-1.
        num_classes: K; a class without samples is never predicted.
        groups: (N,) group ids; whole groups are held out.
        class_weights: (K,) positive factors on the samples of each class, in every fit, choice and temperature.
        seed: Random seed of the subsample used with many samples, and of the folds of logistic regression.
        logistic: Whether logistic regression is tried; `auto` tries it with enough samples.

    Raises:
        DataError: The labels do not allow a classifier, or the features are damaged.
        InvalidEvaluationError: No sample can be scored out of sample.
        MissingExtraError: Logistic regression is requested but scikit-learn is not installed.
    """
    with one_blas_thread() if len(class_ids) <= _FEW else nullcontext():
        labels, present = check_labels(class_ids, num_classes, groups, class_weights)
        rng = np.random.default_rng(seed)
        normalizer = fit_normalizer(blocks)
        chosen, fits, of_blocks = fit_feature_sets(normalizer, normalizer(blocks), labels, rng)
        ensemble = _fit_ensemble(chosen, labels, logistic, rng)
        hits = nearest_neighbor_hits(chosen.leading, labels.class_ids, labels.groups)
        num_rows, width = chosen.space.rows.shape
        directions = chosen.space.leading(min(_DIRECTIONS, max(1, num_rows // 2), max(1, width // 4)))

    losses = [fit.score.losses for fit in fits]
    candidate_hits = [fit.score.hits for fit in fits]
    names = [f"{fit.name}: {name}" for fit in fits for name in _path_names()]
    if ensemble.tried is not None:
        losses.append(ensemble.tried.losses)
        candidate_hits.append(ensemble.tried.hits)
        names += [f"{chosen.name}: logistic regression {i}" for i in range(len(ensemble.tried.losses))]
    losses.append(log_losses(ensemble.logits, labels.class_ids)[None])
    candidate_hits.append((ensemble.logits.argmax(axis=1) == labels.class_ids)[None])

    head_weight = float(chosen.choice.mix[:2].sum())
    temperature = 1.0 / head_weight if head_weight > 1e-3 else 1.0  # 1 if neither head has weight
    logits = np.full((len(labels), num_classes), ensemble.logits.min() - _ABSENT, dtype=np.float32)
    logits[:, present] = ensemble.logits
    return ProbeFit(
        head=_head(chosen.space.normalizer, ensemble, temperature, present, num_classes),
        oof_logits=logits,
        setup=EvaluationSetup(labels.protocol),
        decisions=(of_blocks, *_decisions(chosen, temperature), ensemble.decision),
        candidate_names=(*names, "final"),
        candidate_losses=np.concatenate(losses, dtype=np.float32),
        candidate_hits=np.concatenate(candidate_hits),
        neighbor_hits=hits,
        unscorable=labels.unscorable(),
        choice=chosen.choice,
        row_mean=chosen.space.mean.astype(np.float32),
        row_directions=directions,
    )


def _fit_ensemble(
    chosen: FeatureSetFit, labels: Labels, logistic: Literal["auto"] | bool, rng: np.random.Generator
) -> _EnsembleFit:
    """Fit the final head; include logistic regression if it clearly lowers the log-loss."""
    space, choice, logits = chosen.space, chosen.choice, np.asarray(chosen.score.logits, dtype=np.float64)
    weight, bias = space.lift(*mixed_coefficients(space.totals, PENALTIES, choice))
    why_not: tuple[DecisionReason, Evidence] | None = None if logistic else (DecisionReason.LOGISTIC_SWITCHED_OFF, {})
    if logistic == "auto":
        why_not = why_not_tried(len(labels), space.rows.shape[1], labels.num_classes)
    if why_not is not None:
        decision = Decision("probe.logistic", "off", why_not[0], evidence={"is_tried": False, **why_not[1]})
        return _EnsembleFit(weight, bias, logits, decision, None)
    try:
        fitted = fit_logistic(space.rows, labels, space.totals.trace, rng)
    except MissingExtraError:
        if logistic is True:
            raise
        reason = DecisionReason.LOGISTIC_NEEDS_SCIKIT_LEARN
        decision = Decision("probe.logistic", "off", reason, evidence={"is_tried": False})
        return _EnsembleFit(weight, bias, logits, decision, None)
    unscorable = labels.unscorable()
    _penalize_unscorable(fitted, labels, unscorable)
    fraction = np.where(unscorable, 0.0, labels.weights)
    fraction /= fraction.sum()
    parts = np.stack([logits, fitted.logits])
    mix = best_mixture(parts, labels.class_ids, fraction, np.array([1.0, 0.0]) + 1e-3)
    both = np.tensordot(mix, parts, axes=1)
    both[unscorable] = logits[unscorable]
    before, after = log_losses(logits, labels.class_ids), log_losses(both, labels.class_ids)
    gain = float(fraction @ (before - after))
    error = float(np.sqrt(np.sum((fraction * (before - after - gain)) ** 2)))
    losses = {"with": float(fraction @ after), "without": float(fraction @ before)}
    evidence: Evidence = {"is_tried": True, "log_loss": losses, "gain": gain, "gain_error": error}
    is_better, reason = gain > error, DecisionReason.LOGISTIC_COMPARED
    decision = Decision("probe.logistic", "on" if is_better else "off", reason, evidence=evidence)
    if not is_better:
        return _EnsembleFit(weight, bias, logits, decision, fitted)
    weight, bias = mix[0] * weight + mix[1] * fitted.weight, mix[0] * bias + mix[1] * fitted.bias
    return _EnsembleFit(weight, bias, both, decision, fitted)


def _penalize_unscorable(fitted: LogisticFit, labels: Labels, unscorable: NDArray[np.bool_]) -> None:
    """Count unscorable samples as wrong for every penalty."""
    fitted.hits[:, unscorable] = False
    least = fitted.logits[unscorable].min(axis=1, initial=np.inf) - UNSCORABLE_LOSS
    fitted.logits[unscorable, labels.class_ids[unscorable]] = least
    fitted.losses[:, unscorable] = np.maximum(fitted.losses[:, unscorable], UNSCORABLE_LOSS)


def _head(
    normalizer: Normalizer, ensemble: _EnsembleFit, temperature: float, present: NDArray[np.int64], num_classes: int
) -> LinearHead:
    """Return the head over all classes; classes without samples are never predicted."""
    weight, bias = ensemble.weight * temperature, ensemble.bias * temperature
    bound = np.linalg.norm(weight, axis=1) * np.linalg.norm(normalizer.weights)
    all_weight = np.zeros((num_classes, weight.shape[1]), dtype=np.float32)
    all_bias = np.full(num_classes, (bias - bound).min() - _ABSENT * temperature, dtype=np.float32)
    all_weight[present], all_bias[present] = weight, bias
    return LinearHead(normalizer, all_weight, all_bias, temperature)


def _path_names() -> list[str]:
    return [f"{head} {penalty:.1e}" for head in ("ridge", "LDA") for penalty in PENALTIES] + ["mixture"]


def _decisions(chosen: FeatureSetFit, temperature: float) -> tuple[Decision, ...]:
    """Return the decisions within the selected set, with their evidence."""
    choice, protocol = chosen.choice, chosen.space.labels.protocol.value
    mix = dict(zip(("ridge", "lda", "class_shares"), (round(float(m), 3) for m in choice.mix), strict=True))
    ridge, lda, loss = float(choice.ridge_loss), float(choice.lda_loss), float(choice.loss)
    return (
        Decision(
            "probe.ridge_penalty",
            float(PENALTIES[choice.ridge_index]),
            DecisionReason.PENALTIES_COMPARED,
            evidence={"log_loss": ridge, "num_candidates": len(PENALTIES), "protocol": protocol},
        ),
        Decision(
            "probe.lda_penalty",
            float(PENALTIES[choice.lda_index]),
            DecisionReason.PENALTIES_COMPARED,
            evidence={"log_loss": lda, "num_candidates": len(PENALTIES), "protocol": protocol},
        ),
        Decision(
            "probe.mixture",
            mix,
            DecisionReason.MIXTURE_COMPARED,
            evidence={"log_loss": {"mixture": loss, "ridge": ridge, "lda": lda}, "protocol": protocol},
        ),
        Decision(
            "probe.temperature",
            round(temperature, 4),
            DecisionReason.TEMPERATURE_FITTED,
            evidence={"log_loss": loss, "protocol": protocol},
        ),
    )
