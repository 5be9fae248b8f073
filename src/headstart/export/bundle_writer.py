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
from headstart.preprocessing.image_spec import ImageSpec
from headstart.utils.dependencies import import_onnxruntime
from headstart.utils.system import atomic_file, atomic_folder, available_cores

if TYPE_CHECKING:
    from headstart.probe.linear import LinearHead

__all__ = ["BundleContent", "BundleGraph", "amend_bundle", "check_bundle_folder", "write_bundle"]

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


@dataclass(frozen=True, slots=True)
class BundleContent:
    """What every bundle holds.

    Attributes:
        task: Name of the task.
        graph: The network.
        class_names: Names in the order of the logits; empty for a task without classes.
        fields: Values of `bundle.json` that the decoder of the task needs, JSON-able.
        meta: Further values, JSON-able: `score`, `strategy`, `weights_license` ...
        trained_on: sha256 of each training image, hex.
        head: The linear head, whose weights are kept for further training; None if it is in the graph.
    """

    task: str
    graph: BundleGraph
    class_names: Sequence[str] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    trained_on: Sequence[str] = ()
    head: LinearHead | None = None


def check_bundle_folder(folder: str | Path, meta: Mapping[str, Any] | None = None) -> None:
    """Check folder and additional values before anything is computed; bundles are never overwritten.

    Raises:
        UsageError: The folder is not empty.
    """
    if _RESERVED & set(meta or {}):
        raise ValueError(f"meta must not contain {sorted(_RESERVED & set(meta or {}))}")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"`{folder}` already exists and is not overwritten.", hint="use another folder")


def write_bundle(folder: str | Path, content: BundleContent, model: bytes) -> Path:
    """Check a model and write its bundle.

    Args:
        folder: The bundle folder; must be empty or not exist.
        content: What `bundle.json` holds.
        model: ONNX bytes: `pixels` (B, 3, H, W) float32 to the outputs that the decoder of the task needs.

    Returns:
        The folder.

    Raises:
        BundleError: Model, image size and class names do not match, or the disk is full.
        UsageError: The folder is not empty.
        MissingExtraError: The training dependencies are not installed.
    """
    check_bundle_folder(folder, content.meta)
    if len(set(content.class_names)) != len(content.class_names):
        raise BundleError("a class name is duplicated.")
    info = {**_bundle_info(content, model), **content.meta}
    weights = _weights_file(content.graph.path, content.head)
    return _write_files(Path(folder), info, model=model, weights=weights, trained_on=content.trained_on)


def _bundle_info(content: BundleContent, model: bytes) -> dict[str, Any]:
    """Check the model and return `bundle.json` without the list of files."""
    graph, spec = content.graph, content.graph.spec
    session = open_session(model, available_cores())
    check_session(session, spec.size_hw, len(content.class_names), has_boxes="decoding" in content.fields)
    return {
        "schema": SCHEMA,
        "created_by": f"headstart {__version__}",
        "made_with": _versions(),
        "task": content.task,
        "class_names": list(content.class_names),
        "pixels": spec.to_json(),
        "input": {"name": "pixels", "type": "float32", "shape": ["B", 3, *spec.size_hw]},
        "outputs": {output.name: ["B", *output.shape[1:]] for output in session.get_outputs()},
        "temperature": 1.0,
        **content.fields,
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
