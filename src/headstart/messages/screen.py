"""The screen: at most twelve lines that say what was read, found, trained and measured, and what to type next.

`Screen` listens to an `EventStream`. Each line has a label and at most 100 characters; findings are counted by kind.
`VERBOSE` adds a line for each decision and finding with its evidence, `QUIET` shows the score only.
"""

from __future__ import annotations

import os
import sys
from enum import IntEnum
from typing import Any, TextIO

from headstart.events import (
    CheckFinished,
    DatasetRead,
    DecisionMade,
    EpochFinished,
    Event,
    FileWritten,
    FindingMade,
    Note,
    Progress,
    RunFinished,
    ScoreMeasured,
    StageFinished,
    StageStarted,
)
from headstart.messages.decisions import decision_message
from headstart.messages.notes import note_message
from headstart.messages.scores import score_lines
from headstart.messages.stages import dataset_message, epoch_message, progress_message, stage_line
from headstart.messages.summaries import Remark, Topic, remark_message, summarize_findings, topic_of
from headstart.messages.values import duration, one_line, shorten
from headstart.types import NoteKind, Severity

__all__ = ["LABEL_WIDTH", "LINE_WIDTH", "Screen", "Verbosity"]

LABEL_WIDTH = 10
LINE_WIDTH = 100
_MOST_LINES = {Topic.READING: 3, Topic.DATASET: 3, Topic.TRAINING: 2, Topic.EVALUATION: 0}
_MOST = 12
_LABELS = {Topic.READING: "Read", Topic.DATASET: "Checks", Topic.TRAINING: "Note", Topic.EVALUATION: "Note"}


class Verbosity(IntEnum):
    """How much the screen shows."""

    QUIET = -1
    NORMAL = 0
    VERBOSE = 1


