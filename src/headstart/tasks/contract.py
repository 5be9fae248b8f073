"""Define what a task provides; everything else is shared by all tasks.

A task outside this package implements `Task` and calls `tasks.registry.register`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from PIL.Image import Image

    from headstart.config.settings import ResolvedConfig, TrainSettings
    from headstart.data.options import ReadOptions
    from headstart.events import EventStream
    from headstart.inference.runtime import Runtime
    from headstart.reports.comparison_text import Comparison
    from headstart.reports.record import RunRecord
    from headstart.results import ModelEvaluation
    from headstart.runs.context import RunContext
    from headstart.tasks.dataset_check import DatasetCheck
    from headstart.tasks.options import CheckOptions, EvaluateOptions, ShowOptions
    from headstart.types.codes import Evidence, Finding

__all__ = ["Outcome", "Task"]

Source = TypeVar("Source")
Data = TypeVar("Data")
Model = TypeVar("Model")
Scored = TypeVar("Scored")


@dataclass(frozen=True)
class Outcome:
    """What a finished training shows.

    Attributes:
        score: The headline score, see `messages.scores`.
        findings: Findings about the score.
        next_commands: Commands to continue with, each with a remark or None.
    """

    score: Evidence
    findings: tuple[Finding, ...] = ()
    next_commands: tuple[tuple[str, str | None], ...] = ()


class Task(Protocol[Source, Data, Model, Scored]):
    """What a model predicts for an image, and how it is trained, scored and saved.

    `train` calls `validate`, `check_settings`, `read`, `prepare`, `fit`, `score`, `verify`, `write` and `outcome`, in
    this order; values pass from one to the next. A resumed run calls the same methods, with `run.is_resumed` set.

    A task with results of its own also has `open(runtime)`, which returns the object that `headstart.load` gives.

    Type parameters:
        Source: What `read` returns.
        Data: The checked dataset with its split.
        Model: The trained model.
        Scored: The model with its scores; its bundle is written.

    Attributes:
        name: Name in `--task`, `metrics.json` and `bundle.json`.
        needs_pyramid: Whether a network needs feature maps of several stages.
    """

    name: str
    needs_pyramid: bool

    def recognizes(self, data: str, options: ReadOptions) -> bool:
        """Return whether a dataset is annotated for this task."""
        ...

    def check(self, data: str, options: CheckOptions, events: EventStream) -> DatasetCheck:
        """Read and check a dataset; no file is changed."""
        ...

    def show(self, data: str, options: ShowOptions, events: EventStream) -> Image:
        """Draw random images with their annotations on one contact sheet."""
        ...

    def validate(self, values: Mapping[str, Any]) -> None:
        """Check given settings, by dotted name, before the defaults are added.

        Raises:
            SettingError: A setting has no effect on this task, or with the others.
        """
        ...

    def has_effect(self, name: str, strategy: str) -> bool:
        """Return whether a setting, by its dotted name, affects a model of a strategy."""
        ...

    def check_settings(self, resolved: ResolvedConfig) -> ResolvedConfig:
        """Return the settings with the values that the task implies, before anything is read.

        Raises:
            SettingError: A value is invalid, or has no effect.
        """
        ...

    def read(self, settings: TrainSettings) -> Source:
        """Read the dataset, with `--split` only what the split file lists.

        Raises:
            DataError: It cannot be read without guessing.
        """
        ...

    def prepare(self, run: RunContext, source: Source) -> Data:
        """Check and split the dataset, and report what was found.

        Raises:
            DataError: The images do not allow a valid model.
        """
        ...

    def fit(self, run: RunContext, data: Data) -> Model:
        """Train the model within the budget.

        Raises:
            TrainingInterruptedError: The run was stopped, and can be resumed.
        """
        ...

    def score(self, run: RunContext, data: Data, model: Model) -> Scored:
        """Calibrate and score the model on held-out images, and write its bundle."""
        ...

    def verify(self, run: RunContext, data: Data, scored: Scored) -> dict[str, Any]:
        """Compare the bundle with the trained model on images from their files; return the differences."""
        ...

    def write(self, run: RunContext, data: Data, scored: Scored, parity: dict[str, Any]) -> RunRecord:
        """Write metrics, predictions and settings; return the same as a record for the report."""
        ...

    def outcome(self, run: RunContext, scored: Scored) -> Outcome:
        """Return what the screen shows at the end."""
        ...

    def evaluate(
        self, runtime: Runtime, data: str, options: EvaluateOptions, events: EventStream
    ) -> ModelEvaluation[Any]:
        """Score a saved model on annotated images; images used in training are scored separately.

        Raises:
            DataError: No image has an annotation of the model's classes, or none can be read.
        """
        ...

    def read_record(self, folder: Path, *, data: str | None, has_paths: bool) -> RunRecord:
        """Read a finished run for its report; the same values as `write` returned.

        Args:
            folder: The run folder.
            data: Current path of the data, if they were moved.
            has_paths: Whether to look for the images.
        """
        ...

    def compare(self, runs: Sequence[Path], data: str | None, options: ReadOptions, events: EventStream) -> Comparison:
        """Compare two runs on the same images, paired.

        Raises:
            UsageError: Runs of this task cannot be compared.
        """
        ...
