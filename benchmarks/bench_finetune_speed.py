"""Benchmark training of a suffix from cached activations against the usual loops; some minutes.

Ratios are of medians of alternating measurements in one process, so that other processes slow both sides equally.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as training itself sets it

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import Figures

BATCH = 32


def main() -> None:
    """Measure the time per image and epoch of each way of training the same stages."""
    import torch

    from headstart.backbones import load_backbone
    from headstart.backbones.suffix_parts import pooled_suffix
    from headstart.features.view_activations import ViewActivations
    from headstart.preprocessing.augmentation import parse_augment
    from headstart.probe.probe import fit_probe
    from headstart.store.arrays import ArrayRows, RowLayout
    from headstart.training.batch_sources import ActivationSource
    from headstart.training.loop import Training
    from headstart.training.network import FinetunedNetwork, HeadModule
    from headstart.training.plan import default_plan
    from headstart.utils.system import available_cores

    torch.set_num_threads(available_cores())
    figures = Figures("finetune_speed")
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
        """Random activations in place of a prefix, whose cost is not measured here."""

        def __init__(self, shape: tuple[int, ...]) -> None:
            self.shape = shape

        def run(self, batch: Any) -> dict[str, Any]:
            return {"state0": rng.random((len(batch), *self.shape), dtype=np.float32)}

    def stepper(module: Any, inputs: Any, parameters: list[Any]) -> Callable[[], None]:
        """Return a minimal step: forward, loss, backward, AdamW."""
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
                activations = prefix(x)
            return suffix(activations)[0]

        ways[f"uncached {cut}"] = stepper(uncached, pixels, parameters)
        ways[f"bare {cut}"] = stepper(lambda x, suffix=suffix: suffix(x)[0], state, parameters)
        ways[f"cached {cut}"] = _cached(
            backbone, cut, tuple(state.shape[1:]), ids, files, folder, Rows, (fit_probe, default_plan, parse_augment),
            (Training, FinetunedNetwork, HeadModule, ActivationSource, ViewActivations, ArrayRows, RowLayout),
        )  # fmt: skip
        trains |= dict.fromkeys((f"uncached {cut}", f"bare {cut}", f"cached {cut}"), parameters)
    everything = list(backbone.module.parameters())
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(int(os.environ.get("HEADSTART_BENCH_ROUNDS", "9"))):
        for name, step in ways.items():
            own = {id(p) for p in trains[name]}
            for parameter in everything:  # the ways share weights; each trains only its own
                parameter.requires_grad_(id(parameter) in own)
            started = time.perf_counter()
            step()
            if round_:
                times[name].append(time.perf_counter() - started)
    ms = {name: 1e3 * float(np.median(values)) / BATCH for name, values in times.items()}
    for name, value in ms.items():
        figures.add(f"{name}: ms per image and epoch", value)

    def ratio(a: str, b: str, most: float) -> None:
        value = ms[a] / ms[b]
        figures.add(f"{a} / {b}", value, f"<= {most}", is_met=value <= most)

    ratio("cached last-2", "whole", 0.25)
    ratio("cached last-2", "uncached last-2", 0.6)
    ratio("cached last-1", "whole", 0.08)
    relative = ms["bare last-2"] / ms["cached last-2"]
    figures.add("speed of cached last-2 relative to a minimal loop", relative, ">= 0.7", is_met=relative >= 0.7)
    figures.save(load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None)


def _cached(
    backbone: Any, cut: str, shape: tuple[int, ...], ids: Any, files: list[bytes], folder: Path, rows: Any,
    functions: tuple[Any, ...], parts: tuple[Any, ...],
) -> Callable[[], None]:  # fmt: skip
    """Return one step of headstart's training loop with activations from disk."""
    import hashlib

    fit_probe, default_plan, parse_augment = functions
    training_class, net_class, head_class, source_class, views_class, rows_class, layout_class = parts
    from headstart.backbones.suffix_parts import pooled_suffix
    from headstart.preprocessing.image_spec import ImageSpec

    network = backbone.network
    rng = np.random.default_rng(1)
    head = fit_probe({"embedding": rng.random((len(ids), 1280), dtype=np.float32)}, ids, 4).head
    suffix = pooled_suffix(network, cut, ["embedding"])
    begin = network.position(cut)
    net = net_class(
        head_class(head), suffix, ("embedding",), owner=backbone.module, stage_of=network.map.stage_of,
        trainable=range(begin, len(network.names)),
    )  # fmt: skip
    layout = layout_class(("state0",), (shape,))
    spec = ImageSpec()
    space = rows_class(folder / cut, layout)
    digests = [hashlib.sha256(f).hexdigest() for f in files]
    views = views_class(files, digests, ["image"] * len(files), rows(shape), spec, space, parse_augment("flip"), 0)
    values = rng.random((len(files), layout.row_size), dtype=np.float32)
    for view in (1, 2):
        space.put([views.key(i, view) for i in range(len(files))], values)
    plan = default_plan("finetune", cut, 1000, 4).with_(epochs=100_000, num_views=2, batch_size=BATCH)
    training = training_class(net, source_class(views, 1), ids, plan, np.arange(len(ids)))
    steps = training.run()

    def step() -> None:
        next(steps)

    return step


if __name__ == "__main__":
    main()
