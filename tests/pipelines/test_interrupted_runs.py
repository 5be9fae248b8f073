"""Test SIGKILL at any moment: the next run succeeds with the same result.

Files become visible by a rename, so a run is killed at every rename it makes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")

CHILD = """
import os, signal, sys
left = int(sys.argv[1])
def counted(rename):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0 and sys.argv[2] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = rename(*arguments, **options)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call
os.replace, os.rename = counted(os.replace), counted(os.rename)
from headstart.cli.main import main
try:
    main(sys.argv[3:])
except SystemExit as stop:
    print("renames", -left)
    raise
"""


def run(kill_at: int, when: str, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(kill_at), when, *arguments],
        env={**os.environ, "HEADSTART_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def scores(folder: Path) -> dict[str, Any]:
    metrics = json.loads((folder / "metrics.json").read_text())
    return {name: metrics[name] for name in ("train", "cv", "val", "test", "headline", "num_samples")}


@pytest.fixture(scope="module")
def whole(photos: Path, cache_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int, Path]:
    """Return the result of an uninterrupted run, its number of renames, and a cache with the graph only."""
    cache = tmp_path_factory.mktemp("killed")
    out = cache / "run"
    first = run(0, "after", cache_root, "train", str(photos), "--out", str(out))
    assert first.returncode == 0, first.stderr
    (cache / "graphs").symlink_to(cache_root / "graphs")
    done = run(0, "after", cache, "train", str(photos), "--out", str(cache / "counted"))
    return scores(out), int(done.stdout.split()[-1]), cache


def killed_at(number: int, when: str, whole: tuple[dict[str, Any], int, Path], photos: Path, tmp_path: Path) -> None:
    expected, _, with_graph = whole
    (tmp_path / "graphs").symlink_to(with_graph / "graphs")
    command = ("train", str(photos), "--out", str(tmp_path / "run"))
    killed = run(number, when, tmp_path, *command)
    assert killed.returncode == -9, killed.stderr
    again = run(0, when, tmp_path, *command)
    assert again.returncode == 0, again.stderr
    assert scores(tmp_path / "run") == expected
    left = [p.name for p in (tmp_path / "run").iterdir() if p.name.endswith(".tmp") or p.name == "unfinished.json"]
    assert not left
    predicted = run(0, when, tmp_path, "predict", str(tmp_path / "run"), str(photos / "discs"))
    assert predicted.returncode == 0, predicted.stderr


@pytest.mark.parametrize("share", [0.0, pytest.param(0.5, marks=pytest.mark.long), 1.0])
def test_killed_at_a_rename(
    share: float, whole: tuple[dict[str, Any], int, Path], photos: Path, tmp_path: Path
) -> None:
    killed_at(1 + round(share * (whole[1] - 1)), "before", whole, photos, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_rename(
    when: str, whole: tuple[dict[str, Any], int, Path], photos: Path, tmp_path: Path
) -> None:
    assert whole[1] >= 6
    for number in range(1, whole[1] + 1):
        (tmp_path / str(number)).mkdir()
        killed_at(number, when, whole, photos, tmp_path / str(number))


@pytest.mark.long
def test_killed_while_the_graph_is_made(photos: Path, tmp_path: Path, whole: tuple[dict[str, Any], int, Path]) -> None:
    for number in (1, 2):  # the run folder's mark, then the graph's folder
        command = ("train", str(photos), "--out", str(tmp_path / "run"))
        killed = run(number, "before", tmp_path / "cache", *command)
        assert killed.returncode == -9, killed.stderr
    assert run(0, "after", tmp_path / "cache", *command).returncode == 0
    assert scores(tmp_path / "run")["headline"]["value"] == pytest.approx(whole[0]["headline"]["value"], abs=1e-6)
