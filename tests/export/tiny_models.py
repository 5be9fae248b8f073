"""Provide tiny networks, heads and images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from PIL import Image

from headstart.preprocessing.image_spec import ImageSpec
from headstart.probe.linear import LinearHead
from headstart.probe.normalize import fit_normalizer

WIDTHS = {"stage1": 5, "stage2": 7, "embedding": 11}
SPEC = ImageSpec(size_hw=(24, 32), crop_fraction=0.9, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
CLASSES = ("ant", "=1+1", "<script>alert(1)</script>", "Käfer/Ω")


def make_graph(path: Path, widths: dict[str, int] | None = None, size_hw: tuple[int, int] = (24, 32)) -> Path:
    """Export a random convolutional network with one pooled layer per block."""
    widths = widths or WIDTHS
    rng = np.random.default_rng(0)
    nodes, weights, outputs, source, channels = [], [], [], "pixels", 3
    for name, width in widths.items():
        kernel = (rng.normal(size=(width, channels, 3, 3)) / np.sqrt(9 * channels)).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(kernel, f"{name}.weight"))
        nodes += [
            onnx.helper.make_node("Conv", [source, f"{name}.weight"], [f"{name}.map"], strides=[2, 2], pads=[1] * 4),
            onnx.helper.make_node("Relu", [f"{name}.map"], [f"{name}.relu"]),
            onnx.helper.make_node("ReduceMean", [f"{name}.relu", "axes"], [name], keepdims=0),
        ]
        outputs.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B", width]))
        source, channels = f"{name}.relu", width
    weights.append(onnx.numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "axes"))
    pixels = onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["B", 3, *size_hw])
    graph = onnx.helper.make_graph(nodes, "tiny", [pixels], outputs, weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))
    return path


def make_head(
    widths: dict[str, int] | None = None, num_classes: int = len(CLASSES), temperature: float = 0.3
) -> LinearHead:
    """Return a random head on the given blocks."""
    rng = np.random.default_rng(1)
    blocks = {name: rng.random((40, width), dtype=np.float32) for name, width in (widths or WIDTHS).items()}
    norm = fit_normalizer(blocks)
    norm = norm.restrict(norm.names, tuple(0.5 + i for i in range(len(norm.names))))
    weight = rng.normal(size=(num_classes, norm.num_features)).astype(np.float32)
    return LinearHead(norm, weight, rng.normal(size=num_classes).astype(np.float32), temperature)


def image(seed: int, size: tuple[int, int] = (60, 45)) -> Image.Image:
    """Return a smooth random color image of that width and height."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
