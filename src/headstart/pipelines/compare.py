"""Compare two runs on the same images, paired."""

from __future__ import annotations

from pathlib import Path

from headstart.data.options import ReadOptions
from headstart.errors import UsageError
from headstart.events import EventStream
from headstart.reports.comparison_text import Comparison
from headstart.reports.record import read_metrics
from headstart.runs.files import write_json
from headstart.tasks.registry import find_task
from headstart.utils.system import atomic_file

__all__ = ["compare_runs", "write_comparison"]


def compare_runs(
    run_a: Path, run_b: Path, events: EventStream, *, data: str | None = None, options: ReadOptions | None = None
) -> Comparison:
    """Compare two runs of one task; see `api.compare`."""
    folders = (run_a, run_b)
    names = [str(read_metrics(folder)["task"]) for folder in folders]
    if names[0] != names[1]:
        raise UsageError(
            f"the runs have different tasks: `{names[0]}` and `{names[1]}`.", hint="compare two runs of one task"
        )
    return find_task(names[0]).compare(folders, data, options or ReadOptions(), events)


def write_comparison(folder: Path, comparison: Comparison) -> list[Path]:
    """Write `compare.json` and `compare.png` into a folder."""
    from headstart.reports.figures import figure_png

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "compare.json", comparison.to_json())
    with atomic_file(folder / "compare.png") as temporary:
        temporary.write_bytes(figure_png(comparison.plot()))
    return [folder / "compare.json", folder / "compare.png"]
