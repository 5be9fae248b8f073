"""Define default limits shared by several packages; settings override them."""

from __future__ import annotations

__all__ = ["MAX_BUNDLE_DETECTIONS", "MAX_DETECTIONS", "MAX_IMAGE_SIZE", "MAX_PIXELS"]

MAX_IMAGE_SIZE = 2048
"""Largest input size of a network, pixels."""

MAX_PIXELS = 178_000_000
"""Larger images are rejected before decoding: Pillow's limit for decompression bombs, rounded down."""

MAX_DETECTIONS = 3_000
"""Maximum detections per image, and maximum scored detections per class and image.

This allows 1,000 objects in an image with two false positives per object.
"""

MAX_BUNDLE_DETECTIONS = 100_000
"""Maximum detections per image that a bundle or an option of prediction may ask for."""
