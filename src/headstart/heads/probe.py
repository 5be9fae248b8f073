"""Fits the head on frozen features: everything in closed form, chosen by what it says about left-out pictures.

The decision: which stages of the backbone are used, each penalty, the mixture and its temperature are all
chosen by out-of-fold log-loss on the samples themselves, nothing is held out, and every candidate's
out-of-fold losses are handed on so that the score can be corrected for the choosing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headstart.errors import DataError, DishonestError
from headstart.heads.baseline import nearest_neighbour_hits
from headstart.heads.linear import LinearHead
from headstart.heads.normalise import Blocks, Normaliser, fit_normaliser
from headstart.heads.space import Labels, Space, block_kernels, open_space
from headstart.heads.spectrum import Float, Spectrum
from headstart.heads.stack import Choice, Judged, Paths, choose, judge, leave_out, mixed_coefficients
from headstart.heads.threads import one_blas_thread
from headstart.records import Decision

__all__ = ["PENALTIES", "ProbeFit", "fit_probe"]

PENALTIES = np.logspace(-6, 1, 18)
"""Penalties of ridge and LDA as shares of the total scatter; all of them cost little more than one."""

_EARLIER_WEIGHT = 0.5  # of the earlier stages in the third set of blocks; 1 in the second
_CHOOSING_LIMIT = 1024  # up to here every set of blocks is fitted on all samples
_CHOOSING_ROWS = 512  # samples that the set of blocks is chosen on where there are more
_PATH_ROWS = 4096  # samples that penalties and mixture are chosen on, at most
_PATH_VALUES = 4_000_000  # numbers of an array of out-of-fold scores, at most
_LEADING = 128  # directions that the nearest neighbour is looked for in


@dataclass(frozen=True)
class ProbeFit:
    """A fitted head with everything that is known about it out of fold.

    Attributes:
        head: What is shipped.
        oof_logits: (N, K) float32, each row from a fit without that sample (and its group), temperature applied.
        protocol: `leave-one-out`, or `leave-one-group-out` with groups.
        decisions: What was chosen, and why.
        candidate_names: M names of everything that was chosen among; the last one is the final head.
        candidate_losses: (M, N) float32 out-of-fold log-loss of each.
        candidate_hits: (M, N) whether each is right out of fold.
        neighbour_hits: (N,) whether the nearest picture outside the sample's group has its class.
        unmeasurable: (N,) True where the whole class is left out with the sample: counted as wrong.
    """

    head: LinearHead
    oof_logits: NDArray[np.float32]
    protocol: Literal["leave-one-out", "leave-one-group-out"]
    decisions: tuple[Decision, ...]
    candidate_names: tuple[str, ...]
    candidate_losses: NDArray[np.float32]
    candidate_hits: NDArray[np.bool_]
    neighbour_hits: NDArray[np.bool_]
    unmeasurable: NDArray[np.bool_]


@dataclass(frozen=True)
class _Result:
    """One set of blocks, all samples."""

    space: Space
    paths: Paths
    choice: Choice
    judged: Judged
    leading: NDArray[np.float32]


def fit_probe(
    blocks: Blocks,
    class_ids: NDArray[np.int64],
    num_classes: int,
    *,
    groups: NDArray[np.int64] | None = None,
    class_weights: NDArray[np.floating] | None = None,
    seed: int = 0,
    logistic: Literal["auto"] | bool = "auto",
) -> ProbeFit:
    """Fits, chooses and scores out of fold.

    Args:
        blocks: (N, D_b) float32 pooled features by name, from early to late; the last one is the embedding.
        class_ids: (N,) in 0..K-1.
        num_classes: K; a class without samples is never predicted.
        groups: (N,) samples with the same number are left out together.
        class_weights: (K,) positive factors on the samples of each class, in every fit, choice and temperature.
        seed: Of the samples that are looked at when there are too many to look at all.
        logistic: Whether logistic regression is tried.

    Raises:
        DataError: The labels do not allow a classifier, or the features are damaged.
        DishonestError: Nothing can be scored by a model that has not seen it.
    """
    if len(class_ids) <= _CHOOSING_LIMIT:
        with one_blas_thread():
            return _fit_probe(blocks, class_ids, num_classes, groups, class_weights, seed, logistic)
    return _fit_probe(blocks, class_ids, num_classes, groups, class_weights, seed, logistic)


def _fit_probe(
    blocks: Blocks,
    class_ids: NDArray[np.int64],
    num_classes: int,
    groups: NDArray[np.int64] | None,
    class_weights: NDArray[np.floating] | None,
    seed: int,
    logistic: Literal["auto"] | bool,
) -> ProbeFit:
    labels, present = _labels(class_ids, num_classes, groups, class_weights)
    unmeasurable = labels.unmeasurable()
    if unmeasurable.all():
        raise _nothing_measurable(labels)
    rng = np.random.default_rng(seed)
    normaliser = fit_normaliser(blocks)
    sets = _block_sets(normaliser)
    everyone = np.arange(len(labels.class_ids))
    rows = normaliser(blocks)

    names: list[str] = []
    results: dict[str, _Result] = {}
    if len(everyone) <= _CHOOSING_LIMIT:
        results = _fit_sets(sets, normaliser, rows, labels, rng)
        losses = {name: result.choice.loss for name, result in results.items()}
    else:
        index = _subset(labels, _CHOOSING_ROWS, rng)
        part, _ = labels.take(index)
        losses = {n: r.choice.loss for n, r in _fit_sets(sets, normaliser, rows[index], part, rng).items()}
    best = min(losses, key=lambda name: losses[name])
    if not results:
        chosen = sets[best]
        results = {best: _fit_set(open_space(chosen, _columns(rows, normaliser, chosen), labels), rng)}
    final = results[best]

    weight, bias = final.space.lift(*mixed_coefficients(final.space.totals, final.paths, final.choice))
    temperature = float(1.0 / max(final.choice.mix[:2].sum(), 1e-6))
    head = _head(final.space.normaliser, weight * temperature, bias * temperature, temperature, present, num_classes)
    logits = np.full((len(everyone), num_classes), final.judged.logits.min() - 20.0, dtype=np.float32)
    logits[:, present] = final.judged.logits
    for name in results:
        names += [f"{name}: ridge {p:.0e}" for p in PENALTIES] + [f"{name}: LDA {p:.0e}" for p in PENALTIES]
        names.append(f"{name}: mixture")
    names.append("final")
    return ProbeFit(
        head=head,
        oof_logits=logits,
        protocol="leave-one-out" if groups is None else "leave-one-group-out",
        decisions=_decisions(best, losses, len(everyone), final, temperature),
        candidate_names=tuple(names),
        candidate_losses=np.concatenate(
            [*(r.judged.losses for r in results.values()), final.judged.losses[-1:]], dtype=np.float32
        ),
        candidate_hits=np.concatenate([*(r.judged.hits for r in results.values()), final.judged.hits[-1:]]),
        neighbour_hits=nearest_neighbour_hits(final.leading, labels.class_ids, labels.groups),
        unmeasurable=unmeasurable,
    )


def _labels(
    class_ids: NDArray[np.int64],
    num_classes: int,
    groups: NDArray[np.int64] | None,
    class_weights: NDArray[np.floating] | None,
) -> tuple[Labels, NDArray[np.int64]]:
    """Checked labels of the classes that have samples, and those classes."""
    ids = np.asarray(class_ids, dtype=np.int64)
    if len(ids) and (ids.min() < 0 or ids.max() >= num_classes):
        raise DataError(f"Class numbers must lie in 0..{num_classes - 1}; there are {ids.min()}..{ids.max()}.")
    present = np.unique(ids)
    if len(present) < 2:
        raise DataError(
            f"There are pictures of {len(present)} class; a classifier needs at least 2 classes.",
            hint="add pictures of another class",
        )
    weights = np.ones(len(ids))
    if class_weights is not None:
        factors = np.asarray(class_weights, dtype=np.float64)
        if factors.shape != (num_classes,) or not (np.isfinite(factors).all() and (factors > 0).all()):
            raise DataError(f"Class weights must be {num_classes} positive numbers, one for each class.")
        weights = factors[ids]
    group = None
    if groups is not None:
        group = np.unique(groups, return_inverse=True)[1].astype(np.int64)
        if group.max() == 0:
            raise DishonestError(
                "All pictures are in one group, so none can be scored by a model that has not seen its group.",
                hint="check where groups come from, or leave groups out if the pictures are independent",
            )
    everyone = Labels(ids, num_classes, weights, group)
    return everyone.take(np.arange(len(ids)))


def _nothing_measurable(labels: Labels) -> DishonestError:
    if labels.groups is None:
        return DishonestError(
            "Every class has 1 picture, so no picture can be scored by a model that has seen its class.",
            hint="add pictures: at least 2 for each class, better 20",
        )
    return DishonestError(
        "Every class lies inside one group, so no picture can be scored by a model that has seen its class.",
        hint="add pictures of each class from other groups",
    )


def _block_sets(normaliser: Normaliser) -> dict[str, Normaliser]:
    """The sets of blocks that are compared: the last one alone, all, all with less of the earlier ones."""
    names = normaliser.names
    sets = {f"{names[-1]} only": normaliser.restrict(names[-1:], (1.0,))}
    if len(names) > 1:
        sets["all stages"] = normaliser
        weights = (*[_EARLIER_WEIGHT] * (len(names) - 1), 1.0)
        sets["all stages, earlier ones at half"] = normaliser.restrict(names, weights)
    return sets


def _columns(rows: NDArray[np.float32], normaliser: Normaliser, chosen: Normaliser) -> NDArray[np.float32]:
    """The rows of one set of blocks from those of all blocks at weight 1."""
    if len(chosen.names) < len(normaliser.names):
        return rows[:, -chosen.num_features :]
    if chosen.weights == normaliser.weights:
        return rows
    return np.asarray(rows * np.repeat(np.array(chosen.weights, dtype=np.float32), chosen.sizes))


def _fit_sets(
    sets: dict[str, Normaliser],
    normaliser: Normaliser,
    rows: NDArray[np.float32],
    labels: Labels,
    rng: np.random.Generator,
) -> dict[str, _Result]:
    """Every set of blocks on the same samples."""
    kernels = block_kernels(normaliser, rows, labels.weights) if len(rows) <= normaliser.num_features else None
    return {
        name: _fit_set(open_space(chosen, _columns(rows, normaliser, chosen), labels, kernels), rng)
        for name, chosen in sets.items()
    }


def _fit_set(space: Space, rng: np.random.Generator) -> _Result:
    """Chooses penalties and mixture on as many samples as fit, then judges all of them."""
    labels, num = space.labels, len(space.labels.class_ids)
    unmeasurable = labels.unmeasurable()
    limit = max(512, min(_PATH_ROWS, _PATH_VALUES // (len(PENALTIES) * labels.num_classes)))
    index = np.arange(num) if num <= limit else _subset(labels, limit, rng)
    part = space.look_at(index)
    paths = leave_out(part, PENALTIES, labels.folds(index), unmeasurable[index])
    choice = choose(paths)
    if len(index) == num:
        return _Result(space, paths, choice, judge(paths, choice), _leading(part))
    num_candidates = 2 * len(PENALTIES) + 1
    losses = np.empty((num_candidates, num), dtype=np.float32)
    hits = np.empty((num_candidates, num), dtype=np.bool_)
    logits = np.empty((num, labels.num_classes))
    leading = np.empty((num, min(_LEADING, len(part.values))), dtype=np.float32)
    for chunk in _chunks(labels, limit):
        part = space.look_at(chunk)
        judged = judge(leave_out(part, PENALTIES, labels.folds(chunk), unmeasurable[chunk]), choice)
        losses[:, chunk], hits[:, chunk], logits[chunk] = judged.losses, judged.hits, judged.logits
        leading[chunk] = _leading(part)
    return _Result(space, paths, choice, Judged(losses, hits, logits), leading)


def _chunks(labels: Labels, limit: int) -> list[NDArray[np.int64]]:
    """All samples in chunks of whole groups, of about `limit` samples."""
    folds = labels.folds()
    if folds is None:
        return [np.arange(s, min(s + limit, len(labels.class_ids))) for s in range(0, len(labels.class_ids), limit)]
    chunk = np.cumsum([len(f) for f in folds]) // limit
    return [np.concatenate([f for f, c in zip(folds, chunk, strict=True) if c == i]) for i in np.unique(chunk)]


def _subset(labels: Labels, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """About `size` samples: whole groups at random, or the same share of every class (2 at least)."""
    folds = labels.folds()
    if folds is not None:
        order = rng.permutation(len(folds))
        total = np.cumsum([len(folds[i]) for i in order])
        count = max(2, int(np.searchsorted(total, size)) + 1)
        return np.sort(np.concatenate([folds[i] for i in order[:count]]))
    order = rng.permutation(len(labels.class_ids))
    ids = labels.class_ids[order]
    by_class = np.argsort(ids, kind="stable")
    counts = np.bincount(ids, minlength=labels.num_classes)
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(ids))
    rank[by_class] = np.arange(len(ids)) - np.repeat(starts, counts)
    priority = np.where(rank < 2, -1.0, (rank + 0.5) / counts[ids])
    return np.sort(order[np.argsort(priority, kind="stable")[:size]])


def _leading(part: Spectrum) -> NDArray[np.float32]:
    """(n, at most 128) unweighted coordinates on the leading directions."""
    scores = part.scores[:, -_LEADING:] / np.sqrt(part.weights)[:, None]
    return scores.astype(np.float32)


def _head(
    normaliser: Normaliser,
    weight: Float,
    bias: Float,
    temperature: float,
    present: NDArray[np.int64],
    num_classes: int,
) -> LinearHead:
    """The head over all classes; one without samples lies 20 logits under anything the others can say."""
    reach = np.linalg.norm(weight, axis=1) * np.linalg.norm(normaliser.weights)
    all_weight = np.zeros((num_classes, weight.shape[1]), dtype=np.float32)
    all_bias = np.full(num_classes, (bias - reach).min() - 20.0 * temperature, dtype=np.float32)
    all_weight[present], all_bias[present] = weight, bias
    return LinearHead(normaliser, all_weight, all_bias, temperature)


def _decisions(
    best: str, losses: dict[str, float], num_samples: int, final: _Result, temperature: float
) -> tuple[Decision, ...]:
    """What was chosen, with the numbers that decided it."""
    choice, penalties = final.choice, final.paths.penalties
    compared = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
    where = "" if num_samples <= _CHOOSING_LIMIT else f" on {_CHOOSING_ROWS:,} of the pictures"
    shares = choice.mix / max(choice.mix.sum(), 1e-12)
    return (
        Decision("head.blocks", best, f"least log-loss on left-out pictures{where}: {compared}"),
        Decision(
            "head.ridge_penalty",
            float(penalties[choice.ridge_index]),
            f"least log-loss on left-out pictures, {choice.ridge_loss:.4f}, of {len(penalties)} penalties",
        ),
        Decision(
            "head.lda_penalty",
            float(penalties[choice.lda_index]),
            f"least log-loss on left-out pictures, {choice.lda_loss:.4f}, of {len(penalties)} penalties",
        ),
        Decision(
            "head.mixture",
            {
                "ridge": round(float(shares[0]), 3),
                "lda": round(float(shares[1]), 3),
                "shares": round(float(shares[2]), 3),
            },
            f"log-loss of the mixture on left-out pictures {choice.loss:.4f}; "
            f"alone ridge {choice.ridge_loss:.4f}, LDA {choice.lda_loss:.4f}",
        ),
        Decision("head.temperature", temperature, "makes the probabilities fit the left-out pictures"),
    )
