"""Hold the slow sections of a classifier's report, and store them in the run: learning curve and attribution maps."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.evaluation.learning_curve import CurvePoint, LearningCurve
from headstart.reports.attribution import AttributionMaps
from headstart.runs.files import write_json
from headstart.types.report import ReportFinding, ReportKind
from headstart.utils.system import atomic_file

__all__ = ["SlowSections", "read_sections", "write_sections"]

_FILE, _ARRAYS = "report_sections.json", "attribution_maps.npz"


@dataclass(frozen=True)
class SlowSections:
    """Measured sections; a finding has the reason for an empty one, None means not measured."""

    curve: LearningCurve | ReportFinding | None = None
    maps: AttributionMaps | ReportFinding | None = None


def write_sections(folder: Path, sections: SlowSections) -> SlowSections:
    """Write the sections to a run folder, and return them as `read_sections` gets them."""
    maps, values = sections.maps, {"curve": _values(sections.curve), "maps": _values(sections.maps)}
    if isinstance(maps, AttributionMaps):
        values["maps"] = {"blocks": maps.blocks, "similarity": maps.similarity, "num_controls": maps.num_controls}
        with atomic_file(folder / _ARRAYS) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, images=np.array(list(maps.maps)), maps=np.stack(list(maps.maps.values())))
    write_json(folder / _FILE, values)
    return read_sections(folder)


def read_sections(folder: Path) -> SlowSections:
    """Read the sections of a run; missing or damaged ones are None."""
    try:
        values = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return SlowSections(_curve(values["curve"]), _maps(values["maps"], folder / _ARRAYS))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return SlowSections()


def _values(section: LearningCurve | AttributionMaps | ReportFinding | None) -> dict[str, Any] | None:
    if isinstance(section, ReportFinding):
        return {"kind": section.kind.value, "evidence": section.evidence}
    return asdict(section) if isinstance(section, LearningCurve) else None


def _curve(values: dict[str, Any] | None) -> LearningCurve | ReportFinding | None:
    if values is None or "kind" in values:
        return _finding(values)
    points, forecast = ([CurvePoint(**point) for point in values[name]] for name in ("points", "forecast"))
    gains = tuple((a, b, c) for a, b, c in values["gains"])
    per_class = tuple(None if gain is None else (gain[0], gain[1], gain[2]) for gain in values["per_class"])
    return LearningCurve(tuple(points), CurvePoint(**values["fitted"]), tuple(forecast), gains, per_class)


def _maps(values: dict[str, Any] | None, path: Path) -> AttributionMaps | ReportFinding | None:
    if values is None or "kind" in values:
        return _finding(values)
    with np.load(path, allow_pickle=False) as file:
        maps = dict(zip(file["images"].tolist(), file["maps"], strict=True))
    return AttributionMaps(tuple(values["blocks"]), values["similarity"], values["num_controls"], maps)


def _finding(values: dict[str, Any] | None) -> ReportFinding | None:
    return None if values is None else ReportFinding(ReportKind(values["kind"]), evidence=values["evidence"])
