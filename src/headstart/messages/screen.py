"""Print the events of a pipeline on at most 12 lines: dataset, checks, stages, scores, files and next commands.

`Screen` is a listener of an `EventStream`. Each line has a label and at most 100 characters, except that commands are
never truncated. Findings are counted by kind. `VERBOSE` adds one line per decision and finding with its evidence;
`QUIET` prints only the score.
"""

from __future__ import annotations

import sys
from enum import IntEnum
from typing import TextIO

from headstart.messages.comparisons import comparison_lines
from headstart.messages.decisions import decision_message
from headstart.messages.files import demo_message, file_message, relative_path, shell_path
from headstart.messages.notes import COMMAND_NOTES, note_message
from headstart.messages.progress import ProgressLine, is_terminal, write_text
from headstart.messages.scores import score_lines
from headstart.messages.stages import DETAIL_STAGES, dataset_message, epoch_message, stage_line
from headstart.messages.summaries import (
    AnyFinding,
    Topic,
    count_severities,
    describe_finding,
    rank_findings,
    summarize_findings,
    summarize_kinds,
    topic_of,
)
from headstart.messages.tables import event_table
from headstart.messages.values import duration, joined, one_line, shorten_end
from headstart.types.codes import NoteKind, Severity
from headstart.types.events import (
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
    RunsCompared,
    ScoreMeasured,
    StageFinished,
    StageStarted,
)

__all__ = ["LABEL_WIDTH", "LINE_WIDTH", "Screen", "Verbosity"]

LABEL_WIDTH = 10
LINE_WIDTH = 100
_MAX_TOPIC_LINES = {Topic.READING: 3, Topic.DATASET: 3, Topic.TRAINING: 2}
_MAX_LINES = 12
_EXPECTED = {"Features": 1, "Probe": 1, "Training": 1, "Score": 2, "Saved": 1, "Next": 1}  # lines of a run
_MAX_DETAILS = 56  # characters; longer commands are printed on a separate line
_MAX_FINDINGS = 4  # lines of reading and checks together, if other stages follow
_LABELS = {Topic.READING: "Read", Topic.DATASET: "Checks", Topic.TRAINING: "Note"}
_SEVERITIES = {Severity.ERROR: "Error", Severity.WARNING: "Warning", Severity.INFO: "Note"}
_URGENT = frozenset({NoteKind.STOP_REQUESTED, NoteKind.RUN_RESUMABLE})
_STYLES = {"Error": "bold red", "Warning": "bold yellow"}


class Verbosity(IntEnum):
    """Level of detail of the screen."""

    QUIET = -1
    NORMAL = 0
    VERBOSE = 1


