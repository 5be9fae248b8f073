"""Compute Grad-CAM attribution maps of the shown errors over all stages used by the head, without torch.

The gradient of the head with respect to the pooled features is analytic; multiplied with the mean-pooled feature maps
it is exactly Grad-CAM. The feature maps are outputs of the prediction graph. Maps with shuffled weights are the
control (Adebayo et al. 2018).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.errors import HeadstartError, MissingExtraError
from headstart.evaluation.metrics import softmax
from headstart.inference.bundle import Bundle, read_bundle
from headstart.preprocessing.image_spec import ImageError, ImageSpec, normalize, read_image
from headstart.probe.linear import LinearHead
from headstart.probe.normalize import Normalizer
from headstart.types.arrays import Blocks
from headstart.types.report import ReportFinding, ReportKind
from headstart.utils.dependencies import import_onnxruntime

__all__ = [
    "MAX_SIMILARITY",
    "AttributionMaps",
    "Mapper",
    "explain_images",
    "head_gradient",
    "mean_similarity",
    "paint",
    "paint_maps",
    "rank_correlation",
    "read_head",
]

MAX_SIMILARITY = 0.5
"""Mean rank correlation with the control above which maps are omitted."""

_BATCH = 8
_CONTROLS = 12  # images on which the control is computed
_SIDE = 144  # longer side of a painted map in pixels
_THROUGH = {"Reshape", "Flatten", "Squeeze", "Identity", "Cast", "Dropout"}
_POOLS = {"ReduceMean", "GlobalAveragePool", "AveragePool"}


def head_gradient(head: LinearHead, blocks: Blocks, class_ids: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Compute the gradient of the log-odds of a class with respect to the pooled features.

    Args:
        head: The head, `softmax(W n(x) + b)`.
        blocks: (N, D_b) pooled features by name.
        class_ids: (N,) classes; log-odds are against all other classes.

    Returns:
        (N, D_b) by name.
    """
    normalizer = head.normalizer
    rows = np.arange(len(class_ids))
    others = head.logits(blocks).astype(np.float64)
    others[rows, class_ids] = -np.inf
    direction = -softmax(others)  # (N, K): d log-odds / d logits
    direction[rows, class_ids] = 1.0
    weight = direction @ head.weight.astype(np.float64) / head.temperature  # (N, D)
    gradient: dict[str, NDArray[np.float64]] = {}
    start = 0
    for name, mean, scale, factor in zip(
        normalizer.names, normalizer.means, normalizer.scales, normalizer.weights, strict=True
    ):
        part = weight[:, start : start + len(mean)]
        start += len(mean)
        raw = (blocks[name].astype(np.float64) - mean) / scale
        z = np.clip(raw, -normalizer.clip, normalizer.clip)
        norm = np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
        unit = z / norm
        along = np.einsum("nd,nd->n", part, unit)[:, None]
        gradient[name] = np.where(np.abs(raw) < normalizer.clip, factor / norm * (part - along * unit), 0.0) / scale
    return gradient


@dataclass(frozen=True)
class Mapper:
    """A network that returns feature maps and pooled features.

    Attributes:
        session: The ONNX Runtime session; outputs are pairs (pooled, map) in the order of `names`.
        head: The head on the pooled features.
        names: Blocks with a feature map.
    """

    session: Any
    head: LinearHead
    names: tuple[str, ...]

    @classmethod
    def open(cls, model: bytes, head: LinearHead, *, is_control: bool = False, seed: int = 0) -> Mapper:
        """Add the feature maps of a bundle's model as outputs.

        Args:
            model: The bytes of `model.onnx`, whose pooled blocks carry the names of the head's blocks.
            head: The head in it.
            is_control: Whether to shuffle all weights within their tensors, in the network and the head.
            seed: Random seed of the shuffling.

        Raises:
            MissingExtraError: The `onnx` package is not installed.
            ValueError: No block of the head is a mean-pooled feature map.
        """
        try:
            import onnx
        except ImportError as error:
            raise MissingExtraError("attribution maps", "train") from error
        onnxruntime = import_onnxruntime()
        graph = onnx.load_model_from_string(model)
        names, outputs = [], []
        for name in head.normalizer.names:
            source = _map_of(graph, name)
            if source is not None:
                names.append(name)
                outputs += [name, source]
        if not names:
            raise ValueError("no block of the head is the mean of a map")
        del graph.graph.output[:]
        for output in dict.fromkeys([*outputs, *head.normalizer.names]):
            graph.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
        if is_control:
            rng = np.random.default_rng(seed)
            _shuffle(onnx, graph, rng)
            weight = rng.permuted(head.weight.ravel()).reshape(head.weight.shape)
            head = LinearHead(head.normalizer, weight, head.bias, head.temperature)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return cls(session, head, tuple(names))

    def maps(self, pixels: NDArray[np.float32], class_ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Compute the attribution map of a class for each image.

        Args:
            pixels: (N, 3, H, W) normalized.
            class_ids: (N,) classes.

        Returns:
            (N, h, w) non-negative, h and w of the finest map; zero without positive evidence.
        """
        outputs = [o.name for o in self.session.get_outputs()]
        values = dict(zip(outputs, self.session.run(outputs, {"pixels": pixels}), strict=True))
        sources = outputs[1 : 2 * len(self.names) : 2]
        gradient = head_gradient(self.head, {n: values[n] for n in self.head.normalizer.names}, class_ids)
        layers = [
            np.einsum("nd,ndhw->nhw", gradient[name], values[source].astype(np.float64))
            for name, source in zip(self.names, sources, strict=True)
        ]
        height, width = (max(layer.shape[axis] for layer in layers) for axis in (1, 2))
        total = np.zeros((len(class_ids), height, width))
        for layer in layers:
            total += _resize(layer - layer.mean(axis=(1, 2), keepdims=True), height, width)
        return np.maximum(total, 0.0)


@dataclass(frozen=True)
class AttributionMaps:
    """Attribution maps of a run.

    Attributes:
        blocks: Names of the feature maps.
        similarity: Mean rank correlation with the maps of the control.
        num_controls: Number of images of the control.
        maps: (h, w) float16 map by position of the image, relative to its maximum.
    """

    blocks: tuple[str, ...]
    similarity: float
    num_controls: int
    maps: Mapping[int, NDArray[np.float16]]

    @property
    def is_valid(self) -> bool:
        """Whether the maps depend on the trained weights."""
        return self.similarity < MAX_SIMILARITY


def explain_images(
    folder: Path, paths: Mapping[int, str | None], class_ids: Mapping[int, int]
) -> AttributionMaps | ReportFinding:
    """Return attribution maps of images, or the reason why there are none.

    Args:
        folder: The run folder.
        paths: File of each image by position; None where it is missing.
        class_ids: The class to explain by position.
    """
    if not paths:
        return ReportFinding(ReportKind.ATTRIBUTION_NOT_NEEDED)
    try:
        bundle = read_bundle(folder)
        head = read_head(bundle)
        mapper = Mapper.open(bundle.model, head)
        control = Mapper.open(bundle.model, head, is_control=True)
    except MissingExtraError:
        raise
    except (HeadstartError, ValueError, KeyError) as error:
        return ReportFinding(ReportKind.ATTRIBUTION_NOT_POSSIBLE, evidence={"detail": str(error)})
    images = {i: image for i, path in paths.items() if (image := _read(path, bundle.spec)) is not None}
    if not images:
        return ReportFinding(ReportKind.ATTRIBUTION_IMAGES_GONE)
    maps: dict[int, NDArray[np.float16]] = {}
    pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for part in (list(images)[start : start + _BATCH] for start in range(0, len(images), _BATCH)):
        pixels = normalize(np.stack([images[i] for i in part]), bundle.spec)
        ids = np.array([class_ids[i] for i in part], dtype=np.int64)
        found = mapper.maps(pixels, ids)
        if len(pairs) < _CONTROLS:
            pairs += list(zip(found, control.maps(pixels, ids), strict=True))
        relative = found / np.maximum(found.max(axis=(1, 2), keepdims=True), 1e-12)
        maps |= dict(zip(part, relative.astype(np.float16), strict=True))
    similarity = mean_similarity([a for a, _ in pairs], [b for _, b in pairs])
    return AttributionMaps(mapper.names, similarity, len(pairs), maps)


def paint_maps(maps: AttributionMaps, paths: Mapping[int, str | None], spec: ImageSpec) -> dict[int, bytes]:
    """Return the maps over their images as JPEG bytes by position, without unreadable images."""
    images = {i: _read(paths.get(i), spec) for i in maps.maps} if maps.is_valid else {}
    return {i: paint(image, maps.maps[i]) for i, image in images.items() if image is not None}


def _read(path: str | None, spec: ImageSpec) -> NDArray[np.uint8] | None:
    """Return the preprocessed image; None where it is missing or unreadable."""
    try:
        return None if path is None else read_image(path, spec)
    except ImageError:
        return None


def read_head(bundle: Bundle) -> LinearHead:
    """Read the head of a bundle from `model.safetensors`.

    Raises:
        ValueError: The bundle has no separate head.
    """
    if not bundle.info.get("head"):
        raise ValueError("the network ends in its own classifier")
    tensors = bundle.weights()
    normalizer = Normalizer.from_json(
        bundle.info["head"], {"mean": tensors["head.mean"], "scale": tensors["head.scale"]}
    )
    return LinearHead(normalizer, tensors["head.weight"], tensors["head.bias"], bundle.temperature)


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Compute Spearman's rank correlation of two maps; 0 if one of them is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    ranks = [np.argsort(np.argsort(v.ravel(), kind="stable"), kind="stable").astype(np.float64) for v in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def paint(image: NDArray[np.uint8], attribution: NDArray[Any], side: int = _SIDE) -> bytes:
    """Draw the map over its grayscale image as a JPEG, from dark red to yellow.

    Args:
        image: (H, W, 3) uint8, preprocessed.
        attribution: (h, w) non-negative.
        side: Longer side of the result in pixels.
    """
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    gray = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR).convert("L"), dtype=np.float64)
    heat = _resize(attribution[None].astype(np.float64), size[1], size[0])[0]
    heat /= max(float(heat.max()), 1e-12)
    color = np.stack([np.minimum(1, 0.4 + 0.9 * heat), np.clip(1.5 * heat - 0.4, 0, 1), 0 * heat], axis=-1)
    strength = (0.75 * np.sqrt(heat))[..., None]
    mixed = (1 - strength) * (0.8 * gray[..., None]) + strength * 255 * color
    out = io.BytesIO()
    Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=78)
    return out.getvalue()


def _map_of(model: Any, name: str) -> str | None:
    """Return the tensor whose mean over height and width is the output `name`, or None."""
    makers = {output: node for node in model.graph.node for output in node.output}
    node = makers.get(name)
    while node is not None and node.op_type in _THROUGH:
        node = makers.get(node.input[0])
    return str(node.input[0]) if node is not None and node.op_type in _POOLS else None


def _shuffle(onnx: Any, model: Any, rng: np.random.Generator) -> None:
    """Shuffle the values of every kernel and matrix within its tensor."""
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim >= 2 and values.dtype == np.float32:
            shuffled = rng.permuted(values.ravel()).reshape(values.shape)
            tensor.CopyFrom(onnx.numpy_helper.from_array(shuffled, tensor.name))


def _resize(maps: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Resize (N, h, w) to (N, height, width), bilinear with aligned pixel centers."""
    images = [Image.fromarray(one.astype(np.float32)) for one in maps]
    return np.stack([np.asarray(i.resize((width, height), Image.Resampling.BILINEAR), np.float64) for i in images])


def mean_similarity(a: Sequence[NDArray[np.float64]], b: Sequence[NDArray[np.float64]]) -> float:
    """Compute the mean rank correlation of pairs of maps; 0 without pairs."""
    return float(np.mean([rank_correlation(x, y) for x, y in zip(a, b, strict=True)])) if len(a) else 0.0
