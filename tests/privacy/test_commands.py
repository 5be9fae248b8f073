"""Test commands in separate processes with an empty home: no lookup, no connection, no unexpected file.

Allowed to change: the output of `--out` or the run folder, headstart's cache folder, the temporary folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from process_trace import Trace, run_traced, snapshot

SMALL = ("--backbone", "timm:resnet10t", "--weights", "none", "--image-size", "64", "--num-threads", "1")
UPLOAD_S = 12  # onnxruntime 1.32 resolves its collector 5 to 9 s after import

KILLED_TRAINING = """
import os, signal, sys
real, written = os.replace, []
def replace(source, target, **options):
    real(source, target, **options)
    if os.path.basename(target) == "results.csv":
        written.append(target)
        if len(written) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
from headstart.cli.main import main
main(sys.argv[1:])
"""

LONG_USE = f"""
import concurrent.futures, multiprocessing, sys, time
import headstart

def predict(_):
    return len(list(headstart.load(sys.argv[1]).predict(sys.argv[2])))

if __name__ == "__main__":
    run = headstart.load(sys.argv[1])
    run.predict(sys.argv[2])
    for method in ("spawn", "fork"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            pool.map(time.sleep, [0, 0])
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(predict, range(2))) == [16, 16]
    time.sleep({UPLOAD_S})
"""


class Machine:
    """Empty home and a work folder.

    Args:
        root: Parent folder of both.
        tracer: Preloaded library.
        cache: headstart's cache folder; None is the default below the home folder.
    """

    def __init__(self, root: Path, tracer: Path, cache: Path | None) -> None:
        self.home, self.work, self._tracer = root / "home", root / "work", tracer
        self.home.mkdir()
        self.work.mkdir()
        self.cache = cache or self.home / ".cache" / "headstart"
        self._further = {"HEADSTART_CACHE": str(cache)} if cache else {}

    def run(self, *arguments: str | Path, out: tuple[str, ...] = (), expected: int = 0) -> Trace:
        """Run `headstart ARGUMENTS` and check its trace; `out` is the path below the work folder that it may write."""
        return self.python("-m", "headstart", *arguments, out=out, expected=expected)

    def python(self, *arguments: str | Path, out: tuple[str, ...] = (), expected: int = 0) -> Trace:
        """Run the interpreter and check its trace."""
        command = [sys.executable, *(str(a) for a in arguments)]
        trace = run_traced(self._tracer, command, home=self.home, cwd=self.work, further=self._further)
        assert trace.returncode == expected, trace.output
        assert trace.lookups == set()
        assert trace.connections == set()
        allowed = [self.cache, self.home.parent / "tmp", *(self.work / name for name in out)]
        temporary = {
            p for p in trace.changed if p.parent == self.work and any(p.name.startswith(f".{n}.") for n in out)
        }
        assert trace.changed_outside(*allowed) - temporary == set()
        below = {self.home / name for name in snapshot(self.home)}
        strangers = {p for p in below if not p.is_relative_to(self.cache) and p not in self.cache.parents}
        assert strangers == set()
        assert not temporary & set(self.work.iterdir())
        return trace


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write sixteen images of a square with VOC files."""
    root = tmp_path_factory.mktemp("boxes") / "squares"
    root.mkdir()
    for i in range(16):
        rng = np.random.default_rng(i)
        pixels = rng.integers(60, 120, (60, 90, 3)).astype(np.uint8)
        side, name = int(rng.integers(20, 40)), ("blue", "red")[i % 2]
        x, y = int(rng.integers(0, 90 - side)), int(rng.integers(0, 60 - side))
        pixels[y : y + side, x : x + side] = (230, 40, 40) if name == "red" else (40, 40, 230)
        Image.fromarray(pixels).save(root / f"{i:02d}.png")
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + side, y + side), strict=True)
        box = "".join(f"<{corner}>{value}</{corner}>" for corner, value in corners)
        text = f"<annotation><object><name>{name}</name><bndbox>{box}</bndbox></object></annotation>"
        (root / f"{i:02d}.xml").write_text(text, encoding="utf-8")
    return root


