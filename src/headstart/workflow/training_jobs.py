"""What a training leaves, and how it is stopped by hand.

Ctrl-C is a wish that is granted between two steps, so that what is saved is always whole.
"""

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

from headstart.errors import HeadstartError
from headstart.events import EventStream
from headstart.training.loop import EpochRecord, TrainingState
from headstart.types import NoteKind

__all__ = [
    "InterruptHandler",
    "TrainingInterruptedError",
    "TrainingResult",
    "check_frozen",
    "read_result",
    "write_result",
]


class TrainingInterruptedError(HeadstartError):
    """Ctrl-C: everything is saved and can go on."""

    exit_code = 130


@dataclass(frozen=True)
class TrainingResult:
    """What a training left.

    Attributes:
        logits: (A, M, K) of the validation images at each share of the way, or None without any.
        shares: The A shares.
        start, end: Trained tensors before and after.
        records: One an epoch.
        is_diverged: Whether the loss ran away or was no longer a number; `end` is the last good state then.
        best_epoch: The epoch whose weights were kept, from 1; the last one without patience.
        frozen_before, frozen_after: Digests of everything that must not change.
    """

    logits: NDArray[np.float32] | None
    shares: tuple[float, ...]
    start: dict[str, Any]
    end: dict[str, Any]
    records: tuple[EpochRecord, ...]
    is_diverged: bool
    best_epoch: int
    frozen_before: str
    frozen_after: str


class InterruptHandler:
    """Turns Ctrl-C into a wish that is granted after the step under way; a second one does not wait.

    Args:
        events: Told that the wish was heard.
    """

    def __init__(self, events: EventStream) -> None:
        self.events = events
        self.is_asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While inside, the first Ctrl-C is a wish."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def ask(number: int, frame: FrameType | None) -> None:
            self.is_asked = True
            signal.signal(signal.SIGINT, before)
            # By a thread of its own: the one that is interrupted may be just about to say something.
            threading.Thread(target=self.events.warn, args=(NoteKind.STOP_REQUESTED,), name="stopping").start()

        signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def check_frozen(before: str, after: str) -> None:
    """Compare digests of everything that a training must not change.

    Raises:
        HeadstartError: They differ.
    """
    if before != after:
        raise HeadstartError(
            "tensors that were to stay frozen have changed while training.",
            hint="please report this with your versions of torch and timm (headstart doctor)",
        )


def write_result(result: TrainingResult) -> TrainingState:
    """Return all of it as one checkpoint."""
    import torch

    tensors = {f"start/{n}": t for n, t in result.start.items()} | {f"end/{n}": t for n, t in result.end.items()}
    if result.logits is not None:
        tensors["logits"] = torch.from_numpy(result.logits)
    values = {
        "shares": list(result.shares),
        "records": [asdict(r) for r in result.records],
        "is_diverged": result.is_diverged,
        "best_epoch": result.best_epoch,
        "frozen_before": result.frozen_before,
        "frozen_after": result.frozen_after,
    }
    return TrainingState({n: t.detach().contiguous().clone() for n, t in tensors.items()}, values)


def read_result(snapshot: TrainingState) -> TrainingResult:
    """Read what `write_result` wrote."""

    def part(name: str) -> dict[str, Any]:
        return {n[len(name) + 1 :]: t for n, t in snapshot.tensors.items() if n.startswith(f"{name}/")}

    values = snapshot.values
    logits = snapshot.tensors.get("logits")
    return TrainingResult(
        None if logits is None else logits.numpy(),
        tuple(values["shares"]),
        part("start"),
        part("end"),
        tuple(EpochRecord(**r) for r in values["records"]),
        values["is_diverged"],
        values["best_epoch"],
        values["frozen_before"],
        values["frozen_after"],
    )
