"""Test that the program and formulas of docs/bundle.md match the runtime."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import PIL
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from headstart.api.model import Detector, Model
from headstart.detection.box_sizes import BoxSizes
from headstart.detection.decoding import DecodingSettings
from headstart.evaluation.conformal import fit_prediction_sets
from headstart.evaluation.ood import fit_ood_model
from headstart.export.bundle_writer import BundleGraph
from headstart.export.parity import DetectorParity
from headstart.inference.bundle import read_bundle
from headstart.inference.runtime import Runtime
from headstart.preprocessing.image_spec import ImageSpec
from headstart.probe.linear import LinearHead
from headstart.probe.normalize import fit_normalizer
from headstart.tasks.classify.bundle import write_classifier_bundle
from headstart.tasks.detect.bundle import write_detector_bundle

PAGE = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")
PROGRAM, DETECTOR_PROGRAM = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
HW = (20, 28)

SPECS = {
    "crop": ImageSpec(size_hw=HW, resize_mode="crop", crop_fraction=0.8),
    "crop-whole": ImageSpec(size_hw=HW, resize_mode="crop", crop_fraction=1.0, interpolation="bilinear"),
    "cover": ImageSpec(
        size_hw=HW, resize_mode="cover", interpolation="lanczos", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)
    ),
    "squash": ImageSpec(size_hw=HW, resize_mode="squash", interpolation="nearest"),
    "pad": ImageSpec(size_hw=HW, resize_mode="pad", background=(9, 200, 31), intensity_range=(100.0, 3000.0)),
    "no-draft": ImageSpec(size_hw=HW, has_draft=False),
}


@pytest.fixture(scope="module")
def graph_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export a graph whose features are coarse pixels, so that any difference in the image changes them."""
    kernel = np.eye(3, dtype=np.float32)[:, :, None, None] * np.ones((1, 1, 4, 4), np.float32) / 16
    width = 3 * (HW[0] // 4) * (HW[1] // 4)
    nodes = [
        onnx.helper.make_node("Conv", ["pixels", "kernel"], ["map"], strides=[4, 4]),
        onnx.helper.make_node("Flatten", ["map"], ["embedding"], axis=1),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "coarse",
        [onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["B", 3, *HW])],
        [onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["B", width])],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    path = tmp_path_factory.mktemp("graph") / "graph.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write images of every mode, orientation and size described on the page."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)

    def smooth(size: tuple[int, int], channels: int = 3) -> Image.Image:
        coarse = rng.integers(0, 256, (7, 9, channels), dtype=np.uint8)
        return Image.fromarray(coarse[..., 0] if channels == 1 else coarse).resize(size, Image.Resampling.BICUBIC)

    for i, size in enumerate([(28, 20), (31, 200), (640, 480), (1001, 333), (12, 9), (1, 1)]):
        smooth(size).save(folder / f"rgb{i}.png")
        smooth(size).save(folder / f"rgb{i}.jpg", quality=90)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        smooth((410, 230)).save(folder / f"turned{orientation}.jpg", exif=exif)
    smooth((50, 40), 4).save(folder / "alpha.png")
    smooth((50, 40)).convert("LA").save(folder / "gray-alpha.png")
    smooth((50, 40)).quantize(16).save(folder / "palette.gif", transparency=3)
    smooth((50, 40)).quantize(16).save(folder / "palette.png", transparency=3)
    smooth((50, 40)).save(folder / "keyed.png", transparency=(10, 20, 30))
    smooth((50, 40), 1).save(folder / "gray.bmp")
    smooth((50, 40), 1).convert("1").save(folder / "one-bit.png")
    smooth((300, 400)).convert("CMYK").save(folder / "cmyk.jpg")
    smooth((50, 40)).save(folder / "lossless.webp", lossless=True)
    Image.fromarray(rng.integers(0, 5000, (40, 50), dtype=np.uint16)).save(folder / "deep.png")
    Image.fromarray(rng.integers(0, 5000, (40, 50), dtype=np.uint16)).save(folder / "deep.tiff")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module", params=list(SPECS))
