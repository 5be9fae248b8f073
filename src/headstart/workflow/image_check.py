"""`headstart check`: the findings reported, copies drawn, and a split without leaks written."""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.contact_sheet import draw_pairs
from headstart.data.inspection import AppliedReport, apply_report
from headstart.data.report_findings import dataset_findings
from headstart.data.report_text import report_to_json
from headstart.data.sources import read
from headstart.data.split import write_split
from headstart.data.split_repair import repair_split
from headstart.errors import HeadstartError, UsageError
from headstart.events import CheckFinished, Event, EventStream, FileWritten, FindingMade
from headstart.limits import MAX_PIXELS
from headstart.messages.numbers import pluralize
from headstart.messages.reading import reading_to_json
from headstart.messages.summaries import rank_findings
from headstart.records import DatasetReport, Samples, Split
from headstart.results import Story, import_pandas
from headstart.types import USER_TEST_SPLIT, Finding, NoteKind
from headstart.workflow.dataset_inspector import DatasetInspector
from headstart.workflow.image_sheets import save_sheet
from headstart.workflow.reading_report import reading_events, report_reading
from headstart.workflow.run_files import write_json

if TYPE_CHECKING:
    from headstart.workflow.feature_extraction import FeatureExtractor

__all__ = ["Checked", "Judged", "check_data", "save_repaired_split"]

_MOST_PAIRS = 60


class Judged(Story, ABC):
    """A dataset with the findings of its check.

    Attributes:
        events: What was read and found: what its text and HTML show.
        findings: Everything that the check remarks, most severe first.
    """

    @property
    @abstractmethod
    def findings(self) -> tuple[Finding, ...]:
        """Everything that the check remarks, most severe first."""

    @abstractmethod
    def finish(self) -> CheckFinished:
        """Return the event that ends the check."""

    def report(self, events: EventStream) -> None:
        """Emit the findings and the end of the check."""
        events.find(*self.findings)
        events.emit(self.finish())

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the judgement, JSON-able; images are named relative to the data."""

    @abstractmethod
    def draw_sheet(self, out: str, events: EventStream) -> None:
        """Draw what a person should see.

        Raises:
            UsageError: The sheet cannot be written.
        """

    @abstractmethod
    def write_repaired_split(self, out: str, events: EventStream) -> None:
        """Write the person's split without what leaks, groups whole; moves no file.

        Raises:
            DataError: No split without leaks can be made.
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
        """Write judgement, sheet and repaired split, those that are named."""
        if json_file is not None:
            try:
                write_json(Path(json_file), self.to_json())
            except OSError as error:
                raise UsageError(f"`{json_file}` cannot be written ({error.strerror or error}).") from error
            events.emit(FileWritten("check", os.fspath(json_file)))
        if sheet is not None:
            self.draw_sheet(os.fspath(sheet), events)
        if repair is not None:
            self.write_repaired_split(os.fspath(repair), events)


@dataclass(frozen=True, repr=False)
class Checked(Judged):
    """Images with one label each and the doctor's judgement of them."""

    samples: Samples
    health: DatasetReport
    group_from: str | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """See `Judged`."""
        return tuple(rank_findings(dataset_findings(self.health)))

    @property
    def events(self) -> tuple[Event, ...]:
        """See `Judged`."""
        return (*reading_events(self.samples, is_checked=True), *map(FindingMade, self.findings), self.finish())

    def finish(self) -> CheckFinished:
        """See `Judged`."""
        return CheckFinished(self.samples.root, len(self.samples), is_final=True)

    def to_json(self) -> dict[str, Any]:
        """See `Judged`."""
        return {**report_to_json(self.health), **reading_to_json(self.samples.notes)}

    def to_pandas(self) -> Any:
        """Return the pairs of copies as a DataFrame."""
        pairs = (*self.health.leaks, *self.health.duplicates, *self.health.near_duplicates)
        return import_pandas().DataFrame([asdict(p) for p in dict.fromkeys(pairs)])

    def draw_sheet(self, out: str, events: EventStream) -> None:
        """See `Judged`: the pairs of copies side by side, leaks and conflicts first; says so where there are none."""
        health = self.health
        pairs = (*health.leaks, *health.label_conflicts, *health.duplicates, *health.near_duplicates)
        pairs = tuple(dict.fromkeys(pairs))
        if not pairs:
            events.warn(NoteKind.NO_COPIES_TO_DRAW, path=out)
            return
        rows = []
        for p in pairs[:_MOST_PAIRS]:
            words = f"{p.kind}, {p.similarity:.3f} alike"
            if p.split_a != p.split_b:
                words += f", leak: {p.split_a} / {p.split_b}"
            if p.label_a != p.label_b:
                words += f", labels: {p.label_a} / {p.label_b}"
            rows.append((p.index_a, p.index_b, words))
        left = len(pairs) - len(rows)
        title = f"{pluralize(len(pairs), 'pair')} of copies" + (f"; the first {len(rows)} are shown" if left else "")
        save_sheet(draw_pairs(self.samples, rows, title=title), out, events)

    def write_repaired_split(self, out: str, events: EventStream) -> None:
        """See `Judged`; images under two labels are left out too."""
        applied = apply_report(self.samples, self.health, group_from=self.group_from)
        assignment = np.array([s.split or "train" for s in self.samples], dtype="<U5")
        save_repaired_split(self.samples, assignment, applied, out, events)


