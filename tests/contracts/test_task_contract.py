"""Test what every task must do: read, train, be killed, resume, evaluate, save, predict, report.

`regress_task` lives outside the package and registers itself, so all of this works without an edit in `src`.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import regress_task
from PIL import Image

import headstart
from headstart.errors import UsageError
from headstart.inference.bundle import read_bundle
from headstart.tasks.registry import find_task, recognize_task, register, task_names

pytest.importorskip("torch")

SOURCE = Path(headstart.__file__).parent
SETTINGS = {"backbone": "efficientnet_lite0", "image_size": 64, "num_threads": 1}


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    register(regress_task.REGRESS)
    yield
    from headstart.tasks import registry

    registry._registered.clear()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose bright fraction is the target."""
    folder = tmp_path_factory.mktemp("numbers")
    rng = np.random.default_rng(0)
    rows = ["image,target"]
    for i in range(32):
        fraction = float(rng.uniform(0, 1))
        pixels = rng.integers(0, 40, (64, 64, 3))
        pixels[: int(64 * fraction)] += 180
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02d}.png")
        rows.append(f"{i:02d}.png,{10 * fraction:.3f}")
    (folder / "train.csv").write_text("\n".join(rows[:25]) + "\n")
    (folder / "new.csv").write_text("\n".join([rows[0], *rows[25:], rows[1]]) + "\n")
    return folder / "train.csv"


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> headstart.Run:
    return headstart.train(table, out=tmp_path_factory.mktemp("run") / "train", **SETTINGS)


def test_a_dataset_selects_its_task(table: Path, tmp_path: Path) -> None:
    from headstart.data.options import ReadOptions

    assert recognize_task(str(table), "auto", ReadOptions()).name == "regress"
    assert recognize_task(str(tmp_path), "auto", ReadOptions()).name == "classify"
    assert recognize_task(str(table), "detect", ReadOptions()).name == "detect"
    assert {"classify", "detect", "regress"} <= set(task_names())
    with pytest.raises(UsageError):
        find_task("poetry")
    with pytest.raises(UsageError):
        register(type("Other", (), {"name": "classify"})())


def test_training_measures_and_saves(run: headstart.Run) -> None:
    assert run.metrics["task"] == "regress"
    score = run.score
    assert score["metric"] == "mae"
    assert score["low"] < score["value"] < score["high"] < 2.5  # the targets spread over 10
    bundle = read_bundle(run.folder)
    assert (bundle.task, bundle.class_names, bundle.has_boxes) == ("regress", (), False)
    events = [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]
    assert [e["score"]["metric"] for e in events if e["type"] == "score"] == ["mae"]


def test_predictions_equal_those_of_training(run: headstart.Run, table: Path) -> None:
    images = sorted(table.parent.glob("*.png"))
    answers = headstart.load(run.folder).predict([*images[:5], b"no image"])
    assert [answer.error is None for answer in answers] == [True] * 5 + [False]
    assert [answer.value for answer in run.predict(images[:5])] == [answer.value for answer in answers[:5]]


def test_evaluation_separates_training_images(run: headstart.Run, table: Path) -> None:
    result = headstart.evaluate(run.folder, table.parent / "new.csv")
    assert result.evaluation is not None
    assert result.known is not None
    assert (result.evaluation["num_images"], result.known["num_images"]) == (8, 1)
    assert result.to_json()["task"] == "regress"


def test_report_is_the_same_from_files(run: headstart.Run) -> None:
    before = (run.folder / "report.html").read_bytes()
    made = headstart.report(run.folder)
    assert (run.folder / "report.html").read_bytes() == before
    assert [section["title"] for section in made.data["sections"]] == ["Predictions", "Largest errors"]
    assert before.count(b"<img") == 4
    bare = headstart.report(run.folder, images=False, out=run.folder.parent / "bare")
    assert b"<img" not in (bare.folder / "report.html").read_bytes()
    assert "mean absolute error" in run.comment()


def test_check_and_show_call_the_task(table: Path) -> None:
    assert headstart.check(table).to_json() == {"task": "regress", "num_images": 24, "unused": []}
    assert headstart.show(table).width > 64


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import headstart, regress_task
from headstart.tasks.registry import register
from headstart.training.checkpoint import Checkpoints
register(regress_task.REGRESS)
save, count = Checkpoints.save, [0]
def killing(self, *arguments):
    save(self, *arguments)
    count[0] += 1
    if count[0] == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoints.save = killing
headstart.train(sys.argv[2], out=sys.argv[3], backbone="efficientnet_lite0", image_size=64, num_threads=1)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("num_saved", [5, 4 * regress_task.EPOCHS + 3])
def test_killed_run_resumes_with_the_same_weights(
    num_saved: int, run: headstart.Run, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = [str(Path(__file__).parent), str(table), str(out), str(num_saved)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    resumed = headstart.resume(out)
    assert (out / "bundle" / "model.safetensors").read_bytes() == (
        run.folder / "bundle" / "model.safetensors"
    ).read_bytes()
    assert resumed.score == run.score


def strings_of(path: Path) -> Iterator[str]:
    """Yield the string constants of a file without docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    documented: Callable[[ast.AST], bool] = lambda node: isinstance(node, ast.Expr)  # noqa: E731
    docs = {id(node.value) for node in ast.walk(tree) if documented(node)}  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def test_no_task_is_named_outside_tasks_and_the_command_line() -> None:
    named = {
        f"{path.relative_to(SOURCE)}: {text}"
        for path in SOURCE.rglob("*.py")
        if path.relative_to(SOURCE).parts[0] not in ("tasks", "cli")
        for text in strings_of(path)
        if text in ("classify", "detect", "segment", "regress")
    }
    assert not named - ALLOWED


ALLOWED = {"config/effects.py: detect", "advice/detector_costs.py: detect", "data/boxes/auxiliary.py: detect"}
"""The names of a group of settings, of a step of the cost model, and of a folder of other tools."""
