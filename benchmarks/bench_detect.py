"""Benchmark detection: accuracy on two public datasets, training and prediction speed, memory.

    python -m benchmarks.bench_detect quality [raccoon] [bccd]   resumable: finished folds are skipped
    python -m benchmarks.bench_detect speed [RUN]                ratios, alternating in one process; RUN is a detector
                                                                 at 320 px; trained if not given
    python -m benchmarks detect                                  both, then the summary

Training times depend on other processes, so CPU seconds and the load average are recorded too.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as training itself sets it

import csv
import json
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import headstart
from benchmarks._common import RESULTS, Figures, bench_data, commit
from headstart.api.model import open_model
from headstart.console import open_console
from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import Detections
from headstart.data.boxes.split import rarest_class
from headstart.detection.metrics import evaluate_detections
from headstart.inference.decoders import BoxDecoder
from headstart.inference.runtime import Runtime
from headstart.quality.box_inspection import apply_box_report, inspect_box_dataset
from headstart.training.folds import make_folds
from headstart.types.codes import USER_TEST_SPLIT

CELLS = RESULTS / "detect_cells.jsonl"
NOTES = RESULTS / "detect_tried.json"
MAX_KEPT = 60  # detections stored per image
BATCH = 8


def main() -> None:
    """Run the given parts, or all."""
    words = sys.argv[1:] if Path(sys.argv[0]).name == "bench_detect.py" else []
    figures = Figures("detect")
    if not words or words[0] == "quality":
        for name in words[1:] or ("raccoon", "bccd"):
            quality(name)
    if not words or words[0] == "speed":
        speed(figures, words[1] if len(words) > 1 else None)
    summarize(figures)
    figures.save(**({"tried": json.loads(NOTES.read_text(encoding="utf-8"))} if NOTES.exists() else {}))


# -- quality


def quality(name: str) -> None:
    """Train the missing folds of one dataset; append each result."""
    folder = bench_data() / name
    samples = read_boxes(folder)
    done = {(c["set"], c["fold"]) for c in read_cells()}
    for fold, parts in jobs(name, folder).items():
        if (name, fold) in done:
            continue
        with tempfile.TemporaryDirectory() as place:
            manifest = Path(place) / "split.csv"
            with open(manifest, "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("image", "label", "split", "group"))
                writer.writerows((n, "", p, "") for n, p in zip(samples.names, parts, strict=True))
            with Peak() as peak:
                begun, used = time.monotonic(), time.process_time()
                run = headstart.train(folder, out=Path(place) / "run", split=manifest, events=open_console())
                wall_s, cpu_s = time.monotonic() - begun, time.process_time() - used
            test = [i for i, p in enumerate(parts) if p == "test"]
            runtime = Runtime(run.folder)
            decoder = BoxDecoder(runtime.bundle, min_score=0.0)
            decoder.settings = replace(decoder.settings, slope=1.0, offset=0.0)  # raw scores are pooled
            detections = list(runtime.predict([str(samples.paths[i]) for i in test], decoder))
            plan = run.metrics["finetune"]["plan"]
        cell = {
            "set": name,
            "fold": fold,
            "commit": commit(),
            "wall_s": round(wall_s, 1),
            "cpu_s": round(cpu_s, 1),
            "load": round(os.getloadavg()[0], 2),
            "private_mb": round(peak.bytes / 1e6),
            "plan": plan,
            "images": test,
            "detections": [keep(f.detections) for f in detections],
        }
        with open(CELLS, "a", encoding="utf-8") as file:
            file.write(json.dumps(cell, separators=(",", ":")) + "\n")
        print(f"{name} {fold}: {wall_s:.0f} s, {cpu_s:.0f} s of CPU time", flush=True)


def jobs(name: str, folder: Path) -> dict[str, list[str]]:
    """Return the split of every image by the name of the job."""
    samples = read_boxes(folder)
    if name == "bccd":
        return {"test": ["test" if s == "test" else "train" if s else "" for s in samples.split]}
    groups = apply_box_report(samples, inspect_box_dataset(samples)).groups
    fold_of = make_folds(rarest_class(samples) + 1, 5, groups=groups, seed=0)
    return {f"fold{k + 1}": ["test" if f == k else "train" for f in fold_of] for k in range(5)}


def keep(detections: Detections) -> list[list[float]]:
    """Return rounded rows of box, score and class id."""
    best = detections.take(np.arange(min(len(detections), MAX_KEPT if len(detections) else 0)))
    return [
        [*(round(float(v), 1) for v in box), round(float(score), 4), int(kind)]
        for box, score, kind in zip(best.xyxy, best.scores, best.class_ids, strict=True)
    ]


def read_cells() -> list[dict[str, Any]]:
    """Return the finished cells."""
    return [json.loads(line) for line in CELLS.read_text(encoding="utf-8").splitlines()] if CELLS.exists() else []


def summarize(figures: Figures) -> None:
    """Report the scores of all cells, pooled over folds."""
    aims = {"raccoon": {"mAP50": 0.90}, "bccd": {"mAP50": 0.84, "Platelets": 0.70}}
    for name, aim in aims.items():
        cells = [c for c in read_cells() if c["set"] == name]
        if not cells:
            continue
        samples = read_boxes(bench_data() / name)
        index = [i for c in cells for i in c["images"]]
        rows = [np.array(r, dtype=np.float64).reshape(-1, 6) for c in cells for r in c["detections"]]
        detections = [Detections.of(r[:, :4], r[:, 4], r[:, 5]) for r in rows]
        e = evaluate_detections(
            [samples.boxes[i] for i in index], detections, samples.class_names, setup=USER_TEST_SPLIT
        )
        what = f"{name}, {len(cells)} fold{'s' * (len(cells) > 1)}, {len(index)} images"
        for label, estimate in (("mAP50", e.map50), ("mAP75", e.map75), ("mAP50-95", e.map50_95)):
            bar = aim.get(label)
            value = estimate.value or 0.0
            note = f"95 %: {estimate.low:.3f}-{estimate.high:.3f}" if estimate.low is not None else ""
            is_met = None if bar is None else value >= bar
            figures.add(f"{what}: {label}", value, f">= {bar}" if bar else "", is_met=is_met, note=note)
        for c in e.per_class if len(e.per_class) > 1 else ():
            value = c.ap50.value or 0.0
            bar = aim.get(c.name)
            is_met = None if bar is None else value >= bar
            figures.add(f"{name}: AP50 of {c.name}", value, f">= {bar}" if bar else "", is_met=is_met)
        limit = 900.0 if name == "bccd" else 300.0
        cpu = max(c["cpu_s"] for c in cells)
        wall, load = max(c["wall_s"] for c in cells), max(c["load"] for c in cells)
        note = f"slowest wall time {wall:.0f} s at a load of up to {load}"
        what = f"{name}: CPU seconds per fold / 2"
        figures.add(what, cpu / 2, f"<= {limit:.0f}", is_met=cpu / 2 <= limit, note=note)
        figures.add(f"{name}: peak private memory, MB", max(c["private_mb"] for c in cells), "< 4000")


class Peak:
    """Context manager that measures the peak private memory, sampled every 0.5 s."""

    def __enter__(self) -> Peak:
        self.bytes = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.5):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    self.bytes = max(self.bytes, int(line.split()[1]) * 1024)


# -- speed


def speed(figures: Figures, run: str | None) -> None:
    """Measure speed ratios of training steps and of prediction."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    for size, min_stride, cut in ((320, 16, "neck"), (320, 16, "stage6"), (416, 8, "stage6")):
        step_ratios(figures, size, min_stride, cut)
    prediction(figures, run)


