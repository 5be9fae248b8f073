"""Provide finished runs as Python objects."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.api.model import open_model
from headstart.errors import MissingExtraError, UsageError
from headstart.events import Event
from headstart.reports.record import has_boxes, read_metrics
from headstart.results import Report, Story

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Run"]


class Run(Story):
    """A training run and its folder."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Contents of `metrics.json`.

        Raises:
            UsageError: The folder has no finished run.
        """
        return read_metrics(self.folder)

    def __repr__(self) -> str:
        try:
            return super().__repr__()
        except UsageError as error:
            return f"Run({str(self.folder)!r}): {error.message}"

    @cached_property
    def _story(self) -> tuple[Event, ...]:
        from headstart.reports.run_story import read_story

        return read_story(self.folder, self.metrics)

    @property
    def events(self) -> tuple[Event, ...]:
        """Events of the run, in order."""
        return self._story

    @property
    def score(self) -> dict[str, Any]:
        """Headline score: `metric, value, low, high, protocol, num_samples`.

        With two classes also `positive`, and `roc_auc`, `sensitivity` and `specificity` (each `value, low, high`).
        """
        block = self.metrics.get("test") or self.metrics.get("cv") or {}
        return {**self.metrics["headline"], **(block.get("binary") or {})}

    @cached_property
    def model(self) -> Any:
        """The `Model`, or the `Detector` for object detection."""
        return open_model(self.folder)

    def to_torch(self) -> nn.Module:
        """Return the trained network as a torch module, in eval mode, for probes, fine-tuning and detectors.

        It takes normalized pixels (B, 3, H, W) float32 and returns the outputs of the bundle (`output_names`), for
        classifiers `logits` (B, K) first, with the temperature applied. Batch norm is folded into the convolutions.

        Raises:
            MissingExtraError: torch is not installed.
            BundleError: The network has an operator that cannot be rebuilt.
        """
        try:
            from headstart.export.torch_module import BundleModule
        except ImportError as error:
            raise MissingExtraError("run.to_torch()", "train") from error
        return BundleModule(bytes(self.model.runtime.bundle.model))

    def predict(self, images: Any, **options: Any) -> Any:
        """See `Model.predict` and `Detector.predict`."""
        return self.model.predict(images, **options)

    def predict_proba(self, images: Any) -> NDArray[np.float64]:
        """See `Model.predict_proba`."""
        probabilities: NDArray[np.float64] = self.model.predict_proba(images)
        return probabilities

    def evaluate(self, data: Any, **options: Any) -> Any:
        """See `headstart.evaluate`."""
        return self.model.evaluate(data, **options)

    @cached_property
    def _summary(self) -> dict[str, Any]:
        from headstart.pipelines.report import read_run
        from headstart.reports.summary import summarize

        return summarize(read_run(self.folder, has_paths=False))

    def summary(self) -> str:
        """Return the network as a text table: layers, parameters, frozen or trained."""
        return self._text("summary.txt")

    def classification_report(self) -> str:
        """Return precision, recall and F1 per class in scikit-learn's layout; for detectors also AP50."""
        return self._text("detection_report.txt" if has_boxes(self.metrics) else "classification_report.txt")

    def comment(self) -> str:
        """Return the comment as Markdown."""
        return self._text("comment.md")

    def _text(self, name: str) -> str:
        from headstart.reports.writer import TEXTS

        return TEXTS[self._summary["page"]][name](self._summary)

    def plot_curves(self) -> Any:
        """Plot loss and accuracy over epochs with matplotlib; None without gradient training."""
        return self._figure("curves")

    def plot_confusion(self, *, rates: bool = False) -> Any:
        """Plot the confusion matrix with matplotlib, as counts or row rates."""
        return self._figure("confusion_rates" if rates else "confusion")

    def plot_diagram(self) -> Any:
        """Plot the network with frozen and trained parts with matplotlib."""
        return self._figure("diagram")

    def _figure(self, name: str) -> Any:
        from headstart.reports.figures import FIGURES, draw_figure

        if name not in FIGURES[self._summary["page"]]:
            raise UsageError(
                f"runs of the task `{self.metrics['task']}` have no figure `{name}`.",
                hint="run.report() writes all figures",
            )
        return draw_figure(name, self._summary)

    def report(self, **options: Any) -> Report:
        """Rewrite the report and return it; see `headstart.report`."""
        from headstart.pipelines.report import report
        from headstart.reports.writer import ReportOptions

        return report(self.folder, ReportOptions(**options))

    def _class_rows(self) -> list[dict[str, Any]]:
        block = self.metrics["test"] or self.metrics["cv"] or self.metrics.get("val") or {"per_class": []}
        if has_boxes(self.metrics):
            return [
                {
                    "class": c["name"],
                    "AP50": c["AP50"]["value"],
                    "AP50_95": c["AP50_95"]["value"],
                    "boxes": c["num_boxes"],
                }
                for c in block["per_class"]
            ]
        return [
            {"class": c["name"], **{m: c[m]["value"] for m in ("precision", "recall", "f1")}, "support": c["support"]}
            for c in block["per_class"]
        ]

    @cached_property
    def reading(self) -> dict[str, list[dict[str, Any]]]:
        """Reading notes (`assumptions`, `unused_data`), as in `dataset_report.json`."""
        try:
            report = json.loads((self.folder / "dataset_report.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            report = {}
        return {name: list(report.get(name, ())) for name in ("assumptions", "unused_data")}
