"""Benchmark inferred groups: false applications and recall of planted groups.

Natural sets are photographs of different objects whose names contain camera prefixes, random numbers, the class,
exposures, lamps, compression or rotation. Applying any of these as groups is an error. Planted sets contain videos,
variants, patients and bursts made from real photographs; not applying their groups is an error.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

import headstart
from benchmarks._common import Figures, bench_data
from headstart.data.image_scan import ScanResult, scan_images
from headstart.data.sources import read
from headstart.probe import fit_probe
from headstart.quality.inspection import inspect_dataset
from headstart.types.records import GroupPattern, Sample, Samples

SOURCES = ("clothing", "imagenet_val500", "covid_xray", "blood_cells")
NUM_IMAGES, NUM_CLASSES, SIDE = 160, 4, 192
Rng = np.random.Generator
Blocks = dict[str, NDArray[np.float32]]
Change = Callable[[Image.Image, int, Rng], Image.Image]


def main() -> None:
    """Inspect natural and planted sets, then train on two real datasets."""
    figures = Figures("groups")
    applied: list[str] = []
    dropped: list[str] = []
    questions: list[str] = []
    missed: list[str] = []
    num_natural, num_planted = 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        for source in SOURCES:
            for kind, patterns in natural_sets(source, Path(scratch)):
                num_natural += 1
                used = [p for p in patterns if p.is_used]
                if used:
                    applied.append(f"{source}, {kind}")
                    if _drop(used[0]) > 0.1:
                        dropped.append(f"{source}, {kind}")
                print(f"  {source}, {kind}: {'; '.join(map(_brief, patterns)) or 'no pattern'}", flush=True)
            for kind, wanted, patterns in planted_sets(source, Path(scratch)):
                num_planted += 1
                right = [p for p in patterns if p.num_groups == wanted]
                if not any(p.is_used for p in right):
                    (questions if any(_status(p) == "question_score_at_baseline" for p in right) else missed).append(
                        f"{source}, {kind}"
                    )
                print(f"  {source}, {kind}: {'; '.join(map(_brief, patterns)) or 'no pattern'}", flush=True)
    figures.add(
        "natural sets: a pattern is applied", len(applied), f"at most 5 % of {num_natural}",
        is_met=len(applied) <= 0.05 * num_natural, note="; ".join(applied),
    )  # fmt: skip
    figures.add(
        "natural sets: the score falls by more than 0.1", len(dropped), "0", is_met=not dropped,
        note="; ".join(dropped),
    )  # fmt: skip
    figures.add("planted sets", num_planted)
    figures.add(
        "planted sets: a question because the score falls to the baseline", len(questions), note="; ".join(questions)
    )
    figures.add(
        "planted sets: neither applied nor a question for that reason", len(missed), f"at most 5 % of {num_planted}",
        is_met=len(missed) <= 0.05 * num_planted, note="; ".join(missed),
    )  # fmt: skip
    for name, path, least in (
        ("magnetic_tile", "magnetic_tile/images", 0.95),
        ("hand_drawn_shapes", "hand_drawn_shapes", 0.94),
    ):
        with tempfile.TemporaryDirectory() as scratch:
            run = headstart.train(bench_data() / path, out=Path(scratch) / "run")
            accuracy = run.metrics["cv"]["accuracy"]["value"]
            patterns = json.loads((run.folder / "dataset_report.json").read_text(encoding="utf-8"))["group_patterns"]
        used = [p["pattern"] for p in patterns if p["is_used"]]
        figures.add(
            f"{name}: accuracy by default", accuracy, f"at least {least}", is_met=accuracy >= least,
            note=f"groups: {used[0] if used else 'none'}",
        )  # fmt: skip
    figures.save()


def _status(pattern: GroupPattern) -> str:
    return str(getattr(pattern, "status", ""))


def _drop(pattern: GroupPattern) -> float:
    before, after = pattern.accuracy_independent, pattern.accuracy_grouped
    return 0.0 if before is None or after is None else before - after


def _brief(pattern: GroupPattern) -> str:
    status = _status(pattern) or ("used" if pattern.is_used else "accepted" if pattern.accepted else "rejected")
    scores = [f"{s:.2f}" if s is not None else "-" for s in (pattern.accuracy_independent, pattern.accuracy_grouped)]
    return f"{pattern.num_groups} groups {status} ({', '.join(scores)}, nearer {pattern.nearness:.3f})"


def natural_sets(source: str, scratch: Path) -> list[tuple[str, tuple[GroupPattern, ...]]]:
    """Return (kind, patterns) of sets whose name parts do not identify objects."""
    samples, scan, blocks = _drawn(source)
    rng = np.random.default_rng([3, SOURCES.index(source)])
    gray = scan.thumbnails.reshape(len(samples), -1).mean(axis=1)
    rank = np.argsort(np.argsort(gray))
    count, labels = len(samples), samples.class_ids
    number = rng.permutation(count)
    noisy = np.where(rng.random(count) < 0.04, rng.integers(0, NUM_CLASSES, count), labels)
    split = np.where(rng.random(count) < 0.7, "train", "test")
    noisy_split = np.where(rng.random(count) < 0.04, "test", split)
    prefix = {
        "camera prefixes, by brightness": [("IMG", "DSC", "PXL")[3 * r // count] for r in rank],
        "camera prefixes, at random": [("IMG", "DSC", "P")[k] for k in rng.integers(0, 3, count)],
        "random numbers": [f"{k:02}" for k in rng.integers(0, 16, count)],
        "random persons": [f"{n}" for n in rng.choice(list("abcdefghij"), count)],
        "the class, with noise": [f"source{k}" for k in noisy],
        "a group of classes": [f"part{k // 2}x" for k in labels],
        "two halves by brightness": [f"room{2 * r // count}" for r in rank],
        "blocks of a counter, by brightness": [f"{100 + 8 * r // count}" for r in rank],
        "the split, with noise": list(noisy_split),
    }
    results = []
    for kind, parts in prefix.items():
        names = [f"{s.label}/{p}_{n:04}.jpg" for s, p, n in zip(samples, parts, number, strict=True)]
        splits = split if kind.startswith("the split") else [None] * count
        items = tuple(
            replace(s, name=n, split=None if t is None else str(t))
            for s, n, t in zip(samples, names, splits, strict=True)
        )
        results.append((kind, _inspect(replace(samples, items=items), scan, blocks)))
        bare = tuple(replace(s, label=None) for s in items)
        results.append((f"unlabeled, {kind}", _inspect(replace(samples, items=bare, class_names=()), scan, None)))

    def gain(image: Image.Image, level: int, _: Rng) -> Image.Image:
        return Image.fromarray((np.asarray(image) * (0.45 + 0.13 * level)).clip(0, 255).astype(np.uint8))

    def gamma(image: Image.Image, level: int, _: Rng) -> Image.Image:
        return Image.fromarray((255 * (np.asarray(image) / 255.0) ** (0.5 + 0.2 * level)).astype(np.uint8))

    def lamp(image: Image.Image, level: int, _: Rng) -> Image.Image:
        cast = 1 + 0.25 * np.cos(0.8 * level + np.array([0.0, 2.1, 4.2]))
        return Image.fromarray((np.asarray(image) * cast).clip(0, 255).astype(np.uint8))

    def blur(image: Image.Image, level: int, _: Rng) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(0.5 * level))

    def turn(image: Image.Image, level: int, _: Rng) -> Image.Image:
        return image.rotate(90 * level)

    def grain(image: Image.Image, level: int, rng: Rng) -> Image.Image:
        return Image.fromarray(
            (np.asarray(image) + rng.normal(0, 4 * level, (SIDE, SIDE, 3))).clip(0, 255).astype("u1")
        )

    def coarse(image: Image.Image, level: int, _: Rng) -> Image.Image:
        return image.resize((SIDE >> level, SIDE >> level))

    def same(image: Image.Image, level: int, _: Rng) -> Image.Image:
        return image

    changes: tuple[tuple[str, str, int, Change], ...] = (
        ("exposures", "exp", 7, gain),
        ("gammas", "g", 8, gamma),
        ("3 lamps", "lamp", 3, lamp),
        ("blurs", "focus", 6, blur),
        ("rotations", "rot", 4, turn),
        ("grain", "iso", 6, grain),
        ("resolutions", "r", 3, coarse),
        ("JPEG qualities", "q", 6, same),
    )
    for kind, word, levels, change in changes:
        level = rng.integers(0, levels, count)
        folder = scratch / f"{source}_{word}"
        for i, s in enumerate(samples):
            image = change(_open(s.path), int(level[i]), rng)
            quality = 20 + 12 * int(level[i]) if change is same else 90
            _save(image, folder / str(s.label) / f"{word}{level[i]}_num_{number[i]:04}.jpg", quality=quality)
        results.append((kind, _inspect_folder(folder)))
    folder = scratch / f"{source}_all"
    for i, s in enumerate(samples.take(np.arange(0, count, 6))):
        for level in range(6):
            image = gain(_open(s.path), level, rng)
            _save(image, folder / str(s.label) / f"exp{level}_num_{i * 17 + 3 * level:04}.jpg")
    results.append(("every image at each exposure", _inspect_folder(folder)))
    return results


def planted_sets(source: str, scratch: Path) -> list[tuple[str, int, tuple[GroupPattern, ...]]]:
    """Return (kind, true number of groups, patterns) of sets with planted groups."""
    samples, _, _ = _drawn(source)
    rng = np.random.default_rng([4, SOURCES.index(source)])
    results = []
    for num_groups in (8, 12, 24, 48):
        sizes = rng.integers(3, 3 + 2 * max(3, 120 // num_groups), num_groups)
        for kind, name, make in (
            ("videos", "v{:02}_f{:04}", _frame),
            ("variants", "_{}_{:05}", _variant),
            ("patients", "pat{:03}-{:02}", _visit),
            ("bursts", "", _frame),
        ):
            folder = scratch / f"{source}_{kind}_{num_groups}"
            chosen = _spread(samples, num_groups, rng)
            others = [_open(s.path) for s in samples.take(rng.permutation(len(samples))[:40])]
            start = datetime(2024, 5, 1, 9, 0, 0)
            for g, s in enumerate(chosen):
                image = _open(s.path)
                for k in range(int(sizes[g])):
                    made = make(image, k, others, rng)
                    stem = name.format(g, 7 * k + int(rng.integers(0, 7))) if name else rng.bytes(6).hex()
                    when = None if name else start + timedelta(minutes=30 * g, seconds=2 * k)
                    _save(made, folder / str(s.label) / f"{stem}.jpg", when=when)
            results.append((f"{num_groups} {kind}", num_groups, _inspect_folder(folder)))
    return results


def _drawn(source: str) -> tuple[Samples, ScanResult, Blocks]:
    """Return images of four classes of a dataset, with their scan and features."""
    samples = read(bench_data() / source)
    rng = np.random.default_rng([2, SOURCES.index(source)])
    names = sorted({str(s.label) for s in samples})
    names = [str(n) for n in rng.permutation(names)[:NUM_CLASSES]]
    each = NUM_IMAGES // len(names)
    rows = [rng.permutation([i for i, s in enumerate(samples) if s.label == n])[:each] for n in names]
    part = samples.take(np.sort(np.concatenate(rows)))
    blocks = _embed(bench_data() / source, part)
    items = tuple(Sample(s.path, s.name, s.label) for s in part)
    part = replace(part, items=items, class_names=tuple(sorted(names)))
    return part, scan_images(part), blocks


def _embed(folder: Path, samples: Samples) -> Blocks:
    embedded = headstart.embed(folder)
    row = {path: k for k, path in enumerate(embedded.paths)}
    order = np.array([row[s.name] for s in samples])
    return {name: block[order] for name, block in embedded.blocks.items()}


def _inspect_folder(folder: Path) -> tuple[GroupPattern, ...]:
    samples = read(folder)
    return _inspect(samples, scan_images(samples), _embed(folder, samples))


def _inspect(samples: Samples, scan: ScanResult, blocks: Blocks | None) -> tuple[GroupPattern, ...]:
    train = np.array([i for i, s in enumerate(samples) if s.split in (None, "train")])

    def score(groups: NDArray[np.int64] | None) -> float:
        assert blocks is not None
        try:
            fit = fit_probe(
                {name: block[train] for name, block in blocks.items()},
                samples.class_ids[train],
                len(samples.class_names),
                groups=None if groups is None else groups[train],
                logistic=False,
            )
        except headstart.HeadstartError:
            return float("nan")
        return float(fit.candidate_hits[-1].mean())

    embeddings = None if blocks is None else blocks["embedding"]
    return inspect_dataset(samples, scan=scan, embeddings=embeddings, score=score if blocks else None).group_patterns


def _spread(samples: Samples, count: int, rng: Rng) -> list[Sample]:
    """Return samples spread evenly over the classes."""
    by_class = [rng.permutation(np.flatnonzero(samples.class_ids == k)) for k in range(len(samples.class_names))]
    return [samples[int(by_class[g % len(by_class)][g // len(by_class)])] for g in range(count)]


def _frame(image: Image.Image, k: int, others: list[Image.Image], rng: Rng) -> Image.Image:
    """Return frame k of a panning and zooming camera with flickering light."""
    side = SIDE * (0.85 - 0.02 * (k % 8))
    x, y = (SIDE - side) * (0.5 + 0.5 * np.sin(0.4 * k)), (SIDE - side) * (0.5 + 0.5 * np.cos(0.3 * k))
    part = image.crop((round(x), round(y), round(x + side), round(y + side))).resize((SIDE, SIDE))
    return ImageEnhance.Brightness(part).enhance(float(rng.uniform(0.9, 1.1)))


def _variant(image: Image.Image, k: int, others: list[Image.Image], rng: Rng) -> Image.Image:
    """Return an augmented variant, as stored by augmentation scripts."""
    fraction = rng.uniform(0.6, 0.9)
    x, y = rng.uniform(0, 1 - fraction, 2) * SIDE
    part = image.rotate(float(rng.uniform(-30, 30))).crop(
        (round(x), round(y), round(x + fraction * SIDE), round(y + fraction * SIDE))
    )
    part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part
    return ImageEnhance.Brightness(part.resize((SIDE, SIDE))).enhance(float(rng.uniform(0.7, 1.3)))


def _visit(image: Image.Image, k: int, others: list[Image.Image], rng: Rng) -> Image.Image:
    """Return the image blended with another one, like a later visit of a patient."""
    other = others[int(rng.integers(len(others)))]
    return Image.blend(image, other, float(rng.uniform(0.3, 0.5)))


def _open(path: str) -> Image.Image:
    with Image.open(path) as opened:
        return opened.convert("RGB").resize((SIDE, SIDE))


def _save(image: Image.Image, path: Path, *, quality: int = 90, when: datetime | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if when is not None:
        exif[0x010F] = "Maker One"
        exif.get_ifd(0x8769)[0x9003] = when.strftime("%Y:%m:%d %H:%M:%S")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, exif=exif)
    path.write_bytes(buffer.getvalue())


if __name__ == "__main__":
    main()
