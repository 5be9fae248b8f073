"""Run frozen graphs: ONNX Runtime on the CPU, torch on a GPU.

On the CPU every worker thread runs whole batches in a single-threaded session instead of one session using all cores.
Decoding and the network then share the cores without waiting for each other, which is faster than one parallel
session fed by decoders (`benchmarks/bench_pipeline.py`).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headstart.utils.dependencies import import_onnxruntime

__all__ = ["BATCH", "Engine", "FlippedEngine", "OnnxEngine", "TorchEngine"]

BATCH = 8
"""Images per batch: larger batches are not faster on a CPU and cost memory."""


class Engine(Protocol):
    """Map pixels to pooled blocks; called from several threads."""

    def run(self, pixels: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Map (B, 3, H, W) normalized pixels to one (B, D) array per block."""
        ...


class FlippedEngine:
    """An engine on horizontally flipped images.

    Args:
        engine: The engine for images as they are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, pixels: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """See `Engine`."""
        return self._engine.run(np.ascontiguousarray(pixels[..., ::-1]))


class OnnxEngine:
    """ONNX Runtime with one thread per call; calls run in parallel.

    Args:
        path: The graph file.
    """

    def __init__(self, path: str) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.blocks = tuple(output.name for output in self._session.get_outputs())

    def run(self, pixels: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """See `Engine`."""
        return self.feed({"pixels": pixels})

    def feed(self, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Return the outputs of a graph with any inputs."""
        return dict(zip(self.blocks, self._session.run(None, inputs), strict=True))


class TorchEngine:
    """The same network in torch, for a GPU or any other device.

    Args:
        module: Returns one (B, D) tensor per block.
        blocks: Their names.
        device: A torch device, e.g. `cuda`, `mps`, `cpu`.
    """

    def __init__(self, module: Any, blocks: tuple[str, ...], device: str) -> None:
        import torch

        self._torch = torch
        self._device = torch.device(device)
        self._module = module.to(self._device, memory_format=torch.channels_last).eval()
        self.blocks = blocks

    def run(self, pixels: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """See `Engine`."""
        torch = self._torch
        with torch.inference_mode():
            batch = torch.from_numpy(pixels).to(self._device, memory_format=torch.channels_last)
            outputs = self._module(batch)
        return {n: o.float().cpu().numpy() for n, o in zip(self.blocks, outputs, strict=True)}
