"""Render decisions: setting, value and reason, from a reason code and its evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstart.messages.decisions_data import DATA_REASONS
from headstart.messages.decisions_head import HEAD_REASONS
from headstart.messages.decisions_training import TRAINING_REASONS
from headstart.types.codes import DecisionReason
from headstart.types.records import Decision

__all__ = ["REASONS", "decision_message", "reason_message"]

REASONS: Mapping[DecisionReason, Callable[[Mapping[str, Any]], str]] = {
    **DATA_REASONS,
    **HEAD_REASONS,
    **TRAINING_REASONS,
}
"""Reason code to the function that renders its evidence."""


def reason_message(decision: Decision) -> str:
    """Return the reason of a decision, in lower case without a full stop."""
    return REASONS[decision.reason](decision.evidence)


def decision_message(decision: Decision) -> str:
    """Return e.g. `probe.temperature = 1.04: fitted on leave-one-out predictions, log-loss 0.0197`."""
    return f"{decision.setting} = {_value(decision.value)}: {reason_message(decision)}"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