class Screen:
    """A listener that prints the story of a pipeline.

    Args:
        stream: Where lines go; by default stderr, since stdout is for data.
        verbosity: How much is shown.
        details: The command that shows every finding, e.g. `headstart check photos/`; None where this is that command.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        verbosity: Verbosity = Verbosity.NORMAL,
        details: str | None = None,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._verbosity = verbosity
        self._details = details
        self._label = ""
        self._num_lines = self._num_reading = 0
        self._held: dict[Topic, list[Remark]] = {topic: [] for topic in Topic}
        self._report: FileWritten | None = None
        self._progress = _ProgressLine(self._stream) if verbosity >= Verbosity.NORMAL else None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            if self._progress is not None:
                self._progress.update(event)
        elif isinstance(event, ScoreMeasured):
            self.flush()
            for label, text in score_lines(event.score):
                self.row(label, text)
        elif self._verbosity >= Verbosity.NORMAL:
            self._show(event)

    def _show(self, event: Event) -> None:
        if isinstance(event, DatasetRead):
            self.row("Dataset", dataset_message(event))
        elif isinstance(event, FindingMade):
            self._held[topic_of(event.finding)].append(event.finding)
            if self._verbosity >= Verbosity.VERBOSE:
                self.row("", remark_message(event.finding), is_cut=False)
        elif isinstance(event, CheckFinished):
            if self._details is None and event.data:
                self._details = f"headstart check {shorten(_quoted(event.data), 40)}"
            self.flush()
        elif isinstance(event, StageStarted):
            self.flush()
        elif isinstance(event, DecisionMade) and self._verbosity >= Verbosity.VERBOSE:
            self.row("", decision_message(event.decision), is_cut=False)
        elif isinstance(event, EpochFinished) and self._verbosity >= Verbosity.VERBOSE:
            self.row("", epoch_message(event), is_cut=False)
        elif isinstance(event, Note):
            self._note(event)
        elif isinstance(event, StageFinished):
            line = stage_line(event)
            if line is not None:
                self.row(*line)
        elif isinstance(event, FileWritten):
            self._file(event)
        elif isinstance(event, RunFinished):
            self._finish(event)

    def _note(self, event: Note) -> None:
        if event.kind is NoteKind.TEXT:
            self.flush()
            if self._progress is not None:
                self._progress.clear()
            self._label = ""
            start = "" if event.severity is Severity.INFO else "warning: "
            _write(self._stream, f"{start}{event.evidence['text']}\n")
        elif event.severity is not Severity.INFO or self._verbosity >= Verbosity.VERBOSE:
            self.flush()
            self.row("Note", note_message(event), is_cut=self._verbosity < Verbosity.VERBOSE)

    def flush(self) -> None:
        """Print the findings that are held back, counted by kind."""
        for topic, found in self._held.items():
            if found and self._verbosity >= Verbosity.NORMAL:
                self._summarize(topic, found)
            found.clear()

    def _summarize(self, topic: Topic, findings: list[Remark]) -> None:
        """Print at most three lines about reading and checks together, at least one about each."""
        most = _MOST_LINES[topic]
        if topic is Topic.DATASET:
            most = max(1, most - self._num_reading)
        if not most:
            return
        lines = summarize_findings(findings, most=most, details=self._details if topic is Topic.DATASET else None)
        for text in lines:
            self.row(_LABELS[topic], text)
        if topic is Topic.READING:
            self._num_reading += len(lines)

    def close(self) -> None:
        """Print what is held back and remove the progress line."""
        self.flush()
        if self._progress is not None:
            self._progress.clear()

    def row(self, label: str, text: str, *, is_cut: bool = True) -> None:
        """Print one line; a label that equals the one above is left out."""
        if self._progress is not None:
            self._progress.clear()
        shown = "" if label == self._label else label
        self._label = label
        self._num_lines += 1
        room = LINE_WIDTH - LABEL_WIDTH
        text = one_line(text)
        _write(self._stream, f"{shown:<{LABEL_WIDTH}}{shorten(text, room) if is_cut else text}".rstrip() + "\n")

    def _file(self, event: FileWritten) -> None:
        if event.role == "report":
            self._report = event
        elif event.role != "run":
            self.flush()
            self.row("Written", _relative(event.path))

    def _finish(self, event: RunFinished) -> None:
        self.flush()
        if event.folder is not None:
            parts = ["report.html"] if self._report is not None else []
            inside = f" ({', '.join([*parts, 'bundle/'])})"
            self.row("Saved", f"{_relative(event.folder)}{inside}, {duration(event.seconds)}")
        for command, comment in event.next_commands[: 1 if self._num_lines >= _MOST - 1 else None]:
            text = f"{command}    # {comment}" if comment else command
            self.row("Next", text)


class _ProgressLine:
    """The progress of the current stage: a bar on a terminal, a line every half minute elsewhere."""

    _PAUSE_S = 30.0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Any = None
        self._task: Any = None
        self._stage: Any = None
        self._next_s = self._PAUSE_S

    def update(self, event: Progress) -> None:
        """Show how far the stage is."""
        if event.stage is not self._stage:
            self.clear()
            self._stage, self._next_s = event.stage, self._PAUSE_S
        if _is_terminal(self._stream):
            self._draw(event)
        elif event.seconds >= self._next_s and event.done < event.total:
            self._next_s = event.seconds + self._PAUSE_S
            _write(self._stream, f"{'':<{LABEL_WIDTH}}{progress_message(event)}\n")

    def clear(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = self._stage = None

    def _draw(self, event: Progress) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        if self._bar is None:
            console = Console(file=self._stream)
            self._bar = Bars(TextColumn("{task.description}"), BarColumn(), console=console, transient=True)
            self._task = self._bar.add_task("", total=event.total)
            self._bar.start()
        self._bar.update(self._task, completed=event.done, total=event.total, description=progress_message(event))


def _is_terminal(stream: TextIO) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)())


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path


def _relative(path: str) -> str:
    """The path relative to the working folder where that is shorter."""
    try:
        short = os.path.relpath(path)
    except ValueError:  # another drive
        return path
    return short if len(short) < len(path) else path


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:  # a console without Unicode must not stop the work
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()
