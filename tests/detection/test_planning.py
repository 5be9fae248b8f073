"""Test the default detector plan for numbers of images and boxes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from headstart.config.settings import resolve
from headstart.detection.plan import DetectPlan
from headstart.detection.planning import default_epochs, make_detect_plan

NAMES = ("stem", "stage1", "stage2", "stage3", "stage4", "neck", "head")


class FakeTrainer:
    """Trainer with a backbone of four stages."""

    network = SimpleNamespace(names=NAMES)

    def __init__(self, row_bytes: int = 1000) -> None:
        self._row_bytes = row_bytes

    def cut(self, text: str) -> str:
        return {"last-2": "stage3"}.get(text, text)

    def taps(self, plan: DetectPlan) -> Any:
        return SimpleNamespace(stages=("stage2", "stage4"))

    def row_bytes(self, plan: DetectPlan) -> int:
        return 0 if plan.strategy in ("full", "scratch") else self._row_bytes


def plan_of(boxes: float = 100.0, num_train: int = 160, trainer: Any = None, **given: Any) -> tuple[DetectPlan, Any]:
    resolved = resolve({"data": "x", "task": "detect", **given}, source="python")
    return make_detect_plan(
        resolved, trainer or FakeTrainer(), num_train=num_train, boxes_per_class=boxes, min_stride=(16, {})
    )


def test_few_boxes_freeze_backbone() -> None:
    few, decisions = plan_of(boxes=20)
    assert (few.strategy, few.train_from) == ("head", "neck")
    decision = next(d for d in decisions if d.setting == "strategy")
    assert decision.evidence == {"num_boxes_rarest": 20, "threshold": 50}
    many, _ = plan_of(boxes=200)
    assert (many.strategy, many.train_from) == ("finetune", "stage3")


def test_explicit_settings_are_kept() -> None:
    plan, decisions = plan_of(
        strategy="finetune", train_from="stage2", epochs=7, num_views=3, **{"detect.fpn_channels": 48, "lr": 0.01}
    )
    assert (plan.train_from, plan.epochs, plan.num_views, plan.fpn_channels, plan.lr) == ("stage2", 7, 3, 48, 0.01)
    assert not {"epochs", "num_views", "detect.fpn_channels", "lr", "train_from"} & {d.setting for d in decisions}


def test_fine_level_has_narrow_pyramid() -> None:
    assert plan_of(**{"detect.min_stride": 8})[0].fpn_channels < plan_of()[0].fpn_channels


def test_views_fit_cache_and_epochs() -> None:
    assert plan_of(trainer=FakeTrainer(10**9), epochs=50)[0].num_views == 2
    assert plan_of(epochs=3)[0].num_views == 3
    assert plan_of(strategy="full", epochs=9)[0].num_views == 9


def test_small_data_sets_get_more_epochs() -> None:
    assert default_epochs(40, 8) > default_epochs(400, 8) >= default_epochs(40_000, 8) >= 10
