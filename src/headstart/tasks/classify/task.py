"""Classification as a task: one class per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.config.effects import has_effect, validate_combination
from headstart.data.options import ReadOptions, read_options
from headstart.events import CheckFinished, EventStream, Stage, StageFinished
from headstart.messages.files import shell_path, train_command
from headstart.tasks.classify import NAME
from headstart.tasks.contract import Outcome
from headstart.tasks.options import CheckOptions, EvaluateOptions, ShowOptions, given_options, refuse_box_format
from headstart.types.codes import DecisionReason
from headstart.types.records import DatasetReport, Decision, Samples
from headstart.utils.system import release_idle_threads

if TYPE_CHECKING:
    from PIL.Image import Image

    from headstart.config.settings import ResolvedConfig, TrainSettings
    from headstart.inference.runtime import Runtime
    from headstart.quality.dataset_split import ReadSamples, SplitDataset
    from headstart.reports.comparison_text import Comparison
    from headstart.reports.record import ClassifierRecord, RunRecord
    from headstart.results import EvaluationResult
    from headstart.runs.context import RunContext
    from headstart.tasks.classify.check import ImageCheckResult
    from headstart.tasks.classify.trained_model import FinetuneOutcome, ScoredModel, TrainedModel
    from headstart.tasks.features import OpenedBackbone
    from headstart.training.fitted_probe import FittedProbe

__all__ = ["TASK", "ClassifierData", "ClassifyTask", "FittedClassifier", "ScoredClassifier"]


@dataclass(frozen=True)
class ClassifierData:
    """Images of a run with their features.

    Attributes:
        report: The check of the dataset.
        opened: The backbone.
        split: The images that are in a split.
        second_pass_s: Seconds that features of the flipped images would take.
    """

    report: DatasetReport
    opened: OpenedBackbone
    split: SplitDataset
    second_pass_s: float


@dataclass(frozen=True)
class FittedClassifier:
    """The probe, and what fine-tuning made of it."""

    probe: FittedProbe
    outcome: FinetuneOutcome


@dataclass(frozen=True)
class ScoredClassifier:
    """The saved model of a run.

    Attributes:
        probe: The probe, with the data.
        outcome: Of fine-tuning.
        model: The model with its scores.
        reference: The scored probe where the model is a fine-tuned network.
    """

    probe: FittedProbe
    outcome: FinetuneOutcome
    model: ScoredModel
    reference: ScoredModel | None


class ClassifyTask:
    """See `Task`. The probe is always fitted; networks are fine-tuned by request, or within a budget."""

    name = NAME
    needs_pyramid = False

    def recognizes(self, data: str, options: ReadOptions) -> bool:
        """See `Task`; the reader says what it lacks."""
        return True

    def check(self, data: str, options: CheckOptions, events: EventStream) -> ImageCheckResult:
        """See `Task`."""
        from headstart.tasks.classify.check import check_images

        refuse_box_format(options.box_format)
        return check_images(data, options, events)

    def show(self, data: str, options: ShowOptions, events: EventStream) -> Image:
        """See `Task`; as stored, or as network inputs."""
        from headstart.tasks.classify.show import show_images

        refuse_box_format(options.box_format)
        return show_images(data, options, events)

    def validate(self, values: Mapping[str, Any]) -> None:
        """See `Task`."""
        validate_combination(values)

    def has_effect(self, name: str, strategy: str) -> bool:
        """See `Task`."""
        return has_effect(name, strategy)

    def check_settings(self, resolved: ResolvedConfig) -> ResolvedConfig:
        """See `Task`."""
        if not _is_finetuning(resolved.settings):
            return resolved
        release_idle_threads()
        from headstart.tasks.classify.finetune import check_finetuning

        return check_finetuning(resolved)

    def read(self, settings: TrainSettings) -> ReadSamples:
        """See `Task`."""
        from headstart.quality.dataset_split import read_samples

        return read_samples(settings)

    def prepare(self, run: RunContext, source: ReadSamples) -> ClassifierData:
        """See `Task`; scans the files and extracts their features in one pass."""
        from headstart.quality.dataset_split import check_classes, note_split, split_dataset
        from headstart.quality.inspector import DatasetInspector
        from headstart.quality.report_findings import dataset_findings
        from headstart.tasks.features import extract_features, open_backbone

        settings, events = run.resolved.settings, run.events
        samples = _select(source, settings, events)
        inspector = DatasetInspector(
            samples,
            events,
            intensity_range=settings.intensity_range,
            max_pixels=settings.max_pixels,
            group_from=settings.group_from,
            num_threads=settings.num_threads,
            use_cache=settings.cache,
        )
        with run.timed("prepare"):
            opened = open_backbone(run, samples, inspector)
            run.decide([Decision("task", self.name, DecisionReason.NO_BOXES)], is_shown=False)
        extracted = extract_features(run, opened.extractor, samples, inspector)
        with run.timed("check"):
            report = inspector.inspect(extracted.features, opened.extractor.key)
        events.report(*dataset_findings(report))
        events.emit(CheckFinished(settings.data, len(samples)))
        data = split_dataset(samples, extracted.features, report, settings, source.manifest)
        run.decide(data.decisions)
        note_split(data.split, events)
        check_classes(data.samples, data.split)
        return ClassifierData(report, opened, data, extracted.second_pass_s)

    def fit(self, run: RunContext, data: ClassifierData) -> FittedClassifier:
        """See `Task`."""
        from headstart.tasks.classify.probe_training import fit_training_probe
        from headstart.tasks.classify.trained_model import FinetuneOutcome

        with run.timed("probe"):
            probe = fit_training_probe(run, data.opened, data.split, data.second_pass_s)
        if _is_finetuning(run.resolved.settings):
            from headstart.tasks.classify.finetune import finetune

            return FittedClassifier(probe, finetune(run, probe))
        run.decide_used(Decision("strategy", "probe", DecisionReason.NO_BUDGET, "default"))
        return FittedClassifier(probe, FinetuneOutcome())

    def score(self, run: RunContext, data: ClassifierData, model: FittedClassifier) -> ScoredClassifier:
        """See `Task`; a fine-tuned network is saved beside its probe."""
        from headstart.evaluation.uncertainty import UncertaintyTargets
        from headstart.tasks.classify.trained_model import (
            ScoredModel,
            evaluate_model,
            fit_uncertainty,
            probe_model,
            save_bundle,
        )

        settings = run.resolved.settings
        probe, tuned = model.probe, model.outcome.model
        targets = UncertaintyTargets(settings.ood_fpr, settings.coverage, settings.seed)

        def score(trained: TrainedModel) -> ScoredModel:
            with run.timed("evaluate"):
                evaluation = evaluate_model(trained, probe, seed=settings.seed)
            with run.timed("uncertainty"):
                return ScoredModel(trained, evaluation, fit_uncertainty(trained, probe, targets))

        if tuned is None:
            with run.timed("probe"):
                probe = _scale_classes(run, probe)
        of_probe = score(probe_model(probe, run.events))
        scored = of_probe if tuned is None else score(tuned)
        run.events.emit(StageFinished(Stage.UNCERTAINTY, run.duration_s["uncertainty"], scored.uncertainty.evidence()))
        with run.timed("bundle"):
            reading = read_options(settings).portable()
            save_bundle(run.folder / "bundle", scored, probe, reading)
            if tuned is not None:
                (run.folder / "probe").mkdir(exist_ok=True)
                save_bundle(run.folder / "probe" / "bundle", of_probe, probe, reading)
        return ScoredClassifier(probe, model.outcome, scored, None if tuned is None else of_probe)

    def verify(self, run: RunContext, data: ClassifierData, scored: ScoredClassifier) -> dict[str, Any]:
        """See `Task`."""
        from headstart.tasks.classify.trained_model import verify_bundle

        settings = run.resolved.settings
        return verify_bundle(
            run.folder, scored.model, scored.probe, num_threads=settings.num_threads, seed=settings.seed
        )

    def write(
        self, run: RunContext, data: ClassifierData, scored: ScoredClassifier, parity: dict[str, Any]
    ) -> ClassifierRecord:
        """See `Task`."""
        from headstart.tasks.classify.run_files import write_run

        return write_run(run, data.report, scored.probe, scored.model, parity, scored.reference, scored.outcome)

    def outcome(self, run: RunContext, scored: ScoredClassifier) -> Outcome:
        """See `Task`."""
        from headstart.evaluation.score_summary import summarize_classification

        settings, folder, evaluation = run.resolved.settings, run.folder, scored.model.evaluation
        metric = "balanced_accuracy" if evaluation.is_imbalanced else "accuracy"
        leaky = evaluation.test_including_leaks
        score = summarize_classification(evaluation.headline, metric, evaluation.baselines, leaky)
        commands: list[tuple[str, str | None]] = [(f"headstart predict {shell_path(folder)} NEW_IMAGES", None)]
        if scored.model.model.plan is not None:
            commands.append((f"headstart predict {shell_path(folder / 'probe')} NEW_IMAGES", "the probe"))
        elif settings.strategy == "auto" and settings.time_budget is None:
            given = given_options(run.resolved)
            if evaluation.is_imbalanced and settings.probe.class_weights == "none":
                weighted = train_command(settings.data, {**given, "class_weights": "auto"})
                commands.append((weighted, "all classes weigh the same"))
            commands.append((train_command(settings.data, {**given, "budget": "5m"}), "try fine-tuning"))
        return Outcome(score, tuple(evaluation.headline.findings), tuple(commands))

    def evaluate(self, runtime: Runtime, data: str, options: EvaluateOptions, events: EventStream) -> EvaluationResult:
        """See `Task`."""
        from headstart.tasks.classify.evaluate import evaluate_classifier

        refuse_box_format(options.box_format)
        return evaluate_classifier(runtime, data, options, events)

    def read_record(self, folder: Path, *, data: str | None, has_paths: bool) -> RunRecord:
        """See `Task`."""
        from headstart.reports.record import read_record

        return read_record(folder, data=data, has_paths=has_paths)

    def compare(self, runs: Sequence[Path], data: str | None, options: ReadOptions, events: EventStream) -> Comparison:
        """See `Task`."""
        from headstart.tasks.classify.compare import compare_runs

        run_a, run_b = runs
        return compare_runs((run_a, run_b), data, options, events)


TASK = ClassifyTask()


def _is_finetuning(settings: TrainSettings) -> bool:
    """Return whether networks are trained: by a strategy that asks for it, or within a budget."""
    return settings.strategy != "probe" and (settings.strategy != "auto" or settings.time_budget is not None)


def _select(source: ReadSamples, settings: TrainSettings, events: EventStream) -> Samples:
    """Report what was read, and return the images without excluded classes, with corrected labels."""
    from headstart.evaluation.binary import check_positive
    from headstart.quality.dataset_split import without_classes
    from headstart.quality.label_corrections import correct_labels
    from headstart.quality.report_findings import report_reading

    report_reading(source.samples, events, is_checked=True)
    samples = without_classes(source.samples, settings.exclude_classes)
    samples = correct_labels(samples, settings.label_corrections, events)
    check_positive(settings.positive, samples.class_names)
    return samples


def _scale_classes(run: RunContext, probe: FittedProbe) -> FittedProbe:
    """Apply vector scaling where it pays and no class weights are set."""
    from headstart.evaluation.class_calibration import scale_classes

    settings, data = run.resolved.settings, probe.data
    if settings.probe.class_weights != "none":
        return probe
    groups = data.split.groups_of(data.train)
    fit, decision = scale_classes(probe.fit, data.labels(data.train), groups, seed=settings.seed)
    run.decide([] if decision is None else [decision])
    return replace(probe, fit=fit)
