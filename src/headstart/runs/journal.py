"""Persist measured values before they are used, so that a resumed or repeated run makes the same decisions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from headstart.runs.files import write_json

__all__ = ["JOURNAL", "Journal", "read_journal"]

JOURNAL = "journal.json"
"""File name in the run folder."""

Value = TypeVar("Value")


class Journal:
    """Stores JSON values by name in one file.

    Args:
        path: The file; created with the first value.
        values: Values of an earlier run to repeat.
    """

    def __init__(self, path: Path, values: Mapping[str, Any] | None = None) -> None:
        self._path = path
        self._values: dict[str, Any] = dict(values or {})

    def once(self, name: str, measure: Callable[[], Value]) -> Value:
        """Return the stored value of a name; measure and store it if there is none."""
        if name not in self._values:
            self.write(name, measure())
        value: Value = self._values[name]
        return value

    def read(self, name: str) -> Any:
        """Return a value, or None if it is not stored."""
        return self._values.get(name)

    def write(self, name: str, value: Any) -> None:
        """Store a value; it is on disk on return."""
        self.write_all({name: value})

    def write_all(self, values: Mapping[str, Any]) -> None:
        """Store values by name, atomically; they are on disk on return."""
        self._values |= json.loads(json.dumps(dict(values)))  # the same values as after reading them back
        write_json(self._path, self._values)


def read_journal(path: Path) -> dict[str, Any]:
    """Read the values of an earlier run; empty without a readable file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
