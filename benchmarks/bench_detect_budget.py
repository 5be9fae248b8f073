"""Benchmark detection budgets: deadlines on a busy machine and accuracy.

    python -m benchmarks detect_budget                            all missing runs, then the summary
    python -m benchmarks.bench_detect_budget drawn 90s 3m         some datasets and budgets
    python -m benchmarks.bench_detect_budget --quiet raccoon      without the busy process; the load average is recorded

Resumable: every run appends one line to `results/detect_budget.jsonl`, and finished runs are skipped. Each run is a
separate process with its own cache, timed from start to exit. `raccoon` and `bccd` are read from
`HEADSTART_BENCH_DATA`; `drawn` (300 images, 6 classes) is generated. Repeat k has seed k.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import RESULTS, Figures, bench_data, commit
from benchmarks._drawn_boxes import draw_boxes

RUNS = RESULTS / "detect_budget.jsonl"
SETS = ("raccoon", "bccd", "drawn")
BUDGETS = ("90s", "3m", "8m")
REPEATS = 3
TOLERANCE = 1.1


def main() -> None:
    """Make the missing runs of the given datasets and budgets, or of all, and summarize every run."""
    words = sys.argv[1:] if Path(sys.argv[0]).name == "bench_detect_budget.py" else []
    is_busy = "--quiet" not in words
    sets = [w for w in words if w in SETS] or SETS
    budgets = [w for w in words if re.fullmatch(r"\d+[smh]", w)] or BUDGETS
    done = {(r["set"], r["budget"], r["repeat"], r["is_busy"]) for r in read_runs()}
    for repeat in range(REPEATS):
        for name in sets:
            for budget in budgets:
                if (name, budget, repeat, is_busy) not in done:
                    row = make_run(name, budget, repeat, is_busy=is_busy)
                    RESULTS.mkdir(exist_ok=True)
                    with open(RUNS, "a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                    print(json.dumps({k: v for k, v in row.items() if k != "detail"}), flush=True)
    summarize()


def make_run(name: str, budget: str, repeat: int, *, is_busy: bool) -> dict[str, Any]:
    """Train once with a budget and return its results."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        data = draw_boxes(root / "drawn") if name == "drawn" else bench_data() / name
        command = [sys.executable, "-m", "headstart", "train", str(data), "--budget", budget, "--seed", str(repeat)]
        environment = {**os.environ, "HEADSTART_CACHE": str(root / "cache")}
        with busy_process(is_busy):
            load, began = os.getloadavg()[0], time.monotonic()
            done = subprocess.run(
                [*command, "--out", str(root / "run")], env=environment, capture_output=True, text=True, check=False
            )
            wall_s = time.monotonic() - began
        row: dict[str, Any] = {
            "set": name,
            "budget": budget,
            "repeat": repeat,
            "is_busy": is_busy,
            "commit": commit(),
            "budget_s": seconds(budget),
            "wall_s": round(wall_s, 1),
            "load_before": round(load, 2),
            "load_after": round(os.getloadavg()[0], 2),
            "exit_code": done.returncode,
        }
        if done.returncode:
            return {**row, "error": done.stderr.strip().splitlines()[-2:]}
        metrics = json.loads((root / "run" / "metrics.json").read_text(encoding="utf-8"))
        plan = metrics["finetune"]["plan"]
        return {
            **row,
            "mAP50": metrics["headline"]["value"],
            "mAP50_95": metrics["test"]["mAP50_95"]["value"],
            "strategy": metrics["strategy"],
            "epochs": metrics["finetune"]["epochs_done"],
            "num_steps": metrics["finetune"]["num_steps"],
            "num_images": metrics["finetune"]["num_images"],
            "views": plan["num_views"],
            "detail": {"budget": metrics["budget"], "duration_s": metrics["duration_s"]},
        }


@contextmanager
def busy_process(is_busy: bool) -> Iterator[None]:
    """Keep one core busy in the context."""
    if not is_busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def seconds(budget: str) -> float:
    """Return a budget such as `90s` or `3m` in seconds."""
    return float(budget[:-1]) * {"s": 1, "m": 60, "h": 3600}[budget[-1]]


def read_runs() -> list[dict[str, Any]]:
    """Return the finished runs."""
    return [json.loads(line) for line in RUNS.read_text(encoding="utf-8").splitlines()] if RUNS.exists() else []


def summarize() -> None:
    """Report runs in time and the median mAP50 of every dataset and budget."""
    figures = Figures("detect_budget")
    rows = read_runs()
    for key in sorted({(r["set"], r["budget_s"], r["is_busy"]) for r in rows}):
        mine = [r for r in rows if (r["set"], r["budget_s"], r["is_busy"]) == key]
        name, budget_s, is_busy = key
        what = f"{name}, {budget_s:.0f} s{', one core busy' if is_busy else ''}"
        trained = [r for r in mine if r["exit_code"] == 0]
        in_time = [r for r in trained if r["wall_s"] <= TOLERANCE * budget_s]
        need = -(-2 * len(mine) // 3)
        loads = [load for r in mine for load in (r["load_before"], r["load_after"])]
        note = "wall seconds " + ", ".join(f"{r['wall_s']:.0f}" for r in mine)
        note += f"; load average {min(loads):.1f}-{max(loads):.1f} on two cores"
        figures.add(
            f"{what}: runs in time of {len(mine)}", len(in_time), f">= {need}", is_met=len(in_time) >= need, note=note
        )
        if trained:
            used = {
                f"{r['strategy']} {r['epochs']} epochs x {r['views']} views, {r['num_images']} images" for r in trained
            }
            figures.add(
                f"{what}: median mAP50", float(np.median([r["mAP50"] for r in trained])), note="; ".join(sorted(used))
            )
    figures.save()


if __name__ == "__main__":
    main()
