"""Test the text of the learning curve: its numbers are consistent."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.evaluation.learning_curve import forecast_curve
from headstart.messages.sections import class_gains_message
from headstart.reports.classifier_report import curve_section

SIZES = np.array([50, 100, 200, 400])
NAMES = ("a", "b", "c")


def section(seed: int, *, step: float = 0.0, error: float = 0.1) -> dict[str, object]:
    """Return a curve whose last point is off the fitted law."""
    rng = np.random.default_rng(seed)
    right = [1 - error * (400 / n) ** 0.3 for n in SIZES]
    right[-1] -= step
    hits = np.array([(rng.random(400) < share).astype(float) for share in right])
    return curve_section(forecast_curve(SIZES, hits, np.arange(400) % 3, 3, num_draws=50), NAMES)


@pytest.mark.parametrize("step", [-0.03, 0.0, 0.03])
@pytest.mark.parametrize("error", [0.0, 0.05, 0.5])
def test_gain_is_difference_of_printed_numbers(step: float, error: float) -> None:
    for seed in range(5):
        result = section(seed, step=step if error else 0.0, error=error)
        now, doubled, gain = (result[k] for k in ("now", "doubled", "gain"))
        assert gain == pytest.approx(doubled - now, abs=1e-9)
        assert result["low"] <= gain <= result["high"]
        assert round(100 * gain, 1) == pytest.approx(round(100 * doubled, 1) - round(100 * now, 1), abs=1e-6)
        forecast = next(s for s in result["series"] if s["name"] == "forecast")
        assert forecast["y"][0] == pytest.approx(now, abs=5e-4)
        assert forecast["y"][1] == pytest.approx(doubled, abs=5e-4)


def test_classes_are_named_only_with_gain() -> None:
    assert class_gains_message([]) == ""
    assert class_gains_message([{"name": "a", "gain": 0.0001}, {"name": "b", "gain": -0.2}]) == ""
    assert class_gains_message([{"name": "a", "gain": 0.02}, {"name": "b", "gain": 0.0}]).count("points") == 1
