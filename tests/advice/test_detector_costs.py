"""Test which training fits into the time left, from the costs of a view and a step."""

from __future__ import annotations

import pytest

from headstart.advice.detector_costs import (
    MIN_STEPS,
    AffordableTraining,
    FinalSteps,
    MeasuredCosts,
    fit_training,
    min_budget_s,
    min_training_s,
)

PRICES = MeasuredCosts(view_s=0.02, step_s=0.1)


def fit(
    remaining_s: float,
    num_images: int = 160,
    prices: MeasuredCosts = PRICES,
    *,
    num_trainings: int = 1,
    made: int = 0,
    full_steps: int = 800,
) -> AffordableTraining | None:
    """Fit a training with batches of 8, of which `made` views of every image are cached."""
    return fit_training(
        remaining_s,
        prices,
        num_images=num_images,
        batch_size=8,
        full_steps=full_steps,
        min_images=8,
        missing=[max(0, views - made) * num_images for views in range(9)],
        num_trainings=num_trainings,
    )


def price(
    training: AffordableTraining, num_images: int, prices: MeasuredCosts = PRICES, num_trainings: int = 1
) -> float:
    """Return the seconds of the views and steps of a fit."""
    return prices.view_s * training.num_views * training.num_images + prices.step_s * training.num_steps * num_trainings


@pytest.mark.parametrize("num_images", [40, 131, 296, 427, 677, 1770, 20_000])
@pytest.mark.parametrize("remaining_s", [6.0, 20.0, 60.0, 200.0, 400.0])
def test_fit_uses_time_left(num_images: int, remaining_s: float) -> None:
    full_steps = max(800, 20 * num_images // 8)
    trainings = fit(remaining_s, num_images, full_steps=full_steps)
    assert trainings is not None
    assert price(trainings, num_images) <= remaining_s
    assert trainings.num_steps >= MIN_STEPS
    if trainings.num_steps < full_steps:
        assert price(trainings, num_images) >= remaining_s - 0.2


def test_more_time_gives_longer_training() -> None:
    fits = [fit(s, 400) for s in (5, 8, 12, 20, 30, 45, 60, 90, 120, 200)]
    trainings = [f for f in fits if f is not None]
    assert len(trainings) == len(fits)
    assert [f.num_images for f in trainings] == sorted(f.num_images for f in trainings)
    assert [f.num_views for f in trainings] == sorted(f.num_views for f in trainings)
    assert trainings[0].num_images < 400 == trainings[-1].num_images
    assert trainings[0].num_views == 1 < trainings[-1].num_views


def test_views_are_used_in_three_epochs() -> None:
    for remaining_s in (12.0, 25.0, 50.0, 100.0):
        trainings = fit(remaining_s)
        assert trainings is not None
        assert trainings.num_steps / (160 / 8) >= 3 * trainings.num_views


def test_cached_views_are_free() -> None:
    new, kept = fit(30.0), fit(30.0, made=8)
    assert new is not None
    assert kept is not None
    assert kept.num_steps > new.num_steps
    assert kept.num_views >= new.num_views


def test_folds_share_time() -> None:
    alone, folds = fit(60.0), fit(60.0, num_trainings=4)
    assert alone is not None
    assert folds is not None
    assert folds.num_steps < alone.num_steps
    assert price(folds, 160, num_trainings=4) <= 60.0


def test_too_little_time_fits_nothing() -> None:
    min_s = min_training_s(PRICES, 8)
    assert fit(min_s - 0.2) is None
    assert fit(min_s + 0.2) is not None


def test_final_steps_grow_with_images_and_contention() -> None:
    quiet = FinalSteps(40, 50, 8.0, 0.1, 1.0, 2, 1.0)
    busy = FinalSteps(40, 50, 8.0, 0.1, 2.0, 2, 2.0)
    many = FinalSteps(400, 500, 8.0, 0.1, 1.0, 2, 1.0)
    assert busy.seconds() == pytest.approx(2 * quiet.seconds())
    assert many.parts()["export"] == quiet.parts()["export"]
    assert many.parts()["detect"] == pytest.approx(10 * quiet.parts()["detect"])
    assert FinalSteps(40, 50, None, 0.1, 1.0, 2, 1.0).seconds() > 10.0


def test_parity_check_uses_time_left() -> None:
    ending = FinalSteps(40, 50, 8.0, 0.1, 1.0, 2, 1.0)
    assert ending.num_compared(-5.0, 40) == 8
    assert ending.num_compared(3.0, 40) in range(9, 40)
    assert ending.num_compared(100.0, 40) == 40
    assert ending.num_compared(100.0, 5) == ending.num_compared(-5.0, 5) == 5


def test_least_budget_has_reserve() -> None:
    assert min_budget_s(20.0, 5.0, 15.0) == 50.0
    assert min_budget_s(20.0, 5.0, 25.0) % 10 == 0
