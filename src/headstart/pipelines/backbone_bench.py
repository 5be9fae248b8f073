"""Measure the speed and memory of networks on this machine: `headstart models bench`.

Networks are measured with random weights, since weight values do not affect speed; nothing is downloaded. Both engines
alternate on the same images in one process; ONNX Runtime runs one batch per core, as in feature extraction. Each rate
is the best of several rounds, to reduce the effect of other processes.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from headstart.backbones.cards import find_card
from headstart.backbones.latency import BenchResult, save_bench
from headstart.features.engines import OnnxEngine
from headstart.features.graph_export import export
from headstart.utils.system import available_cores

__all__ = ["BENCH_NAMES", "bench"]

BENCH_NAMES = ("efficientnet_lite0", "mobilenetv2", "resnet18", "resnet50", "vgg16")
"""Networks measured by default: small and large, old and new."""

_MARGIN = 0.95  # the frozen engine is used unless torch is faster by more than this


def bench(
    names: Sequence[str],
    size: int | None = None,
    batch: int = 8,
    *,
    seconds: float = 2.0,
    has_training: bool = True,
    say: Callable[[str], None] | None = None,
) -> list[BenchResult]:
    """Measure networks on this machine and save the results for time estimates.

    Args:
        names: Names of networks.
        size: Image size in pixels; None uses the default of each network.
        batch: Images per call.
        seconds: Approximate duration of the measurement of a rate.
        has_training: Whether to measure training steps too, which takes longer.
        say: Receives the name of the network being measured.

    Raises:
        UsageError: A name is unknown, or a network does not support the size.
    """
    results = []
    for name in names:
        if say:
            say(f"measuring {find_card(name).title}")
        results.append(_bench_one(name, size, batch, seconds, has_training))
        error = save_bench(results[-1])
        if error and say:
            say(f"warning: cannot save the measurements ({error})")
    return results


def _bench_one(name: str, size: int | None, batch: int, seconds: float, has_training: bool) -> BenchResult:
    import torch

    from headstart.backbones.loading import load_backbone, pooled_outputs

    card = find_card(name)
    size_hw = card.image_spec(size).size_hw
    before = _resident_mb()
    started = time.perf_counter()
    torch.manual_seed(0)
    backbone = load_backbone(name, weights="none", image_size=size_hw)
    images = torch.randn(batch, 3, *size_hw)
    with torch.inference_mode():
        backbone.module(images[:1])
    start_s = time.perf_counter() - started
    module = pooled_outputs(backbone, ["embedding"]).eval()
    onnx_run, export_s, note = _onnx_runner(module, images)

    def torch_run() -> None:
        with torch.inference_mode():
            module(images)

    torch_rate, onnx_rate = _rates(torch_run, onnx_run, batch, seconds)
    steps = _training_steps(backbone, images, seconds) if has_training else {}
    is_onnx = onnx_rate is not None and onnx_rate >= _MARGIN * torch_rate
    return BenchResult(
        name=card.name,
        size=size_hw[0],
        batch=batch,
        cores=available_cores(),
        onnx_rate=None if onnx_rate is None else round(onnx_rate, 2),
        torch_rate=round(torch_rate, 2),
        engine="onnx" if is_onnx else "torch",
        step_s={k: round(v, 6) for k, v in steps.items()},
        memory_mb=round(max(0.0, _resident_mb() - before), 1),
        start_s=round(start_s, 3),
        export_s=export_s,
        note=note,
    )


def _onnx_runner(module: Any, images: Any) -> tuple[Callable[[], None] | None, float | None, str]:
    """Export a module; return (function that runs one batch per core in parallel, export seconds, error or "")."""
    started = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph.onnx"
            export(module, {"pixels": images[:1].repeat(2, 1, 1, 1)}, ("embedding",), path)
            engine = OnnxEngine(str(path))
    except Exception as error:  # exports raise many exception types; the torch rate is then used
        return None, None, f"no graph: {str(error).splitlines()[0][:120] if str(error) else type(error).__name__}"
    pixels, pool = images.numpy(), ThreadPoolExecutor(available_cores())

    def run() -> None:
        for future in [pool.submit(engine.run, pixels) for _ in range(available_cores())]:
            future.result()

    return run, round(time.perf_counter() - started, 2), ""


def _rates(
    first: Callable[[], None], second: Callable[[], None] | None, batch: int, seconds: float
) -> tuple[float, float | None]:
    """Alternate both functions and return the best images per second of each; the second runs a batch per core."""
    runs = [first] if second is None else [first, second]
    best = [float("inf")] * len(runs)
    for run in runs:
        run()
    end = time.perf_counter() + seconds * len(runs)
    num_rounds = 0
    while num_rounds < 3 or time.perf_counter() < end:
        for i, run in enumerate(runs):
            started = time.perf_counter()
            run()
            best[i] = min(best[i], time.perf_counter() - started)
        num_rounds += 1
    return batch / best[0], None if second is None else available_cores() * batch / best[1]


def _training_steps(backbone: Any, images: Any, seconds: float) -> dict[str, float]:
    """Return seconds per image of forward and backward of the suffix after each cut."""
    import torch

    steps = {}
    for info in backbone.stages:
        if not info.num_params or info.name == "neck":
            continue
        with torch.no_grad():
            state = backbone.prefix(info.name)(images)
        suffix = backbone.suffix(info.name)
        parts = state if isinstance(state, tuple) else (state,)

        def step(suffix: Any = suffix, parts: Any = parts) -> None:
            loss = suffix(*[p.clone() for p in parts]).logsumexp(1).mean()  # in-place layers would change the inputs
            loss.backward()
            suffix.zero_grad(set_to_none=True)

        rate, _ = _rates(step, None, len(images), seconds / 4)
        steps[info.name] = 1.0 / rate
    return steps


def _resident_mb() -> float:
    """Return the resident memory of this process in megabytes; 0 if unavailable."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, AttributeError):
        return 0.0
