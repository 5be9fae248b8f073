"""Measure the speed and memory of networks on this machine: `headstart models bench`.

Networks are measured with random weights, since weight values do not affect speed; nothing is downloaded. Both engines
alternate on the same images in one process; ONNX Runtime runs one batch per core, as in feature extraction. Each rate
is the best of several rounds, to reduce the effect of other processes.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from headstart.backbones.cards import find_card
from headstart.errors import CacheError
from headstart.utils.dependencies import import_onnxruntime
from headstart.utils.system import atomic_file, available_cores, cache_root, describe_os_error, private_folder

__all__ = [
    "BENCH_NAMES",
    "BenchResult",
    "bench",
    "bench_rows",
    "measured_columns",
    "read_bench",
    "scanning_s",
    "training_s",
]

BENCH_NAMES = ("efficientnet_lite0", "mobilenetv2", "resnet18", "resnet50", "vgg16")
"""Networks measured by default: small and large, old and new."""

_FILE = "backbone_bench.json"
_MARGIN = 0.95  # the frozen engine is used unless torch is faster by more than this


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Measurements of one network on this machine.

    Attributes:
        name: Name of the network.
        size: Image size in pixels.
        batch: Images per call.
        cores: Number of cores used.
        onnx_rate: Images per second with ONNX Runtime, or None if the export failed.
        torch_rate: Images per second with torch in eager mode.
        engine: The faster engine on this machine: `onnx` or `torch`.
        step_s: Seconds per image of a training step (forward and backward of the suffix), by cut.
        memory_mb: Increase of resident memory by loading and running the network, megabytes.
        start_s: Seconds to build the network and make its first prediction in torch.
        export_s: Seconds to export the graph; None if that failed.
        note: The error, or empty.
    """

    name: str
    size: int
    batch: int
    cores: int
    onnx_rate: float | None
    torch_rate: float
    engine: str
    step_s: dict[str, float] = field(default_factory=dict)
    memory_mb: float = 0.0
    start_s: float = 0.0
    export_s: float | None = None
    note: str = ""


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
        error = _save(results[-1])
        if error and say:
            say(f"warning: cannot save the measurements ({error})")
    return results


def bench_rows(results: Sequence[BenchResult]) -> list[dict[str, Any]]:
    """Convert results to rows for `card_tables.render_rows`."""
    cuts = list(dict.fromkeys(c for r in results for c in r.step_s))
    rows = []
    for r in results:
        row: dict[str, Any] = {"name": r.name, "size": r.size, "batch": r.batch}
        row |= _columns(r)
        row |= {f"train {c} (ms per image)": _ms(r.step_s.get(c)) for c in cuts}
        rows.append(row | {"note": r.note})
    return rows


def measured_columns(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the saved measurements of this machine by network, as columns for `card_tables.card_rows`."""
    saved = read_bench()
    columns = {}
    for name in names:
        card = find_card(name)
        result = saved.get((card.name, card.image_spec().size_hw[0]))
        if result is not None:
            columns[card.name] = _columns(result)
    return columns


def read_bench() -> Mapping[tuple[str, int], BenchResult]:
    """Return all saved measurements of this machine, by name and size."""
    try:
        rows = json.loads((cache_root() / _FILE).read_text("utf-8"))[_machine()]
        return {(r["name"], r["size"]): BenchResult(**r) for r in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def scanning_s(name: str, size: int, count: int) -> float | None:
    """Estimate the seconds of feature extraction for `count` images from saved measurements; None without any."""
    result = read_bench().get((find_card(name).name, size))
    rate = None if result is None else (result.onnx_rate if result.engine == "onnx" else result.torch_rate)
    return count / rate if rate else None


def training_s(name: str, size: int, cut: str, count: int) -> float | None:
    """Estimate the seconds of an epoch of `count` images when training from a cut; None if not measured."""
    result = read_bench().get((find_card(name).name, size))
    step = None if result is None else result.step_s.get(cut)
    return None if step is None else count * step


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
    import logging
    import warnings

    import torch

    onnxruntime = import_onnxruntime()
    started = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            path = Path(folder) / "graph.onnx"
            batch = torch.export.Dim("batch", min=1, max=1024)
            torch.onnx.export(
                module,
                (images[:1].repeat(2, 1, 1, 1),),
                str(path),
                dynamo=True,
                verbose=False,
                external_data=False,
                dynamic_shapes=({0: batch},),
                input_names=["pixels"],
            )
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # exports raise many exception types; the torch rate is then used
        return None, None, f"no graph: {str(error).splitlines()[0][:120] if str(error) else type(error).__name__}"
    feed = {"pixels": images.numpy()}
    pool = ThreadPoolExecutor(available_cores())

    def run() -> None:
        for future in [pool.submit(session.run, None, feed) for _ in range(available_cores())]:
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


def _columns(r: BenchResult) -> dict[str, Any]:
    return {
        "frozen engine (images per second)": r.onnx_rate,
        "torch (images per second)": r.torch_rate,
        "faster here": r.engine,
        "memory (MB)": r.memory_mb,
        "start-up (s)": r.start_s,
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)


def _save(result: BenchResult) -> str | None:
    """Save a result for this machine; return the error message if it cannot be written, else None."""
    path = cache_root() / _FILE
    try:
        known = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        known = {}
    rows = [r for r in known.get(_machine(), []) if (r["name"], r["size"]) != (result.name, result.size)]
    known[_machine()] = [*rows, asdict(result)]
    try:
        private_folder(path.parent)
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(known, indent=1), "utf-8")
    except (OSError, CacheError) as error:
        return describe_os_error(error)
    return None


def _machine() -> str:
    """Return a key of this machine: architecture, number of cores and versions of torch and onnxruntime."""
    from importlib.metadata import version

    return (
        f"{platform.machine()}/{available_cores()} cores/torch {version('torch')}/onnxruntime {version('onnxruntime')}"
    )


def _resident_mb() -> float:
    """Return the resident memory of this process in megabytes; 0 if unavailable."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, AttributeError):
        return 0.0
