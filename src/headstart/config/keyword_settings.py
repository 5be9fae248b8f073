"""Resolve the settings that a Python function gets as keywords."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import MissingExtraError

if TYPE_CHECKING:
    from headstart.config.settings import ResolvedConfig

__all__ = ["resolve_keywords"]


def resolve_keywords(
    data: str | os.PathLike[str] | None,
    config: Mapping[str, Any] | str | os.PathLike[str] | None,
    settings: Mapping[str, Any],
    has_boxes: Callable[[str, bool], bool] | None = None,
) -> ResolvedConfig:
    """Resolve the settings of a Python call.

    Args:
        data: What is read, or None where `config` names it.
        config: Settings as a mapping, or a YAML file.
        settings: Keyword arguments; they beat `config`.
        has_boxes: Whether data hold boxes; called where nobody states the task.

    Raises:
        SettingError: A setting is unknown, has no effect, or has a value that does not fit.
        MissingExtraError: The training part is not installed.
    """
    try:
        from headstart.config.settings import resolve
    except ImportError as error:
        raise MissingExtraError("training", "train") from error
    given: dict[str, Any] = {}
    file: str | os.PathLike[str] | None = None
    if isinstance(config, Mapping):
        given.update(config)
    else:
        file = config
    given.update(settings)
    if data is not None:
        given["data"] = os.fspath(data)
    return resolve(given, config_file=Path(file) if file is not None else None, source="python", has_boxes=has_boxes)
