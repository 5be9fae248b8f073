"""Test that a plan adapts to disk, machine and flipped images, and that explicit settings are kept."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from event_text import decisions_of
from PIL import Image, ImageDraw

import headstart
from headstart.config.settings import ResolvedConfig, resolve
from headstart.errors import MissingExtraError, SettingError
from headstart.events import EventStream

pytest.importorskip("torch")

from headstart.advice import candidates as finetune_candidates
from headstart.advice import resources as finetune_resources
from headstart.advice.resources import fit_to_disk, measure_threads
from headstart.store.cache import Cache
from headstart.training.checkpoint import load_snapshot
from headstart.training.log import EpochLog
from headstart.training.loop import EpochRecord
from headstart.training.plan import FinetunePlan, default_plan


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., Path]) -> Path:
    return make_images(tmp_path_factory.mktemp("few"), {"stripes": 10, "discs": 10})


def resolved_with(**settings: Any) -> ResolvedConfig:
    return resolve({"data": "x", "strategy": "finetune", **settings}, source="python")


class FakeJournal:
    """Journal without a file."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self.values:
            self.values[key] = make()
        return self.values[key]


ROWS = {"stage6": 40_000, "stage7": 10_000}


def trainer_with(room: int, checkpoints: FakeJournal | None = None) -> Any:
    cache = SimpleNamespace(free_bytes=lambda: room)
    sources = SimpleNamespace(cache=cache, row_bytes=lambda plan: ROWS[plan.train_from])
    backbone = SimpleNamespace(cut=lambda text: {"last-2": "stage6"}.get(text, "stage7"))
    journal = checkpoints or FakeJournal()
    journal.values.setdefault("flipped", (0.9, 0.0, 0.01))  # flipping does no harm
    data = SimpleNamespace(train=np.arange(1000))
    return SimpleNamespace(sources=sources, backbone=backbone, checkpoints=journal, data=data)


def fitted(room: int, checkpoints: FakeJournal | None = None, **settings: Any) -> tuple[FinetunePlan, dict[str, Any]]:
    """Return the fitting plan and the decisions by setting."""
    plan = default_plan("finetune", "stage6", 1000, 4).with_(num_views=settings.get("num_views", 8))
    adapted = fit_to_disk(resolved_with(**settings), trainer_with(room, checkpoints), plan, 1000)
    return adapted.plan, {d.setting: d.value for d in adapted.decisions}


def test_fitting_plan_is_unchanged() -> None:
    plan, decided = fitted(360_000_000)
    assert (plan.num_views, plan.train_from, plan.is_cached, decided) == (8, "stage6", True, {})


def test_little_disk_space_reduces_views() -> None:
    plan, decided = fitted(200_000_000)
    assert (plan.num_views, plan.train_from, plan.is_cached) == (4, "stage6", True)
    assert decided == {"num_views": 4}


def test_less_disk_space_moves_cut() -> None:
    plan, decided = fitted(60_000_000)
    assert (plan.num_views, plan.train_from, plan.is_cached) == (5, "stage7", True)
    assert decided == {"train_from": "stage7", "num_views": 5}


def test_no_disk_space_disables_cache() -> None:
    plan, decided = fitted(1_000_000)
    assert (plan.train_from, plan.is_cached, plan.num_views) == ("stage6", False, plan.epochs)
    assert decided == {"finetune.is_cached": False}


def test_resumed_run_keeps_plan() -> None:
    checkpoints = FakeJournal()
    for room in (200_000_000, 60_000_000, 1_000_000_000):
        plan, decided = fitted(room, checkpoints)
        assert (plan.num_views, plan.train_from, decided) == (4, "stage6", {"num_views": 4})


