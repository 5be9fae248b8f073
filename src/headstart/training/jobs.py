"""Define the result of a training, and handle Ctrl-C between training steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import CancelledError, HeadstartError
from headstart.events import EventStream
from headstart.training.loop import EpochRecord, TrainingState
from headstart.types.codes import NoteKind

__all__ = [
    "InterruptHandler",
    "TrainingInterruptedError",
    "TrainingResult",
    "check_frozen",
    "read_result",
    "write_result",
]


class TrainingInterruptedError(CancelledError):
    """Training was stopped by Ctrl-C or `cancel`; its state is saved and can be resumed."""


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training.

    Attributes:
        logits: (A, M, K) of the validation images at each interpolation factor; None without any.
        alphas: The A interpolation factors.
        start, end: Trained tensors before and after.
        records: One per epoch.
        is_diverged: Whether the loss diverged; `end` is then the last good state.
        best_epoch: The epoch of the saved weights, from 1; the last one without patience.
        frozen_before, frozen_after: Digests of all frozen tensors.
    """

    logits: NDArray[np.float32] | None
    alphas: tuple[float, ...]
    start: dict[str, Any]
    end: dict[str, Any]
    records: tuple[EpochRecord, ...]
    is_diverged: bool
    best_epoch: int
    frozen_before: str
    frozen_after: str


class InterruptHandler:
    """Handles Ctrl-C: the first sets a flag that is checked between steps, the second interrupts immediately.

    Args:
        events: Receives a note on the first Ctrl-C; its `cancel` sets the flag too.
    """

    def __init__(self, events: EventStream) -> None:
        self.events = events
        self._is_pressed = False

    @property
    def is_requested(self) -> bool:
        """Whether Ctrl-C was pressed or the pipeline was canceled."""
        return self._is_pressed or self.events.cancel.is_set()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle SIGINT inside the block."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def ask(number: int, frame: FrameType | None) -> None:
            self._is_pressed = True
            signal.signal(signal.SIGINT, before)
            # In a thread of its own, since the interrupted one may hold the lock of the output.
            threading.Thread(target=self.events.warn, args=(NoteKind.STOP_REQUESTED,), name="stopping").start()

        signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def check_frozen(before: str, after: str) -> None:
    """Check that the frozen tensors have not changed.

    Raises:
        HeadstartError: The digests differ.
    """
    if before != after:
        raise HeadstartError(
            "frozen parameters changed during training (internal error).",
            hint="report this with the output of headstart doctor",
        )


def write_result(result: TrainingResult) -> TrainingState:
    """Convert a result into one checkpoint."""
    import torch

    tensors = {f"start/{n}": t for n, t in result.start.items()} | {f"end/{n}": t for n, t in result.end.items()}
    if result.logits is not None:
        tensors["logits"] = torch.from_numpy(result.logits)
    values = {
        "alphas": list(result.alphas),
        "records": [asdict(r) for r in result.records],
        "is_diverged": result.is_diverged,
        "best_epoch": result.best_epoch,
        "frozen_before": result.frozen_before,
        "frozen_after": result.frozen_after,
    }
    return TrainingState({n: t.detach().contiguous().clone() for n, t in tensors.items()}, values)


def read_result(snapshot: TrainingState) -> TrainingResult:
    """Convert a checkpoint of `write_result` back."""

    def part(name: str) -> dict[str, Any]:
        return {n[len(name) + 1 :]: t for n, t in snapshot.tensors.items() if n.startswith(f"{name}/")}

    values = snapshot.values
    logits = snapshot.tensors.get("logits")
    return TrainingResult(
        None if logits is None else logits.numpy(),
        tuple(values["alphas"]),
        part("start"),
        part("end"),
        tuple(EpochRecord(**r) for r in values["records"]),
        values["is_diverged"],
        values["best_epoch"],
        values["frozen_before"],
        values["frozen_after"],
    )
