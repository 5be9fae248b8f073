"""Test the detector pipeline on a few small images: files, bundle, consistent predictions."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from decision_checks import check_decisions, check_resolved
from event_text import events_of, notes_of
from PIL import Image

import headstart
from headstart.api.model import Detector, open_model
from headstart.config.effects import validate_detector_combination
from headstart.config.settings import resolve
from headstart.detection.loop import DetectTraining
from headstart.errors import BudgetError, BundleError, DataError, HeadstartError, SettingError, UsageError
from headstart.events import EpochFinished, EventStream
from headstart.features.graph_export import OPSET
from headstart.inference.bundle import read_bundle
from headstart.inference.decoders import ClassDecoder
from headstart.pipelines.train import train
from headstart.runs.folder import own_run_folder
from headstart.tasks.registry import find_task
from headstart.types.codes import DecisionReason, NoteKind

SETTINGS: dict[str, Any] = {
    "backbone": "timm:resnet10t",
    "weights": "none",
    "image_size": 64,
    "num_views": 1,
    "epochs": 2,
    "num_threads": 1,
    "detect.fpn_channels": 16,
    "detect.head_depth": 1,
    "detect.min_stride": 16,
    "strategy": "head",
}


def draw(root: Path, count: int) -> Path:
    """Draw squares of two colors on noise, with a table of their boxes; every fifth image is empty."""
    root.mkdir(parents=True)
    rows = ["image,label,xmin,ymin,xmax,ymax"]
    for i in range(count):
        rng = np.random.default_rng([2, i])
        pixels = rng.integers(60, 120, (60, 90, 3)).astype(np.uint8)
        if i % 5:
            side, kind = int(rng.integers(20, 40)), i % 2
            x, y = int(rng.integers(0, 90 - side)), int(rng.integers(0, 60 - side))
            pixels[y : y + side, x : x + side] = (230, 40, 40) if kind else (40, 40, 230)
            rows.append(f"{i:02d}.png,{'red' if kind else 'blue'},{x},{y},{x + side},{y + side}")
        else:
            rows.append(f"{i:02d}.png,,,,,")
        Image.fromarray(pixels).save(root / f"{i:02d}.png")
    (root / "boxes.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("detect") / "squares", 20)


@pytest.fixture(scope="module")
def events() -> EventStream:
    return EventStream()


@pytest.fixture(scope="module")
def run(squares: Path, events: EventStream) -> headstart.Run:
    nms = {"detect.nms_iou": 0.55, "detect.class_agnostic_nms": True}
    return headstart.train(squares, out=squares.parent / "run", events=events, **SETTINGS, **nms)


def test_task_is_inferred(run: headstart.Run) -> None:
    assert run.metrics["task"] == "detect"
    assert run.metrics["class_names"] == ["blue", "red"]
    assert DecisionReason.BOXES_FOUND in check_decisions(run.folder)
    config = check_resolved(run.folder)
    assert config["task"]["value"] == "detect"
    assert config["task"]["reason"] == "boxes_found"
    assert config["epochs"] == {"value": 2, "source": "python", "reason": None}
    assert config["batch_size"]["source"] == "default"
    assert config["device"]["value"] == "cpu"
    assert (config["detect.box_format"]["value"], config["detect.box_format"]["reason"]) == (
        "xyxy",
        "box_format_of_files",
    )
    assert (config["patience"]["value"], config["patience"]["reason"]) == (None, "no_effect")
    assert config["num_threads"]["value"] >= 1


def test_run_has_all_files(run: headstart.Run) -> None:
    files = {p.name for p in run.folder.iterdir()}
    expected = {
        "bundle",
        "config.resolved.yaml",
        "environment.json",
        "dataset_report.json",
        "metrics.json",
        "predictions.csv",
    }
    assert expected | {"results.csv", "split.csv", "train.log", "events.jsonl"} <= files
    assert "unfinished.json" not in files


def test_environment_has_times(run: headstart.Run, check_times: Callable[[Path], None]) -> None:
    check_times(run.folder)


def test_one_fifth_is_held_out(run: headstart.Run) -> None:
    with open(run.folder / "split.csv", encoding="utf-8") as file:
        parts = [row["split"] for row in csv.DictReader(file)]
    assert len(parts) == 20
    assert 3 <= parts.count("test") <= 5
    test = run.metrics["test"]
    assert run.metrics["cv"] is None
    assert test["num_samples"] == parts.count("test")
    assert set(test["mAP50"]) == {"value", "low", "high"}
    assert [c["name"] for c in test["per_class"]] == ["blue", "red"]
    assert run.score["metric"] == "mAP50"


def test_results_csv_has_one_row_per_epoch(run: headstart.Run) -> None:
    with open(run.folder / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row["train_loss"]) > 0 for row in rows)


def test_box_sizes_are_reported_before_training(run: headstart.Run, events: EventStream) -> None:
    (note,) = notes_of(events, NoteKind.BOX_SIZES)
    (first, *_) = [event for event in events.history if isinstance(event, EpochFinished)]
    assert sum(note.evidence["num_boxes"].values()) == sum(map(sum, run.metrics["sizes"]["counts"]))  # type: ignore[union-attr]
    assert events.history.index(note) < events.history.index(first)


def test_epoch_events_match_table(run: headstart.Run) -> None:
    with open(run.folder / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    events = events_of(run.folder, "epoch")
    assert [(e["phase"], e["epoch"], e["num_epochs"]) for e in events] == [("final", 1, 2), ("final", 2, 2)]
    for event, row in zip(events, rows, strict=True):
        assert set(event["metrics"]) == set(row) - {"epoch", "phase"}
        assert float(row["train_loss"]) == pytest.approx(event["metrics"]["train_loss"], rel=1e-4)


def test_score_and_run_end_events(run: headstart.Run) -> None:
    (score,) = events_of(run.folder, "score")
    assert score["score"]["metric"] == "map50"
    assert score["score"]["value"] == pytest.approx(run.metrics["headline"]["value"])
    (finished,) = events_of(run.folder, "finished")
    assert finished["folder"] == str(run.folder)
    (train,) = [e for e in events_of(run.folder, "stage_finished") if e["stage"] == "train"]
    assert train["evidence"]["num_epochs"] == 2


def test_bundle_matches_torch(run: headstart.Run) -> None:
    parity = run.metrics["parity"]
    assert parity["num_files"] == 20
    assert parity["max_pixels"] <= 0.5
    assert parity["max_score"] <= 1e-3
    bundle = read_bundle(str(run.folder))
    model, info = onnx.load_from_string(bundle.model), bundle.info
    assert (model.ir_version, [o.version for o in model.opset_import]) == (8, [OPSET])
    assert info["parity"] == parity
    assert set(info["thresholds"]["per_class"]) == {"blue", "red"}
    assert info["decoding"]["slope"] > 0
    assert (info["decoding"]["nms_iou"], info["decoding"]["is_class_agnostic"]) == (0.55, True)


def test_load_returns_detector(run: headstart.Run, squares: Path) -> None:
    detector = headstart.load(run.folder)
    assert isinstance(detector, Detector)
    predictions = detector.predict(squares, min_score=0.0)
    assert len(predictions) == 20
    one = predictions[0]
    assert one.size_hw == (60, 90)
    assert one.error is None
    assert len(one.detections)
    assert one.detections.xyxy[:, 2].max() <= 90
    array = np.asarray(Image.open(squares / "00.png"))
    again = detector.predict([array, Image.open(squares / "00.png")], min_score=0.0)
    for other in again:
        np.testing.assert_allclose(other.detections.scores, one.detections.scores, atol=1e-5)
    assert set(predictions.rows()[0]) == {"file", "label", "score", "xmin", "ymin", "xmax", "ymax"}


def test_thresholds_are_default_min_score(run: headstart.Run, squares: Path) -> None:
    detector = open_model(run.folder, 2)
    files = sorted(str(p) for p in squares.glob("*.png"))
    for every, reported in zip(detector.predict(files, min_score=0.0), detector.predict(files), strict=True):
        limits = detector.runtime.bundle.class_thresholds[every.detections.class_ids]
        assert len(reported.detections) == int((every.detections.scores >= limits).sum())


def test_unreadable_images_keep_their_position(run: headstart.Run, squares: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    good = str(squares / "01.png")
    predictions = open_model(run.folder, 2).predict([str(tmp_path / "bad.jpg"), good, "/gone.png"])
    assert [f.error is None for f in predictions] == [False, True, False]


def test_detector_is_refused_as_classifier(run: headstart.Run) -> None:
    with pytest.raises(BundleError, match="not a classifier"):
        ClassDecoder(read_bundle(run.folder))


@pytest.mark.parametrize(
    "change", [{"decoding": {}}, {"decoding": None}, {"thresholds": {"per_class": {"red": "high"}}}]
)
def test_tampered_bundle_is_refused(run: headstart.Run, tmp_path: Path, change: dict[str, Any]) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run.folder / "bundle", copy)
    info = json.loads((copy / "bundle.json").read_text(encoding="utf-8")) | change
    (copy / "bundle.json").write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(BundleError, match="damaged"):
        read_bundle(copy)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "probe"}, "no closed-form probe"),
        ({"select": "best"}, "no effect on a detector"),
        ({"finetune.mixup": 0.2}, "no effect on a detector"),
        ({"resize_mode": "crop"}, "cut off objects"),
        ({"strategy": "head", "train_from": "last-1"}, "no effect with the strategy"),
        ({"epochs": 3, "budget": "5m"}, "mutually exclusive"),
        ({"augment": "rotate=10", **SETTINGS}, "cannot be used on images with boxes"),
    ],
)
def test_settings_without_effect_are_refused(
    squares: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        headstart.train(squares, out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_detector_settings_need_boxes(photos: Path) -> None:
    with pytest.raises(SettingError, match="without boxes"):
        headstart.train(photos, **{"detect.fpn_channels": 32})


def test_class_without_training_boxes_is_refused(squares: Path, tmp_path: Path) -> None:
    manifest = ["image,label,split,group"]
    for i in range(20):
        part = "test" if i % 2 else "train"  # every red square is in the test split
        manifest.append(f"{i:02d}.png,,{part},")
    (tmp_path / "split.csv").write_text("\n".join(manifest) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="`red`"):
        headstart.train(squares, out=tmp_path / "run", split=tmp_path / "split.csv", **SETTINGS)


def test_run_is_not_overwritten(run: headstart.Run, squares: Path) -> None:
    with pytest.raises(UsageError, match="not empty"):
        headstart.train(squares, out=run.folder, **SETTINGS)


KILLED = """
import json, os, signal, sys
from headstart.training.checkpoint import Checkpoints
save, count = Checkpoints.save, [0]
def killing(self, *arguments):
    save(self, *arguments)
    count[0] += 1
    if count[0] == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoints.save, Checkpoints.is_due = killing, lambda self: True
