"""Write the bundle of a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import BundleError
from headstart.export.bundle_writer import BundleContent, BundleGraph, check_bundle_folder, write_bundle
from headstart.messages.numbers import pluralize
from headstart.tasks.classify import NAME

if TYPE_CHECKING:
    from headstart.evaluation.decision_rules import PredictionSetRule
    from headstart.evaluation.ood import OodModel
    from headstart.probe.linear import LinearHead

__all__ = ["write_classifier_bundle"]


def write_classifier_bundle(
    folder: str | Path,
    graph: BundleGraph,
    class_names: Sequence[str],
    head: LinearHead | None = None,
    *,
    meta: Mapping[str, Any] | None = None,
    trained_on: Sequence[str] = (),
    ood: OodModel | None = None,
    prediction_sets: PredictionSetRule | None = None,
) -> Path:
    """Write the bundle of a classifier.

    Args:
        folder: The bundle folder; must be empty or not exist.
        graph: The network; frozen (see `assemble`), or with its own classifier and optionally an output `embedding`.
        class_names: Names in the order of the logits.
        head: The head, or None if the graph has its own classifier.
        meta: Additional values of `bundle.json`, JSON-able: `thresholds`, `score`, `strategy`, `weights_license` ...
        trained_on: sha256 of each training image, hex.
        ood: The OOD model; adds the output `residual_norm` if needed.
        prediction_sets: Thresholds of prediction sets.

    Returns:
        The folder.

    Raises:
        BundleError: Graph, head, image size and class names do not match, or the disk is full.
        UsageError: The folder is not empty.
        MissingExtraError: The training dependencies are not installed.
    """
    from headstart.export.assemble import assemble_direct, assemble_model

    check_bundle_folder(folder, meta)
    if not class_names:
        raise BundleError("there are no class names.")
    if head is not None and head.num_classes != len(class_names):
        raise BundleError(
            f"the head has {pluralize(head.num_classes, 'class', 'classes')}, but there are "
            f"{pluralize(len(class_names), 'name')}."
        )
    space = None
    if ood is not None and ood.mean is not None and ood.directions is not None:
        space = ood.mean, ood.directions, ood.columns
    if head is None and space is not None:
        raise ValueError("a network with its own classifier has no normalized rows for an OOD score")
    if head is None:
        model = assemble_direct(graph.path)
    else:
        model = assemble_model(graph.path, head, has_flip=graph.has_flip, space=space)
    fields = {
        "temperature": 1.0 if head is None else float(head.temperature),
        "head": None if head is None else head.normalizer.to_json(),
        "has_flip": graph.has_flip,
        "thresholds": {},
        "ood": None if ood is None else ood.rule.to_json(),
        "prediction_sets": None if prediction_sets is None else prediction_sets.to_json(),
    }
    content = BundleContent(NAME, graph, class_names, fields, meta or {}, trained_on, head)
    return write_bundle(folder, content, model)
