"""Decide whether a classifier's report gets its slow sections, and measure them."""

from __future__ import annotations

import math

from headstart.reports.record import ClassifierRecord
from headstart.reports.slow_sections import SlowSections, write_sections
from headstart.reports.writer import measure_sections
from headstart.runs.context import RunContext
from headstart.training.fitted_probe import FittedProbe
from headstart.types.codes import DecisionReason, Evidence
from headstart.types.records import Decision

__all__ = ["add_slow_sections"]

_FRACTION = 0.1  # of the run so far that the sections may take together
# Measured on two cores with 250 to 1,400 images and EfficientNet-Lite0; both are known before a section begins.
_MAPS_PER_PARITY = 1.0  # time of the maps, relative to that of the export check, which runs the same network
_CURVE_PER_PROBE, _CURVE_SECONDS = 1.0, 0.25  # time of the curve, relative to that of the probe, and at least


def add_slow_sections(run: RunContext, record: ClassifierRecord, probe: FittedProbe) -> SlowSections:
    """Measure learning curve and attribution maps if they take less than a tenth of the run, within its budget.

    The decision and the results are stored in the run, so that `headstart report` shows the same page.

    Args:
        run: The run; its durations of the probe and of the export check give the expected time.
        record: What is known before the settings are written.
        probe: The probe, with the features.
    """
    settings, spent = run.resolved.settings, run.clock() - run.started
    left = math.inf if settings.time_budget is None else max(0.0, 60.0 * settings.time_budget - spent)
    has_curve, has_maps = record.metrics["strategy"] == "probe", settings.include_images
    expected = _MAPS_PER_PARITY * run.duration_s["parity"] if has_maps else 0.0
    if has_curve:
        expected += _CURVE_PER_PROBE * run.duration_s["probe"] + _CURVE_SECONDS
    threshold = min(_FRACTION * spent, left)
    names = ["learning_curve"] * has_curve + ["attribution_maps"] * has_maps
    chosen = names if expected < threshold else []
    evidence: Evidence = {"expected_seconds": expected, "threshold_seconds": threshold, "spent_seconds": spent}
    run.decide([Decision("report.sections", chosen, DecisionReason.SECTIONS_FIT_RUN, evidence=evidence)])
    if not chosen:
        return SlowSections()
    with run.timed("report_sections"):
        blocks = probe.data.blocks(probe.data.train)
        sections = measure_sections(run.folder, record, has_curve=has_curve, has_maps=has_maps, blocks=blocks)
        return write_sections(run.folder, sections)