def test_equal_candidates_are_merged() -> None:
    for room, cuts in ((10**9, ["stage6", "stage6", "stage7", "stage7"]), (60_000_000, ["stage7", "stage7"])):
        resolved = resolved_with(strategy="auto", budget="5m")
        plans, _ = finetune_candidates.make_candidates(resolved, trainer_with(room), 1000, 4)
        assert [p.train_from for p in plans] == cuts
        assert [p.augment == "none" for p in plans] == [False, True] * (len(cuts) // 2)
        assert {p.lr for p in plans if p.train_from == "stage7"} == {finetune_candidates._LATE_LR}


def test_explicit_settings_are_unchanged() -> None:
    plan, _ = fitted(60_000_000, num_views=8)
    assert (plan.train_from, plan.is_cached) == ("stage6", False)  # eight views at either cut need more
    plan, _ = fitted(60_000_000, train_from="last-2")
    assert plan.train_from == "stage6"
    assert not plan.is_cached


def test_budget_below_one_epoch_keeps_probe(few: Path, tmp_path: Path) -> None:
    run = headstart.train(few, out=tmp_path / "run", strategy="head", budget="1s", num_threads=1)
    assert run.metrics["strategy"] == "probe"
    assert decisions_of(run.folder)["strategy"]["value"] == "probe"


def test_missing_device_is_named(few: Path) -> None:
    with pytest.raises(SettingError, match="cuda:7"):
        headstart.train(few, strategy="head", device="cuda:7")


def test_balanced_sampling_excludes_class_weights(few: Path) -> None:
    with pytest.raises(SettingError, match="mutually exclusive"):
        headstart.train(few, strategy="head", sampling="balanced", class_weights="auto")


class TestTensorBoard:
    RECORD = EpochRecord(1, 0.5, 0.8, None, None, None, 1e-3, 2.0)

    def test_missing_package_is_refused(self, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import importlib.util

        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "tensorboard" else find(n, *a))
        with pytest.raises(MissingExtraError, match="tensorboard"):
            headstart.train(few, strategy="head", tensorboard=True)

    def test_epoch_values_are_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        written: list[tuple[str, str, float, int]] = []

        @contextmanager
        def writer(folder: str) -> Iterator[Any]:
            def add(name: str, value: float, step: int) -> None:
                written.append((Path(folder).name, name, value, step))

            yield SimpleNamespace(add_scalar=add)

        module = ModuleType("torch.utils.tensorboard")
        module.SummaryWriter = writer  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
        log = EpochLog(tmp_path, EventStream(), has_events=True)
        log.begin("fold1", 1)
        log.add("fold1", self.RECORD)
        assert ("fold1", "train_loss", 0.5, 1) in written
        assert {name for _, name, _, _ in written} == {"train_loss", "train_accuracy", "lr", "duration_s"}


@pytest.mark.long
def test_training_without_cache_is_equal(few: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "strategy": "finetune",
        "train_from": "last",
        "epochs": 2,
        "num_views": 2,
        "image_size": 64,
        "num_threads": 1,
    }
    settings |= {"augment": "flip,crop=0.6"}
    stored = headstart.train(few, out=tmp_path / "stored", **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cache, "free_bytes", lambda self: 0)
        direct = headstart.train(few, out=tmp_path / "direct", **settings)
    assert decisions_of(direct.folder)["finetune.is_cached"]["value"] is False
    assert "finetune.is_cached" not in decisions_of(stored.folder)
    name = "finetune-stage7-final.done.safetensors"
    a, b = (load_snapshot(r.folder / "checkpoints" / name) for r in (stored, direct))
    moved = 0.0
    for key in a.tensors:
        if key.startswith("end/"):
            step = (a.tensors[key] - a.tensors["start/" + key[4:]]).abs().max()
            moved = max(moved, float(step))
            assert float((a.tensors[key] - b.tensors[key]).abs().mean()) <= 0.1 * float(step) + 1e-6
    assert moved > 1e-4
    assert b.values["frozen_before"] == b.values["frozen_after"]


@pytest.mark.long
def test_harmful_flip_is_disabled(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(30):
            low = Image.fromarray(rng.integers(120, 255, (6, 6, 3), dtype=np.uint8))
            image = low.resize((96, 96), Image.Resampling.BICUBIC)
            x, y = rng.uniform(5, 35, 2)
            corners = [(x, y), (x, y + 56), (x + 50, y + 28)]
            if name == "left":
                corners = [(96 - a, b) for a, b in corners]
            ImageDraw.Draw(image).polygon(corners, fill=tuple(int(v) for v in rng.integers(0, 100, 3)))
            image.save(tmp_path / "data" / name / f"{i:02d}.png")
    settings: dict[str, Any] = {"strategy": "head", "epochs": 1, "num_views": 1, "num_threads": 1}
    run = headstart.train(tmp_path / "data", out=tmp_path / "run", **settings)
    assert "flip" not in decisions_of(run.folder)["augment"]["value"]
    assert "flip" not in run.metrics["finetune"]["plan"]["augment"]
    explicit = headstart.train(tmp_path / "data", out=tmp_path / "requested", augment="flip", **settings)
    assert explicit.metrics["finetune"]["plan"]["augment"] == "flip=0.5"


def test_threads_are_used_only_if_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    count = [1]  # threads are simulated, so the test takes the time of one
    monkeypatch.setattr(torch, "set_num_threads", lambda number: count.__setitem__(0, number))
    assert measure_threads(1)[0] == 1
    for speed, expected in ((1.7, 2), (1.05, 1), (0.4, 1)):
        clock = [0.0]

        def tick(clock: list[float] = clock, speed: float = speed) -> float:
            clock[0] += 1.0 / (speed if count[0] == 2 else 1.0)
            return clock[0]

        monkeypatch.setattr(finetune_resources.time, "monotonic", tick)
        num_threads, speedup = measure_threads(2)
        assert num_threads == expected
        assert speedup == pytest.approx(speed, rel=0.01)


class TestPrecision:
    def trainer(self) -> Any:
        import torch

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = torch.nn.Conv2d(3, 4, 3)

            def forward(self, states: Any, early: Any) -> Any:
                return self.layer(states[0]).mean((2, 3))

            def set_training(self, is_training: bool) -> None:
                self.train(is_training)

        embedder = SimpleNamespace(spec=SimpleNamespace(size_hw=(8, 8)))
        return SimpleNamespace(network=lambda plan, head: Net(), embedder=embedder, device=torch.device("cpu"))

    @pytest.mark.parametrize(("ratio", "expected"), [(2.0, "bfloat16"), (0.8, "float32"), (1.1, "float32")])
    def test_clearly_faster_precision_is_used(
        self, ratio: float, expected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import torch

        clock, started = [0.0], []

        def tick() -> float:
            if not started:  # a measurement starts; its duration depends on autocast
                started.append(True)
                return clock[0]
            started.clear()
            clock[0] += 1.0 / (ratio if enabled_at[-1] else 1.0)
            return clock[0]

        enabled_at: list[bool] = []
        autocast = torch.autocast

        def watching(device: str, *, dtype: Any, enabled: bool) -> Any:
            enabled_at.append(enabled)
            return autocast(device, dtype=dtype, enabled=enabled)

        monkeypatch.setattr(finetune_resources.time, "monotonic", tick)
        monkeypatch.setattr(torch, "autocast", watching)
        plan = default_plan("full", "stem", 1000, 4)
        precision, speedup = finetune_resources.measure_precision(self.trainer(), plan, None, 1000)
        assert precision == expected
        assert speedup == pytest.approx(ratio, rel=0.01)

    def test_short_trainings_are_not_measured(self) -> None:
        full, suffix = default_plan("full", "stem", 100, 4), default_plan("finetune", "stage6", 9000, 4)
        assert finetune_resources.measure_precision(None, full, None, 100)[0] == "float32"  # type: ignore[arg-type]
        assert finetune_resources.measure_precision(None, suffix, None, 9000)[0] == "float32"  # type: ignore[arg-type]
