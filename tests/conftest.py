"""Provide images and a cache shared by tests, in the temporary folder only."""

from __future__ import annotations

import os

# Workers share the cores: waiting threads make a small training ten times slower. Set before importing numpy.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):  # one core each, processes it starts too
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) % len(_cores)]})

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

import headstart  # noqa: F401  # first: switches telemetry off before a test imports onnxruntime

# The same examples in every run.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


_SLOW = ("golden", "pipelines", "test_cli.py", "test_lab_notebook.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give each file to one worker, so that its fixtures are made once."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run long files first, so that no worker is left with one at the end."""
    items.sort(key=lambda item: item.path.parent.name not in _SLOW and item.path.name not in _SLOW)


@pytest.fixture(scope="session", autouse=True)
def small_disk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the session if it leaves more than 1 GB on disk; every run stores its own network."""
    yield
    files = [path for path in tmp_path_factory.getbasetemp().rglob("*") if path.is_file() and not path.is_symlink()]
    held = sum(path.stat().st_size for path in files) / 1e9
    assert held < 1.0 or request.session.testsfailed or "not long" not in request.config.option.markexpr, (
        f"{held:.1f} GB"
    )


@pytest.fixture(scope="session", autouse=True)
def short_latency_measurement() -> Iterator[None]:
    """Shorten the latency measurement of every run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headstart.inference.session._NUM_RUNS", 5)
        yield


@pytest.fixture(scope="session", autouse=True)
def cache_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Share one cache among all workers, so that the graph is exported once."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    root = Path(os.environ.get("HEADSTART_TEST_CACHE") or base / "shared_cache")
    root.mkdir(mode=0o700, exist_ok=True)
    before = os.environ.get("HEADSTART_CACHE")
    os.environ["HEADSTART_CACHE"] = str(root)
    yield root
    if before is None:
        del os.environ["HEADSTART_CACHE"]
    else:
        os.environ["HEADSTART_CACHE"] = before


def draw_image(kind: int, seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """Return an image of one of a few kinds that a pretrained network tells apart: stripes, discs, checks, noise.

    Soft clouds make each its own scene, so that no two are taken for copies of one image.
    """
    rng = np.random.default_rng([kind, seed])
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    phase, period = rng.uniform(0, 20), rng.uniform(8, 16)
    if kind == 0:
        pattern = np.sin((x + phase) * 2 * np.pi / period)
    elif kind == 1:
        pattern = np.where(np.hypot(x - width / 2 - phase / 4, y - height / 2) < period * 1.8, 1.0, -1.0)
    elif kind == 2:
        pattern = np.sign(np.sin((x + phase) * 2 * np.pi / period) * np.sin((y + phase) * 2 * np.pi / period))
    else:
        pattern = rng.normal(size=(height, width))
    color = rng.uniform(0.5, 1.0, size=3)
    values = 127 + 90 * pattern[..., None] * color + rng.normal(0, 12, (height, width, 3))
    clouds = Image.fromarray(rng.uniform(-60, 60, (6, 6)).astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    return Image.fromarray(np.clip(values + np.asarray(clouds)[..., None], 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def make_images() -> Callable[..., Path]:
    """Return a function that writes `root/<class>/NNN.jpg`."""

    def make(root: Path, counts: dict[str, int], first_seed: int = 0) -> Path:
        for kind, (name, count) in enumerate(counts.items()):
            (root / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                draw_image(kind % 4, first_seed + i).save(root / name / f"{i:03d}.jpg", quality=92)
        return root

    return make


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., Path]) -> Path:
    """Write three classes of 16 images in class folders."""
    return make_images(tmp_path_factory.mktemp("photos"), {"stripes": 16, "discs": 16, "checks": 16})


@pytest.fixture(scope="session")
def check_times() -> Callable[[Path], None]:
    """A check that `environment.json` of an uninterrupted run spans the run: from the command to its scores."""

    def check(run: Path) -> None:
        environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
        total = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["duration_s"]["total"]
        started, finished = (datetime.fromisoformat(environment[k]) for k in ("started", "finished"))
        assert (finished - started).total_seconds() == pytest.approx(total, abs=0.5)
        assert total > 0.5
        assert "resumed" not in environment

    return check
