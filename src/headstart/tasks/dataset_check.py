"""Define the result of a check, and write a split without leaks."""

from __future__ import annotations

import os
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.split import write_split
from headstart.errors import UsageError
from headstart.events import CheckFinished, Event, EventStream, FileWritten, FindingMade
from headstart.quality.inspection import AppliedReport
from headstart.quality.report_findings import reading_events
from headstart.quality.split_repair import repair_split
from headstart.results import Story
from headstart.runs.files import write_json
from headstart.types.codes import USER_TEST_SPLIT, Finding
from headstart.types.records import DatasetReport, Samples, Split

if TYPE_CHECKING:
    from headstart.data.boxes.records import DetectionSamples
    from headstart.quality.box_inspection import BoxReport

__all__ = ["DatasetCheck", "save_repaired_split"]


class DatasetCheck(Story):
    """A dataset with the findings of its check.

    Attributes:
        samples: The images.
        group_from: As in `train`.
        events: Events of the check, rendered by its text and HTML.
        findings: All findings, most severe first.
    """

    samples: Samples | DetectionSamples
    dataset_report: DatasetReport | BoxReport
    group_from: str | None

    @property
    @abstractmethod
    def findings(self) -> tuple[Finding, ...]:
        """Return all findings, most severe first."""

    @property
    def events(self) -> tuple[Event, ...]:
        """See `Story`."""
        return (*reading_events(self.samples, is_checked=True), *map(FindingMade, self.findings), self.finish())

    def finish(self) -> CheckFinished:
        """Return the event that ends the check."""
        return CheckFinished(str(self.samples.root), len(self.samples), is_final=True)

    def report(self, events: EventStream) -> None:
        """Emit the findings and the end of the check."""
        events.report(*self.findings)
        events.emit(self.finish())

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the dataset report as JSON values; image paths are relative to the data."""

    @abstractmethod
    def draw_sheet(self, out: str, events: EventStream) -> None:
        """Draw the contact sheet of problems.

        Raises:
            UsageError: The sheet cannot be written.
        """

    @abstractmethod
    def write_repaired_split(self, out: str, events: EventStream) -> None:
        """Write the user's split without leaks and without divided groups; moves no file.

        Raises:
            DataError: No split without leaks is possible.
            UsageError: The file cannot be written, or there is no split to repair.
        """

    def write(
        self,
        events: EventStream,
        *,
        json_file: str | os.PathLike[str] | None,
        sheet: str | os.PathLike[str] | None,
        repair: str | os.PathLike[str] | None,
    ) -> None:
        """Write the dataset report, the sheet and the repaired split, where a path is given."""
        if json_file is not None:
            try:
                write_json(Path(json_file), self.to_json())
            except OSError as error:
                raise UsageError(f"cannot write `{json_file}` ({error.strerror or error}).") from error
            events.emit(FileWritten("check", os.fspath(json_file)))
        if sheet is not None:
            self.draw_sheet(os.fspath(sheet), events)
        if repair is not None:
            self.write_repaired_split(os.fspath(repair), events)


def save_repaired_split(
    samples: Samples, assignment: NDArray[np.str_], applied: AppliedReport, out: str, events: EventStream
) -> None:
    """Repair (N,) assignments, write them as a split file, and report how many images moved or were dropped.

    A scored near-duplicate of a training image is dropped; a group in two splits moves as a whole to one.

    Raises:
        DataError: No split without leaks can be made.
        UsageError: The file cannot be written.
    """
    user_split = Split(assignment, applied.groups, "given", USER_TEST_SPLIT, 0)
    excluded = applied.excluded | (applied.test_including_leaks & ~applied.test)
    split = repair_split(samples, user_split, applied.groups, excluded)
    try:
        write_split(out, samples, split)
    except OSError as error:
        raise UsageError(f"cannot write `{out}` ({error.strerror or error}).") from error
    num_excluded = int((split.assignment == "").sum())
    evidence = {"num_left_out": num_excluded, "repair": split.reason.value, **split.evidence}
    events.emit(FileWritten("split", out, evidence))
