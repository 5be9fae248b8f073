"""What several commands need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from headstart.errors import MissingExtraError, UsageError
from headstart.shares import parse_share

if TYPE_CHECKING:
    from headstart.config import Resolved

__all__ = ["read_share", "resolved_settings"]


def read_share(option: str, text: str | None) -> float | None:
    """The share that was given, e.g. `5%`; None where none was."""
    if text is None:
        return None
    try:
        return parse_share(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}.") from error


def resolved_settings(
    given: Mapping[str, Any],
    config: str | None,
    overrides: Iterable[str],
    has_boxes: Callable[[str, bool], bool] | None = None,
) -> Resolved:
    """Settings of a command; names the missing part where only prediction is installed."""
    try:
        from headstart.config import resolve
    except ImportError as error:
        raise MissingExtraError("training", "train") from error
    return resolve(given, config_file=config, overrides=overrides, source="cli", has_boxes=has_boxes)
