"""Render decisions: what was chosen, its value and why, from a reason code and its evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstart.records import Decision

__all__ = ["REASONS", "decision_message", "reason_message"]

REASONS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "temperature_fitted": lambda e: "fitted on held-out predictions",
}
"""Reason code to the text that its evidence makes."""


def reason_message(decision: Decision) -> str:
    """Return why a value was chosen, in lower case without a full stop."""
    render = REASONS.get(decision.reason)
    return decision.reason if render is None else render(decision.evidence)


def decision_message(decision: Decision) -> str:
    """Return e.g. `head.temperature = 1.04: fitted on held-out predictions`."""
    value = decision.value
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} {part}" for name, part in value.items())
    elif isinstance(value, float):
        value = f"{value:.4g}"
    return f"{decision.what} = {'none' if value is None else value}: {reason_message(decision)}"
