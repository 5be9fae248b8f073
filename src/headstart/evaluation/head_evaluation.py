"""Evaluate a probe or a fine-tuned model on every split, with the majority-class and 1-NN baselines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.metrics import evaluate, evaluation_to_json, is_skewed
from headstart.probe.baseline import majority_class
from headstart.probe.normalize import Normalizer
from headstart.probe.probe import ProbeFit
from headstart.types.arrays import Blocks, Ids
from headstart.types.codes import RESUBSTITUTION, USER_TEST_SPLIT, USER_VALIDATION_SPLIT, EvaluationSetup
from headstart.types.records import Evaluation, Features, Samples, Split

__all__ = ["HeadEvaluation", "ModelLogits", "evaluate_head", "measure_baselines", "neighbor_labels", "with_leaking"]

_CHUNK = 1024


@dataclass(frozen=True)
class ModelLogits:
    """Logits of a model for N samples, temperature applied.

    Attributes:
        final: (N, K) of the final model, training samples included.
        scored: (M,) positions of the samples with out-of-fold logits.
        out_of_fold: (M, K) from models that were not trained on the sample.
        trained_on: Positions of the training samples of the final model.
    """

    final: NDArray[np.float32]
    scored: Ids
    out_of_fold: NDArray[np.float32]
    trained_on: Ids

    @classmethod
    def of_probe(cls, features: Features, split: Split, fit: ProbeFit) -> ModelLogits:
        """Return the logits of a probe."""
        train = split.where("train")
        return cls(fit.head.logits(features.blocks), train, fit.oof_logits, train)

    def held_out(self, split: Split) -> NDArray[np.float32]:
        """Return (N, K) logits, out-of-fold ones where training samples have them."""
        logits = self.final.copy()
        is_train = split.assignment[self.scored] == "train"
        logits[self.scored[is_train]] = self.out_of_fold[is_train]
        return logits

    def is_held_out(self, split: Split) -> NDArray[np.bool_]:
        """Return (N,) whether the model that gives `held_out` was not trained on the sample."""
        is_scored = np.isin(np.arange(len(self.final)), self.scored)
        return np.asarray(is_scored | (split.assignment != "train"))


@dataclass(frozen=True)
class HeadEvaluation:
    """Evaluations of all splits, as stored in `metrics.json`.

    Attributes:
        train, cv, val, test: Evaluations; None without samples to score.
        baselines: Majority class and 1-NN on the samples of the headline.
        logits: Logits of the model.
        is_imbalanced: Whether the largest class has more than three times the smallest.
        test_including_leaks: The user's test split including leaking images; None without leaks.
        positive: Positive class of two, or None.
    """

    train: Evaluation
    cv: Evaluation
    val: Evaluation | None
    test: Evaluation | None
    baselines: dict[str, dict[str, Any]]
    logits: ModelLogits
    is_imbalanced: bool
    test_including_leaks: Evaluation | None = None
    positive: str | None = None

    @property
    def headline(self) -> Evaluation:
        """Return the evaluation of the test split, else the out-of-fold one."""
        return self.test or self.cv

    def headline_score(self) -> dict[str, Any]:
        """Return the headline metric with its interval and protocol."""
        name = "balanced_accuracy" if self.is_imbalanced else "accuracy"
        estimate = getattr(self.headline, name)
        return {
            "metric": name,
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            **self.headline.setup.to_json(),
            "num_samples": self.headline.num_samples,
        }

    def blocks_json(self) -> dict[str, Any]:
        """Return all evaluations and the headline as JSON values; None for missing ones."""
        blocks = {
            name: None if value is None else evaluation_to_json(value)
            for name, value in (
                ("train", self.train),
                ("cv", self.cv),
                ("val", self.val),
                ("test", self.test),
                ("test_including_leaks", self.test_including_leaks),
            )
        }
        return {**blocks, "headline": self.headline_score()}


def evaluate_head(
    samples: Samples,
    features: Features,
    split: Split,
    fit: ProbeFit,
    *,
    logits: ModelLogits | None = None,
    setup: EvaluationSetup | None = None,
    positive: str | None = None,
    seed: int = 0,
) -> HeadEvaluation:
    """Score a model on its training images, out of fold, and on val and test where they exist.

    Args:
        samples: N samples.
        features: Their features from the frozen backbone.
        split: Their split.
        fit: The probe: the model itself, or the reference of a fine-tuned one.
        logits: Logits of the model; those of the probe by default.
        setup: Evaluation setup of a fine-tuned model out of fold and on val; None for the probe.
        positive: Positive class of two, or None.
        seed: Random seed of the bootstrap.
    """
    logits = ModelLogits.of_probe(features, split, fit) if logits is None else logits
    labels, names = samples.class_ids, samples.class_names

    def score(index: Ids, rows: NDArray[np.float32], setup: EvaluationSetup, **options: Any) -> Evaluation | None:
        if len(index) == 0:
            return None
        groups = None if setup is RESUBSTITUTION else split.groups_of(index)
        return evaluate(
            rows, labels[index], names, setup=setup, is_logits=True, groups=groups, positive=positive, seed=seed,
            **options,
        )  # fmt: skip

    selection: dict[str, Any] = {}
    if setup is None:
        selection = {"candidates": (fit.candidate_losses, fit.candidate_hits), "unscorable": fit.unscorable}
    trained_on, val, test = logits.trained_on, split.where("val"), split.where("test")
    train = score(trained_on, logits.final[trained_on], RESUBSTITUTION)
    cv = score(logits.scored, logits.out_of_fold, setup or fit.setup, **selection)
    assert train is not None
    assert cv is not None
    scored = test if len(test) else logits.scored
    return HeadEvaluation(
        train=train,
        cv=cv,
        val=score(val, logits.final[val], setup or USER_VALIDATION_SPLIT),
        test=score(test, logits.final[test], split.setup or USER_TEST_SPLIT),
        baselines=measure_baselines(samples, features, split, fit, scored),
        logits=logits,
        is_imbalanced=is_skewed(np.bincount(labels[split.where("train")], minlength=len(names))),
        positive=positive,
    )


def measure_baselines(
    samples: Samples, features: Features, split: Split, fit: ProbeFit, scored: NDArray[np.int64]
) -> dict[str, dict[str, Any]]:
    """Compute the majority-class and 1-NN baselines on the scored samples.

    Args:
        samples: N samples.
        features: Their features.
        split: Their split.
        fit: The probe; neighbors are searched in its features.
        scored: (M,) positions of the scored samples; a training sample's neighbor is another training sample
            outside its group.

    Returns:
        `majority` (with `class_name`) and `nearest_neighbor`, each with `accuracy` and `balanced_accuracy`.
    """
    labels, train = samples.class_ids, split.where("train")
    constant = majority_class(labels[scored])
    hits = np.zeros(len(labels), dtype=np.bool_)
    hits[train] = fit.neighbor_hits
    others = scored[split.assignment[scored] != "train"]
    if len(others):
        neighbors = neighbor_labels(fit.head.normalizer, features.blocks, train, others, labels)
        hits[others] = neighbors == labels[others]
    name = samples.class_names[constant]
    return {
        "majority": {"class_name": name, **_accuracies(labels[scored] == constant, labels[scored])},
        "nearest_neighbor": _accuracies(hits[scored], labels[scored]),
    }


def with_leaking(
    evaluation: HeadEvaluation, samples: Samples, split: Split, leaking: Samples, leaking_logits: NDArray[np.float32]
) -> HeadEvaluation:
    """Add the score of the test split including its leaking images.

    Args:
        evaluation: Evaluation of the samples.
        samples: The scored samples.
        split: Their split.
        leaking: Images excluded from the test split.
        leaking_logits: (M, K) logits of the final model for them.
    """
    if not len(leaking):
        return evaluation
    test = split.where("test")
    scored = evaluate(
        np.concatenate([evaluation.logits.final[test], leaking_logits]),
        np.concatenate([samples.class_ids[test], leaking.class_ids]),
        samples.class_names,
        setup=replace(split.setup or USER_TEST_SPLIT, includes_leaks=True),
        is_logits=True,
        positive=evaluation.positive,
    )
    return replace(evaluation, test_including_leaks=scored)


def _accuracies(hits: NDArray[np.bool_], class_ids: NDArray[np.int64]) -> dict[str, float]:
    """Return accuracy and balanced accuracy."""
    recalls = [float(hits[class_ids == k].mean()) for k in np.unique(class_ids)]
    return {"accuracy": float(hits.mean()), "balanced_accuracy": float(np.mean(recalls))}


def neighbor_labels(
    normalizer: Normalizer,
    blocks: Blocks,
    train: NDArray[np.int64],
    scored: NDArray[np.int64],
    labels: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return (M,) class of the nearest training image of each scored one, in the head's normalized features."""
    known = normalizer({name: block[train] for name, block in blocks.items()})
    squared = np.einsum("nd,nd->n", known, known)
    nearest = np.empty(len(scored), dtype=np.int64)
    for start in range(0, len(scored), _CHUNK):
        part = scored[start : start + _CHUNK]
        rows = normalizer({name: block[part] for name, block in blocks.items()})
        nearest[start : start + _CHUNK] = labels[train[(squared - 2.0 * rows @ known.T).argmin(axis=1)]]
    return nearest
