"""Create augmented views of images, seeded by image and view.

A view depends only on the image's content, the view number and the seed of the run, never on the order in which views
are made. So views can be cached, made in the background or remade on any machine with the same result. numpy and
Pillow only.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL import __version__ as pillow_version

from headstart.errors import SettingError
from headstart.preprocessing.image_spec import (
    ImageSpec,
    _orient,
    decoding,
    draft_for,
    fit_image,
    flatten,
    open_image,
    read_image,
)

__all__ = [
    "WHOLE_IMAGES",
    "Augment",
    "DecodedImage",
    "ViewCodec",
    "cut_view",
    "decode_once",
    "decoding_rule",
    "make_view",
    "parse_augment",
    "view_rng",
]

_ALIASES = {
    "hflip": "flip",
    "horizontal_flip": "flip",
    "vertical_flip": "vflip",
    "rotation": "rotate",
    "rotation_range": "rotate",
    "shear_range": "shear",
    "zoom_range": "zoom",
    "brightness_range": "brightness",
    "translate": "shift",
}
_BICUBIC = Image.Resampling.BICUBIC
_MIN_CROP = 0.5  # decoded images keep full output resolution for crops of at least this fraction of the area


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A decoded image from which views are cut.

    Attributes:
        image: RGB, upright.
        full_hw: Height and width before reduction, so that crops do not depend on the reduction.
    """

    image: Image.Image
    full_hw: tuple[int, int]

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 pixels."""
        return np.asarray(self.image)


@dataclass(frozen=True, slots=True)
class Augment:
    """Augmentation strengths; 0 switches a transform off.

    Attributes:
        flip: Probability of a horizontal flip.
        vflip: Probability of a vertical flip.
        crop: Smallest fraction of the area that a random crop keeps, in (0, 1]; 1 keeps the standard crop.
        zoom: Zoom factor is drawn from 1 - zoom .. 1 + zoom.
        shift: Largest shift in either direction, as a fraction of the side.
        rotate: Largest angle, degrees.
        shear: Largest shear, as a ratio of the sides.
        brightness, contrast, saturation: Largest relative change.
        erase: Probability that a random rectangle (2 to 20 % of the area) becomes gray.
    """

    flip: float = 0.0
    vflip: float = 0.0
    crop: float = 1.0
    zoom: float = 0.0
    shift: float = 0.0
    rotate: float = 0.0
    shear: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erase: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Return whether all transforms are off."""
        return self == Augment()

    def to_text(self) -> str:
        """Return the text that `parse_augment` reads back."""
        plain = asdict(Augment())
        parts = [f"{n}={v:g}" for n, v in asdict(self).items() if v != plain[n]]
        return ",".join(parts) or "none"


def parse_augment(text: str) -> Augment:
    """Parse `flip,zoom=.2,shear=.2`, or `none`. A plain `flip` or `vflip` means half of the views.

    Raises:
        SettingError: Unknown transform, or a value out of range.
    """
    values: dict[str, float] = {}
    names = [f.name for f in fields(Augment)]
    for part in text.split(","):
        word, equals, number = (p.strip() for p in part.partition("="))
        if word in ("", "none") and not equals:
            continue
        name = _ALIASES.get(word, word)
        if name not in names:
            near = difflib.get_close_matches(name, [*names, *_ALIASES], n=1, cutoff=0.5)
            raise SettingError(
                f"unknown augmentation `{word}`.",
                hint=f"did you mean `{near[0]}`?" if near else f"available: {', '.join(names)}",
            )
        if not equals:
            if name not in ("flip", "vflip"):
                raise SettingError(f"`{word}` needs a strength.", hint=f"e.g. {word}=0.2")
            number = "0.5"
        try:
            value = float(number)
        except ValueError as error:
            raise SettingError(f"the strength of `{word}` must be a number, not `{number}`.") from error
        low, high = {"rotate": (0.0, 180.0), "crop": (0.05, 1.0), "zoom": (0.0, 0.9)}.get(name, (0.0, 1.0))
        if not low <= value <= high:
            raise SettingError(f"the strength of `{word}` must be between {low:g} and {high:g}, not {value:g}.")
        values[name] = value
    return Augment(**values)


def view_rng(digest: bytes, view: int, seed: int) -> np.random.Generator:
    """Return the random generator of one view of one image (digest of the file's bytes)."""
    key = hashlib.blake2b(digest + view.to_bytes(8, "little") + seed.to_bytes(8, "little"), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(key, "little"))


