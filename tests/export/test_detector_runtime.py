"""Test the detector runtime: no torch, EXIF orientation, validated settings."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.detection.decoding import DecodingSettings
from headstart.errors import BundleError
from headstart.inference.bundle import read_decoding
from headstart.inference.image_inputs import upright_size
from headstart.inference.session import check_session
from headstart.preprocessing.image_spec import ImageError


def test_runtime_needs_no_torch() -> None:
    code = "import headstart.api.model, sys; print(' '.join(m for m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "onnxruntime" in loaded or "numpy" in loaded
    assert not {"torch", "torchvision", "timm", "onnx", "sklearn"} & set(loaded)


def draw_jpeg(orientation: int | None) -> bytes:
    stream = io.BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", (40, 30)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize(("orientation", "size"), [(None, (30, 40)), (1, (30, 40)), (3, (30, 40)), (6, (40, 30))])
def test_image_size_follows_exif_orientation(orientation: int | None, size: tuple[int, int]) -> None:
    data = draw_jpeg(orientation)
    assert upright_size(data, 10**6) == size
    with Image.open(io.BytesIO(data)) as image:
        assert upright_size(image, 10**6) == size
    assert upright_size(np.zeros((7, 9, 3), dtype=np.uint8), 10**6) == (7, 9)


def test_non_image_is_reported() -> None:
    with pytest.raises(ImageError):
        upright_size(b"nothing", 10**6)


def test_decoding_settings_round_trip() -> None:
    rules = DecodingSettings(slope=0.7, offset=-0.2)
    assert read_decoding(rules.to_json()) == rules


@pytest.mark.parametrize(
    "change",
    [
        {"slope": -1.0},
        {"nms_iou": 0},
        {"min_score": 1.0},
        {"num_kept": 10**9},
        {"offset": float("nan")},
        {"slope": "1"},
        {"is_class_agnostic": 1},
        {"nms_iou": True},
    ],
)
def test_invalid_decoding_settings_raise(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="decoding"):
        read_decoding(DecodingSettings().to_json() | change)


@dataclass
class Value:
    name: str
    shape: list[Any]
    type: str = "tensor(float)"


@dataclass
class Session:
    outputs: list[Value]
    inputs: list[Value] = field(default_factory=lambda: [Value("pixels", ["B", 3, 64, 64])])

    def get_inputs(self) -> list[Value]:
        return self.inputs

    def get_outputs(self) -> list[Value]:
        return self.outputs


def test_non_detector_raises() -> None:
    good = [Value("logits", ["B", 20, 3]), Value("boxes", ["B", 20, 4])]
    check_session(Session(good), (64, 64), 3, has_boxes=True)
    for outputs, size, classes in (
        (good[:1], 64, 3),
        (good, 96, 3),
        (good, 64, 2),
        ([good[0], Value("boxes", ["B", 21, 4])], 64, 3),
    ):
        with pytest.raises(BundleError):
            check_session(Session(outputs), (size, size), classes, has_boxes=True)