class Screen:
    """Listener that prints the events of a pipeline.

    Args:
        stream: Output stream; by default stderr, since stdout is for data.
        verbosity: Level of detail.
        details: Option or command that shows all findings, e.g. `-v`; by default `headstart check DATA` for dataset
            findings.
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
        self._printed: set[str] = set()
        self._has_warnings = False
        self._notes: list[Note] = []  # deferred
        self._deferred: dict[Topic, list[AnyFinding]] = {topic: [] for topic in Topic}
        self._report: FileWritten | None = None
        self._written: list[FileWritten] = []
        self._progress = ProgressLine(self._stream, LABEL_WIDTH) if verbosity >= Verbosity.NORMAL else None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            if self._progress is not None:
                self._progress.update(event)
        elif isinstance(event, (ScoreMeasured, RunsCompared)):
            self._show_score(event)
        elif self._verbosity >= Verbosity.NORMAL:
            self._show(event)
        elif isinstance(event, FindingMade):
            self._show_if_no_score(event.finding)
        elif isinstance(event, CheckFinished) and event.is_final:
            self.row("Checks", count_severities([f for deferred in self._deferred.values() for f in deferred]))

    def _show_score(self, event: ScoreMeasured | RunsCompared) -> None:
        self.flush()
        lines = score_lines(event.score) if isinstance(event, ScoreMeasured) else comparison_lines(event.comparison)
        is_quiet_comparison = isinstance(event, RunsCompared) and self._verbosity is Verbosity.QUIET
        if is_quiet_comparison:
            lines = lines[:1]
        elif self._verbosity is Verbosity.NORMAL:
            lines = lines[: max(1, _MAX_LINES - self._num_lines - 2)]
        for label, text in lines:
            self.row(label or self._label, text)
        self._printed.add("Score")
        if isinstance(event, RunsCompared):
            self._summarize_rest(num_reserved=2)
        if self._verbosity >= Verbosity.VERBOSE:
            self._show_table(event)

    def _show_if_no_score(self, finding: AnyFinding) -> None:
        """Store the finding to be counted after a check; print it if it is an error that explains a missing score."""
        self._deferred[topic_of(finding)].append(finding)
        if topic_of(finding) is Topic.EVALUATION and finding.severity is Severity.ERROR:
            self.row(_SEVERITIES[finding.severity], describe_finding(finding))

    def _show(self, event: Event) -> None:
        if isinstance(event, DatasetRead):
            self.row("Dataset", dataset_message(event, LINE_WIDTH - LABEL_WIDTH))
        elif isinstance(event, FindingMade):
            self._has_warnings |= event.finding.severity is not Severity.INFO
            self._deferred[topic_of(event.finding)].append(event.finding)
            if self._verbosity >= Verbosity.VERBOSE:
                self.row(_SEVERITIES[event.finding.severity], describe_finding(event.finding), is_truncated=False)
        elif isinstance(event, CheckFinished):
            self._check(event)
        elif isinstance(event, StageStarted):
            self.flush()
        elif isinstance(event, DecisionMade) and self._verbosity >= Verbosity.VERBOSE:
            self.row("", decision_message(event.decision), is_truncated=False)
        elif isinstance(event, EpochFinished):
            if self._verbosity >= Verbosity.VERBOSE:
                self.row("", epoch_message(event), is_truncated=False)
            if self._progress is not None:
                self._progress.update_epoch(event)
        elif isinstance(event, Note):
            self._note(event)
        elif isinstance(event, StageFinished):
            line = stage_line(event)
            if line is not None and (event.stage not in DETAIL_STAGES or self._verbosity >= Verbosity.VERBOSE):
                self.row(*line)
        elif isinstance(event, FileWritten):
            self._file(event)
        elif isinstance(event, RunFinished):
            self._finish(event)

    def _note(self, event: Note) -> None:
        if self._verbosity >= Verbosity.VERBOSE:
            self.flush()
            self.row("Note", note_message(event), is_truncated=False)
        elif event.severity is not Severity.INFO:
            self.flush()
            expected = sum(number for label, number in _EXPECTED.items() if label not in self._printed)
            if event.kind in _URGENT or self._num_lines + expected < _MAX_LINES:
                self._show_note(event)
            else:
                self._notes.append(event)

    def _show_notes(self, *, num_reserved: int) -> None:
        """Print as many deferred notes as fit; the log contains all of them."""
        for note in self._notes[: max(0, _MAX_LINES - self._num_lines - num_reserved)]:
            self._show_note(note)
        self._notes.clear()

    def _show_note(self, note: Note) -> None:
        self.row("Note", note_message(note), is_truncated=note.kind not in COMMAND_NOTES)

    def flush(self) -> None:
        """Print deferred findings about reading and training, counted by kind."""
        for topic in (Topic.READING, Topic.TRAINING):
            self._summarize(topic, _MAX_TOPIC_LINES[topic])

    def _check(self, event: CheckFinished) -> None:
        """Print the findings of a check: at most three lines if other stages follow, otherwise as many as fit."""
        if not event.is_final:
            self.flush()
            most = min(_MAX_TOPIC_LINES[Topic.DATASET], max(1, _MAX_FINDINGS - self._num_reading))
            details = self._details or (f"headstart check {shell_path(event.data)}" if event.data else None)
            is_long = details is not None and len(details) > _MAX_DETAILS
            has_line = is_long and most > 1 and bool(self._deferred[Topic.DATASET])
            self._summarize(Topic.DATASET, most - has_line, None if is_long else details)
            if has_line:
                self.row(_LABELS[Topic.DATASET], f"details: {details}", is_truncated=False)
            return
        if not self._has_warnings and not any(self._deferred.values()):
            self.row("Checks", "no problems found: all files are readable, no duplicates")
        self._summarize_rest(num_reserved=bool(self._written) + 1)
        if self._verbosity >= Verbosity.VERBOSE:
            self._show_table(event)

    def _summarize(self, topic: Topic, most: int, details: str | None = None) -> None:
        """Print and clear the findings of one topic."""
        findings = self._deferred[topic]
        if not findings or self._verbosity < Verbosity.NORMAL:
            return
        lines = summarize_findings(findings, most=most, details=details)
        for text in lines:
            self.row(_LABELS[topic], text)
        if topic is Topic.READING:
            self._num_reading += len(lines)
        findings.clear()

    def _summarize_rest(self, *, num_reserved: int) -> None:
        """Print all deferred findings by severity and reserve lines for later output."""
        findings = [finding for deferred in self._deferred.values() for finding in deferred]
        for deferred in self._deferred.values():
            deferred.clear()
        if not findings or self._verbosity is not Verbosity.NORMAL:  # already printed if verbose
            return
        most = _MAX_LINES - self._num_lines - num_reserved
        if most < 1 and not any(finding.severity is Severity.ERROR for finding in findings):
            return
        for severity, text in summarize_kinds(rank_findings(findings), most=max(1, most), details=self._details):
            self.row(_SEVERITIES[severity], text)

    def close(self) -> None:
        """Print deferred findings and notes and remove the progress line."""
        self._summarize_rest(num_reserved=0)
        self._show_notes(num_reserved=0)
        if self._progress is not None:
            self._progress.clear()

    def row(self, label: str, text: str, *, is_truncated: bool = True) -> None:
        """Print one line; omit the label if the previous line has the same, and truncate the text at a word."""
        if self._progress is not None:
            self._progress.clear()
        shown = "" if label == self._label else label
        self._label = label
        self._printed.add(label)
        self._num_lines += 1
        text = one_line(text)
        self._print(shown, shorten_end(text, LINE_WIDTH - LABEL_WIDTH) if is_truncated else text)

    def _print(self, label: str, text: str) -> None:
        if not is_terminal(self._stream):
            write_text(self._stream, f"{label:<{LABEL_WIDTH}}{text}".rstrip() + "\n")
            return
        from rich.console import Console
        from rich.text import Text

        line = Text.assemble((f"{label:<{LABEL_WIDTH}}", _STYLES.get(label, "bold")), text)
        Console(file=self._stream).print(line, soft_wrap=True)

    def _show_table(self, event: Event) -> None:
        for text in event_table(event):
            self.row("", text, is_truncated=False)

    def _file(self, event: FileWritten) -> None:
        if event.role == "demo":
            self.row("Demo", demo_message(event.evidence))
        elif event.role == "report":
            self._report = event
        elif event.role != "run":
            self._written.append(event)

    def _finish(self, event: RunFinished) -> None:
        self.flush()
        num_commands = min(len(event.next_commands), 1)
        num_reserved = bool(self._written) + (event.folder is not None) + num_commands
        self._summarize_rest(num_reserved=num_reserved)
        self._show_notes(num_reserved=num_reserved)
        if event.folder is None and self._report is not None:
            self._written.append(self._report)
        for text in joined([file_message(file) for file in self._written], LINE_WIDTH - LABEL_WIDTH):
            self.row("Written", text)
        if event.folder is not None:
            parts = ["report.html"] if self._report is not None else []
            inside = f" ({', '.join([*parts, 'bundle/'])})"
            self.row("Saved", f"{relative_path(event.folder)}{inside}, {duration(event.seconds)}")
        for command, comment in event.next_commands[: max(1, _MAX_LINES - self._num_lines)]:
            text = f"{command}    # {comment}" if comment else command
            self.row("Next", text if len(text) <= LINE_WIDTH - LABEL_WIDTH else command, is_truncated=False)
