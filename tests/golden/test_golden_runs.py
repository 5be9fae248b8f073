"""No number of the golden runs has changed; see README.md for what to do where one has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def compare_runs(*arguments: str) -> None:
    """In a process of its own, whose libraries use one thread from the start."""
    command = [sys.executable, str(HERE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"


def test_every_run_has_a_record() -> None:
    from golden_runs import RUNS

    assert {path.stem for path in (HERE / "records").glob("*.json")} == set(RUNS)


def test_quick_runs_equal_their_records() -> None:
    pytest.importorskip("torch")
    compare_runs("--quick")


@pytest.mark.long
def test_all_other_runs_equal_their_records() -> None:
    from golden_runs import RUNS

    compare_runs(*(name for name, run in RUNS.items() if not run.is_quick))
