"""Benchmark the report: time, size, and localization of attribution maps.

Maps are checked on images with boxes that were not used for training: the fraction of the map's energy inside the box
must exceed the box's fraction of the area, but not for a control with shuffled weights.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._common import Figures, bench_data
from headstart.api.functions import train
from headstart.inference.bundle import read_bundle
from headstart.preprocessing.image_spec import normalize, read_image
from headstart.reports.attribution import AttributionMaps, Mapper, mean_similarity, read_head
from headstart.reports.record import read_record
from headstart.reports.writer import measure_sections, write_figures, write_report

SETS = ("clothing/train", "clothing/test", "clothing/val", "hand_drawn_shapes/train", "blood_cells/train")


def main() -> None:
    """Measure everything; about two minutes."""
    figures = Figures("report")
    data = bench_data()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        cost(figures, data, root)
        attribution(figures, data, root)
    figures.save()


def cost(figures: Figures, data: Path, root: Path) -> None:
    """Measure time and size at 3,000 images of 18 classes."""
    images = gather(data, root / "images", 3000)
    run = train(images, out=str(root / "run"))
    record = read_record(run.folder)
    times = []
    for _ in range(3):
        started = time.monotonic()
        write_report(run.folder, record)
        times.append(time.monotonic() - started)
    figures.add("report of 3,000 images, s", min(times), "under 5", is_met=min(times) < 5)
    size = (run.folder / "report.html").stat().st_size / 1e6
    figures.add("report.html, MB", size, "under 10", is_met=size < 10)
    for name, wanted in (("attributions", {"has_maps": True, "has_curve": False}),
                         ("learning curve", {"has_maps": False, "has_curve": True})):  # fmt: skip
        started = time.monotonic()
        sections = measure_sections(run.folder, record, **wanted)
        figures.add(f"additional time of {name}, s", time.monotonic() - started)
        if isinstance(sections.maps, AttributionMaps):
            similarity = sections.maps.similarity
            figures.add("rank correlation with maps of shuffled weights", similarity, "below 0.5",
                        is_met=similarity < 0.5)  # fmt: skip
    started = time.monotonic()
    report, thumbs = write_report(run.folder, record)
    write_figures(run.folder / "figures", report, thumbs)
    figures.add("additional time of figures/*.png, s", time.monotonic() - started - min(times))
    json.loads((run.folder / "report.json").read_text(encoding="utf-8"))


def attribution(figures: Figures, data: Path, root: Path) -> None:
    """Train on half of the raccoon images against other photographs; compare maps with boxes of the other half."""
    raccoons = sorted((data / "raccoon" / "images").glob("*.jpg"))
    images = root / "raccoon"
    for name, files in {
        "raccoon": raccoons[::2],
        "other": sorted((data / "imagenet_val500").rglob("*.*"))[::3],
    }.items():
        (images / name).mkdir(parents=True)
        for i, file in enumerate(f for f in files if f.suffix.lower() in (".jpg", ".jpeg", ".png")):
            shutil.copy(file, images / name / f"{i:04d}{file.suffix}")
    run = train(images, out=str(root / "raccoon_run"))
    bundle = read_bundle(run.folder)
    head = read_head(bundle)
    mapper = Mapper.open(bundle.model, head)
    control = Mapper.open(bundle.model, head, is_control=True)
    class_id = np.array([bundle.class_names.index("raccoon")])
    rows, controls, pairs = [], [], []
    for file in raccoons[1::2]:
        boxes = data / "raccoon" / "annotations" / f"{file.stem}.xml"
        if not boxes.is_file():
            continue
        inside = box_mask(boxes.read_text(encoding="utf-8"), bundle.spec.size_hw[0], bundle.spec.crop_fraction)
        if not 0.01 < inside.mean() < 0.95:
            continue
        pixels = normalize(read_image(file, bundle.spec), bundle.spec)[None]
        one, other = mapper.maps(pixels, class_id)[0], control.maps(pixels, class_id)[0]
        rows.append((energy(one, inside), inside.mean()))
        controls.append(energy(other, inside))
        pairs.append((one, other))
    fractions = np.array(rows)
    gain = fractions[:, 0] - fractions[:, 1]
    note = f"{len(rows)} images not used for training"
    figures.add("energy of the map inside the box", float(fractions[:, 0].mean()), note=note)
    figures.add("the box's fraction of the area", float(fractions[:, 1].mean()))
    figures.add("energy minus area, mean", float(gain.mean()), "above 0", is_met=float(gain.mean()) > 0)
    figures.add("images on which the energy exceeds the area", float((gain > 0).mean()))
    figures.add("control with shuffled weights: energy minus area", float(np.mean(controls) - fractions[:, 1].mean()))
    alike = mean_similarity([a for a, _ in pairs], [b for _, b in pairs])
    figures.add("rank correlation with the control", alike, "below 0.5", is_met=alike < 0.5)


def energy(attribution: np.ndarray, inside: np.ndarray) -> float:
    """Return the fraction of the map inside the mask."""
    size = inside.shape[0]
    step = (np.arange(size) * attribution.shape[0]) // size
    spread = attribution[np.ix_(step, step)]
    return float(spread[inside].sum() / max(float(spread.sum()), 1e-12))


def box_mask(text: str, size: int, crop_fraction: float) -> np.ndarray:
    """Return a (size, size) mask that is True inside a box, in network input coordinates."""

    def numbers(key: str) -> list[int]:
        return [int(float(v)) for v in re.findall(f"<{key}>([^<]+)</{key}>", text)]

    width, height = numbers("width")[0], numbers("height")[0]
    scale = min(width, height) / size * crop_fraction
    left, upper = (width - size * scale) / 2, (height - size * scale) / 2
    mask = np.zeros((size, size), dtype=bool)
    for x0, y0, x1, y1 in zip(*(numbers(k) for k in ("xmin", "ymin", "xmax", "ymax")), strict=True):
        columns = np.clip([(x - left) / scale for x in (x0, x1)], 0, size).astype(int)
        rows = np.clip([(y - upper) / scale for y in (y0, y1)], 0, size).astype(int)
        mask[rows[0] : rows[1], columns[0] : columns[1]] = True
    return mask


def gather(data: Path, root: Path, count: int) -> Path:
    """Copy `count` images of several datasets into class folders."""
    files = [(name, f) for name in SETS for f in sorted((data / name).rglob("*")) if f.is_file()]
    rng = np.random.default_rng(0)
    for i in rng.permutation(len(files))[:count]:
        name, file = files[i]
        folder = root / f"{name.split('/')[0]}-{file.parent.name}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / f"{i:05d}{file.suffix}")
    return root


if __name__ == "__main__":
    main()
