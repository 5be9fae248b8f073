"""Test which fine-tuning trial fits a budget."""

from __future__ import annotations

import pytest

from headstart.config.settings import resolve

pytest.importorskip("torch")

from headstart.advice.candidates import fit_trial
from headstart.advice.finetune_costs import epochs_for_budget, folds_that_fit, image_seconds, trainings_s
from headstart.training.loop import EpochRecord
from headstart.training.plan import FinetunePlan, default_plan

SPEEDS = [{"view_s": 0.02, "image_s": 0.03}] * 2 + [{"view_s": 0.02, "image_s": 0.01}] * 2


def plans() -> list[FinetunePlan]:
    all_plans = []
    for cut in ("stage6", "stage7"):
        plan = default_plan("finetune", cut, 200, 4)
        all_plans += [plan, plan.with_(augment="none", num_views=1)]
    return all_plans


def fit(seconds: float, num: int = 200, **settings: object) -> tuple[int, int, int, float] | None:
    resolved = resolve({"data": "x", "budget": "5m", **settings}, source="python")
    trial = fit_trial(resolved, plans(), SPEEDS, num, seconds, 0)
    return None if trial is None else (len(trial.plans), trial.epochs, trial.num_folds, trial.seconds)


def test_more_time_gives_longer_trial() -> None:
    choices = [fit(s) for s in (20, 60, 150, 300, 1000)]
    assert None not in choices
    seconds = [c[3] for c in choices if c is not None]
    assert seconds == sorted(seconds)
    assert choices[0] < choices[-1]  # more candidates with more epochs


def test_chosen_trial_fits() -> None:
    for seconds in (15, 30, 60, 120, 240, 480):
        choice = fit(seconds)
        assert choice is not None
        assert choice[3] <= seconds


def test_several_candidates_need_min_epochs() -> None:
    for seconds in range(10, 400, 10):
        choice = fit(seconds)
        if choice is not None and choice[0] > 1:
            assert choice[1] >= 8


def test_too_little_time_gives_none() -> None:
    assert fit(3) is None
    assert fit(60, num=5000) is None


def test_explicit_epochs_are_kept() -> None:
    choice = fit(400, epochs=5)
    assert choice is not None
    assert choice[1] == 5


def test_head_refit_is_counted() -> None:
    resolved = resolve({"data": "x", "budget": "5m", "epochs": 5}, source="python")
    seconds = []
    for has_refit in (False, True):
        trial = fit_trial(resolved, [p.with_(refit_head=has_refit) for p in plans()], SPEEDS, 200, 400, 0)
        assert trial is not None
        seconds.append(trial.seconds)
    assert seconds[0] < seconds[1] < 1.1 * seconds[0]
    speed = {"view_s": 0.0, "image_s": 0.01}
    whole = default_plan("full", "stem", 1000, 4)
    parts = [(800, 200)]
    epochs = [epochs_for_budget(whole.with_(refit_head=r), speed, parts, 52.0) for r in (False, True)]
    assert epochs == [5, 4]


def test_epochs_fit_time_left() -> None:
    plan, speed = default_plan("finetune", "stage7", 900, 4), {"view_s": 0.01, "image_s": 0.02}
    parts = [(600, 300)] * 3 + [(900, 0)]
    for left in (100.0, 300.0, 1000.0):
        epochs = epochs_for_budget(plan, speed, parts, left)
        costs = [trainings_s(plan.with_(epochs=e), speed, parts) for e in (epochs, epochs + 1)]
        assert costs[0] <= left < costs[1]
    assert epochs_for_budget(plan, speed, parts, 30.0) == 0
    assert epochs_for_budget(plan, speed, parts, 1e6) == 60


def test_pace_uses_epochs_with_cached_views() -> None:
    def took(*seconds: float) -> tuple[EpochRecord, ...]:
        return tuple(EpochRecord(i + 1, 1.0, 0.5, None, None, None, 1e-3, s) for i, s in enumerate(seconds))

    assert image_seconds(took(30.0, 20.0, 11.0, 11.0), 1000, 300) == pytest.approx(0.01)
    assert image_seconds(took(11.0), 1000, 300) == pytest.approx(0.01)
    assert image_seconds((), 1000, 300) == 0.0


@pytest.mark.parametrize(("left", "folds"), [(1000, 3), (36, 3), (26, 2), (15, 1), (1, 1)])
def test_slow_pilots_reduce_folds(left: float, folds: int) -> None:
    plan = default_plan("finetune", "stage7", 100, 4).with_(epochs=10, augment="flip", num_views=4)
    # Everything takes 12 s, and a fold 8 s with 2 s of scoring; 132 new views take .7 s.
    assert folds_that_fit(plan, 0.012, 0.005, 100, left) == folds
    # Without augmentation no more views are needed.
    assert folds_that_fit(plan.with_(augment="none"), 0.012, 100.0, 100, left) == folds
