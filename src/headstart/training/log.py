"""Write `results.csv` (one row per epoch) and emit an event per epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from headstart.errors import MissingExtraError
from headstart.events import EpochFinished, EventStream
from headstart.runs.files import write_csv
from headstart.training.loop import EpochRecord
from headstart.types.codes import JsonValue

__all__ = ["EpochLog", "check_tensorboard", "overfitting"]

_COLUMNS = (*(f.name for f in fields(EpochRecord)), "phase")


class EpochLog:
    """Records epochs as they end.

    Args:
        folder: The run folder.
        events: Receives an `EpochFinished` per epoch.
        has_events: Whether to write TensorBoard event files.
    """

    def __init__(self, folder: Path, events: EventStream, *, has_events: bool = False) -> None:
        self.folder, self._events, self._has_events = folder, events, has_events
        self.phases: dict[str, list[EpochRecord]] = {}
        self._epochs: dict[str, int] = {}

    def begin(self, phase: str, num_epochs: int) -> None:
        """Start the records of a training, or of one that is read back."""
        self.phases[phase] = []
        self._epochs[phase] = num_epochs

    def add(self, phase: str, record: EpochRecord, *, is_new: bool = True) -> None:
        """Record one finished epoch; one that is read back is not new and emits no event."""
        self.phases[phase].append(record)
        if is_new:
            metrics = asdict(record)
            self._events.emit(EpochFinished(phase, metrics.pop("epoch"), self._epochs[phase], metrics))
        self.write()
        if self._has_events:
            self._write_event(phase, record)

    def _write_event(self, phase: str, record: EpochRecord) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # A resumed training repeats its epochs with the same steps; the viewer shows them once.
        with SummaryWriter(str(self.folder / "tensorboard" / phase)) as writer:
            for name, value in asdict(record).items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, record.epoch)

    def write(self) -> list[dict[str, str]]:
        """Write `results.csv` with all epochs recorded so far, and return its rows."""
        rows = [{**asdict(record), "phase": phase} for phase, records in self.phases.items() for record in records]
        return write_csv(self.folder / "results.csv", _COLUMNS, ([row[name] for name in _COLUMNS] for row in rows))


def check_tensorboard() -> None:
    """Raise an error if TensorBoard event files cannot be written.

    Raises:
        MissingExtraError: The package is not installed.
    """
    import importlib.util

    if importlib.util.find_spec("tensorboard") is None:
        raise MissingExtraError("finetune.tensorboard", "tensorboard")


def overfitting(records: Sequence[EpochRecord]) -> dict[str, JsonValue] | None:
    """Return the epoch of the lowest validation loss, that loss and the last one; None without overfitting.

    Overfitting: the validation loss rose by more than 5 % above its minimum while the training loss fell.
    """
    losses = [r.val_loss for r in records if r.val_loss is not None]
    if len(losses) < 3 or len(losses) != len(records):
        return None
    best = min(range(len(losses)), key=lambda i: losses[i])
    if (
        best + 1 < len(losses)
        and losses[-1] > 1.05 * losses[best]
        and records[-1].train_loss < records[best].train_loss
    ):
        return {"epoch": records[best].epoch, "min_val_loss": losses[best], "last_val_loss": losses[-1]}
    return None
