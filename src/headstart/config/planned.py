"""Record the values of a training plan as decisions."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from headstart.config.settings import ResolvedConfig
from headstart.types.codes import DecisionReason, Evidence
from headstart.types.records import Decision
from headstart.utils.serialization import plain

__all__ = ["planned_decision"]


def planned_decision(resolved: ResolvedConfig, setting: str, value: Any, num_train: int) -> list[Decision]:
    """Return the decision for a value of a training plan; empty where it equals the explicit setting.

    Args:
        resolved: The settings.
        setting: Dotted name.
        value: The value used, as JSON values.
        num_train: Number of training images.
    """
    evidence: Evidence = {"num_train": num_train}
    if not resolved.is_explicit(setting):
        if value is None:
            return [Decision(setting, None, DecisionReason.OFF_BY_DEFAULT, "default")]
        return [Decision(setting, value, DecisionReason.DEFAULT_FOR_NUM_TRAIN, "default", evidence)]
    requested = plain(attrgetter(setting)(resolved.settings))
    if requested == value:
        return []
    reason = DecisionReason.BATCH_LIMITED_BY_DATA if setting == "batch_size" else DecisionReason.REQUESTED_VALUE_ADAPTED
    return [Decision(setting, value, reason, evidence={"requested": requested, **evidence})]
