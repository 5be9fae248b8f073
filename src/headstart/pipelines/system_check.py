"""Check the machine: versions, cores, memory, disk, weights, cache."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from headstart._version import __version__
from headstart.errors import HeadstartError
from headstart.events import EventStream, FileWritten, RunFinished
from headstart.utils.dependencies import TELEMETRY_OFF
from headstart.utils.system import available_cores, cache_root, private_folder

__all__ = ["check_machine", "prepare_backbones"]

_BASE = ("numpy", "Pillow", "onnxruntime", "typer", "rich")
_TRAIN = ("torch", "torchvision", "timm", "onnx", "onnxscript", "safetensors", "scikit-learn", "pydantic", "PyYAML")
_BUNDLED = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
_MIN_FREE_BYTES = 1 << 30
_MIN_MEMORY_BYTES = 3 << 30


def check_machine() -> tuple[list[str], list[str]]:
    """Return the description of the machine as lines, and its problems."""
    problems: list[str] = []
    lines = [
        f"headstart     {__version__} on Python {platform.python_version()}, {platform.platform()}",
        f"cores         {available_cores()} usable of {os.cpu_count()}",
    ]
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        if os.environ.get(variable):
            lines.append(f"              {variable}={os.environ[variable]}")
    memory = _memory_bytes()
    if memory:
        lines.append(f"memory        {memory / 2**30:.1f} GB")
        if memory < _MIN_MEMORY_BYTES:
            problems.append(f"only {memory / 2**30:.1f} GB of memory; training needs 3 GB")
    lines.append("prediction    " + _versions(_BASE, problems, "headstart"))
    has_training = all(_version(name) for name in _TRAIN)
    lines.append("training      " + _versions(_TRAIN, [], ""))
    if not has_training:
        lines.append('              incomplete: pip install "headstart[train]" (not needed for prediction)')
    lines += _cache_lines(problems)
    lines.append("telemetry     off: " + ", ".join(f"{name}={os.environ.get(name, '')}" for name in TELEMETRY_OFF))
    if has_training:
        lines += _weights_lines(problems)
    return lines, problems


def prepare_backbones(names: Sequence[str] | None, events: EventStream) -> None:
    """Export the graphs of the bundled (or named) backbones, so that prediction needs neither torch nor a download."""
    from headstart.features.extractor import open_graph

    started = time.monotonic()
    for name in names or _BUNDLED:
        graph = open_graph(name, events)
        events.emit(FileWritten("backbone", str(Path(graph.path).parent), {"backbone": graph.backbone}))
    events.emit(RunFinished(time.monotonic() - started))


def _versions(names: Sequence[str], problems: list[str], package: str) -> str:
    texts = []
    for name in names:
        version = _version(name)
        texts.append(f"{name} {version or 'missing'}")
        if version is None and package:
            problems.append(f"{name} is missing: pip install {package}")
    return ", ".join(texts)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cache_lines(problems: list[str]) -> list[str]:
    root = cache_root()
    try:
        private_folder(root)
        probe = root / ".doctor"
        probe.write_bytes(b"x")
        probe.unlink()
    except (HeadstartError, OSError) as error:
        problems.append(f"cannot write the cache folder {root} ({error}); set HEADSTART_CACHE to another folder")
        return [f"cache         {root} (not writable)"]
    free = shutil.disk_usage(root).free
    if free < _MIN_FREE_BYTES:
        problems.append(f"only {free / 2**30:.1f} GB of disk space free at {root}")
    return [f"cache         {root}, {free / 2**30:.0f} GB of disk free"]


def _weights_lines(problems: list[str]) -> list[str]:
    from headstart.backbones.cards import find_card
    from headstart.backbones.weights import find_package_file

    lines = []
    for name in _BUNDLED:
        card = find_card(name)
        module = card.source.removeprefix("package:")
        try:
            file = find_package_file(card) if importlib.util.find_spec(module) else None
        except HeadstartError as error:
            problems.append(error.message)
            continue
        state = f"{card.weights_tag} ({card.license}), checked by digest" if file else "not installed"
        lines.append(f"weights       {name}: {state}")
    return lines


def _memory_bytes() -> int | None:
    """Return the bytes of physical memory, or None."""
    if sys.platform == "win32":
        import ctypes

        class Status(ctypes.Structure):
            _fields_ = [
                ("length", ctypes.c_ulong),
                ("load", ctypes.c_ulong),
                ("total", ctypes.c_ulonglong),
                *((f"rest{i}", ctypes.c_ulonglong) for i in range(6)),
            ]

        status = Status(length=ctypes.sizeof(Status))
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.total)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
