"""Speed of training a suffix from its cache against the ways it is usually done, and accuracy over the probe.

    python benchmarks/bench_tuning.py              the ratios of speed, some minutes
    python benchmarks/bench_tuning.py accuracy     the grid of accuracy, resumable; stop it whenever you like

Every ratio is of medians of interleaved measurements in one process, so that other work on the machine
slows both sides alike.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as training itself sets it

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, Figures, bench_data

import headstart
from headstart.errors import HeadstartError

CELLS = RESULTS / "tuning_cells.jsonl"
BATCH = 32
SETS = ("clothing", "hand_drawn_shapes", "blood_cells", "covid_xray")


def main() -> None:
    """Runs one of the two parts."""
    if sys.argv[1:2] == ["accuracy"]:
        accuracy(sys.argv[2:] or ["10", "50", "all"])
    else:
        speed()


def speed() -> None:
    """Seconds a picture and epoch, each way of training the same thing."""
    import torch

    from headstart.backbones import load_backbone
    from headstart.backbones.parts import pooled_suffix
    from headstart.features.boundary import BoundaryCache, RowLayout
    from headstart.features.viewing import Views
    from headstart.heads.probe import fit_probe
    from headstart.machine import available_cores
    from headstart.pixels.views import parse_augment
    from headstart.tuning.loop import Training
    from headstart.tuning.network import HeadModule, TunedNetwork
    from headstart.tuning.plan import default_plan
    from headstart.tuning.sources import BoundarySource

    torch.set_num_threads(available_cores())
    figures = Figures("tuning_speed")
    backbone = load_backbone()
    network = backbone.network
    rng = np.random.default_rng(0)
    ids = np.arange(BATCH * 2) % 4
    pixels = torch.from_numpy(rng.random((BATCH, 3, 224, 224), dtype=np.float32)).contiguous(
        memory_format=torch.channels_last
    )
    target = torch.from_numpy(ids[:BATCH])
    files = [rng.bytes(64) for _ in ids]

    class Rows:
        """A prefix's rows, already known: the cost of making them is counted elsewhere."""

        def __init__(self, shape: tuple[int, ...]) -> None:
            self.shape = shape

        def run(self, batch: Any) -> dict[str, Any]:
            return {"state0": rng.random((len(batch), *self.shape), dtype=np.float32)}

    def stepper(module: Any, inputs: Any, parameters: list[Any]) -> Callable[[], None]:
        """A bare step: forward, loss, backward, AdamW."""
        optimizer = torch.optim.AdamW(parameters, lr=1e-4)
        weight = torch.zeros(4, 1280, requires_grad=True)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            logits = module(inputs) @ weight.T
            torch.nn.functional.cross_entropy(logits, target).backward()
            optimizer.step()

        return step

    ways: dict[str, Callable[[], None]] = {}
    trains: dict[str, list[Any]] = {}
    whole = pooled_suffix(network, "stem", ["embedding"]).to(memory_format=torch.channels_last)
    ways["whole"] = stepper(lambda x: whole(x)[0], pixels, list(whole.parameters()))
    trains["whole"] = list(whole.parameters())
    folder = Path(tempfile.mkdtemp(prefix="headstart-bench-"))
    for cut in ("last-1", "last-2"):
        suffix = pooled_suffix(network, cut, ["embedding"]).to(memory_format=torch.channels_last)
        with torch.no_grad():
            state = backbone.prefix(cut)(pixels).contiguous(memory_format=torch.channels_last)
        parameters = list(suffix.parameters())
        prefix = backbone.prefix(cut)

        def uncached(x: Any, prefix: Any = prefix, suffix: Any = suffix) -> Any:
            with torch.no_grad():
                made = prefix(x)
            return suffix(made)[0]

        ways[f"uncached {cut}"] = stepper(uncached, pixels, parameters)
        ways[f"bare {cut}"] = stepper(lambda x, suffix=suffix: suffix(x)[0], state, parameters)
        ways[f"cached {cut}"] = _cached(
            backbone, cut, tuple(state.shape[1:]), ids, files, folder, Rows, (fit_probe, default_plan, parse_augment),
            (Training, TunedNetwork, HeadModule, BoundarySource, Views, BoundaryCache, RowLayout),
        )  # fmt: skip
        trains |= dict.fromkeys((f"uncached {cut}", f"bare {cut}", f"cached {cut}"), parameters)
    everything = list(backbone.module.parameters())
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(int(os.environ.get("HEADSTART_BENCH_ROUNDS", "9"))):
        for name, step in ways.items():
            own = {id(p) for p in trains[name]}
            for parameter in everything:  # the ways share their weights; each trains its own and nothing else
                parameter.requires_grad_(id(parameter) in own)
            started = time.perf_counter()
            step()
            if round_:
                times[name].append(time.perf_counter() - started)
    ms = {name: 1e3 * float(np.median(values)) / BATCH for name, values in times.items()}
    for name, value in ms.items():
        figures.add(f"{name}: ms a picture and epoch", value)

    def ratio(a: str, b: str, most: float) -> None:
        value = ms[a] / ms[b]
        figures.add(f"{a} / {b}", value, f"<= {most}", is_met=value <= most)

    ratio("cached last-2", "whole", 0.25)
    ratio("cached last-2", "uncached last-2", 0.6)
    ratio("cached last-1", "whole", 0.08)
    share = ms["bare last-2"] / ms["cached last-2"]
    figures.add("speed of cached last-2 as a share of a bare loop", share, ">= 0.7", is_met=share >= 0.7)
    figures.save(load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None)