def make_view(data: bytes, spec: ImageSpec, augment: Augment, rng: np.random.Generator | None) -> NDArray[np.uint8]:
    """Create one view of an image: (H, W, 3) uint8 at `spec.size_hw`.

    Args:
        data: The bytes of the file.
        spec: The preprocessing specification; without a generator the result equals `read_image(data, spec)`.
        augment: The strengths.
        rng: Random generator of the view.

    Raises:
        ImageError: The image is unreadable.
    """
    if rng is None or augment.is_plain:
        return read_image(data, spec)
    draws = _draw(rng)
    image = _decode(data, spec, augment.crop)
    if augment.crop == 1.0:
        image = Image.fromarray(fit_image(image, spec))
    return _cut(image, (image.height, image.width), spec, augment, draws)


def decoding_rule(spec: ImageSpec, augment: Augment) -> str:
    """Return the name of the result of `decode_once`; strengths with equal results share a name, in all runs."""
    return name_rule("whole" if augment.crop < 1.0 else "plain", spec)


def name_rule(kind: str, spec: ImageSpec) -> str:
    """Return the name of a decoding rule: its kind and everything that determines the bytes."""
    pixels = spec.with_(mean=(0.5,) * 3, std=(0.5,) * 3).digest  # bytes do not depend on normalization
    return f"{kind}/{pixels}/{pillow_version}/1"


def decode_once(data: bytes, spec: ImageSpec, augment: Augment) -> DecodedImage:
    """Decode an image once for all its views.

    Random crops are cut from the whole image. It is reduced if that at least halves its bytes, to the size at which
    a crop of half its area still has the network's resolution. Smaller images stay as decoded, and views at
    `crop=0.5` then equal those of `make_view` bit by bit. Without random crops all views start from the plain view,
    which is `read_image(data, spec)`.

    Args:
        data: The bytes of the file.
        spec: The preprocessing specification.
        augment: The strengths; only whether there is a random crop matters.

    Raises:
        ImageError: The image is unreadable.
    """
    if augment.crop == 1.0:
        return DecodedImage(Image.fromarray(read_image(data, spec)), spec.size_hw)
    image = _decode(data, spec, _MIN_CROP)
    decoded_hw = (image.height, image.width)
    target_hw = [int(np.ceil(side / np.sqrt(_MIN_CROP))) for side in spec.size_hw]
    scale = max(e / side for e, side in zip(target_hw, decoded_hw, strict=True))
    if scale * scale <= 0.5:
        height, width = (max(e, round(side * scale)) for e, side in zip(target_hw, decoded_hw, strict=True))
        image = image.resize((width, height), _BICUBIC, reducing_gap=2.0)
    return DecodedImage(image, decoded_hw)


def cut_view(
    decoded: DecodedImage, spec: ImageSpec, augment: Augment, rng: np.random.Generator | None
) -> NDArray[np.uint8]:
    """Create one view as `make_view` does from the file, with the same crop, colors and other random draws.

    Args:
        decoded: Result of `decode_once` with the same specification.
        spec: The preprocessing specification.
        augment: The strengths.
        rng: Random generator of the view.
    """
    if rng is None or augment.is_plain:
        return decoded.pixels
    return _cut(decoded.image, decoded.full_hw, spec, augment, _draw(rng))


@dataclass(frozen=True, slots=True)
class ViewCodec:
    """Functions that decode files once and cut views from the result.

    Attributes:
        rule: Returns the name of the decoded result; settings with equal results share a name.
        decode: File bytes to decoded image.
        cut: Decoded image to (H, W, 3) uint8 pixels of a view.
    """

    rule: Callable[[ImageSpec, Augment], str]
    decode: Callable[[bytes, ImageSpec, Augment], DecodedImage]
    cut: Callable[[DecodedImage, ImageSpec, Augment, np.random.Generator | None], NDArray[np.uint8]]


WHOLE_IMAGES = ViewCodec(decoding_rule, decode_once, cut_view)
"""View codec for images with one label."""


