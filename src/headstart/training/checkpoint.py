"""Save checkpoints and the journal of a run, so that a killed run resumes with bit-identical results.

A resumed run repeats its steps: finished trainings are read back, an unfinished one continues from its last
checkpoint, and values that depended on the clock come from the journal. Tensors are stored as safetensors, all else
as JSON; pickle is not used.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headstart.errors import BundleError, CacheError
from headstart.runs.journal import JOURNAL, Journal
from headstart.training.loop import TrainingState
from headstart.utils.system import atomic_file

__all__ = ["Checkpoints", "load_snapshot", "save_snapshot"]

_EVERY_S = 30.0  # seconds between two checkpoints of a training


class Checkpoints(Journal):
    """Reads and writes the folder `checkpoints/` of a run; its journal holds the values that depend on the clock.

    Args:
        folder: The folder; created on the first write.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / JOURNAL
        super().__init__(path, _read_json(path) if path.exists() else None)
        self.folder = folder
        self._last = time.monotonic()

    def write_all(self, values: Mapping[str, Any]) -> None:
        """Store values in the journal, atomically; they are on disk on return.

        Raises:
            CacheError: The file cannot be written.
        """
        self._write(lambda: super(Checkpoints, self).write_all(values))

    def is_due(self) -> bool:
        """Return whether the next checkpoint is due."""
        return time.monotonic() - self._last >= _EVERY_S

    def save(self, name: str, snapshot: TrainingState) -> None:
        """Replace the checkpoint of a training, atomically.

        Raises:
            CacheError: The file cannot be written; the last checkpoint is still there.
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
                f"cannot save the training in `{self.folder}` ({reason}); the last checkpoint is intact.",
                hint=f"free some disk space, then: headstart resume {shlex.quote(str(self.folder.parent))}",
            ) from error

    def load(self, name: str) -> TrainingState | None:
        """Read the last checkpoint of a training, or return None."""
        path = self.folder / f"{name}.safetensors"
        return load_snapshot(path) if path.exists() else None

    def drop(self, name: str) -> None:
        """Delete the checkpoint of a training."""
        (self.folder / f"{name}.safetensors").unlink(missing_ok=True)


def save_snapshot(path: Path, snapshot: TrainingState) -> None:
    """Write tensors and values into one safetensors file."""
    from safetensors.torch import save_file

    with atomic_file(path) as temporary:
        save_file(snapshot.tensors, str(temporary), metadata={"values": json.dumps(snapshot.values)})


def load_snapshot(path: Path) -> TrainingState:
    """Read a file written by `save_snapshot`.

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
            hint=f"delete it; headstart resume {shlex.quote(str(path.parent.parent))} then repeats that training "
            "with the same result",
        ) from error
    return TrainingState(tensors, values)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return value
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot read the journal `{path}` ({error}).", hint="start a new run") from error
