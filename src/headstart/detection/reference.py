"""Detect objects in image files with torch, without any cache: the reference that an exported detector is held to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Detections, DetectionSamples
from headstart.detection.decoding import DecodingSettings, decode
from headstart.detection.image_frames import plain_frame
from headstart.preprocessing.image_spec import ImageSpec, normalize, read_image

__all__ = ["detect_from_pixels"]


def detect_from_pixels(
    detector: Any, samples: DetectionSamples, index: NDArray[np.int64], spec: ImageSpec, decoding: DecodingSettings
) -> list[Detections]:
    """Return the detections in the images at `index`.

    Args:
        detector: Maps (1, 3, H, W) pixels to logits and boxes; see `DetectorBackbone.detector`.
        samples: The images.
        index: (M,) positions of the images to use.
        spec: The image spec.
        decoding: How candidates become detections.
    """
    import torch

    detections = []
    with torch.no_grad():
        for i in index.tolist():
            size = (int(samples.sizes_hw[i, 0]), int(samples.sizes_hw[i, 1]))
            pixels = normalize(read_image(str(samples.paths[i]), spec)[None], spec)
            logits, boxes = detector(torch.from_numpy(pixels))
            detections.append(decode(logits[0].numpy(), boxes[0].numpy(), decoding, plain_frame(size, spec), size))
    return detections
