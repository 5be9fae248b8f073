"""Provide benchmark data, the commit id, and the output of results."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from headstart.utils.system import available_cores

RESULTS = Path(__file__).parent / "results"


def bench_data() -> Path:
    """Return the folder of real images, from `HEADSTART_BENCH_DATA`."""
    folder = os.environ.get("HEADSTART_BENCH_DATA")
    if not folder or not Path(folder).is_dir():
        sys.exit("HEADSTART_BENCH_DATA is not set or is no folder; set it to the folder of real images")
    return Path(folder)


class Figures:
    """Collects measured values with their targets, prints them, and saves them with the commit."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[dict[str, Any]] = []

    def add(self, what: str, value: float, aim: str = "", *, is_met: bool | None = None, note: str = "") -> None:
        """Add and print a value, with its target `aim` and whether it is met."""
        mark = {True: "ok    ", False: "MISSED", None: "      "}[is_met]
        print(f"{mark} {what}: {value:.4g}" + (f"   (aim: {aim})" if aim else "") + (f"   {note}" if note else ""))
        sys.stdout.flush()
        row = {"what": what, "value": value, "aim": aim, "is_met": is_met, "note": note}
        self.rows.append({k: v for k, v in row.items() if v not in ("", None)})

    def save(self, **more: Any) -> None:
        """Write `results/NAME.json`."""
        RESULTS.mkdir(exist_ok=True)
        content = {
            "benchmark": self.name,
            "commit": commit(),
            "date": time.strftime("%Y-%m-%d"),
            "cores": available_cores(),
            "processor": processor(),
            "figures": self.rows,
            **more,
        }
        (RESULTS / f"{self.name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def commit() -> str:
    """Return the measured commit, followed by `+` if the source tree has changes."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=no", "--", "../src"],
        capture_output=True,
        text=True,
        check=False,
    )
    return (head.stdout.strip() or "unknown") + ("+" if dirty.stdout.strip() else "")


def processor() -> str:
    """Return the name of the processor, or its architecture if unknown."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