def bundle_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, graph_path: Path) -> Path:
    rng = np.random.default_rng(3)
    width = 3 * (HW[0] // 4) * (HW[1] // 4)
    norm = fit_normalizer({"embedding": rng.normal(size=(30, width)).astype(np.float32)})
    head = LinearHead(norm, rng.normal(size=(5, width)).astype(np.float32), np.zeros(5, np.float32), 0.4)
    folder = tmp_path_factory.mktemp("run") / "bundle"
    rows = norm({"embedding": rng.normal(size=(60, width)).astype(np.float32)})
    probabilities, ids = rng.dirichlet(np.ones(5), 60), rng.integers(0, 5, 60)
    has_uncertainty = request.param != "no-draft"
    return write_classifier_bundle(
        folder,
        BundleGraph(graph_path, SPECS[request.param], has_flip=request.param == "cover"),
        ["a", "b", "c", "d", "é"],
        head,
        trained_on=["0" * 64],
        ood=fit_ood_model(None if request.param == "pad" else rows, probabilities, ids) if has_uncertainty else None,
        prediction_sets=fit_prediction_sets(probabilities, ids, coverage=0.8).rule if has_uncertainty else None,
    )


def test_documented_program_matches_runtime(bundle_path: Path, images: list[Path], tmp_path: Path) -> None:
    """Run in a separate process in which headstart cannot be imported."""
    script = tmp_path / "reader.py"
    script.write_text(
        "import sys\nsys.modules['headstart'] = None\n"
        + PROGRAM
        + "\nreader = Reader(sys.argv[1])\n"
        + "rows = [[*reader.assess(p)[:2], sorted(reader.assess(p, 0.3, 0.6)[2] or [])] for p in sys.argv[2:]]\n"
        + "print(json.dumps([[reader.probabilities(path).tolist() for path in sys.argv[2:]], rows]))\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-I", str(script), str(bundle_path), *map(str, images)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    probabilities, output = json.loads(done.stdout)
    documented = np.array(probabilities)
    ours = Model(Runtime(bundle_path)).predict_proba(images)
    assert np.isfinite(ours).all()
    assert np.abs(documented - ours).max() < 1e-6, [
        p.name for p, d in zip(images, np.abs(documented - ours), strict=True)
    ]
    assert np.unique(ours.round(6), axis=0).shape[0] > 10  # the model distinguishes the images
    runtime = Model(Runtime(bundle_path))
    if runtime.runtime.bundle.ood is None:
        assert output == [[None, None, []]] * len(images)
        assert {(p.ood_score, p.is_ood, p.prediction_set) for p in runtime.predict(images)} == {(None, None, None)}
        return
    assert runtime.runtime.bundle.ood.has_residual_norm == ("pad" not in runtime.runtime.bundle.spec.resize_mode)
    for (ood_score, is_ood, names), plain, other in zip(
        output, runtime.predict(images), runtime.predict(images, ood_fpr=0.3, coverage=0.6), strict=True
    ):
        assert plain.ood_score == pytest.approx(ood_score, abs=1e-6)
        assert plain.is_ood is is_ood
        assert sorted(other.prediction_set or ()) == names


def explained_keys(part: str) -> set[str]:
    """Return the keys in the first column of the tables of a part of the page."""
    return {
        key
        for row in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", part, flags=re.MULTILINE)
        for key in row.split("`")[1::2]
    }


def test_every_key_is_documented(bundle_path: Path) -> None:
    info = json.loads((bundle_path / "bundle.json").read_text(encoding="utf-8"))
    explained = explained_keys(PAGE.partition("## Detectors")[0])
    assert set(info) <= explained
    assert explained - set(info) == {"parity"}  # added after the check against training
    for key in info["pixels"]:
        assert f"`{key}`" in PAGE, key


def test_model_loads_in_old_runtimes(bundle_path: Path) -> None:
    assert versions_of(bundle_path) == (8, [18])
    assert "IR version 8 and operators of version 18" in PAGE


def versions_of(bundle: Path) -> tuple[int, list[int]]:
    """Return the IR version and the versions of the operators of a bundle's model."""
    model = onnx.load_from_string(read_bundle(bundle).model)
    return model.ir_version, [opset.version for opset in model.opset_import]


DECODING = {
    "squash": DecodingSettings(slope=0.8, offset=-0.3, nms_iou=0.3),
    "pad": DecodingSettings(nms_iou=0.2, is_class_agnostic=True, min_score=0.2),
    "limited": DecodingSettings(nms_iou=0.9, num_kept=7, num_candidates=40),
}
THRESHOLDS = {"per_class": {"a": 0.6, "b": 0.35}, "chosen_on": "val"}  # 0.5 for the third class


@pytest.fixture(scope="module", params=list(DECODING))
def detector_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a detector whose logits and boxes depend on the pixels around each anchor point."""
    rng, (height, width) = np.random.default_rng(5), (2 * HW[0], 2 * HW[1])
    y, x = np.mgrid[0 : height // 4, 0 : width // 4].reshape(2, -1) * 4 + 2.0
    sides = rng.uniform(4, 12, (len(x), 4)) * (-1, -1, 1, 1)
    values = {
        "for_class": rng.normal(0, 0.4, (3, 3, 4, 4)).astype(np.float32),
        "for_box": rng.normal(0, 0.3, (4, 3, 4, 4)).astype(np.float32),
        "points": (np.stack([x, y, x, y], axis=1) + sides)[None].astype(np.float32),
        "shape_class": np.array([0, 3, -1], dtype=np.int64),
        "shape_box": np.array([0, 4, -1], dtype=np.int64),
    }
    nodes = []
    for what in ("class", "box"):
        nodes += [
            onnx.helper.make_node("Conv", ["pixels", f"for_{what}"], [f"map_{what}"], strides=[4, 4]),
            onnx.helper.make_node("Reshape", [f"map_{what}", f"shape_{what}"], [f"flat_{what}"]),
        ]
    nodes += [
        onnx.helper.make_node("Transpose", ["flat_class"], ["logits"], perm=[0, 2, 1]),
        onnx.helper.make_node("Transpose", ["flat_box"], ["moves"], perm=[0, 2, 1]),
        onnx.helper.make_node("Add", ["moves", "points"], ["boxes"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "detector",
        [onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["B", 3, height, width])],
        [
            onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["B", len(x), 3]),
            onnx.helper.make_tensor_value_info("boxes", onnx.TensorProto.FLOAT, ["B", len(x), 4]),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    folder = tmp_path_factory.mktemp("detector")
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(folder / "graph.onnx"))
    resize_mode = "pad" if request.param == "pad" else "squash"
    sizes = BoxSizes((height, width), ("a", "b", "c"), ((0, 0, 0, 0, 0),) * 3, 0.0, None, 1.0)
    spec = ImageSpec(
        size_hw=(height, width), resize_mode=resize_mode, background=(9, 200, 31), intensity_range=(0, 5000)
    )
    return write_detector_bundle(
        folder / "bundle",
        BundleGraph(folder / "graph.onnx", spec, {"license": "none"}),
        ("a", "b", "c"),
        DECODING[request.param],
        thresholds=THRESHOLDS,
        meta={"strategy": "head", "sizes": sizes.to_json(), "parity": None},
        trained_on=["0" * 64],
    )


def test_documented_detector_program_matches_runtime(detector_path: Path, images: list[Path], tmp_path: Path) -> None:
    """Run in a separate process in which headstart cannot be imported."""
    script = tmp_path / "reader.py"
    script.write_text(
        "import sys\nsys.modules['headstart'] = None\n"
        + PROGRAM
        + DETECTOR_PROGRAM
        + "\nreader, low = DetectorReader(sys.argv[1]), {'a': 0.0, 'b': 0.0, 'c': 0.0}\n"
        + "print(json.dumps([[reader.detect(path, t) for path in sys.argv[2:]] for t in (None, low)]))\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-I", str(script), str(detector_path), *map(str, images)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    detector = Detector(Runtime(detector_path))
    for documented, min_score in zip(json.loads(done.stdout), (None, 0.0), strict=True):
        for found, ours in zip(documented, detector.predict(images, min_score=min_score), strict=True):
            assert ours.error is None
            boxes = ours.detections
            assert [name for name, _, _ in found] == [detector.class_names[k] for k in boxes.class_ids]
            np.testing.assert_allclose([score for _, score, _ in found], boxes.scores, atol=1e-6)
            np.testing.assert_allclose(np.reshape([box for *_, box in found], (-1, 4)), boxes.xyxy, atol=1e-2)
        assert sum(map(len, documented)) > 3 * len(images)
    assert sum(map(len, documented)) >= sum(map(len, json.loads(done.stdout)[0]))


def test_every_key_of_a_detector_is_documented(detector_path: Path) -> None:
    info = json.loads((detector_path / "bundle.json").read_text(encoding="utf-8"))
    common, _, own = PAGE.partition("## Detectors")
    assert set(info) - {"strategy"} <= explained_keys(common) | explained_keys(own)
    assert versions_of(detector_path) == (8, [18])
    assert explained_keys(own) == {"decoding", "thresholds", "sizes", "parity", *info["decoding"]}
    for key in (*info["sizes"], *DetectorParity(1, 1, 0.0, 0.0).to_json()):
        assert f"`{key}`" in own, key


def test_documented_formula_gives_logits(bundle_path: Path, images: list[Path]) -> None:
    bundle = read_bundle(bundle_path)
    tensors, head = bundle.weights(), bundle.info["head"]
    runtime = Model(Runtime(bundle))
    x = runtime.embed(images)  # the only block
    z = np.clip((x - tensors["head.mean"]) / tensors["head.scale"], -head["clip"], head["clip"])
    u = head["weights"][0] * z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    logits = (u @ tensors["head.weight"].T + tensors["head.bias"]) / bundle.temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert np.allclose(powers / powers.sum(axis=1, keepdims=True), runtime.predict_proba(images), atol=1e-5)


# Pillow's resize in numpy, as documented on the page.

IS_PILLOW_13 = int(PIL.__version__.split(".")[0]) >= 13
_RADIUS = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}


def _g(name: str, x: float) -> float:
    x = abs(x)
    if name == "bilinear":
        return max(1 - x, 0.0)
    if name == "bicubic":
        a = -0.5
        if x < 1:
            return ((a + 2) * x - (a + 3)) * x * x + 1
        return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0
    return float(np.sinc(x) * np.sinc(x / 3)) if x < 3 else 0.0


def _pass(image: NDArray[Any], low: float, high: float, size: int, name: str) -> NDArray[np.uint8]:
    """Resize along axis 1."""
    if (low, high) == (0, image.shape[1]) and size == image.shape[1]:
        return image
    t = float(np.float32(high) - np.float32(low)) / size
    low = float(np.float32(low))
    q = max(t, 1.0)
    support = _RADIUS[name] * q
    out = np.empty((image.shape[0], size, 3), dtype=np.uint8)
    for i in range(size):
        center = low + (i + 0.5) * t
        first = max(0, math.trunc(center - support + 0.5))
        last = min(image.shape[1], math.trunc(center + support + 0.5))
        weights = np.array([_g(name, (j - center + 0.5) / q) for j in range(first, last)])
        scaled = weights * (1 / sum(weights)) * 2**22
        fixed = np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int64)
        total = np.tensordot(image[:, first:last].astype(np.int64), fixed, axes=(1, 0))
        out[:, i] = np.clip((total + 2**21) >> 22, 0, 255)
    return out


def _resize(image: NDArray[Any], size: tuple[int, int], box: tuple[float, ...], name: str) -> NDArray[np.uint8]:
    left, upper, right, lower = box
    if name == "nearest":
        return image[_nearest(upper, lower, size[1])][:, _nearest(left, right, size[0])]
    kx = max(1, int((right - left) / size[0] / 2))
    ky = max(1, int((lower - upper) / size[1] / 2))
    if kx > 1 or ky > 1:
        r = _RADIUS[name] - 0.5
        grow_x, grow_y = r * (right - left) / size[0], r * (lower - upper) / size[1]
        x0, y0 = max(0, int(left - grow_x)), max(0, int(upper - grow_y))
        x1 = min(image.shape[1], math.ceil(right + grow_x))
        y1 = min(image.shape[0], math.ceil(lower + grow_y))
        cells = []
        for y in range(y0, y1, ky):
            for x in range(x0, x1, kx):
                cell = image[y : min(y + ky, y1), x : min(x + kx, x1)].reshape(-1, 3).astype(np.int64)
                count = len(cell)
                cells.append((cell.sum(axis=0) + count // 2) * (2**24 // count) >> 24)
        image = np.array(cells, dtype=np.uint8).reshape(math.ceil((y1 - y0) / ky), math.ceil((x1 - x0) / kx), 3)
        left, right = (left - x0) / kx, (right - x0) / kx
        upper, lower = (upper - y0) / ky, (lower - y0) / ky
    height, width = image.shape[:2]
    is_vertical_first = IS_PILLOW_13 and height > size[1] and height - size[1] > 2 * (width - size[0])
    for axis in (0, 1) if is_vertical_first else (1, 0):
        if axis == 1:
            image = _pass(image, left, right, size[0], name)
        else:
            image = _pass(image.transpose(1, 0, 2), upper, lower, size[1], name).transpose(1, 0, 2)
    return image


def _nearest(low: float, high: float, size: int) -> NDArray[np.int64]:
    t = float(np.float32(high) - np.float32(low)) / size
    steps = np.full(size, t)
    steps[0] = float(np.float32(low)) + t / 2
    return np.floor(np.add.accumulate(steps)).astype(np.int64)


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size_in", [(37, 50), (16, 12), (150, 90), (301, 64)])
@pytest.mark.parametrize("is_cropped", [False, True])
def test_documented_resize_matches_pillow(name: str, size_in: tuple[int, int], is_cropped: bool) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (size_in[1], size_in[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(0.7))
    width, height = image.size
    box = (width * 0.061, height * 0.13, width * 0.94, height * 0.87) if is_cropped else (0, 0, width, height)
    expected = np.asarray(image.resize((23, 17), Image.Resampling[name.upper()], box=box, reducing_gap=2.0))
    resized = _resize(np.asarray(image), (23, 17), box, name)
    assert np.array_equal(resized, expected), np.abs(resized.astype(int) - expected).max()