def check_data(
    data: str,
    events: EventStream,
    *,
    backbone: str = "efficientnet_lite0",
    layout: str | None = None,
    label_pattern: str | None = None,
    first_id: int | str | None = None,
    group_from: str | None = None,
    intensity_range: tuple[float, float] | None = None,
    allow_external_paths: bool = False,
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
    offline: bool = False,
    use_network: bool = True,
    use_memory: bool = True,
) -> Checked:
    """Read and judges a data set, changing nothing.

    Args:
        data: As in `train`.
        events: The event stream.
        backbone: Whose features confirm copies and measure what hidden groups do to the score.
        layout, label_pattern, first_id, group_from, intensity_range: As in `train`.
        allow_external_paths, threads, offline: As in `train`.
        max_pixels: Larger images are refused.
        use_network: Whether features are used at all; without the training part they never are.
        use_memory: Whether what was seen is kept for the next time.
    """
    samples = read(
        data, layout=layout, label_pattern=label_pattern, first_id=first_id, allow_external_paths=allow_external_paths
    )
    report_reading(samples, events, is_checked=True)
    inspector = DatasetInspector(
        samples,
        events,
        place=data,
        intensity_range=intensity_range,
        max_pixels=max_pixels,
        group_from=group_from,
        threads=threads,
        use_memory=use_memory,
    )
    if use_network and importlib.util.find_spec("torch") is not None:
        chosen, _ = inspector.find_range()
        embedder = _open(events, backbone, chosen, max_pixels, threads, offline)
        if embedder is not None:
            features, _, _ = embedder.embed(samples.paths, samples.names, events, observer=inspector.scanner)
            if features.is_ok.any():
                health = inspector.judge(features, f"{embedder.graph.digest}-{embedder.spec.digest}")
                return Checked(samples, health, group_from)
            return Checked(samples, inspector.judge(), group_from)
    inspector.look()
    return Checked(samples, inspector.judge(), group_from)


def save_repaired_split(
    samples: Samples, assignment: NDArray[np.str_], applied: AppliedReport, out: str, events: EventStream
) -> None:
    """Repair (N,) assignments, writes them as a manifest, and says how many images moved or are in no split.

    A scored image that is a copy of one in training would bring nothing there and is left out; a group that lies
    on both sides goes whole to one.

    Raises:
        DataError: No split without leaks can be made.
        UsageError: The file cannot be written.
    """
    given = Split(assignment, applied.groups, "given", USER_TEST_SPLIT, 0)
    out_of_it = applied.excluded | (applied.test_including_leaks & ~applied.test)
    split = repair_split(samples, given, applied.groups, out_of_it)
    try:
        write_split(out, samples, split)
    except OSError as error:
        raise UsageError(f"`{out}` cannot be written ({error.strerror or error}).") from error
    left_out = int((split.assignment == "").sum())
    evidence = {"num_left_out": left_out, "repair": split.reason, **split.evidence}
    events.emit(FileWritten("split", out, evidence))


def _open(
    events: EventStream,
    backbone: str,
    intensity_range: tuple[float, float] | None,
    max_pixels: int,
    threads: int | None,
    offline: bool,
) -> FeatureExtractor | None:
    """Return the network whose features help, or None with the reason said."""
    from headstart.workflow.feature_extraction import open_embedder

    try:
        return open_embedder(
            backbone, events, intensity_range=intensity_range, max_pixels=max_pixels, threads=threads, offline=offline
        )
    except HeadstartError as error:
        events.warn(NoteKind.NO_BACKBONE_FOR_CHECK, reason=error.message)
        return None