def _draw(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw all random values of a view, used or not, so that one strength does not change the others' draws."""
    return rng.random(20)


def _cut(
    image: Image.Image, full_hw: tuple[int, int], spec: ImageSpec, augment: Augment, draws: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Cut a view from an image that had `full_hw` before reduction."""
    height, width = spec.size_hw
    if augment.crop < 1.0:
        full_h, full_w = full_hw
        kx, ky = image.width / full_w, image.height / full_h
        left, upper, right, lower = _random_box((full_w, full_h), spec, augment.crop, draws)
        box = (left * kx, upper * ky, min(right * kx, image.width), min(lower * ky, image.height))
        image = image.resize((width, height), _BICUBIC, box=box, reducing_gap=2.0)
    if draws[5] < augment.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if draws[6] < augment.vflip:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if augment.zoom or augment.shift or augment.rotate or augment.shear:
        image = _warp(image, augment, draws)
    pixels = _recolor(np.asarray(image), augment, draws)
    if draws[16] < augment.erase:
        pixels = _erase(pixels, draws)
    return pixels


def _decode(data: bytes, spec: ImageSpec, min_fraction: float) -> Image.Image:
    """Decode the whole image as RGB, at a reduced scale if a crop of `min_fraction` of its area allows it."""
    scale = 1.0 / np.sqrt(min_fraction)
    height, width = spec.size_hw
    larger = spec.with_(size_hw=(int(np.ceil(height * scale)), int(np.ceil(width * scale))))
    with open_image(data, spec.max_pixels) as image:
        with decoding():
            if spec.has_draft and image.format in ("JPEG", "MPO"):
                draft_for(image, larger)
            image.load()
        return flatten(_orient(image), spec)


def _random_box(
    size: tuple[int, int], spec: ImageSpec, min_fraction: float, draws: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Return a crop of random area, aspect ratio (3:4 to 4:3 of the output's) and position, in source coordinates."""
    width, height = size
    area = width * height * (min_fraction + (1.0 - min_fraction) * draws[0])
    ratio = float(np.exp(np.log(4 / 3) * (2.0 * draws[1] - 1.0)))
    if spec.resize_mode == "squash":
        ratio *= width / height
    else:
        ratio *= spec.size_hw[1] / spec.size_hw[0]
    box_w, box_h = min(np.sqrt(area * ratio), width), min(np.sqrt(area / ratio), height)
    left, upper = draws[2] * (width - box_w), draws[3] * (height - box_h)
    return float(left), float(upper), float(left + box_w), float(upper + box_h)


def _warp(image: Image.Image, augment: Augment, draws: NDArray[np.float64]) -> Image.Image:
    """Apply zoom, shift, rotation and shear as one affine map with reflected borders."""
    signed = 2.0 * draws - 1.0
    width, height = image.size
    angle = np.deg2rad(augment.rotate * signed[7])
    zoom = 1.0 + augment.zoom * signed[8]
    shear = augment.shear * signed[9]
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotation @ np.array([[1.0, shear], [0.0, 1.0]]) / zoom
    pad_y, pad_x = height // 2, width // 2
    padded = np.pad(np.asarray(image), ((pad_y, pad_y), (pad_x, pad_x), (0, 0)), mode="symmetric")
    center = np.array([width / 2.0, height / 2.0])
    moved = center + np.array([pad_x, pad_y]) + augment.shift * signed[10:12] * np.array([width, height])
    offset = moved - matrix @ center
    values = (matrix[0, 0], matrix[0, 1], offset[0], matrix[1, 0], matrix[1, 1], offset[1])
    return Image.fromarray(padded).transform(
        (width, height), Image.Transform.AFFINE, values, resample=Image.Resampling.BILINEAR, fillcolor=(128, 128, 128)
    )


def _recolor(pixels: NDArray[np.uint8], augment: Augment, draws: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Apply brightness and contrast in one lookup table, then saturation."""
    brightness = 1.0 + augment.brightness * (2.0 * draws[12] - 1.0)
    contrast = 1.0 + augment.contrast * (2.0 * draws[13] - 1.0)
    if brightness != 1.0 or contrast != 1.0:
        middle = float(pixels.mean()) * brightness
        values = (np.arange(256.0) * brightness - middle) * contrast + middle
        pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)[pixels]
    if augment.saturation:
        factor = 1.0 + augment.saturation * (2.0 * draws[14] - 1.0)
        gray = (pixels @ _gray_weights())[..., None]
        pixels = np.clip(np.rint(gray + factor * (pixels - gray)), 0, 255).astype(np.uint8)
    return pixels


@lru_cache(maxsize=1)
def _gray_weights() -> NDArray[Any]:
    return np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def _erase(pixels: NDArray[np.uint8], draws: NDArray[np.float64]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    side = np.sqrt(0.02 + 0.18 * draws[17])
    box_h, box_w = max(1, int(height * side)), max(1, int(width * side))
    top, left = int(draws[18] * (height - box_h)), int(draws[19] * (width - box_w))
    out = pixels.copy()
    out[top : top + box_h, left : left + box_w] = 128
    return out