def _cached(
    backbone: Any, cut: str, shape: tuple[int, ...], ids: Any, files: list[bytes], folder: Path, rows: Any,
    functions: tuple[Any, ...], parts: tuple[Any, ...],
) -> Callable[[], None]:  # fmt: skip
    """One step of the product's own loop, rows from the disk, everything it does beside included."""
    import hashlib

    fit_probe, default_plan, parse_augment = functions
    training_class, net_class, head_class, source_class, views_class, cache_class, layout_class = parts
    from headstart.backbones.parts import pooled_suffix
    from headstart.pixels.spec import PixelSpec

    network = backbone.network
    rng = np.random.default_rng(1)
    head = fit_probe({"embedding": rng.random((len(ids), 1280), dtype=np.float32)}, ids, 4).head
    rear = pooled_suffix(network, cut, ["embedding"])
    begin = network.position(cut)
    net = net_class(
        head_class(head), rear, ("embedding",), owner=backbone.module, stage_of=network.map.stage_of,
        trainable=range(begin, len(network.names)),
    )  # fmt: skip
    layout = layout_class(("state0",), (shape,))
    spec = PixelSpec()
    space = cache_class(folder).space(cut, spec.digest, layout)
    digests = [hashlib.sha256(f).hexdigest() for f in files]
    views = views_class(files, digests, ["picture"] * len(files), rows(shape), spec, space, parse_augment("flip"), 0)
    values = rng.random((len(files), layout.row_size), dtype=np.float32)
    for view in (1, 2):
        space.put([views.key(i, view) for i in range(len(files))], values)
    plan = default_plan("finetune", cut, 1000, 4).with_(epochs=100_000, views=2, batch_size=BATCH)
    training = training_class(net, source_class(views, 1), ids, plan, np.arange(len(ids)))
    steps = training.run()

    def step() -> None:
        next(steps)

    return step


def accuracy(sizes: list[str]) -> None:
    """Probe against the default within a budget, on every set, size and seed; finished cells are kept."""
    done = {tuple(json.loads(line)["cell"]) for line in _lines()}
    root = bench_data()
    cells = [(name, size, seed) for size in sizes for seed in (0, 1, 2) for name in SETS]
    for name, size, seed in cells:
        if (name, size, seed) in done or not (root / name).is_dir():
            continue
        with tempfile.TemporaryDirectory(prefix="headstart-bench-") as folder:
            data = _subset(root / name, size, seed, Path(folder))
            started = time.monotonic()
            try:
                budget = os.environ.get("HEADSTART_BENCH_BUDGET", "2m")
                run = headstart.train(data, out=Path(folder) / "run", budget=budget, seed=seed)
            except HeadstartError as error:
                print(f"{name} {size} {seed}: {error.message}")
                continue
            metrics = run.metrics
            row: dict[str, Any] = {
                "cell": [name, size, seed],
                "taken": metrics["strategy"],
                "test": metrics["test"]["accuracy"]["uncorrected"],
                "probe_test": (metrics.get("probe") or metrics)["test"]["accuracy"]["uncorrected"],
                "num_test": metrics["test"]["num_samples"],
                "verdict": metrics.get("tuning", {}).get("verdict"),
                "duration_s": round(time.monotonic() - started, 1),
                "budget": budget,
                "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            }
        RESULTS.mkdir(exist_ok=True)
        with open(CELLS, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"{name} {size} {seed}: {row['taken']}, test {row['test']:.3f}, probe {row['probe_test']:.3f}", flush=True
        )
    _summarise()


def _summarise() -> None:
    rows = [json.loads(line) for line in _lines()]
    if not rows:
        return
    figures = Figures("tuning_accuracy")
    gains = np.array([100 * (r["test"] - r["probe_test"]) for r in rows])
    taken = np.array([r["taken"] != "probe" for r in rows])
    rng = np.random.default_rng(0)
    low, high = np.quantile(gains[rng.integers(0, len(gains), (2000, len(gains)))].mean(axis=1), [0.025, 0.975])
    note = f"95 %: {low:+.2f} to {high:+.2f}, {len(rows)} cells, {int(taken.sum())} fine-tuned"
    figures.add(
        "mean gain of the default over the probe, points", float(gains.mean()), "> 0", is_met=low > 0, note=note
    )
    if taken.any():
        loss = float(np.maximum(-gains[taken], 0).mean())
        figures.add("mean loss over accepted fine-tunes, points", loss, "<= 0.3", is_met=loss <= 0.3)
    figures.save(cells=rows)


def _lines() -> list[str]:
    return CELLS.read_text(encoding="utf-8").splitlines() if CELLS.exists() else []


def _subset(source: Path, size: str, seed: int, folder: Path) -> Path:
    """The set with so many training pictures a class; the test pictures stay as they are."""
    target = folder / "data"
    rng = np.random.default_rng([seed, 3])
    for part in ("train", "test"):
        for place in sorted(p for p in (source / part).iterdir() if p.is_dir()):
            files = sorted(p for p in place.iterdir() if p.is_file())
            if part == "train" and size != "all":
                files = [files[i] for i in sorted(rng.permutation(len(files))[: int(size)])]
            (target / part / place.name).mkdir(parents=True, exist_ok=True)
            for file in files:
                (target / part / place.name / file.name).symlink_to(file)
    return target


if __name__ == "__main__":
    main()
