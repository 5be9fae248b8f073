"""Merge the keyword arguments of the Python API."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import MissingExtraError

if TYPE_CHECKING:
    from headstart.config.settings import MergedSettings

__all__ = ["merge_keywords"]

_WEIGHTS = ("class_weights", "class_weight", "probe.class_weights")


def merge_keywords(
    data: str | os.PathLike[str] | None,
    config: Mapping[str, Any] | str | os.PathLike[str] | None,
    settings: Mapping[str, Any],
) -> MergedSettings:
    """Merge the settings of a Python call.

    Args:
        data: Data path, or None if `config` has it.
        config: Settings as a mapping, or a YAML file.
        settings: Keyword arguments; they override `config`.

    Raises:
        SettingError: An unknown setting, or one with two values.
        MissingExtraError: The training extra is not installed.
    """
    try:
        from headstart.config.settings import merge_settings
    except ImportError as error:
        raise MissingExtraError("training", "train") from error
    given: dict[str, Any] = {}
    file: str | os.PathLike[str] | None = None
    if isinstance(config, Mapping):
        given.update(config)
    else:
        file = config
    given.update(settings)
    for name in _WEIGHTS:
        if isinstance(given.get(name), Mapping):
            given[name] = json.dumps({str(k): v for k, v in given[name].items()}, default=str)
    if data is not None:
        given["data"] = os.fspath(data)
    return merge_settings(given, config_file=Path(file) if file is not None else None, source="python")
