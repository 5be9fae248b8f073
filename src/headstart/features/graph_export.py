"""Export a torch module to ONNX, compare it with torch, and store it in a folder of its own.

A folder holds `graph.onnx` and a sidecar `graph.json` with its digest and size; if they do not match, the graph is
exported again.
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

__all__ = ["TOLERANCE", "difference_of", "export", "make_atomically", "read_sidecar", "write_sidecar"]

TOLERANCE = 1e-4
"""Maximum difference of a graph from torch, relative to the largest value."""

Graph = TypeVar("Graph")


def export(module: Any, inputs: dict[str, Any], names: Sequence[str], path: Path, *, is_listed: bool = False) -> None:
    """Export the graph of a module for any batch size, without output.

    Args:
        module: In evaluation mode; returns a tuple of tensors.
        inputs: An example tensor of two images by the name of each input.
        names: Names of the outputs.
        path: The file to write.
        is_listed: Whether the module takes its inputs as `*inputs`.
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
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def difference_of(
    path: Path, inputs: dict[str, NDArray[np.float32]], names: Sequence[str], expected: Sequence[Any]
) -> float:
    """Return the largest difference of a graph from torch, relative to the largest value; infinite for other shapes.

    Args:
        path: The graph.
        inputs: An example.
        names: Names of its outputs.
        expected: Outputs of torch for the example.
    """
    got = OnnxEngine(str(path)).feed(inputs)
    worst = 0.0
    for name, value in zip(names, expected, strict=True):
        if got[name].shape != value.shape:
            return float("inf")
        worst = max(worst, float(np.abs(got[name] - value).max()) / max(float(np.abs(value).max()), 1e-6))
    return worst


def write_sidecar(path: Path, meta: dict[str, Any]) -> None:
    """Write the sidecar of a graph; its digest and size are added."""
    whole = {
        **meta,
        "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size_bytes": path.stat().st_size,
    }
    (path.parent / "graph.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")


def read_sidecar(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the graph file of a folder and its sidecar.

    Raises:
        OSError, ValueError, KeyError, TypeError: One of them is missing or damaged, or they do not match.
    """
    meta: dict[str, Any] = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
    path = folder / "graph.onnx"
    if path.stat().st_size != meta["size_bytes"]:
        raise ValueError("the size of the graph does not match its sidecar")
    return str(path), meta


def make_atomically(
    folder: Path, find: Callable[[Path], Graph | None], make: Callable[[Path], None], what: str
) -> Graph:
    """Load a graph from its folder, or create it there; an unusable one is replaced.

    Args:
        folder: Folder of the graph.
        find: Loads it; None if it is missing or damaged.
        make: Writes `graph.onnx` and its sidecar into the given folder.
        what: Its name in errors.

    Raises:
        CacheError: The graph cannot be written.
    """
    found = find(folder)
    if found is not None:
        return found
    private_folder(folder.parent)
    try:
        with atomic_folder(folder) as temporary:
            make(temporary)
            if folder.is_dir() and find(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise CacheError(
            f"cannot write the prepared {what} to `{folder.parent}` ({error.strerror or error}).",
            hint="free some disk space, or choose another folder: HEADSTART_CACHE=/some/folder",
        ) from error
    made = find(folder)
    if made is None:
        raise CacheError(f"cannot read back the prepared {what} in `{folder}`.", hint="headstart cache clear")
    return made
