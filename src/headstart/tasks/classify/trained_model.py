"""Score a trained classifier, save it as a bundle, and verify the bundle."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.head_evaluation import HeadEvaluation, ModelLogits, evaluate_head, with_leaking
from headstart.evaluation.uncertainty import (
    UncertaintyModel,
    UncertaintyTargets,
    fit_finetuned_uncertainty,
    fit_probe_uncertainty,
)
from headstart.events import EventStream
from headstart.export.bundle_writer import BundleGraph, amend_bundle
from headstart.export.parity import check_parity
from headstart.features.extractor import averaged_blocks
from headstart.inference.bundle import read_bundle
from headstart.inference.runtime import Runtime
from headstart.probe.linear import LinearHead
from headstart.tasks.classify.bundle import write_classifier_bundle
from headstart.training.fitted_probe import FittedProbe
from headstart.training.plan import FinetunePlan
from headstart.training.probe_comparison import ProbeComparison
from headstart.types.codes import EvaluationSetup, JsonValue
from headstart.types.records import Features

__all__ = [
    "FinetuneOutcome",
    "ScoredModel",
    "TrainedModel",
    "evaluate_model",
    "fit_uncertainty",
    "probe_model",
    "save_bundle",
    "verify_bundle",
]


@dataclass(frozen=True)
class TrainedModel:
    """A trained classifier: the probe, or a fine-tuned network.

    Attributes:
        graph_path: The network as ONNX.
        head: The linear head; None where it is inside the graph.
        features: Features of all samples from the network.
        logits: Logits of all samples.
        leaking_logits: (L, K) of the images excluded from the test split.
        plan: The training plan; None for the probe.
        setup: Evaluation setup of the out-of-fold logits of a fine-tuned network.
        hidden_head: Description of a head with hidden layers, which is inside the graph.
    """

    graph_path: str | Path
    head: LinearHead | None
    features: Features
    logits: ModelLogits
    leaking_logits: NDArray[np.float32]
    plan: FinetunePlan | None = None
    setup: EvaluationSetup | None = None
    hidden_head: dict[str, Any] | None = None

    @property
    def strategy(self) -> str:
        """Return the strategy: `probe`, `head`, `finetune`, `full` or `scratch`."""
        return "probe" if self.plan is None else self.plan.strategy

    def frozen_blocks(self) -> list[str]:
        """Return the blocks of the head's features that come from frozen stages."""
        if self.head is None or self.plan is None or self.strategy in ("full", "scratch"):
            return []
        names = self.head.normalizer.names
        if self.strategy == "head":
            return list(names)
        if self.plan.train_from == "neck":
            return [n for n in names if n.startswith("stage")]
        stage = re.fullmatch(r"stage(\d+)", self.plan.train_from)
        numbers = {n: re.fullmatch(r"stage(\d+)", n) for n in names}
        return [n for n, m in numbers.items() if m and stage and int(m[1]) < int(stage[1])]

    def bundle_meta(self) -> dict[str, Any]:
        """Return what `bundle.json` holds about the training."""
        if self.plan is None:
            return {"strategy": "probe"}
        return {
            "strategy": self.strategy,
            "freeze": {"head": "all", "finetune": self.plan.train_from}.get(self.strategy, "none"),
            "head_spec": self.plan.head or None,
            "head_beside": self.hidden_head,
        }


@dataclass(frozen=True)
class FinetuneOutcome:
    """Result of fine-tuning.

    Attributes:
        model: The fine-tuned network; None keeps the probe.
        comparison: Its comparison with the probe; None where nothing was trained to the end.
        epochs: Rows of `results.csv`.
    """

    model: TrainedModel | None = None
    comparison: ProbeComparison | None = None
    epochs: Sequence[Mapping[str, str]] = ()

    def to_json(self) -> dict[str, JsonValue] | None:
        """Return the section `finetune` of `metrics.json`."""
        if self.comparison is None:
            return None
        plan = self.model.plan if self.model is not None else None
        return {**({"plan": plan.to_json()} if plan else {}), "verdict": self.comparison.to_json()}


@dataclass(frozen=True)
class ScoredModel:
    """A trained classifier with its scores."""

    model: TrainedModel
    evaluation: HeadEvaluation
    uncertainty: UncertaintyModel


def probe_model(probe: FittedProbe, events: EventStream) -> TrainedModel:
    """Return the probe as a trained model."""
    data, head, embedder = probe.data, probe.fit.head, probe.embedder
    leaking = data.leaking_features.blocks
    if probe.has_flip_tta and len(data.leaking):
        flipped = embedder.embed(data.leaking.paths, data.leaking.names, events, is_flipped=True).features
        leaking = averaged_blocks(leaking, flipped.blocks)
    return TrainedModel(
        embedder.graph.path,
        head,
        data.features,
        ModelLogits.of_probe(data.features, data.split, probe.fit),
        head.logits(leaking),
    )


def evaluate_model(model: TrainedModel, probe: FittedProbe, *, seed: int) -> HeadEvaluation:
    """Score a model on every split; the probe gives the baselines."""
    data = probe.data
    evaluation = evaluate_head(
        data.samples,
        data.features,
        data.split,
        probe.fit,
        logits=model.logits,
        setup=model.setup,
        positive=probe.positive,
        seed=seed,
    )
    return with_leaking(evaluation, data.samples, data.split, data.leaking, model.leaking_logits)


def fit_uncertainty(model: TrainedModel, probe: FittedProbe, targets: UncertaintyTargets) -> UncertaintyModel:
    """Fit the OOD score and the prediction sets of a model."""
    data = probe.data
    if model.plan is None:
        return fit_probe_uncertainty(data.samples, data.features, data.split, probe.fit, model.logits, targets)
    # Features of a network from random weights hardly differ, so distances between them carry no information.
    head = None if model.strategy == "scratch" else model.head
    return fit_finetuned_uncertainty(
        data.samples, model.features, data.split, head, model.logits, targets, frozen=model.frozen_blocks()
    )


def save_bundle(folder: Path, scored: ScoredModel, probe: FittedProbe, reading: Mapping[str, Any]) -> None:
    """Write the bundle of a model into a folder, with the options by which its images were read."""
    model, evaluation, uncertainty = scored.model, scored.evaluation, scored.uncertainty
    embedder, has_flip = probe.embedder, model.plan is None and probe.has_flip_tta
    write_classifier_bundle(
        folder,
        BundleGraph(model.graph_path, embedder.spec, embedder.graph.card, has_flip),
        probe.data.samples.class_names,
        model.head,
        meta={
            "score": evaluation.headline_score(),
            "positive": evaluation.positive,
            **({"reading": dict(reading)} if reading else {}),
            **model.bundle_meta(),
        },
        trained_on=[model.features.digests[i] for i in probe.data.train],
        ood=uncertainty.ood,
        prediction_sets=uncertainty.sets.rule,
    )


def verify_bundle(
    folder: Path, scored: ScoredModel, probe: FittedProbe, *, num_threads: int | None, seed: int
) -> dict[str, Any]:
    """Predict the run's images with its bundle and compare with the training outputs; a mismatch fails the run.

    Returns:
        The differences as JSON values; also stored in the bundle.
    """
    paths = probe.data.samples.paths
    order = np.random.default_rng(seed).permutation(len(paths))
    parity = check_parity(
        Runtime(read_bundle(folder), num_threads=num_threads),
        [paths[i] for i in order],
        scored.model.logits.final[order],
        expected_ood_scores=scored.uncertainty.final[order],
    ).to_json()
    amend_bundle(folder / "bundle", parity=parity)
    return parity
