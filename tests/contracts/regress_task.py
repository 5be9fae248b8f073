"""A task in a package of its own: one number per image, from a table with the columns `image` and `target`.

The head is trained by gradient descent on frozen features, with a checkpoint after every epoch.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.config.effects import has_detector_effect, has_effect
from headstart.data.options import ReadOptions
from headstart.errors import DataError, UsageError
from headstart.events import CheckFinished, EventStream, RunFinished, ScoreMeasured
from headstart.preprocessing.image_spec import ImageError
from headstart.results import ImageResults, ModelEvaluation
from headstart.tasks.contract import Outcome
from headstart.tasks.dataset_check import DatasetCheck
from headstart.tasks.evaluation import is_training_image
from headstart.tasks.options import CheckOptions, EvaluateOptions, ShowOptions
from headstart.types.codes import DecisionReason, Evidence, Finding
from headstart.types.records import DatasetReport, Decision, Sample, Samples
from headstart.types.report import ReportSection

if TYPE_CHECKING:
    from headstart.config.settings import ResolvedConfig, TrainSettings
    from headstart.inference.runtime import Runtime
    from headstart.quality.dataset_split import SplitDataset
    from headstart.reports.comparison_text import Comparison
    from headstart.reports.record import RunRecord
    from headstart.runs.context import RunContext
    from headstart.tasks.features import OpenedBackbone

Float = NDArray[np.float64]
TARGET = "target"
EPOCHS = 12


@dataclass(frozen=True)
class Answer:
    """The number of one image, or why it has none."""

    file: str
    value: float | None
    error: str | None = None


class Answers(ImageResults[Answer]):
    """Answers in the order of the images."""

    def rows(self) -> list[dict[str, Any]]:
        return [{"file": a.file, "value": a.value, "error": a.error} for a in self]


class NumberDecoder:
    """Decode the only value of the output `logits`."""

    outputs = ("logits",)
    needs_size = False

    def decode(self, name: str, row: tuple[NDArray[np.float32], ...], size_hw: tuple[int, int]) -> Answer:
        return Answer(name, float(row[0][0]))

    def fail(self, name: str, error: ImageError) -> Answer:
        return Answer(name, None, str(error))


@dataclass(frozen=True, repr=False)
class NumberCheck(DatasetCheck):
    """Images with numbers, and their dataset report."""

    samples: Samples
    dataset_report: DatasetReport
    group_from: str | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(self.dataset_report.findings)

    def to_json(self) -> dict[str, Any]:
        return {"task": REGRESS.name, "num_images": len(self.samples), "unused": []}

    def draw_sheet(self, out: str, events: EventStream) -> None:
        raise UsageError("there is no sheet of numbers.")

    def write_repaired_split(self, out: str, events: EventStream) -> None:
        raise UsageError("there is no split to repair.")


@dataclass(frozen=True, repr=False, kw_only=True)
class NumberEvaluation(ModelEvaluation[dict[str, Any]]):
    """Mean absolute error on new and on training images."""

    def _scores_to_json(self, scores: dict[str, Any]) -> dict[str, Any]:
        return scores

    def _class_rows(self) -> list[dict[str, Any]]:
        return []


@dataclass(frozen=True)
class Data:
    """Images in a split with features and targets."""

    report: DatasetReport
    opened: OpenedBackbone
    split: SplitDataset

    @property
    def targets(self) -> Float:
        return np.array([float(v) for v in self.split.samples.columns[TARGET]])


@dataclass(frozen=True)
class Fitted:
    """A linear map of normalized features; `oof` holds out-of-fold predictions of the training images."""

    weight: Float
    bias: float
    mean: Float
    oof: Float


@dataclass(frozen=True)
class Scored:
    """The saved model with its error."""

    fitted: Fitted
    score: dict[str, Any]


class RegressTask:
    """See `headstart.tasks.contract.Task`."""

    name = "regress"
    needs_pyramid = False

    def recognizes(self, data: str, options: ReadOptions) -> bool:
        return data.endswith(".csv") and {"image", TARGET} <= set(_rows(data)[0])

    def check(self, data: str, options: CheckOptions, events: EventStream) -> NumberCheck:
        from headstart.quality.inspector import DatasetInspector

        samples = _read(data)
        inspector = DatasetInspector(samples, events, use_cache=False)
        inspector.scan()
        return NumberCheck(samples, inspector.inspect(), options.group_from)

    def show(self, data: str, options: ShowOptions, events: EventStream) -> Any:
        from headstart.quality.contact_sheet import draw_by_class

        return draw_by_class(_read(data), per_class=options.per_class, seed=options.seed, side=64)

    def validate(self, values: Mapping[str, Any]) -> None:
        return

    def has_effect(self, name: str, strategy: str) -> bool:
        return has_effect(name, strategy) and has_detector_effect(name)

    def check_settings(self, resolved: ResolvedConfig) -> ResolvedConfig:
        return resolved

    def read(self, settings: TrainSettings) -> Samples:
        return _read(settings.data)

    def prepare(self, run: RunContext, source: Samples) -> Data:
        from headstart.quality.dataset_split import note_split, split_dataset
        from headstart.quality.inspector import DatasetInspector
        from headstart.quality.report_findings import report_reading
        from headstart.tasks.features import extract_features, open_backbone

        report_reading(source, run.events)
        inspector = DatasetInspector(source, run.events, use_cache=run.resolved.settings.cache)
        opened = open_backbone(run, source, inspector)
        extracted = extract_features(run, opened.extractor, source, inspector)
        report = inspector.inspect(extracted.features, opened.extractor.key)
        run.events.emit(CheckFinished(run.resolved.settings.data, len(source)))
        split = split_dataset(source, extracted.features, report, run.resolved.settings, None)
        note_split(split.split, run.events)
        return Data(report, opened, split)

    def fit(self, run: RunContext, data: Data) -> Fitted:
        from headstart.tasks.resume_state import (
            clear_partial_output,
            dataset_fingerprint,
            save_resume_state,
            verify_resume_state,
        )
        from headstart.training.checkpoint import Checkpoints

        checkpoints = Checkpoints(run.folder / "checkpoints")
        if run.is_resumed:
            verify_resume_state(checkpoints, dataset_fingerprint(data.split))
            clear_partial_output(run.folder)
        else:
            save_resume_state(checkpoints, run.resolved, dataset_fingerprint(data.split))
        run.decide_used(Decision("strategy", "probe", DecisionReason.NO_BUDGET, "default"))
        rows = data.split.features.blocks["embedding"].astype(np.float64)
        targets, folds = data.targets, np.arange(len(rows)) % 4
        oof = np.empty(len(rows))
        for fold in range(4):
            weight, bias, mean = _descend(rows[folds != fold], targets[folds != fold], checkpoints, f"fold{fold}")
            oof[folds == fold] = (rows[folds == fold] - mean) @ weight + bias
        return Fitted(*_descend(rows, targets, checkpoints, "final"), oof)

    def score(self, run: RunContext, data: Data, model: Fitted) -> Scored:
        from headstart.export.assemble import assemble_model
        from headstart.export.bundle_writer import BundleContent, BundleGraph, write_bundle
        from headstart.probe.linear import LinearHead
        from headstart.probe.normalize import fit_normalizer

        extractor = data.opened.extractor
        normalizer = fit_normalizer({"embedding": data.split.features.blocks["embedding"]})
        features = normalizer({"embedding": data.split.features.blocks["embedding"]}).astype(np.float64)
        rows = data.split.features.blocks["embedding"].astype(np.float64)
        wanted = (rows - model.mean) @ model.weight
        weight, *_ = np.linalg.lstsq(np.c_[features, np.ones(len(rows))], wanted, rcond=None)
        head = LinearHead(normalizer, weight[None, :-1].astype(np.float32), np.float32([weight[-1] + model.bias]))
        graph = BundleGraph(extractor.graph.path, extractor.spec, extractor.graph.card)
        trained_on = [str(d) for d in data.split.features.digests]
        content = BundleContent(self.name, graph, meta={"strategy": "probe"}, trained_on=trained_on, head=head)
        write_bundle(run.folder / "bundle", content, assemble_model(graph.path, head))
        return Scored(model, _mae(np.abs(model.oof - data.targets), "k_fold", num_folds=4))

    def verify(self, run: RunContext, data: Data, scored: Scored) -> dict[str, Any]:
        from headstart.inference.runtime import Runtime

        paths = data.split.samples.paths[:8]
        answers = list(Runtime(run.folder / "bundle").predict(paths, NumberDecoder()))
        fitted, rows = scored.fitted, data.split.features.blocks["embedding"][:8].astype(np.float64)
        expected = (rows - fitted.mean) @ fitted.weight + fitted.bias
        difference = float(np.abs(np.array([a.value for a in answers]) - expected).max())
        assert difference < 0.05 * np.ptp(data.targets), difference
        return {"max_difference": difference}

    def write(self, run: RunContext, data: Data, scored: Scored, parity: dict[str, Any]) -> RunRecord:
        from headstart.runs.files import write_csv, write_json

        samples = data.split.samples
        rows = zip(samples.names, data.targets, scored.fitted.oof, strict=True)
        write_csv(run.folder / "predictions.csv", ("file", "target", "prediction"), list(rows))
        write_json(run.folder / "dataset_report.json", {"num_samples": len(samples)})
        metrics = {
            "schema": 1, "task": self.name, "strategy": "probe", "class_names": [], "num_samples": len(samples),
            "backbone": run.resolved.settings.backbone, "headline": scored.score, "score": scored.score,
            "parity": parity, "duration_s": run.duration_s,
        }  # fmt: skip
        run.write_settings()
        run.write_environment()
        write_json(run.folder / "metrics.json", metrics)
        return self.read_record(run.folder, data=None, has_paths=True)

    def outcome(self, run: RunContext, scored: Scored) -> Outcome:
        return Outcome(scored.score)

    def open(self, runtime: Runtime) -> Any:
        return Regressor(runtime)

    def evaluate(self, runtime: Runtime, data: str, options: EvaluateOptions, events: EventStream) -> NumberEvaluation:
        samples = _read(data)
        answers = list(runtime.predict(samples.paths, NumberDecoder()))
        targets = np.array([float(v) for v in samples.columns[TARGET]])
        errors = np.abs(np.array([np.nan if a.value is None else a.value for a in answers]) - targets)
        known = is_training_image(samples.paths, runtime.bundle.trained_on())
        parts = {
            name: _mae(errors[part], "test_split") if part.any() else None
            for name, part in (("new", ~known & np.isfinite(errors)), ("known", known & np.isfinite(errors)))
        }
        if parts["new"] is not None:
            events.emit(ScoreMeasured(parts["new"]))
        events.emit(RunFinished(0.0))
        return NumberEvaluation(
            task=self.name, evaluation=parts["new"], known=parts["known"], missing_classes=(), num_unreadable=0
        )

    def read_record(self, folder: Path, *, data: str | None, has_paths: bool) -> RunRecord:
        from headstart.reports.record import SectionsRecord, read_common

        common = read_common(folder, [])
        with open(folder / "predictions.csv", encoding="utf-8", newline="") as file:
            rows = [(row["file"], float(row["target"]), float(row["prediction"])) for row in csv.DictReader(file)]
        worst = sorted(range(len(rows)), key=lambda i: -abs(rows[i][1] - rows[i][2]))[:4]
        root = Path(str(data or (common["settings"].get("data") or {}).get("value"))).parent
        table = ReportSection("Predictions", "Out of fold.", ("file", "#target", "#prediction"), tuple(rows))
        return SectionsRecord(
            **common,
            sentence=f"mean absolute error {common['metrics']['score']['value']:.3g}",
            sections=(table, ReportSection("Largest errors", images=tuple(worst))),
            names=[name for name, *_ in rows],
            paths=[str(root / name) for name, *_ in rows],
        )

    def compare(self, runs: Sequence[Path], data: str | None, options: ReadOptions, events: EventStream) -> Comparison:
        raise UsageError("runs of this task cannot be compared.")


class Regressor:
    """A loaded regression model."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def predict(self, images: Any) -> Answers:
        from headstart.inference.inputs import expand_sources

        return Answers(self.runtime.predict(expand_sources(images), NumberDecoder()))


