"""Resolve the keyword arguments of the Python API."""

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
        data: Data path, or None if `config` has it.
        config: Settings as a mapping, or a YAML file.
        settings: Keyword arguments; they override `config`.
        has_boxes: As in `config.resolve`.

    Raises:
        SettingError: An unknown setting, an invalid value, or a setting without effect.
        MissingExtraError: The training extra is not installed.
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
