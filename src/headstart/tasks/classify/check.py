"""Check labeled images: near-duplicates, leaks, groups, shortcuts."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.data.sources import read
from headstart.errors import HeadstartError
from headstart.events import EventStream
from headstart.messages.numbers import pluralize
from headstart.messages.reading import reading_to_json
from headstart.messages.summaries import rank_findings
from headstart.quality.contact_sheet import draw_pairs
from headstart.quality.inspection import apply_report
from headstart.quality.inspector import DatasetInspector
from headstart.quality.report_findings import dataset_findings, report_reading, report_to_json
from headstart.results import import_pandas
from headstart.tasks.dataset_check import DatasetCheck, save_repaired_split
from headstart.tasks.options import CheckOptions
from headstart.tasks.sheets import save_sheet
from headstart.types.codes import Finding, NoteKind
from headstart.types.records import DatasetReport, Samples

if TYPE_CHECKING:
    from headstart.features.extractor import FeatureExtractor

__all__ = ["ImageCheckResult", "check_images"]

_MAX_PAIRS = 60


@dataclass(frozen=True, repr=False)
class ImageCheckResult(DatasetCheck):
    """Images with one label each, and their dataset report."""

    samples: Samples
    dataset_report: DatasetReport
    group_from: str | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """See `DatasetCheck`."""
        return tuple(rank_findings(dataset_findings(self.dataset_report)))

    def to_json(self) -> dict[str, Any]:
        """See `DatasetCheck`."""
        return {**report_to_json(self.dataset_report), **reading_to_json(self.samples.notes, self.samples.inventory)}

    def to_pandas(self) -> Any:
        """Return the pairs of near-duplicates as a DataFrame."""
        pairs = (*self.dataset_report.leaks, *self.dataset_report.duplicates, *self.dataset_report.near_duplicates)
        return import_pandas().DataFrame([asdict(p) for p in dict.fromkeys(pairs)])

    def draw_sheet(self, out: str, events: EventStream) -> None:
        """See `DatasetCheck`: near-duplicates side by side, leaks and label conflicts first, or a warning."""
        report = self.dataset_report
        pairs = (*report.leaks, *report.label_conflicts, *report.duplicates, *report.near_duplicates)
        pairs = tuple(dict.fromkeys(pairs))
        if not pairs:
            events.warn(NoteKind.NO_DUPLICATES_TO_DRAW, path=out)
            return
        rows = []
        for p in pairs[:_MAX_PAIRS]:
            caption = f"{p.kind}, similarity {p.similarity:.3f}"
            if p.split_a != p.split_b:
                caption += f", leak: {p.split_a} / {p.split_b}"
            if p.label_a != p.label_b:
                caption += f", labels: {p.label_a} / {p.label_b}"
            rows.append((p.index_a, p.index_b, caption))
        left = len(pairs) - len(rows)
        title = f"{pluralize(len(pairs), 'pair')} of near-duplicates" + (f", first {len(rows)} shown" if left else "")
        save_sheet(draw_pairs(self.samples, rows, title=title), out, events)

    def write_repaired_split(self, out: str, events: EventStream) -> None:
        """See `DatasetCheck`; images with conflicting labels are excluded too."""
        applied = apply_report(self.samples, self.dataset_report, group_from=self.group_from)
        assignment = np.array([s.split or "train" for s in self.samples], dtype="<U5")
        save_repaired_split(self.samples, assignment, applied, out, events)


def check_images(data: str, options: CheckOptions, events: EventStream) -> ImageCheckResult:
    """Read and check labeled images; no file is changed."""
    samples = read(data, options)
    report_reading(samples, events, is_checked=True)
    inspector = DatasetInspector(
        samples,
        events,
        intensity_range=options.intensity_range,
        max_pixels=options.max_pixels,
        group_from=options.group_from,
        num_threads=options.num_threads,
        use_cache=options.use_cache,
    )
    embedder = None
    if options.use_network and importlib.util.find_spec("torch") is not None:
        embedder = _open(options, inspector.find_range()[0], events)
    if embedder is None:
        inspector.scan()
        return ImageCheckResult(samples, inspector.inspect(), options.group_from)
    features = embedder.embed(samples.paths, samples.names, events, scanner=inspector.scanner).features
    report = inspector.inspect(features, embedder.key) if features.is_ok.any() else inspector.inspect()
    return ImageCheckResult(samples, report, options.group_from)


def _open(
    options: CheckOptions, intensity_range: tuple[float, float] | None, events: EventStream
) -> FeatureExtractor | None:
    """Open the feature extractor; return None with a warning where that fails."""
    from headstart.features.extractor import ExtractorOptions, open_embedder

    wanted = ExtractorOptions(
        options.backbone,
        intensity_range=intensity_range,
        max_pixels=options.max_pixels,
        num_threads=options.num_threads,
        offline=options.offline,
    )
    try:
        return open_embedder(wanted, events)
    except HeadstartError as error:
        events.warn(NoteKind.NO_BACKBONE_FOR_CHECK, reason=error.message)
        return None
