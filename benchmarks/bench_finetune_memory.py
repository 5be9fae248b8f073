"""Measure the memory of training the last two stages on 5,000 images with 8 stored views each.

Random activations of the right size replace the frozen prefix, because the benchmark measures storing, reading and
training on 45,000 rows; suffix and training are real. Needs about 2 GB of disk for a minute.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import Figures

NUM, VIEWS, MAX_GB = 5000, 8, 3.0
_STEPS = 12  # per epoch: enough to run every part of the loop


def main() -> None:
    """Measure the peak private memory."""
    if sys.platform != "linux":
        print("private memory is read from /proc, which this system does not have")
        return
    folder = Path(tempfile.mkdtemp(prefix="headstart-bench-"))
    try:
        peak = _train(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = Figures("finetune_memory")
    what = f"private memory, {NUM:,} images x {VIEWS} views, last two stages, GB"
    figures.add(what, peak / 1e9, f"< {MAX_GB:g}", is_met=peak < MAX_GB * 1e9)
    figures.save(load=os.getloadavg()[0])


def _train(folder: Path) -> int:
    """Return the peak private memory in bytes."""
    import hashlib

    from headstart.backbones import load_backbone
    from headstart.backbones.suffix_parts import pooled_suffix
    from headstart.features.view_activations import ViewActivations, ViewSet
    from headstart.preprocessing.augmentation import parse_augment
    from headstart.preprocessing.image_spec import ImageSpec
    from headstart.probe.probe import fit_probe
    from headstart.store.arrays import ArrayRows, RowLayout
    from headstart.training.batch_sources import ActivationSource
    from headstart.training.loop import Training
    from headstart.training.network import FinetunedNetwork, HeadModule
    from headstart.training.plan import default_plan

    backbone = load_backbone()
    network = backbone.network
    shape = network.state_shapes("last-2")[0]
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 10, NUM)
    head = fit_probe({"embedding": rng.random((200, 1280), dtype=np.float32)}, np.arange(200) % 10, 10).head
    suffix = pooled_suffix(network, "last-2", ["embedding"])
    net = FinetunedNetwork(
        HeadModule(head), suffix, ("embedding",), owner=backbone.module, stage_of=network.map.stage_of,
        trainable=range(network.position("last-2"), len(network.names)),
    )  # fmt: skip
    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(NUM)]
    files = [""] * NUM
    space = ArrayRows(folder, RowLayout(("state0",), (shape,)))
    images = ViewSet(files, digests, digests, parse_augment("flip"))
    views = ViewActivations(images, None, ImageSpec(), space, num_threads=1)  # type: ignore[arg-type]
    row = rng.random((1, space.layout.row_size), dtype=np.float32).astype(np.float16)
    peak = 0
    for view in range(VIEWS + 1):  # shards of 128 rows, as written by view extraction
        for start in range(0, NUM, 128):
            part = range(start, min(start + 128, NUM))
            space.put(dict(zip([views.key(i, view) for i in part], np.repeat(row, len(part), axis=0), strict=True)))
        peak = max(peak, _private())
    plan = default_plan("finetune", "last-2", NUM, 10).with_(num_views=VIEWS, epochs=VIEWS)
    source = ActivationSource(views, 1)
    training = Training(net, source, ids, plan, np.arange(NUM))
    for epoch in range(VIEWS):  # all rows of an epoch are read; some of its steps are trained
        training.step = epoch * training.steps_per_epoch
        steps = training.run()
        for _ in range(_STEPS):
            next(steps)
        for start in range(0, NUM, 256):
            some = np.arange(start, min(start + 256, NUM))
            source.batch(some, np.full(len(some), 1 + epoch))
        snapshot: Any = training.snapshot()
        peak = max(peak, _private())
        del snapshot
    return peak


def _private() -> int:
    total = 0
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_"):
            total += int(line.split()[1]) * 1024
    return total


if __name__ == "__main__":
    main()
