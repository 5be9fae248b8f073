"""Benchmark detection data: equality of mAP with pycocotools, reading of real datasets, evaluation time.

    python -m benchmarks.bench_boxes RUN DATA [RUN DATA ...]   detector runs and images with boxes to score
    python -m benchmarks boxes                                 random boxes, and reading of the benchmark data

Ratios are relative to pycocotools in the same run; both start from boxes in memory.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks._common import Figures, bench_data

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "detection"))
from reference_coco import random_images, reference

from headstart.api.model import open_model
from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import Boxes, Detections
from headstart.detection.decoding import suppress
from headstart.detection.metrics import evaluate_detections
from headstart.quality.box_inspection import inspect_box_dataset
from headstart.types.codes import USER_TEST_SPLIT
from headstart.utils.limits import MAX_DETECTIONS


def main() -> None:
    """Score the given runs and random boxes, then read the benchmark data."""
    words = sys.argv[1:] if Path(sys.argv[0]).name == "bench_boxes.py" else []
    figures = Figures("boxes")
    for run, data in zip(words[::2], words[1::2], strict=True):
        model = open_model(run)
        samples = read_boxes(data)
        detections = [p.detections for p in model.predict([str(p) for p in samples.paths], min_score=0.0)]
        ids = {name: k for k, name in enumerate(model.class_names)}
        truth = [
            Boxes.of(b.xyxy, [ids[samples.class_names[k]] for k in b.class_ids], b.is_crowd) for b in samples.boxes
        ]
        compare(figures, f"real predictions, {Path(data).name}", truth, detections, model.class_names)
    for count, name in ((40, "random boxes"), (400, "many random boxes")):
        truth, detections = random_images(0, count=count)
        compare(figures, name, truth, detections, ("a", "b", "c"))
    suppress_many(figures)
    for name in ("raccoon", "bccd"):
        read(figures, bench_data() / name)
    figures.save()


def compare(
    figures: Figures, name: str, truth: Sequence[Boxes], detections: Sequence[Detections], class_names: Sequence[str]
) -> None:
    """Measure the largest difference of six COCO metrics, and the time of both implementations."""
    begun = time.perf_counter()
    ours = evaluate_detections(truth, detections, class_names, draws=0, setup=USER_TEST_SPLIT, max_detections=100)
    middle = time.perf_counter()
    theirs = reference(truth, detections, len(class_names))
    end = time.perf_counter()
    evaluate_detections(truth, detections, class_names, draws=500, setup=USER_TEST_SPLIT)
    last = time.perf_counter()
    values = [ours.map50_95.value, ours.map50.value, ours.map75.value, *ours.by_size.values()]
    stats = np.asarray(theirs["stats"])[:6]
    difference = float(np.abs(np.array([-1.0 if v is None else v for v in values]) - stats).max())
    what = f"{name}: largest difference of six numbers from pycocotools"
    figures.add(what, difference, "at most 1e-4", is_met=difference <= 1e-4, note=f"mAP50 {ours.map50.value:.4f}")
    figures.add(f"{name}: time of pycocotools, as a multiple of ours", (end - middle) / (middle - begun))
    figures.add(f"{name}: time with 500 draws, as a multiple of one pycocotools", (last - end) / (end - middle))


def suppress_many(figures: Figures) -> None:
    """Time non-maximum suppression of 1,000 objects with ten candidates each."""
    rng = np.random.default_rng(0)
    corner = np.repeat(rng.uniform(0, 626, (1000, 2)), 10, axis=0) + rng.normal(0, 0.8, (10_000, 2))
    boxes = np.concatenate([corner, corner + 14 * np.exp(rng.normal(0, 0.05, (10_000, 2)))], axis=1)
    begun = time.perf_counter()
    kept = suppress(boxes[rng.permutation(10_000)], np.zeros(10_000, dtype=np.int64), 0.6, MAX_DETECTIONS)
    took = 1000 * (time.perf_counter() - begun)
    figures.add("milliseconds to suppress 10,000 candidates of 1,000 objects", took, "at most 100", is_met=took <= 100)
    figures.add("boxes kept of these", float(len(kept)))


def read(figures: Figures, folder: Path) -> None:
    """Count what is read and reported, and the images per second of both."""
    begun = time.perf_counter()
    samples = read_boxes(folder)
    middle = time.perf_counter()
    report = inspect_box_dataset(samples)
    end = time.perf_counter()
    figures.add(f"{folder.name}: boxes read", float(samples.num_boxes))
    figures.add(f"{folder.name}: reported boxes and files", float(len(samples.problems)))
    figures.add(
        f"{folder.name}: duplicate pairs", float(len(report.images.duplicates) + len(report.images.near_duplicates))
    )
    figures.add(f"{folder.name}: images read per second", len(samples) / (middle - begun))
    figures.add(f"{folder.name}: images checked per second", len(samples) / (end - middle))


if __name__ == "__main__":
    main()
