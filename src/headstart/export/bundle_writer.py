"""Write bundles atomically: all files are created in memory and moved into place in one step."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
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
    from headstart.evaluation.decision_rules import PredictionSetRule
    from headstart.evaluation.ood import OodModel
    from headstart.probe.linear import LinearHead

__all__ = ["amend_bundle", "make_direct_bundle", "write_bundle"]

_RESERVED = {"schema", "class_names", "pixels", "temperature", "files", "created_by", "input", "outputs", "head",
             "ood", "prediction_sets"}  # fmt: skip


def write_bundle(
    folder: str | Path,
    *,
    graph_path: str | Path,
    graph_meta: Mapping[str, Any] | None = None,
    head: LinearHead | None,
    spec: ImageSpec,
    class_names: Sequence[str],
    meta: Mapping[str, Any] | None = None,
    has_flip: bool = False,
    trained_on: Sequence[str] = (),
    ood: OodModel | None = None,
    prediction_sets: PredictionSetRule | None = None,
) -> Path:
    """Write a bundle.

    Args:
        folder: The bundle folder; must be empty or not exist.
        graph_path: The frozen network (see `assemble`).
        graph_meta: The network's card, JSON-able: `name`, `license`, `source`, `digest` ...; kept as `backbone`.
        head: The head, or None if the graph has its own classifier (output `logits`).
        spec: The preprocessing specification.
        class_names: Names in the order of the logits.
        meta: Additional values of `bundle.json`, JSON-able: `thresholds`, `score`, `strategy`, `weights_license` ...
        has_flip: Whether features are averaged over the image and its horizontal flip.
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

    folder = Path(folder)
    extra = dict(meta or {})
    if _RESERVED & set(extra):
        raise ValueError(f"meta must not contain {sorted(_RESERVED & set(extra))}")
    refuse_nonempty(folder)
    if not class_names or len(set(class_names)) != len(class_names):
        raise BundleError("there are no class names, or one of them is duplicated.")
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
        model = assemble_direct(graph_path)
    else:
        model = assemble_model(graph_path, head, has_flip=has_flip, space=space)
    session = open_session(model, available_cores())
    check_session(session, spec.size_hw, len(class_names))
    info = {
        **first_fields("classify", class_names, spec, session),
        "temperature": 1.0 if head is None else float(head.temperature),
        "head": None if head is None else head.normalizer.to_json(),
        "has_flip": has_flip,
        "thresholds": {},
        "ood": None if ood is None else ood.rule.to_json(),
        "prediction_sets": None if prediction_sets is None else prediction_sets.to_json(),
        **last_fields(graph_meta or {}, spec, session),
        **extra,
    }
    write_bundle_files(folder, info, model=model, weights=weights_file(graph_path, head), trained_on=trained_on)
    return folder


def refuse_nonempty(folder: Path) -> None:
    """Raise an error if the folder is not empty: bundles are never overwritten.

    Raises:
        UsageError: The folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"`{folder}` already exists and is not overwritten.", hint="use another folder")


def first_fields(task: str, class_names: Sequence[str], spec: ImageSpec, session: Any) -> dict[str, Any]:
    """Return the first fields of `bundle.json`, common to all tasks."""
    return {
        "schema": SCHEMA,
        "created_by": f"headstart {__version__}",
        "made_with": _versions(),
        "task": task,
        "class_names": list(class_names),
        "pixels": spec.to_json(),
        "input": {"name": "pixels", "type": "float32", "shape": ["B", 3, *spec.size_hw]},
        "outputs": {output.name: ["B", *output.shape[1:]] for output in session.get_outputs()},
    }


def last_fields(card: Mapping[str, Any], spec: ImageSpec, session: Any) -> dict[str, Any]:
    """Return the last fields of `bundle.json`: score, network and latency."""
    return {
        "score": None,
        "backbone": dict(card),
        "weights_license": card.get("license"),
        "latency": measure_latency(session, spec.size_hw, available_cores()),
    }


def write_bundle_files(
    folder: Path, info: Mapping[str, Any], *, model: bytes, weights: bytes, trained_on: Sequence[str]
) -> None:
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


def make_direct_bundle(
    folder: str | Path,
    *,
    graph_path: str | Path,
    graph_meta: Mapping[str, Any] | None = None,
    spec: ImageSpec,
    class_names: Sequence[str],
    meta: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bundle of a network with its own classifier, e.g. the 1,000 classes of ImageNet.

    The arguments are those of `write_bundle`; the graph has an output `logits` (B, K) and optionally `embedding`.
    """
    return write_bundle(
        folder, graph_path=graph_path, graph_meta=graph_meta, head=None, spec=spec, class_names=class_names, meta=meta
    )


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


def weights_file(graph_path: str | Path, head: LinearHead | None) -> bytes:
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
