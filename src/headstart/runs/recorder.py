"""Write the events of a run into its folder: `events.jsonl` for programs, `train.log` for users."""

from __future__ import annotations

from pathlib import Path

from headstart.events import Event, Progress, json_line
from headstart.messages.log import event_lines
from headstart.messages.values import one_line

__all__ = ["RunRecorder"]


class RunRecorder:
    """Event listener that appends each event to the files of a run immediately; a resumed run continues them.

    Args:
        folder: The run folder; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, event: Event) -> None:
        self._append("events.jsonl", json_line(event))
        if not isinstance(event, Progress):
            self._append("train.log", "".join(one_line(line) + "\n" for line in event_lines(event)))

    def _append(self, name: str, text: str) -> None:
        if text:
            with (self._folder / name).open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
