"""Benchmark the main pipeline: feature extraction, cold and warm training, memory, start-up.

R is the best ONNX Runtime rate of the graph on random pixels, d the single-thread time to read, decode and resize one
file; `1 / (1/R + d/cores)` is the ideal rate with perfect overlap.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import Figures, bench_data
from headstart.events import EventStream
from headstart.features.backbone_graph import FrozenGraph
from headstart.features.engines import OnnxEngine
from headstart.features.extraction import embed_files
from headstart.features.extractor import open_graph
from headstart.preprocessing.image_spec import read_image
from headstart.utils.system import available_cores

CORES = available_cores()
SETS = ("clothing/train", "clothing/test", "clothing/val", "hand_drawn_shapes/train", "blood_cells/train")


def main() -> None:
    """Measure everything; about five minutes."""
    figures = Figures("pipeline")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        data = gather(root / "images", 3000)
        files = sorted(str(p) for p in data.rglob("*.*"))
        graph, seconds = prepare(root / "cache")
        figures.add("preparing the graph, s", seconds, "at most 20", is_met=seconds <= 20)
        rates = measure_rates(graph, files[:: len(files) // 800])
        R, d = rates["bare"], rates["decode_s"]
        ideal = 1 / (1 / R + d / CORES)
        figures.add("R, bare ONNX Runtime, images/s", R)
        figures.add("d, decoding and resizing, ms", 1000 * d)
        fraction = rates["fraction"]
        figures.add("files to embeddings, fraction of the ideal", fraction, "at least 0.85", is_met=fraction >= 0.85)
        figures.add("files to embeddings, images/s", rates["own"], note=f"ideal {ideal:.0f}")
        ratio = rates["over_torch"]
        figures.add("files to embeddings over PyTorch eager + DataLoader", ratio, "at least 3", is_met=ratio >= 3)

        cold = [train(root, data, f"cold{i}", is_cold=True) for i in range(2)]
        allowed = 1.2 * len(files) * (1 / R + d / CORES) + 5
        wall = min(c["wall"] for c in cold)
        figures.add("cold training of 3,000 images, s", wall, f"at most {allowed:.1f}", is_met=wall <= allowed)
        warm = [train(root, data, f"warm{i}") for i in range(3)]
        wall = statistics.median(w["wall"] for w in warm)
        figures.add("warm training of 3,000 images, s", wall, "at most 6", is_met=wall <= 6)
        parity = statistics.median(w["parity"] for w in warm)
        figures.add("parity check of warm training, s", parity, "at most 2", is_met=parity <= 2)
        small = max(c["memory"] for c in cold)
        figures.add("private memory at 3,000 images, GB", small, "at most 1.5", is_met=small <= 1.5)
        larger = gather(root / "more", 12000)
        big = train(root, larger, "big", is_cold=True)
        more = big["memory"] - small
        figures.add("additional memory at 12,000 images, GB", more, "at most 0.4", is_met=more <= 0.4)
        again = train(root, larger, "again")
        figures.add("additional memory at 12,000 images, warm, GB", again["memory"] - small, "at most 0.4",
                    is_met=again["memory"] - small <= 0.4)  # fmt: skip
        figures.add("warm training of 12,000 images, s", again["wall"])
        heavy = sorted(set(cold[0]["modules"]) & {"torch", "timm", "scipy", "sklearn"})
        figures.add("torch and timm imported by training", len({"torch", "timm"} & set(heavy)), "0",
                    is_met=not {"torch", "timm"} & set(heavy), note=", ".join(heavy))  # fmt: skip

        one = timed(root, "predict", str(root / "warm0"), files[0])
        figures.add("one image from the shell, s", one, "under 1.5", is_met=one < 1.5)
        help_s = timed(root, "--help")
        figures.add("--help, s", help_s, "under 0.4", is_met=help_s < 0.4)
    figures.save()


def gather(root: Path, count: int) -> Path:
    """Write `count` different files into class folders; repeated files get two extra bytes at the end."""
    number = 0
    repeat = 0
    while number < count:
        for name in SETS:
            for file in sorted((bench_data() / name).rglob("*.*")):
                if number >= count:
                    return root
                target = root / f"{name.split('/')[0]}_{file.parent.name}" / f"{number:06d}{file.suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
                if repeat:
                    with open(target, "ab") as end:
                        end.write(repeat.to_bytes(2, "little"))
                number += 1
        repeat += 1
    return root


def prepare(cache: Path) -> tuple[FrozenGraph, float]:
    """Export the graph in a separate process; return it with the seconds taken."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "headstart", "doctor", "--prepare", "--backbone", "efficientnet_lite0"],
        env={**os.environ, "HEADSTART_CACHE": str(cache)},
        check=True,
        capture_output=True,
    )
    return open_graph("efficientnet_lite0", EventStream(), root=cache), time.perf_counter() - started


