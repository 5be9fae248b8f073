"""Store the measured speed and memory of networks on this machine, and estimate durations from them."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from headstart.backbones.cards import find_card
from headstart.errors import CacheError
from headstart.utils.system import atomic_file, available_cores, cache_root, describe_os_error, private_folder

__all__ = [
    "BenchResult",
    "bench_rows",
    "measured_columns",
    "read_bench",
    "save_bench",
    "scanning_s",
    "training_s",
]

_FILE = "backbone_bench.json"


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


def save_bench(result: BenchResult) -> str | None:
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
