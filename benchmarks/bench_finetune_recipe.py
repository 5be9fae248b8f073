"""Measure the effect of parts of the fine-tuning recipe on the same folds.

    python -m benchmarks finetune_recipe

The last two stages, six epochs, three folds at 50 images per class. Every variant changes one setting of the default
and is compared with it per image, out of fold. Time is CPU time.

    HEADSTART_BENCH_SETS=clothing,elpv    HEADSTART_BENCH_VARIANTS="flip only;no augmentation"
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import Figures
from benchmarks._finetune_sets import SETS, load_set, make_cell

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "without head refit": {"finetune": {"refit_head": False}},
    "training views of 160 px": {"finetune": {"train_image_size": 160}},
    "training views of 192 px": {"finetune": {"train_image_size": 192}},
    "without SWA": {"finetune": {"swa_fraction": 0.0}},
    "no augmentation": {"augment": "none"},
    "flip only": {"augment": "flip"},
    "flip and vflip only": {"augment": "flip,vflip"},
    "a third of the learning rate": {"lr": 1e-4},
    "three times the learning rate": {"lr": 1e-3},
    "one learning rate for all stages": {"finetune": {"layer_decay": 1.0}},
    "no weight decay": {"finetune": {"weight_decay": 0.0}},
    "label smoothing 0.1": {"finetune": {"label_smoothing": 0.1}},
    "mixup 0.2": {"finetune": {"mixup": 0.2}},
}
_PER_CLASS = "50"


def main() -> None:
    """Measure every variant on every set."""
    figures = Figures("finetune_recipe")
    names = os.environ.get("HEADSTART_BENCH_SETS", ",".join(SETS)).split(",")
    wanted = os.environ.get("HEADSTART_BENCH_VARIANTS", ";".join(VARIANTS)).split(";")
    scratch = Path(tempfile.mkdtemp(prefix="headstart-bench-"))
    os.environ["HEADSTART_CACHE"] = str(scratch / "cache")
    gains: dict[str, list[float]] = {}
    for name in names:
        train, test = load_set(name, scratch)
        data, _ = make_cell(train, test[:20], _PER_CLASS, 0, scratch / name)
        base = _measure(data, {}, scratch / f"{name}-warm")  # fills the caches for all variants
        for variant, settings in VARIANTS.items():
            if variant not in ("default", *wanted):
                continue
            losses, hits, seconds = _measure(data, settings, scratch / f"{name}-{variant}")
            if variant == "default":
                base = losses, hits, seconds
                figures.add(f"{name}: default, out-of-fold log-loss", float(losses.mean()), note=f"{seconds:.0f} s")
                continue
            gain = base[0] - losses
            gains.setdefault(variant, []).append(float(gain.mean()))
            error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
            points = 100 * float(hits.mean() - base[1].mean())
            note = f"standard error {error:.4f}; accuracy {points:+.1f} points; {seconds:.0f} s against {base[2]:.0f}"
            figures.add(f"{name}: {variant}, gain in log-loss over the default", float(gain.mean()), note=note)
    for variant, values in gains.items():
        figures.add(f"mean over sets: {variant}, gain in log-loss", float(np.mean(values)), note=f"{len(values)} sets")
    figures.save(unit="nats per image", images_per_class=int(_PER_CLASS))


def _measure(data: Path, settings: dict[str, Any], out: Path) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Return (N,) out-of-fold log-losses and hits, and the CPU seconds."""
    import headstart

    started = time.process_time()
    run = headstart.train(
        data, out=out, strategy="finetune", folds=3, epochs=6, num_threads=1, offline=True, allow_external_paths=True,
        train_from="last-2", **settings,
    )  # fmt: skip
    seconds = time.process_time() - started
    with np.load(run.folder / "oof.npz") as oof:
        z, ids = oof["logits"].astype(np.float64), oof["label"]
    z -= z.max(axis=1, keepdims=True)
    losses = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), ids]
    return losses, z.argmax(axis=1) == ids, seconds


if __name__ == "__main__":
    main()