import headstart
headstart.train(sys.argv[1], out=sys.argv[2], **json.loads(sys.argv[3]))
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("num_saved", [1, 2, 3])
def test_killed_run_resumes_with_the_same_weights(
    num_saved: int, run: headstart.Run, squares: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = [str(squares), str(out), json.dumps(SETTINGS), str(num_saved)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (out / "metrics.json").exists()
    with pytest.raises(UsageError, match="can be resumed"), own_run_folder(str(out)):
        pass
    headstart.resume(out)
    weights = [(folder / "bundle" / "model.safetensors").read_bytes() for folder in (out, run.folder)]
    assert weights[0] == weights[1]
    assert len((out / "results.csv").read_text().splitlines()) == 1 + int(SETTINGS["epochs"])  # type: ignore[call-overload]
    assert not list((out / "checkpoints").glob("*.safetensors"))


def test_resumed_run_needs_the_same_boxes(squares: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(squares, data)
    arguments = [str(data), str(out), json.dumps(SETTINGS), "1"]
    subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, capture_output=True)
    table = data / "boxes.csv"
    first = next(line for line in table.read_text().splitlines()[1:] if not line.endswith(",,,,"))
    name, label, *edges = first.split(",")
    table.write_text(table.read_text().replace(first, ",".join([name, label, "1", *edges[1:]])))
    with pytest.raises(DataError, match="have changed"):
        headstart.resume(out)


def test_ctrl_c_saves_detector(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enough = lambda *_: (_ for _ in ()).throw(HeadstartError("far enough"))  # noqa: E731
    monkeypatch.setattr("headstart.features.backbone_graph.export_network", enough)
    steps: list[int] = []

    def asking(self: DetectTraining, *arguments: Any) -> Any:
        steps.append(self.step)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return take_step(self, *arguments)

    take_step = DetectTraining.take_step
    monkeypatch.setattr(DetectTraining, "take_step", asking)
    events = EventStream()
    with pytest.raises(HeadstartError, match="far enough"):  # it continued and wrote the detector
        headstart.train(squares, out=tmp_path / "run", events=events, **(SETTINGS | {"epochs": 50}))
    assert len(steps) == 3
    (note,) = notes_of(events, NoteKind.TRAINING_STOPPED)
    assert note.evidence["num_epochs"] == 50


def scaled(factor: float) -> Callable[[], float]:
    """Return a clock on which everything takes `factor` times as long."""
    return lambda: factor * time.monotonic()


def budgeted(squares: Path, out: Path, budget: str, **more: Any) -> dict[str, Any]:
    """Train with a budget and return the metrics."""
    settings = {k: v for k, v in SETTINGS.items() if k not in ("epochs", "num_views", "strategy")}
    resolved = resolve(
        {"data": str(squares), "out": str(out), "task": "detect", "budget": budget, **settings},
        validate=validate_detector_combination,
    )
    folder = train(resolved, find_task("detect"), EventStream(), **more)
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return metrics


def test_same_journal_gives_same_weights(squares: Path, tmp_path: Path) -> None:
    metrics = budgeted(squares, tmp_path / "run", "10m")
    assert metrics["budget"]["is_kept"] is True
    assert metrics["budget"]["seconds"] == 600.0
    assert metrics["finetune"]["num_steps"] == metrics["budget"]["num_steps"][-1] >= 24
    assert metrics["strategy"] == "head"  # few boxes
    journal = json.loads((tmp_path / "run" / "journal.json").read_text(encoding="utf-8"))
    assert DecisionReason.STEPS_FIT_BUDGET in check_decisions(tmp_path / "run")
    config = check_resolved(tmp_path / "run")
    assert (config["strategy"]["value"], config["strategy"]["reason"]) == ("head", "boxes_per_class")
    assert config["test_size"]["value"] == 0.2
    assert config["num_views"]["source"] == config["epochs"]["source"] == "auto"
    # On a machine 10,000 times as slow, the journal decides instead of the clock.
    again = budgeted(squares, tmp_path / "again", "10m", clock=scaled(10_000.0), journal=journal)
    assert again["finetune"]["num_steps"] == metrics["finetune"]["num_steps"]
    assert again["budget"]["is_kept"] is False
    weights = [(tmp_path / name / "bundle" / "model.safetensors").read_bytes() for name in ("run", "again")]
    assert weights[0] == weights[1]


@pytest.mark.long
@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_run_keeps_budget_on_slow_clock(squares: Path, tmp_path: Path, factor: float) -> None:
    clock = scaled(factor)
    started = clock()
    metrics = budgeted(squares, tmp_path / "run", f"{60 * factor:.0f}s", clock=clock, started=started)
    assert clock() - started <= 1.1 * 60 * factor
    assert metrics["budget"]["num_steps"][-1] >= 24


def test_too_small_budget_is_refused_early(squares: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetError) as refused:
        budgeted(squares, tmp_path / "run", "2s")
    assert refused.value.min_s >= 10.0
    assert not (tmp_path / "run").exists()
