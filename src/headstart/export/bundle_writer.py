"""Write bundles atomically: all files are created in memory and moved into place in one step."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart._version import __version__
from headstart.errors import BundleError, MissingExtraError, UsageError
from headstart.inference.bundle_members import DIGEST_LENGTH, INFO, MODEL, SCHEMA, TRAINED_ON, WEIGHTS
from headstart.inference.session import check_session, measure_latency, open_session
from headstart.messages.numbers import pluralize
from headstart.preprocessing.image_spec import ImageSpec
from headstart.utils.dependencies import import_onnxruntime
from headstart.utils.system import atomic_file, atomic_folder, available_cores

if TYPE_CHECKING:
    from headstart.detection.decoding import DecodingSettings
    from headstart.evaluation.decision_rules import PredictionSetRule
    from headstart.evaluation.ood import OodModel
    from headstart.probe.linear import LinearHead

__all__ = ["BundleGraph", "amend_bundle", "write_bundle", "write_detector_bundle"]

_RESERVED = {"schema", "class_names", "pixels", "temperature", "files", "created_by", "input", "outputs", "head",
             "ood", "prediction_sets"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BundleGraph:
    """The network of a bundle.

    Attributes:
        path: ONNX file: `pixels` (B, 3, H, W) to pooled stages, to `logits` (B, K), or for a detector to `logits`
            (B, P, K) and `boxes` (B, P, 4) in input pixels.
        spec: The preprocessing specification.
        card: The card of the backbone, JSON-able: `name`, `license`, `source`, `digest` ...; kept as `backbone`.
        has_flip: Whether features are averaged over the image and its horizontal flip.
    """

    path: str | Path
    spec: ImageSpec
    card: Mapping[str, Any] = field(default_factory=dict)
    has_flip: bool = False


def write_bundle(
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

    _check_names(folder, class_names, meta)
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
    info = _bundle_info("classify", graph, class_names, model, fields)
    weights = _weights_file(graph.path, head)
    return _write_files(Path(folder), {**info, **(meta or {})}, model=model, weights=weights, trained_on=trained_on)


def write_detector_bundle(
    folder: str | Path,
    graph: BundleGraph,
    class_names: Sequence[str],
    decoding: DecodingSettings,
    *,
    thresholds: Mapping[str, Any],
    meta: Mapping[str, Any] | None = None,
    trained_on: Sequence[str] = (),
) -> Path:
    """Write the bundle of a detector; scores in the graph are raw, and the decoding settings calibrate them.

    Args:
        folder, graph, class_names, meta, trained_on: As in `write_bundle`.
        decoding: Decoding and NMS settings.
        thresholds: `per_class`: threshold of the best F1 by class; `chosen_on`: `val`, `cv` or `test`, and its
            protocol.

    Raises:
        BundleError: Graph, image size and class names do not match, or the disk is full.
        UsageError: The folder is not empty.
    """
    from headstart.export.assemble import assemble_detector

    _check_names(folder, class_names, meta)
    model = assemble_detector(graph.path)
    fields = {"temperature": 1.0, "decoding": decoding.to_json(), "thresholds": dict(thresholds)}
    info = _bundle_info("detect", graph, class_names, model, fields)
    weights = _weights_file(graph.path, None)
    return _write_files(Path(folder), {**info, **(meta or {})}, model=model, weights=weights, trained_on=trained_on)


def _check_names(folder: str | Path, class_names: Sequence[str], meta: Mapping[str, Any] | None) -> None:
    """Check folder, class names and additional values before anything is computed; bundles are never overwritten."""
    if _RESERVED & set(meta or {}):
        raise ValueError(f"meta must not contain {sorted(_RESERVED & set(meta or {}))}")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"`{folder}` already exists and is not overwritten.", hint="use another folder")
    if not class_names or len(set(class_names)) != len(class_names):
        raise BundleError("there are no class names, or one of them is duplicated.")


def _bundle_info(
    task: str, graph: BundleGraph, class_names: Sequence[str], model: bytes, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Check the model and return `bundle.json` without the list of files; `fields` are those of the task."""
    spec = graph.spec
    session = open_session(model, available_cores())
    check_session(session, spec.size_hw, len(class_names), task)
    return {
        "schema": SCHEMA,
        "created_by": f"headstart {__version__}",
        "made_with": _versions(),
        "task": task,
        "class_names": list(class_names),
        "pixels": spec.to_json(),
        "input": {"name": "pixels", "type": "float32", "shape": ["B", 3, *spec.size_hw]},
        "outputs": {output.name: ["B", *output.shape[1:]] for output in session.get_outputs()},
        **fields,
        "score": None,
        "backbone": dict(graph.card),
        "weights_license": graph.card.get("license"),
        "latency": measure_latency(session, spec.size_hw, available_cores()),
    }


def _write_files(
    folder: Path, info: Mapping[str, Any], *, model: bytes, weights: bytes, trained_on: Sequence[str]
) -> Path:
    """Write the files of a bundle atomically, with sizes and digests in `bundle.json`.

    Raises:
        BundleError: The files cannot be written.
    """
    contents = {MODEL: model, WEIGHTS: weights}
    if trained_on:
        kept = sorted({digest[:DIGEST_LENGTH] for digest in trained_on})
        contents[TRAINED_ON] = "".join(f"{digest}\n" for digest in kept).encode("ascii")
    files = {n: {"size_bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in contents.items()}
    contents[INFO] = _dump({**info, "files": files})
    _write_atomically(folder, contents)
    return folder


def amend_bundle(folder: str | Path, **changes: Any) -> None:
    """Replace values of `bundle.json` atomically, e.g. `parity` or `score`.

    Raises:
        BundleError: The file cannot be written.
    """
    if _RESERVED & set(changes):
        raise ValueError(f"these values cannot be changed: {sorted(_RESERVED & set(changes))}")
    path = Path(folder) / INFO
    try:
        info = json.loads(path.read_text(encoding="utf-8")) | changes
        with atomic_file(path) as temporary:
            temporary.write_bytes(_dump(info))
    except OSError as error:
        raise _unwritable(path, error) from error


def _write_atomically(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Move the files into place in one step; remove leftovers of killed writers."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        if folder.is_dir():
            folder.rmdir()
        with atomic_folder(folder) as temporary:
            for name, data in contents.items():
                (temporary / name).write_bytes(data)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _weights_file(graph_path: str | Path, head: LinearHead | None) -> bytes:
    """Return the head without temperature and the network, for further training."""
    import numpy as np

    try:
        from safetensors.numpy import save
    except ImportError as error:
        raise MissingExtraError("writing a bundle", "train") from error
    from headstart.export.assemble import graph_weights

    tensors = {f"backbone.{name}": value for name, value in graph_weights(graph_path).items()}
    if head is not None:
        arrays = {"weight": head.weight, "bias": head.bias, **head.normalizer.arrays()}
        tensors |= {f"head.{name}": value for name, value in arrays.items()}
    return bytes(save({name: np.ascontiguousarray(value) for name, value in tensors.items()}))


def _versions() -> dict[str, str]:
    """Return the versions of libraries that affect numerical results."""
    import numpy
    import PIL

    return {"onnxruntime": import_onnxruntime().__version__, "pillow": PIL.__version__, "numpy": numpy.__version__}


def _dump(info: Mapping[str, Any]) -> bytes:
    return (json.dumps(info, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def _unwritable(path: Path, error: OSError) -> BundleError:
    return BundleError(
        f"cannot write the bundle `{path}` ({error.strerror or error}).",
        hint="free some disk space, or use another folder with --out",
    )
