"""Checkpoints and the journal of a run that can be killed at any moment and goes on to the same result.

Going on means walking the same road again.  Trainings that ended are read back, the
one that was under way goes on from its last checkpoint, and every value that depended on the clock
(how many steps fit into the budget) was written into the journal and is never measured again.  Tensors
lie in safetensors, everything else in JSON; nothing is unpickled.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from headstart.errors import BundleError, CacheError
from headstart.system import atomic_file
from headstart.training.loop import TrainingState

__all__ = ["Checkpoints", "load_snapshot", "save_snapshot"]

Value = TypeVar("Value")
_JOURNAL = "journal.json"


class Checkpoints:
    """The folder `checkpoints/` of a run.

    Args:
        folder: It is made when something is first written.
        every_s: Seconds between two checkpoints of a training.
    """

    def __init__(self, folder: Path, every_s: float = 30.0) -> None:
        self.folder = folder
        self.every_s = every_s
        self._last = time.monotonic()
        self._journal: dict[str, Any] = {}
        path = folder / _JOURNAL
        if path.exists():
            self._journal = _read_json(path)

    def once(self, key: str, make: Callable[[], Value]) -> Value:
        """Return a JSON-able value that is made the first time and the same ever after."""
        if key not in self._journal:
            self.write(key, make())
        value: Value = self._journal[key]
        return value

    def read(self, key: str) -> Any:
        """Return what stands in the journal, or None."""
        return self._journal.get(key)

    def write(self, key: str, value: Any) -> None:
        """Put a value into the journal, on the disk when this returns."""
        self.write_all({key: value})

    def write_all(self, values: Mapping[str, Any]) -> None:
        """Put values into the journal, all of them or none, on the disk when this returns."""
        self._journal |= json.loads(json.dumps(dict(values)))  # what is read back later is what is used now
        text = json.dumps(self._journal, indent=1) + "\n"

        def fill() -> None:
            with atomic_file(self.folder / _JOURNAL) as temporary:
                temporary.write_text(text, encoding="utf-8")

        self._write(fill)

    def is_due(self) -> bool:
        """Return whether the last checkpoint is old enough."""
        return time.monotonic() - self._last >= self.every_s

    def save(self, name: str, snapshot: TrainingState) -> None:
        """Write a training's state over its last one, in one step.

        Raises:
            CacheError: The disk refuses; the last state is still there.
        """
        self._write(lambda: save_snapshot(self.folder / f"{name}.safetensors", snapshot))
        self._last = time.monotonic()

    def _write(self, fill: Callable[[], None]) -> None:
        from safetensors import SafetensorError

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            fill()
        except (OSError, SafetensorError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise CacheError(
                f"the training cannot be saved in `{self.folder}` ({reason}); what was saved before is whole.",
                hint=f"free some space, then go on with: headstart resume {self.folder.parent}",
            ) from error

    def load(self, name: str) -> TrainingState | None:
        """Return the last state of a training, or None."""
        path = self.folder / f"{name}.safetensors"
        return load_snapshot(path) if path.exists() else None

    def drop(self, name: str) -> None:
        """Forgets a training's state."""
        (self.folder / f"{name}.safetensors").unlink(missing_ok=True)


def save_snapshot(path: Path, snapshot: TrainingState) -> None:
    """Write tensors and values into one safetensors file."""
    from safetensors.torch import save_file

    with atomic_file(path) as temporary:
        save_file(snapshot.tensors, str(temporary), metadata={"values": json.dumps(snapshot.values)})


def load_snapshot(path: Path) -> TrainingState:
    """Read what `save_snapshot` wrote.

    Raises:
        BundleError: The file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            values = json.loads((file.metadata() or {})["values"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise BundleError(
            f"the checkpoint `{path}` is damaged ({error}).",
            hint=f"delete this file; headstart resume {path.parent.parent} then does that training again, to the same "
            "result",
        ) from error
    return TrainingState(tensors, values)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("no object")
        return value
    except (OSError, ValueError) as error:
        raise BundleError(f"the journal `{path}` cannot be read ({error}).", hint="start a new run") from error