def test_train_and_predict_write_and_send_nothing(tracer: Path, photos: Path, cache_root: Path, tmp_path: Path) -> None:
    before = snapshot(photos)
    machine = Machine(tmp_path, tracer, cache_root)
    trace = machine.run("train", photos, "--offline", "--out", "run", out=("run",))
    assert machine.work / "run" / "metrics.json" in trace.changed  # the tracer recorded the writes
    machine.run("predict", "run", photos / "discs")
    assert snapshot(machine.home) == {}
    assert snapshot(photos) == before


@pytest.fixture(scope="module")
def machine(tracer: Path, photos: Path, boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Return one machine for all commands, with an empty home."""
    machine = Machine(tmp_path_factory.mktemp("machine"), tracer, None)
    machine.run("train", photos, "--offline", "--out", "run", out=("run",))
    machine.run("train", photos, "--offline", "--seed", "1", "--out", "other", out=("other",))
    machine.run(
        *("train", boxes, "--offline", "--out", "detector", *SMALL, "--strategy", "head", "--epochs", "1"),
        *("num_views=1", "detect.fpn_channels=16", "detect.head_depth=1", "detect.min_stride=16"),
        out=("detector",),
    )  # fmt: skip
    return machine


@pytest.mark.long
class TestEveryCommand:
    def test_classification(self, machine: Machine, photos: Path, make_images: Callable[..., Path]) -> None:
        fresh = make_images(machine.home.parent / "fresh", {"stripes": 4, "discs": 4, "checks": 4}, 500)
        before = snapshot(photos), snapshot(fresh)
        machine.run("predict", "run", fresh, "--out", "answers.csv", out=("answers.csv",))
        machine.run("predict", "imagenet:efficientnet_lite0", fresh / "discs" / "000.jpg")
        machine.run("evaluate", "run", fresh)
        machine.run("check", photos, "--json", "check.json", out=("check.json",))
        machine.run("show", photos, "--out", "show.png", out=("show.png",))
        machine.run("show", photos, "--num-augmented", "3", "--out", "views.png", out=("views.png",))
        machine.run("report", "run", out=("run",))
        machine.run("compare", "run", "other")
        machine.run("embed", photos, "--out", "features.npz", out=("features.npz",))
        machine.run("summary", "run", "--diagram", "network.png", out=("network.png",))
        assert (snapshot(photos), snapshot(fresh)) == before

    def test_training_by_gradient_and_resume(self, machine: Machine, photos: Path) -> None:
        command = ("train", photos, "--offline", "--out", "tuned", *SMALL, "--strategy", "finetune", "--epochs", "8")
        machine.python("-c", KILLED_TRAINING, *command, out=("tuned",), expected=-9)
        machine.run("resume", "tuned", out=("tuned",))
        machine.run("train", photos, "--offline", "--out", "budget", *SMALL, "--budget", "20s", out=("budget",))

    def test_detection(self, machine: Machine, boxes: Path) -> None:
        before = snapshot(boxes)
        machine.run("predict", "detector", boxes)
        machine.run("predict", "detector", boxes, "--to", "coco", "--out", "boxes.json", out=("boxes.json",))
        machine.run("evaluate", "detector", boxes)
        machine.run("check", boxes)
        machine.run("show", boxes, "--out", "boxes.png", out=("boxes.png",))
        machine.run("report", "detector", out=("detector",))
        assert snapshot(boxes) == before

    def test_doctor_and_models(self, machine: Machine) -> None:
        machine.run("doctor", "--prepare", "--backbone", "efficientnet_lite0")
        machine.run("cache", "info")
        machine.run("models")
        machine.run("models", "show", "vgg16")
        machine.run("--help")
        machine.run("train", "--help")

    def test_python_with_worker_processes(self, machine: Machine, photos: Path, tmp_path: Path) -> None:
        script = tmp_path / "use.py"
        script.write_text(LONG_USE, encoding="utf-8")
        machine.python(script, "run", photos / "discs")
