"""Measured values that decide how a run goes on, written to the disk before they are used.

The same journal gives the same run: what stands in it is never measured again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from headstart.workflow.run_files import write_json

__all__ = ["JOURNAL", "Journal"]

JOURNAL = "journal.json"
"""Its name in the run folder."""

Value = TypeVar("Value")


class Journal:
    """Values by name in one JSON file.

    Args:
        path: The file; written with the first value.
        values: Values of an earlier run that is to be repeated.
    """

    def __init__(self, path: Path, values: Mapping[str, Any] | None = None) -> None:
        self._path = path
        self._values: dict[str, Any] = dict(values or {})

    def once(self, name: str, measure: Callable[[], Value]) -> Value:
        """Return the value of that name; it is measured and written where it is not known yet.

        Args:
            name: Its name.
            measure: Gives a JSON-serializable value.
        """
        if name not in self._values:
            self.write(name, measure())
        value: Value = self._values[name]
        return value

    def read(self, name: str) -> Any:
        """Return a value, or None."""
        return self._values.get(name)

    def write(self, name: str, value: Any) -> None:
        """Write a value; it is on the disk when this returns."""
        self._values[name] = json.loads(json.dumps(value))  # what is read back later is what is used now
        write_json(self._path, self._values)
