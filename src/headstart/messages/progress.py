"""Show the progress of a stage: a bar on a terminal, otherwise a line every 30 s."""

from __future__ import annotations

from typing import Any, TextIO

from headstart.messages.stages import epoch_message, progress_message
from headstart.types.events import EpochFinished, Progress

__all__ = ["ProgressLine", "is_terminal", "write_text"]


class ProgressLine:
    """The progress of the current stage.

    Args:
        stream: Output stream.
        indent: Columns before the text.
    """

    _PAUSE_S = 30.0

    def __init__(self, stream: TextIO, indent: int) -> None:
        self._stream = stream
        self._indent = indent
        self._bar: Any = None
        self._task: Any = None
        self._stage: Any = None
        self._next_s = self._PAUSE_S

    def update(self, event: Progress) -> None:
        """Show the progress of a stage."""
        if event.stage is not self._stage:
            self.clear()
            self._stage, self._next_s = event.stage, self._PAUSE_S
        if is_terminal(self._stream):
            self._draw(progress_message(event), event.done, event.total)
        elif event.seconds >= self._next_s and event.done < event.total:
            self._next_s = event.seconds + self._PAUSE_S
            write_text(self._stream, f"{'':<{self._indent}}{progress_message(event)}\n")

    def update_epoch(self, event: EpochFinished) -> None:
        """Show the progress of training."""
        if event.phase != self._stage:
            self.clear()
            self._stage = event.phase
        if is_terminal(self._stream):
            self._draw(epoch_message(event), event.epoch, event.num_epochs)

    def clear(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = self._stage = None

    def _draw(self, text: str, done: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        if self._bar is None:
            console = Console(file=self._stream)
            self._bar = Bars(TextColumn("{task.description}"), BarColumn(), console=console, transient=True)
            self._task = self._bar.add_task("", total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total, description=text)


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal."""
    return bool(getattr(stream, "isatty", lambda: False)())


def write_text(stream: TextIO, text: str) -> None:
    """Write text; replace characters that the encoding lacks."""
    try:
        stream.write(text)
    except UnicodeEncodeError:  # console without Unicode
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()
