"""Draw different scenes, and edited duplicates of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from headstart.data.image_scan import ImageScanner, ScanResult
from headstart.types.records import Sample, Samples

SIZE = (200, 150)


def scene(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Return soft clouds at several scales with a few discs, bars and lines; seeds give dissimilar images."""
    rng = np.random.default_rng([77, seed])
    width, height = size
    canvas = np.full((height, width, 3), rng.uniform(90, 160, 3), dtype=np.float32)
    for cells, strength in ((3, 60), (7, 40), (16, 25), (40, 12)):
        soft = rng.normal(128, 50, (cells, cells, 3)).clip(0, 255).astype(np.uint8)
        layer = np.asarray(Image.fromarray(soft).resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        canvas += (layer - 128) * (strength / 50)
    image = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        w, h = rng.uniform(0.08, 0.35, 2) * (width, height)
        color = tuple(int(v) for v in rng.integers(0, 256, 3))
        if rng.random() < 0.5:
            pen.ellipse((x - w / 2, y - h / 2, x + w / 2, y + h / 2), fill=color)
        else:
            pen.line((x - w, y - h, x + w, y + h), fill=color, width=int(rng.integers(2, 8)))
    return image


def encode(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    """Return the image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **({"quality": 90} if form == "JPEG" else {}) | options)  # type: ignore[arg-type]
    return buffer.getvalue()


def changed(image: Image.Image, kind: str, rng: np.random.Generator) -> bytes:
    """Return an edited duplicate: `jpeg`, `smaller`, `larger`, `watermark`, `crop`, `flip`, `bright` or `dark`."""
    width, height = image.size
    if kind == "jpeg":
        return encode(image, quality=int(rng.integers(30, 90)))
    if kind in ("smaller", "larger"):
        scale = rng.uniform(0.5, 0.9) if kind == "smaller" else rng.uniform(1.1, 2.0)
        return encode(image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC))
    if kind == "watermark":
        marked = image.copy()
        place = (rng.uniform(0, 0.4) * width, rng.uniform(0, 0.85) * height)
        font = ImageFont.load_default(size=width // 10)
        ImageDraw.Draw(marked, "RGBA").text(place, "(c) sample", font=font, fill=(255, 255, 255, 160))
        return encode(marked)
    if kind == "crop":
        share = rng.uniform(0.02, 0.08)
        w, h = width * (1 - share), height * (1 - share)
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        return encode(image.crop((round(x), round(y), round(x + w), round(y + h))))
    if kind == "flip":
        return encode(ImageOps.mirror(image))
    factor = {"bright": rng.uniform(1.1, 1.3), "dark": rng.uniform(0.7, 0.9)}[kind]
    return encode(ImageEnhance.Brightness(image).enhance(float(factor)))


def samples_of(
    names: Sequence[str],
    labels: Sequence[str | None] | None = None,
    splits: Sequence[str | None] | None = None,
    groups: Sequence[str | None] | None = None,
    columns: Mapping[str, tuple[str, ...]] | None = None,
) -> Samples:
    """Return samples with these names; their files need not exist."""
    count = len(names)
    rows = zip(names, labels or [None] * count, splits or [None] * count, groups or [None] * count, strict=True)
    items = tuple(Sample(f"/nowhere/{name}", name, *rest) for name, *rest in rows)  # type: ignore[arg-type]
    class_names = tuple(sorted({s.label for s in items if s.label}))
    return Samples(items, class_names, "/nowhere", "class folders", columns=dict(columns or {}))


def scan_of(samples: Samples, files: Sequence[bytes]) -> ScanResult:
    """Return the scan of files in memory."""
    scanner = ImageScanner(samples)
    for i, data in enumerate(files):
        scanner.scan(i, data, hashlib.sha256(data).hexdigest())
    return scanner.result()