def step_ratios(figures: Figures, size: int, min_stride: int, cut: str) -> None:
    """Compare a training step on cached activations with the same step from pixels."""
    import torch

    from headstart.backbones import load_backbone
    from headstart.detection.augmentation import ViewBoxes
    from headstart.detection.feature_taps import choose_taps, tap_prefix, tap_suffix
    from headstart.detection.loop import DetectNetwork, DetectTraining
    from headstart.detection.network import DetectorHead
    from headstart.detection.plan import DetectPlan

    backbone = load_backbone(image_size=size)
    network = backbone.network
    taps = choose_taps(network, min_stride)
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.random((BATCH, 3, size, size), dtype=np.float32))
    corner = rng.uniform(0, size / 2, (BATCH, 3, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(30, size / 2, (BATCH, 3, 2))], 2).astype(np.float32)
    truth = [ViewBoxes(b, np.arange(3) % 2, np.zeros((0, 4), dtype=np.float32)) for b in boxes]
    prefix = tap_prefix(network, cut, taps.stages).eval()
    with torch.no_grad():
        rows = [p.half().numpy() for p in prefix(pixels)]

    class Source:
        def __init__(self, read: Callable[[], Any]) -> None:
            self.read = read

        def announce(self, pairs: Any) -> None:
            pass

        def batch(self, samples: Any, views: Any) -> Any:
            with torch.no_grad():
                return self.read(), truth

    def training(read: Callable[[], Any], layout: Any) -> DetectTraining:
        width = 64 if min_stride == 8 else 96  # the defaults
        head = DetectorHead(taps.channels, taps.strides, 2, width=width).to(memory_format=layout)
        suffix = tap_suffix(network, cut, taps.stages).to(memory_format=layout)
        inside = {id(p) for p in suffix.parameters()}
        stage = [(n, p) for n, p in backbone.module.named_parameters() if id(p) in inside]
        net = DetectNetwork(suffix, head, backbone.module, [stage] if stage else [])
        plan = DetectPlan(unfreeze_after=0.0, epochs=10_000)
        return DetectTraining(net, Source(read), plan, np.arange(BATCH), taps.sizes_hw)

    last = torch.channels_last
    ids = np.arange(BATCH)
    ways: dict[str, tuple[Any, Callable[[], Any]]] = {
        "cached": (last, lambda: tuple(torch.from_numpy(r).float().contiguous(memory_format=last) for r in rows)),
        "channels_last": (last, lambda: prefix(pixels.contiguous(memory_format=last))),
        "NCHW": (torch.contiguous_format, lambda: prefix(pixels)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(6):
        for name, (layout, read) in ways.items():
            backbone.module.to(memory_format=layout)
            one = training(read, layout)
            one.take_step(ids, ids)
            begun = time.perf_counter()
            one.take_step(ids, ids)
            one.take_step(ids, ids)
            if turn:
                times[name].append((time.perf_counter() - begun) / 2)
    cached = float(np.median(times["cached"]))
    what = f"step at {size} px, min stride {min_stride}, {'frozen' if cut == 'neck' else 'trains from ' + cut}"
    for name, aim in (("channels_last", 0.75), ("NCHW", 0.45)):
        ratio = cached / float(np.median(times[name]))
        note = f"{1e3 * cached:.0f} ms cached, batch {BATCH}"
        figures.add(f"{what}: cached / uncached {name}", ratio, f"<= {aim}", is_met=ratio <= aim, note=note)


def prediction(figures: Figures, run: str | None) -> None:
    """Compare prediction from files with torchvision's SSDlite320 in eager mode, alternating."""
    import torch
    from PIL import Image
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large
    from torchvision.transforms.functional import pil_to_tensor

    folder = bench_data() / "raccoon"
    with tempfile.TemporaryDirectory() as place:
        if run is None:
            run = str(headstart.train(folder, out=Path(place) / "run", epochs=1, num_views=1, image_size=320).folder)
        model = open_model(run)
        files = [str(p) for p in read_boxes(folder).paths][:96]
        ssdlite = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2).eval()

        def theirs() -> None:
            with torch.inference_mode():
                for file in files[:24]:
                    with Image.open(file) as image:
                        ssdlite([pil_to_tensor(image.convert("RGB")).float() / 255])

        def ours() -> None:
            model.predict(files)

        ours()
        theirs()
        own_rates, other_rates = [], []
        for _ in range(5):
            begun = time.perf_counter()
            ours()
            own_rates.append(len(files) / (time.perf_counter() - begun))
            begun = time.perf_counter()
            theirs()
            other_rates.append(24 / (time.perf_counter() - begun))
    load = f"load {os.getloadavg()[0]:.1f}"
    rate = float(np.median(own_rates))
    figures.add("prediction at 320 px, files to boxes, images per second", rate, ">= 30", is_met=rate >= 30, note=load)
    ratio = rate / float(np.median(other_rates))
    figures.add(
        "the same / torchvision SSDlite320 eager", ratio, ">= 2", is_met=ratio >= 2, note="SSDlite with random weights"
    )


if __name__ == "__main__":
    main()