def measure_rates(graph: FrozenGraph, files: list[str]) -> dict[str, float]:
    """Return the medians of R, d, our rate and PyTorch's over five alternating rounds."""
    rounds: list[dict[str, float]] = []
    engine = OnnxEngine(graph.path)
    torch_loop = eager_loop(graph)
    for _ in range(5):
        row: dict[str, float] = {"bare": bare_rate(graph)}
        started = time.perf_counter()
        for file in files[:200]:
            read_image(file, graph.spec)
        row["decode_s"] = (time.perf_counter() - started) / 200
        started = time.perf_counter()
        embed_files(files, engine, graph.spec)
        row["own"] = len(files) / (time.perf_counter() - started)
        row["torch"] = torch_loop(files[:200])
        row["fraction"] = row["own"] * (1 / row["bare"] + row["decode_s"] / CORES)
        row["over_torch"] = row["own"] / row["torch"]
        rounds.append(row)
    return {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}


def bare_rate(graph: FrozenGraph, seconds: float = 2.0) -> float:
    """Return the better rate of one session on all cores and one single-thread session per core."""
    import onnxruntime

    pixels = np.random.default_rng(0).normal(size=(8, 3, *graph.spec.size_hw)).astype(np.float32)

    def run(num_threads: int, workers: int) -> float:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        session = onnxruntime.InferenceSession(graph.path, options, providers=["CPUExecutionProvider"])
        session.run(None, {"pixels": pixels})
        counts = [0] * workers
        end = time.perf_counter() + seconds / 2

        def work(i: int) -> None:
            while time.perf_counter() < end:
                session.run(None, {"pixels": pixels})
                counts[i] += len(pixels)

        started = time.perf_counter()
        pool = [threading.Thread(target=work, args=(i,)) for i in range(workers)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        return sum(counts) / (time.perf_counter() - started)

    return max(run(CORES, 1), run(1, CORES))


def eager_loop(graph: FrozenGraph) -> Any:
    """Return the common tutorial loop: Dataset, DataLoader with workers, eager torch under no_grad."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    from headstart.backbones import load_backbone
    from headstart.preprocessing.image_spec import normalize

    module = load_backbone("efficientnet_lite0").module.eval()
    torch.set_num_threads(CORES)

    class Images(Dataset):  # type: ignore[type-arg,misc]
        def __init__(self, paths: list[str]) -> None:
            self.paths = paths

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, i: int) -> Any:
            return torch.from_numpy(normalize(read_image(self.paths[i], graph.spec), graph.spec))

    def loop(paths: list[str]) -> float:
        loader = DataLoader(Images(paths), batch_size=32, num_workers=CORES)
        started = time.perf_counter()
        with torch.no_grad():
            for batch in loader:
                module.forward_features(batch).mean((2, 3))
        return len(paths) / (time.perf_counter() - started)

    return loop


_CHILD = """
import json, sys, threading, time
started = time.monotonic()
peak = 0
def private():
    total = 0
    with open("/proc/self/smaps_rollup") as file:
        for line in file:
            if line.startswith("Private_"):
                total += int(line.split()[1])
    return total
def watch():
    global peak
    while True:
        peak = max(peak, private())
        time.sleep(0.2)
if sys.platform == "linux":
    threading.Thread(target=watch, daemon=True).start()
from headstart.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
json.dump({"peak_kb": peak, "modules": sorted({m.split(".")[0] for m in sys.modules})}, sys.stdout)
"""


def train(root: Path, data: Path, name: str, *, is_cold: bool = False) -> dict[str, Any]:
    """Train in a separate process; wall time includes the interpreter start."""
    import json

    if is_cold:
        for part in ("features", "scans"):
            shutil.rmtree(root / "cache" / part, ignore_errors=True)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, "train", str(data), "--out", str(root / name)],
        env={**os.environ, "HEADSTART_CACHE": str(root / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr)
    child = json.loads(done.stdout)
    metrics = json.loads((root / name / "metrics.json").read_text())
    print(f"  {name}: {wall:.1f} s {metrics['duration_s']}", flush=True)
    return {
        "wall": wall,
        "parity": metrics["duration_s"]["parity"],
        "memory": child["peak_kb"] / 2**20,
        "modules": child["modules"],
    }


def timed(root: Path, *arguments: str) -> float:
    """Return the median wall time of a command in a separate process."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "headstart", *arguments],
            env={**os.environ, "HEADSTART_CACHE": str(root / "cache")},
            capture_output=True,
            check=True,
        )
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
