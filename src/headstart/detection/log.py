"""Write `results.csv` of a detector, one row per epoch, and emit an event for each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from headstart.detection.loop import DetectEpoch
from headstart.events import EpochFinished, EventStream
from headstart.runs.files import write_csv

__all__ = ["COLUMNS", "DetectLog"]

COLUMNS = ("epoch", "train_loss", "class_loss", "box_loss", "val_mAP50", "lr", "duration_s", "phase")
"""Columns of `results.csv`; `val_mAP50` is empty for epochs without validation."""


@dataclass(frozen=True)
class _Row:
    record: DetectEpoch
    phase: str
    map50: float | None


class DetectLog:
    """Records epochs as they end.

    Args:
        folder: The run folder.
        events: Receives an `EpochFinished` per epoch.
    """

    def __init__(self, folder: Path, events: EventStream) -> None:
        self.folder, self._events = folder, events
        self._rows: list[_Row] = []

    def add(self, phase: str, num_epochs: int, record: DetectEpoch, map50: float | None) -> None:
        """Record one finished epoch."""
        self._rows.append(_Row(record, phase, map50))
        metrics = {**asdict(record), "val_mAP50": map50}
        self._events.emit(EpochFinished(phase, metrics.pop("epoch"), num_epochs, metrics))
        self.write()

    def write(self) -> None:
        """Write `results.csv` with all epochs recorded so far."""
        rows = [{**asdict(row.record), "val_mAP50": row.map50, "phase": row.phase} for row in self._rows]
        write_csv(self.folder / "results.csv", COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
