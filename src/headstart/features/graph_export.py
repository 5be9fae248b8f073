"""Export torch modules to ONNX, compare them with torch, and cache each in a separate folder.

Each folder contains `graph.onnx` and a sidecar `graph.json` with its digest and size; if they do not match, the graph
is exported again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart.errors import CacheError
from headstart.features.engines import OnnxEngine
from headstart.utils.system import atomic_folder, private_folder

__all__ = ["OPSET", "TOLERANCE", "difference_of", "export", "make_atomically", "read_sidecar", "write_sidecar"]

TOLERANCE = 1e-4
"""Maximum difference between ONNX and torch outputs, relative to the largest value."""

OPSET = 18
"""Version of the standard operators; newer ones add nothing that the networks use, but need a newer runtime."""

Graph = TypeVar("Graph")


def export(module: Any, inputs: dict[str, Any], names: Sequence[str], path: Path, *, is_listed: bool = False) -> None:
    """Export a module to ONNX with a dynamic batch size, without printing anything.

    Args:
        module: Module in eval mode that returns a tuple of tensors.
        inputs: Example tensors with batch size 2, by input name.
        names: Output names.
        path: File to write.
        is_listed: Whether the signature of the module is `forward(*inputs)`.
    """
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    batch = torch.export.Dim("batch", min=1, max=65536)
    shapes = tuple({0: batch} for _ in inputs)
    with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(names),
            dynamic_shapes=(shapes,) if is_listed else shapes,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def difference_of(
    path: Path, inputs: dict[str, NDArray[np.float32]], names: Sequence[str], expected: Sequence[Any]
) -> float:
    """Return the maximum difference from torch, relative to the largest value; infinity if a shape differs.

    Args:
        path: ONNX file.
        inputs: Example inputs by name.
        names: Output names.
        expected: Torch outputs for the example.
    """
    outputs = OnnxEngine(str(path)).feed(inputs)
    worst = 0.0
    for name, value in zip(names, expected, strict=True):
        if outputs[name].shape != value.shape:
            return float("inf")
        worst = max(worst, float(np.abs(outputs[name] - value).max()) / max(float(np.abs(value).max()), 1e-6))
    return worst


def write_sidecar(path: Path, meta: dict[str, Any]) -> None:
    """Write the sidecar of a graph: `meta` with the digest and size of the graph."""
    sidecar = {
        **meta,
        "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size_bytes": path.stat().st_size,
    }
    (path.parent / "graph.json").write_text(json.dumps(sidecar, indent=1), encoding="utf-8")


def read_sidecar(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the path of the graph in a folder, and its sidecar.

    Raises:
        OSError, ValueError, KeyError, TypeError: A file is missing or damaged, or the two do not match.
    """
    meta: dict[str, Any] = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
    path = folder / "graph.onnx"
    if path.stat().st_size != meta["size_bytes"]:
        raise ValueError("the size of the graph does not match its sidecar")
    return str(path), meta


def make_atomically(
    folder: Path, find: Callable[[Path], Graph | None], make: Callable[[Path], None], what: str
) -> Graph:
    """Load a graph from its folder, or export it atomically if it is missing or damaged.

    Args:
        folder: Folder of the graph.
        find: Loads the graph from a folder; returns None if it is missing or damaged.
        make: Writes `graph.onnx` and its sidecar to a folder.
        what: Name of the graph in error messages.

    Raises:
        CacheError: The graph cannot be written or read back.
    """
    existing = find(folder)
    if existing is not None:
        return existing
    private_folder(folder.parent)
    try:
        with atomic_folder(folder) as temporary:
            make(temporary)
            if folder.is_dir() and find(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise CacheError(
            f"cannot write the exported {what} to `{folder.parent}` ({error.strerror or error}).",
            hint="free some disk space, or choose another folder: HEADSTART_CACHE=/some/folder",
        ) from error
    made = find(folder)
    if made is None:
        raise CacheError(f"cannot read the exported {what} from `{folder}`.", hint="headstart cache clear")
    return made