REGRESS = RegressTask()


def _rows(path: str) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)) or [{}]


def _read(path: str) -> Samples:
    if not Path(path).exists():
        raise DataError(f"`{path}` does not exist.")
    rows, root = _rows(path), Path(path).resolve().parent
    items = tuple(Sample(str(root / row["image"]), row["image"]) for row in rows)
    return Samples(items, (), str(root), "table of numbers", columns={TARGET: tuple(row[TARGET] for row in rows)})


def _descend(rows: Float, targets: Float, checkpoints: Any, name: str) -> tuple[Float, float, Float]:
    """Return weight, bias and mean after gradient descent, resumed from the checkpoint of this name."""
    import torch

    from headstart.training.loop import TrainingState

    mean, bias = rows.mean(0), float(targets.mean())
    x = torch.from_numpy(rows - mean)
    y = torch.from_numpy(targets - bias)
    rate = 1.0 / float(torch.linalg.matrix_norm(x, 2) ** 2)
    state = checkpoints.load(name)
    weight = torch.zeros(x.shape[1], dtype=torch.float64) if state is None else state.tensors["weight"]
    for epoch in range(0 if state is None else state.values["epoch"], EPOCHS):
        for _ in range(20):
            weight = weight - rate * (x.T @ (x @ weight - y))
        checkpoints.save(name, TrainingState({"weight": weight}, {"epoch": epoch + 1}))
    return weight.numpy(), bias, mean


def _mae(errors: Float, protocol: str, num_folds: int | None = None) -> dict[str, Any]:
    """Return the mean absolute error with a bootstrap interval."""
    draws = errors[np.random.default_rng(0).integers(0, len(errors), (1000, len(errors)))].mean(1)
    low, high = (float(v) for v in np.quantile(draws, (0.025, 0.975)))
    score: Evidence = {"metric": "mae", "value": float(errors.mean()), "low": low, "high": high}
    return {**score, "protocol": protocol, "num_folds": num_folds, "num_images": len(errors)}
