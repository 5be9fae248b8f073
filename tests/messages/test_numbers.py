"""Numbers in texts: never a rounded certainty, a negative zero or a wrong plural."""

from __future__ import annotations

import math

import pytest

from headstart.messages.numbers import count, percent, signed_points


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.815, "81.5 %"),
        (0.0004, "<0.1 %"),
        (0.9996, ">99.9 %"),
        (0.999, "99.9 %"),
        (None, "not measured"),
        (math.nan, "not measured"),
        (math.inf, "not measured"),
    ],
)
def test_shares(share: float | None, text: str) -> None:
    assert percent(share) == text


def test_whole_percent() -> None:
    assert [percent(s, 0) for s in (0.004, 0.126, 0.996)] == ["<1 %", "13 %", ">99 %"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.0"), (-1e-9, "0.0"), (0.0149, "+1.5"), (-0.2, "-20.0"), (0.0004, "0.0")]
)
def test_differences(value: float, text: str) -> None:
    assert signed_points(value) == text


def test_counts() -> None:
    assert [count(n, "image") for n in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
    assert count(2, "box", "boxes") == "2 boxes"
