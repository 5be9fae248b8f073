"""Plant near-duplicates into real images: re-encoded, resized, cropped, watermarked, flipped."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

KINDS = ("bytes", "pixels", "jpeg", "resize", "watermark", "crop", "flip", "brightness")


@dataclass(frozen=True)
class Planted:
    """A planted near-duplicate; names are relative to the folder."""

    original: str
    copy: str
    kind: str


def plant(images: list[Path], names: list[str], folder: Path, per_kind: int, seed: int = 0) -> list[Planted]:
    """Copy images to `folder` under `names`, and add edited duplicates of some.

    Each original gets at most one duplicate if there are enough images.
    """
    rng = np.random.default_rng(seed)
    for image, name in zip(images, names, strict=True):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, target)
    wanted = per_kind * len(KINDS)
    order = rng.permutation(len(images)) if wanted <= len(images) else rng.integers(0, len(images), wanted)
    planted = []
    for k, i in enumerate(order[:wanted]):
        kind = KINDS[k % len(KINDS)]
        data, extension = change(images[i], kind, rng)
        name = f"{Path(names[i]).parent.as_posix()}/{rng.integers(1 << 60):x}{extension}"
        (folder / name).write_bytes(data)
        planted.append(Planted(names[i], name, kind))
    return planted


def change(path: Path, kind: str, rng: np.random.Generator) -> tuple[bytes, str]:
    """Return the bytes of an edited duplicate, and its file extension."""
    if kind == "bytes":
        return path.read_bytes(), path.suffix
    with Image.open(path) as opened:
        image = upright_rgb(opened)
    width, height = image.size
    if kind == "pixels":
        return encode(image, "PNG"), ".png"
    if kind == "jpeg":
        return encode(image, "JPEG", quality=int(rng.integers(30, 96))), ".jpg"
    if kind == "resize":
        scale = float(np.exp(rng.uniform(np.log(0.5), np.log(2.0))))
        size = (max(8, round(width * scale)), max(8, round(height * scale)))
        return encode(image.resize(size, Image.Resampling.BICUBIC), "JPEG"), ".jpg"
    if kind == "crop":
        share = rng.uniform(0.02, 0.08)
        w, h = width * (1 - share), height * (1 - share)
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        return encode(image.crop((round(x), round(y), round(x + w), round(y + h))), "JPEG"), ".jpg"
    if kind == "watermark":
        font = ImageFont.load_default(size=max(10, width // 10))
        place = (rng.uniform(0, 0.4) * width, rng.uniform(0, 0.85) * height)
        ink = (255, 255, 255, 160) if rng.random() < 0.5 else (0, 0, 0, 160)
        ImageDraw.Draw(image, "RGBA").text(place, "(c) sample", font=font, fill=ink)
        return encode(image, "JPEG"), ".jpg"
    if kind == "flip":
        return encode(ImageOps.mirror(image), "JPEG"), ".jpg"
    factor = rng.uniform(0.7, 0.9) if rng.random() < 0.5 else rng.uniform(1.1, 1.3)
    return encode(ImageEnhance.Brightness(image).enhance(float(factor)), "JPEG"), ".jpg"


def turned_variant(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a rotated, cropped and perhaps flipped variant, as augmentation scripts store them."""
    width, height = image.size
    turned = image.rotate(float(rng.uniform(-30, 30)), resample=Image.Resampling.BICUBIC)
    share = rng.uniform(0.65, 0.95)
    w, h = width * share, height * share
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    part = turned.crop((round(x), round(y), round(x + w), round(y + h))).resize((width, height))
    return ImageOps.mirror(part) if rng.random() < 0.5 else part


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return the image upright, with transparency composited on white, as headstart reads it."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")
    return image.convert("RGB")


def encode(image: Image.Image, form: str, quality: int = 90) -> bytes:
    """Return the image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **({"quality": quality} if form == "JPEG" else {}))
    return buffer.getvalue()
