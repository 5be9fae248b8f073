"""Run the reference implementation on headstart's records, and generate random images; for tests and benchmarks."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np

from headstart.data.boxes.records import Boxes, Detections


def random_images(
    seed: int, count: int = 20, num_classes: int = 3, *, crowds: bool = True, ties: bool = False
) -> tuple[list[Boxes], list[Detections]]:
    """Return boxes of all sizes, and detections: close, duplicate, missing, misclassified or false."""
    rng = np.random.default_rng(seed)
    truth, detections = [], []
    for _ in range(count):
        num = int(rng.integers(0, 8))
        side = np.exp(rng.uniform(np.log(8), np.log(200), (num, 2)))
        corner = rng.uniform(0, 400, (num, 2))
        xyxy = np.concatenate([corner, corner + side], axis=1)
        class_ids = rng.integers(0, num_classes, num)
        crowd = rng.random(num) < (0.15 if crowds else 0)
        truth.append(Boxes.of(xyxy, class_ids, crowd))
        copies = np.repeat(np.arange(num), rng.integers(0, 4, num))
        sides = np.concatenate([side, side], axis=1)[copies]
        near = xyxy[copies] + rng.normal(0, 0.12, (len(copies), 4)) * sides
        near_class = np.where(
            rng.random(len(copies)) < 0.1, rng.integers(0, num_classes, len(copies)), class_ids[copies]
        )
        odd = int(rng.integers(0, 5))
        odd_corner = rng.uniform(0, 400, (odd, 2))
        nowhere = np.concatenate([odd_corner, odd_corner + rng.uniform(5, 120, (odd, 2))], axis=1)
        every = np.concatenate([near, nowhere])
        every = np.stack([*np.minimum(every[:, :2], every[:, 2:]).T, *np.maximum(every[:, :2], every[:, 2:]).T], axis=1)
        scores = rng.random(len(every))
        if ties:
            scores = np.round(scores * 4) / 4
        detections.append(Detections.of(every, scores, np.concatenate([near_class, rng.integers(0, num_classes, odd)])))
    return truth, detections


def reference(
    truth: Sequence[Boxes], all_detections: Sequence[Detections], num_classes: int, max_detections: int = 100
) -> dict[str, object]:
    """Return the tables of pycocotools, precision (T, R, K, A, M) and recall (T, K, A, M), and its twelve numbers.

    The numbers exist only for 100 detections per class and image.
    """
    images = [{"id": i + 1, "width": 1000, "height": 1000} for i in range(len(truth))]
    annotations, results = [], []
    for i, boxes in enumerate(truth, start=1):
        for (x0, y0, x1, y1), k, crowd in zip(
            boxes.xyxy.astype(np.float64).tolist(), boxes.class_ids.tolist(), boxes.is_crowd.tolist(), strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": k + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": int(crowd),
                }
            )
    for i, detections in enumerate(all_detections, start=1):
        for (x0, y0, x1, y1), score, k in zip(
            detections.xyxy.astype(np.float64).tolist(),
            detections.scores.astype(np.float64).tolist(),
            detections.class_ids.tolist(),
            strict=True,
        ):
            results.append({"image_id": i, "category_id": k + 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score})
    categories = [{"id": k + 1, "name": str(k)} for k in range(num_classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return evaluate_coco(content, results, max_detections)


def evaluate_coco(
    content: dict[str, object], results: list[dict[str, object]], max_detections: int = 100
) -> dict[str, object]:
    """Return the tables and numbers of pycocotools for the content of a COCO file; see `reference`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = content
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.params.maxDets = [1, 10, max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
        if max_detections == 100:
            evaluation.summarize()
    tables = {name: evaluation.eval[name] for name in ("precision", "recall")}
    return {**tables, "stats": evaluation.stats if max_detections == 100 else None}
