"""`results.csv` of a detector, one row an epoch, and the line on the screen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from headstart.detection.loop import DetectEpoch
from headstart.events import EventStream
from headstart.workflow.run_files import write_csv

__all__ = ["COLUMNS", "DetectLog"]

COLUMNS = ("epoch", "train_loss", "class_loss", "box_loss", "val_mAP50", "lr", "duration_s", "phase")
"""Columns of `results.csv`; `val_mAP50` stands where unseen pictures were looked at after that epoch."""


@dataclass(frozen=True)
class _Row:
    record: DetectEpoch
    phase: str
    map50: float | None


class DetectLog:
    """Takes epochs as they end.

    Args:
        folder: The run.
        events: Told about some of the epochs.
    """

    def __init__(self, folder: Path, events: EventStream) -> None:
        self.folder, self._events = folder, events
        self._rows: list[_Row] = []

    def add(self, phase: str, num_epochs: int, record: DetectEpoch, map50: float | None) -> None:
        """One epoch has ended."""
        self._rows.append(_Row(record, phase, map50))
        every = max(1, num_epochs // 10)
        if map50 is not None or record.epoch in (1, num_epochs) or record.epoch % every == 0:
            text = f"  {phase} epoch {record.epoch} of {num_epochs}: loss {record.train_loss:.3f}"
            if map50 is not None:
                text += f"; unseen pictures: mAP50 {100 * map50:.1f} %"
            self._events.note(f"{text}; {record.duration_s:.1f} s")
        self.write()

    def write(self) -> None:
        """`results.csv` as far as it is known."""
        rows = [{**asdict(row.record), "val_mAP50": row.map50, "phase": row.phase} for row in self._rows]
        write_csv(self.folder / "results.csv", COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
