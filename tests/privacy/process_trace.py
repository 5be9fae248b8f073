"""Trace DNS lookups, connections and written files of a command, native code included."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Trace", "build_tracer", "run_traced", "snapshot"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Trace:
    """Traced actions of a process and its children.

    Attributes:
        returncode: Exit code of the process.
        output: Its stdout and stderr.
        lookups: Looked-up names; each lookup was blocked.
        connections: `address:port` outside this machine; each connection was blocked.
        changed: Paths that were created, opened for writing, renamed to or removed.
    """

    returncode: int
    output: str
    lookups: frozenset[str]
    connections: frozenset[str]
    changed: frozenset[Path]

    def changed_outside(self, *allowed: Path) -> set[Path]:
        """Return changed paths outside the folders, system devices excluded."""
        inside = [Path(os.path.realpath(p)) for p in (*allowed, Path("/dev"), Path("/proc"))]
        real = {p: Path(os.path.realpath(p)) for p in self.changed}
        parents = {parent for folder in inside for parent in folder.parents}
        return {p for p, q in real.items() if q not in parents and not any(q.is_relative_to(f) for f in inside)}


def build_tracer(folder: Path) -> Path:
    """Compile the tracer; skip the test if that is not possible."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("tracing native code needs Linux and a C compiler")
    target = folder / "process_trace.so"
    source = Path(__file__).with_suffix(".c")
    options = ("-shared", "-fPIC", "-O1", "-U_FORTIFY_SOURCE")
    subprocess.run([compiler, *options, "-o", str(target), str(source), "-ldl"], check=True)
    return target


def run_traced(
    tracer: Path, command: Sequence[str], *, home: Path, cwd: Path, further: Mapping[str, str] | None = None
) -> Trace:
    """Run a command with a minimal environment that does not disable telemetry."""
    log = tracer.with_name(f"{home.name}.log")
    log.unlink(missing_ok=True)
    temporary = home.parent / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = {
        "HEADSTART_TRACE": str(log),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "LD_PRELOAD": str(tracer),
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(ROOT / "src"),
        "TMPDIR": str(temporary),
        **(further or {}),
    }
    done = subprocess.run(
        list(command), env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )
    texts: dict[str, set[str]] = {"lookup": set(), "connect": set(), "write": set()}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else ():
        kind, _, text = line.partition("\t")
        texts[kind].add(text)
    return Trace(
        done.returncode,
        done.stdout + done.stderr,
        frozenset(texts["lookup"]),
        frozenset(texts["connect"]),
        frozenset(Path(text) for text in texts["write"]),
    )


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and modification time (ns) of every path below a folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }
