"""Test the default detector plan for numbers of images and boxes."""

from __future__ import annotations

from typing import Any

from headstart.config.effects import validate_detector_combination
from headstart.config.settings import resolve
from headstart.detection.plan import DetectPlan
from headstart.detection.planning import DetectPlanner, default_epochs


class FakeBackbone:
    """Backbone of four stages."""

    def __init__(self, row_bytes: int = 1000) -> None:
        self._row_bytes = row_bytes

    def cut(self, text: str) -> str:
        return {"last-2": "stage3"}.get(text, text)

    def frozen_cut(self, min_stride: int) -> str:
        return "neck"

    def row_bytes(self, train_from: str, min_stride: int) -> int:
        return self._row_bytes


def planner_of(boxes: float = 100.0, row_bytes: int = 1000, **given: Any) -> DetectPlanner:
    resolved = resolve({"data": "x", **given}, source="python", validate=validate_detector_combination)
    backbone: Any = FakeBackbone(row_bytes)
    return DetectPlanner(resolved, backbone, 160, boxes, (16, {}))


def plan_of(boxes: float = 100.0, row_bytes: int = 1000, **given: Any) -> tuple[DetectPlan, Any]:
    return planner_of(boxes, row_bytes, **given).plan()


def test_few_boxes_freeze_backbone() -> None:
    few, decisions = plan_of(boxes=20)
    assert (few.strategy, few.train_from) == ("head", "neck")
    decision = next(d for d in decisions if d.setting == "strategy")
    assert decision.evidence == {"num_boxes_rarest": 20, "threshold": 50}
    many, _ = plan_of(boxes=200)
    assert (many.strategy, many.train_from) == ("finetune", "stage3")


def test_few_boxes_rule_out_finetuning_within_budget() -> None:
    assert planner_of(20.0).strategies() == ("head",)
    assert planner_of(200.0).strategies() == ("head", "finetune")
    assert planner_of(20.0, strategy="finetune").strategies() == ("finetune",)


def test_explicit_settings_are_kept() -> None:
    plan, decisions = plan_of(
        strategy="finetune", train_from="stage2", epochs=7, num_views=3, **{"detect.fpn_channels": 48, "lr": 0.01}
    )
    assert (plan.train_from, plan.epochs, plan.num_views, plan.fpn_channels, plan.lr) == ("stage2", 7, 3, 48, 0.01)
    assert not {"epochs", "num_views", "detect.fpn_channels", "lr", "train_from"} & {d.setting for d in decisions}


def test_fine_level_has_narrow_pyramid() -> None:
    assert plan_of(**{"detect.min_stride": 8})[0].fpn_channels < plan_of()[0].fpn_channels


def test_views_fit_cache_and_epochs() -> None:
    assert plan_of(row_bytes=10**9, epochs=50)[0].num_views == 2
    assert plan_of(epochs=3)[0].num_views == 3
    assert plan_of(strategy="full", epochs=9)[0].num_views == 9


def test_small_data_sets_get_more_epochs() -> None:
    assert default_epochs(40, 8) > default_epochs(400, 8) >= default_epochs(40_000, 8) >= 10
