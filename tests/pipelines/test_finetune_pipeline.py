"""Test the fine-tuning pipeline: files, events, resuming after a kill."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decision_checks import check_decisions, check_resolved
from event_text import decisions_of, events_of

import headstart
from headstart.api.functions import resume
from headstart.errors import DataError, InvalidEvaluationError, SettingError, UsageError
from headstart.reports.record import read_record
from headstart.reports.writer import write_report
from headstart.tasks.classify import finetune as finetune_pipeline
from headstart.tasks.classify import probe_training
from headstart.tasks.classify.trained_model import FinetuneOutcome
from headstart.training.checkpoint import Checkpoints, load_snapshot
from headstart.training.held_out_trainer import HeldOutTrainer
from headstart.training.loop import TrainingState
from headstart.training.probe_comparison import ProbeComparison, refuse_finetuned_features
from headstart.types.codes import DecisionReason
from headstart.types.records import Features

pytest.importorskip("torch")


class Killed(BaseException):
    """Simulates SIGKILL; no code catches it."""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., Path]) -> Path:
    return make_images(tmp_path_factory.mktemp("few"), {"stripes": 10, "discs": 10})


@pytest.fixture(scope="module")
def tuned(few: Path, tmp_path_factory: pytest.TempPathFactory) -> headstart.Run:
    out = tmp_path_factory.mktemp("runs") / "tuned"
    return headstart.train(few, out=out, strategy="finetune", train_from="last", epochs=1, num_views=1, num_threads=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"augment": "blurr"}, "blurr"), ({"unfreeze": "stage7"}, None), ({"unfreeze": "stage7@soon"}, "stage7@soon"),
     ({"finetune.head": "pool=best"}, "best"), ({"train_from": "stage99"}, "stage99"),
     ({"unfreeze": "stage99@0"}, "stage99")],
)  # fmt: skip
def test_invalid_descriptions_leave_no_run(
    wrong: dict[str, str], message: str | None, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(finetune_pipeline, "_train", lambda *_: started.append("go") or FinetuneOutcome())
    if message is None:
        headstart.train(few, out=tmp_path / "run", strategy="finetune", num_threads=1, **wrong)
        assert started == ["go"]
        return
    monkeypatch.setattr(probe_training, "fit_training_probe", lambda *_: started.append("probe"))
    with pytest.raises(UsageError, match=message):
        headstart.train(few, out=tmp_path / "run", strategy="finetune", num_threads=1, **wrong)
    assert not started  # stages too, which the network list contains
    assert not (tmp_path / "run").exists()


def test_folds_with_validation_split_are_refused(
    tmp_path: Path, make_images: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("train", 0), ("val", 10), ("test", 20)):
        make_images(tmp_path / "own" / name, {"stripes": 5, "discs": 5}, seed)
    monkeypatch.setattr(finetune_pipeline, "_train", lambda *_: FinetuneOutcome())
    with pytest.raises(SettingError, match="validation split"):
        headstart.train(tmp_path / "own", out=tmp_path / "run", strategy="finetune", folds=3, num_threads=1)
    assert not (tmp_path / "run").exists()


def test_report_of_training_equals_report_of_files(tuned: headstart.Run, tmp_path: Path) -> None:
    write_report(tuned.folder, read_record(tuned.folder), out=tmp_path)
    for name in ("report.html", "report.json"):
        assert (tmp_path / name).read_bytes() == (tuned.folder / name).read_bytes()


def test_finetuned_run_has_all_files(tuned: headstart.Run) -> None:
    names = {p.name for p in tuned.folder.iterdir()}
    assert names >= {"bundle", "probe", "results.csv", "metrics.json", "oof.npz", "predictions.csv",
                     "config.resolved.yaml", "checkpoints", "split.csv", "train.log", "events.jsonl"}  # fmt: skip
    assert "unfinished.json" not in names
    metrics = tuned.metrics
    assert metrics["strategy"] == "finetune"
    assert metrics["parity"]["label_agreement"] == 1.0
    assert metrics["cv"]["protocol"] == "validation_split"
    assert metrics["cv"]["protocol_detail"] == {
        "held_out_fraction": 0.2, "split_source": "made", "is_used_for_selection": True,
    }  # fmt: skip
    assert metrics["probe"]["cv"]["protocol"] == "leave_one_out"
    assert metrics["finetune"]["plan"]["train_from"] == "stage7"
    assert set(metrics["finetune"]["verdict"]) >= {"gain", "low", "alpha", "is_better"}
    with open(tuned.folder / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_f1_macro", "lr",
                             "duration_s", "phase"]  # fmt: skip
    assert [(r["phase"], r["epoch"]) for r in rows] == [("fold1", "1"), ("final", "1")]
    assert rows[0]["val_loss"]
    assert not rows[1]["val_loss"]
    assert DecisionReason.TUNED_COMPARED_WITH_PROBE in check_decisions(tuned.folder)
    config = check_resolved(tuned.folder)
    assert config["epochs"]["source"] == "python"
    assert config["finetune.layer_decay"]["source"] == "default"
    assert (config["patience"]["value"], config["patience"]["reason"]) == (None, "off_by_default")


def test_epoch_events_match_table(tuned: headstart.Run) -> None:
    events = events_of(tuned.folder, "epoch")
    assert [(e["phase"], e["epoch"], e["num_epochs"]) for e in events] == [("fold1", 1, 1), ("final", 1, 1)]
    with open(tuned.folder / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for event, row in zip(events, rows, strict=True):
        assert set(event["metrics"]) == set(row) - {"epoch", "phase"}
        assert float(row["train_loss"]) == pytest.approx(event["metrics"]["train_loss"], rel=1e-4)


def test_train_stage_has_comparison_evidence(tuned: headstart.Run) -> None:
    (train,) = [e["evidence"] for e in events_of(tuned.folder, "stage_finished") if e["stage"] == "train"]
    verdict = tuned.metrics["finetune"]["verdict"]
    assert train["probe_log_loss"] - train["log_loss"] == pytest.approx(verdict["gain"])
    assert train["log_loss"] == pytest.approx(tuned.metrics["cv"]["log_loss"], abs=1e-3)
    epochs = [e["metrics"]["duration_s"] for e in events_of(tuned.folder, "epoch")]
    assert train["train_seconds"] == pytest.approx(sum(epochs))  # also where a pilot has trained before
    assert (train["strategy"], train["train_from"], train["is_kept"]) == ("finetune", "stage7", True)
    (score,) = events_of(tuned.folder, "score")
    assert score["score"]["total"] == tuned.metrics["cv"]["num_samples"]
    (finished,) = events_of(tuned.folder, "finished")
    assert finished["next_commands"][-1][1] == "the probe"


def test_baselines_use_held_out_images(tuned: headstart.Run) -> None:
    support = np.array(tuned.metrics["cv"]["confusion"]).sum(axis=1)
    baselines = tuned.metrics["baselines"]
    assert baselines["majority"]["accuracy"] == pytest.approx(support.max() / support.sum())
    count = support.sum() * baselines["nearest_neighbor"]["accuracy"]
    assert count == pytest.approx(round(count))


def test_frozen_weights_are_unchanged(tuned: headstart.Run) -> None:
    for name in ("fold1", "final"):
        done = load_snapshot(tuned.folder / "checkpoints" / f"finetune-stage7-{name}.done.safetensors")
        assert done.values["frozen_before"] == done.values["frozen_after"] != ""


def test_both_models_predict(tuned: headstart.Run, few: Path) -> None:
    files = [str(p) for p in sorted(few.rglob("*.jpg"))]
    for place in (tuned.folder, tuned.folder / "probe"):
        predictions = headstart.predict(place, files)
        assert sum(p.label == Path(f).parent.name for p, f in zip(predictions, files, strict=True)) >= 19
    with open(tuned.folder / "predictions.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == tuned.metrics["cv"]["num_samples"]


def test_finished_run_cannot_be_resumed(tuned: headstart.Run) -> None:
    with pytest.raises(UsageError, match="finished"):
        resume(tuned.folder)


def kill_at(monkeypatch: pytest.MonkeyPatch, job: str, count: int) -> None:
    """Kill the process right after the `count`-th checkpoint of a training."""
    save, saved = Checkpoints.save, []

    def dying(self: Checkpoints, name: str, snapshot: TrainingState) -> None:
        save(self, name, snapshot)
        saved.append(name)
        if saved.count(job) == count:
            raise Killed

    monkeypatch.setattr(Checkpoints, "is_due", lambda self: True)
    monkeypatch.setattr(Checkpoints, "save", dying)


# One thread: several slow each other down on a busy machine, and results depend on their number.
HEAD: dict[str, Any] = {"strategy": "head", "epochs": 4, "num_views": 2, "finetune": {"dropout": 0.2}, "num_threads": 1}


def test_killed_run_resumes_to_same_weights(few: Path, tmp_path: Path) -> None:
    whole = headstart.train(few, out=tmp_path / "whole", **HEAD)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, "head-head-final", 3)
        with pytest.raises(Killed):
            headstart.train(few, out=tmp_path / "killed", **HEAD)
    assert not (tmp_path / "killed" / "metrics.json").exists()
    with pytest.raises(UsageError, match="resume"):
        headstart.train(few, out=tmp_path / "killed", **HEAD)
    again = resume(tmp_path / "killed")
    a, b = (load_snapshot(f / "checkpoints" / "head-head-final.done.safetensors") for f in (whole.folder, again.folder))
    assert all(np.array_equal(a.tensors[n].numpy(), b.tensors[n].numpy()) for n in a.tensors)
    assert again.score == whole.score
    strip = {"duration_s", "parity"}
    assert {k: v for k, v in again.metrics.items() if k not in strip} == {
        k: v for k, v in whole.metrics.items() if k not in strip
    }


def test_resume_refuses_changed_data(few: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(few, data)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, "head-head-fold1", 1)
        with pytest.raises(Killed):
            headstart.train(data, out=tmp_path / "run", **HEAD)
    shutil.move(data / "discs" / "003.jpg", data / "stripes" / "moved.jpg")
    with pytest.raises(DataError) as caught:
        resume(tmp_path / "run")
    assert "discs/003.jpg" in caught.value.message
    assert "stripes/moved.jpg" in caught.value.message


def test_folds_score_every_image(few: Path, tmp_path: Path) -> None:
    run = headstart.train(few, out=tmp_path / "run", folds=2, **{**HEAD, "epochs": 2})
    assert (run.metrics["cv"]["protocol"], run.metrics["cv"]["protocol_detail"]) == ("k_fold", {"num_folds": 2})
    assert run.metrics["cv"]["num_samples"] == 20
    with np.load(run.folder / "oof.npz") as oof:
        assert oof["logits"].shape == (20, 2)


@pytest.mark.long
def test_hidden_layers_are_deployed(few: Path, tmp_path: Path) -> None:
    run = headstart.train(few, out=tmp_path / "run", **{**HEAD, "epochs": 2, "finetune": {"hidden": "16"}})
    assert run.metrics["parity"]["label_agreement"] == 1.0


def test_too_small_budget_keeps_probe(few: Path, tmp_path: Path) -> None:
    run = headstart.train(few, out=tmp_path / "run", budget="1s")
    assert run.metrics["strategy"] == "probe"
    assert check_resolved(run.folder)["epochs"]["reason"] == "no_effect"
    assert DecisionReason.BUDGET_SPENT in check_decisions(run.folder)
    assert decisions_of(run.folder)["strategy"]["value"] == "probe"


def test_settings_without_effect_are_refused(few: Path) -> None:
    for settings in ({"epochs": 3}, {"strategy": "full", "num_views": 3}, {"strategy": "head", "unfreeze": "stage7@0"},
                     {"strategy": "finetune", "epochs": 2, "budget": "5m"},
                     {"strategy": "finetune", "optimizer": "adamax"},
                     {"strategy": "head", "finetune": {"train_image_size": 160}},
                     {"strategy": "scratch", "finetune": {"refit_head": True}},
                     {"strategy": "finetune", "finetune": {"refit_head": True, "head": "hidden=8"}},
                     {"strategy": "finetune", "probe": {"flip_tta": "on"}}):  # fmt: skip
        with pytest.raises(SettingError):
            headstart.train(few, **settings)


def test_leave_one_out_on_finetuned_features_is_refused() -> None:
    digests = tuple(f"{i:064x}" for i in range(4))
    features = Features({"e": np.zeros((4, 2), np.float32)}, digests, (), np.ones(4, dtype=bool))
    refuse_finetuned_features(features, np.arange(4))
    with pytest.raises(InvalidEvaluationError, match="tune"):
        refuse_finetuned_features(replace(features, tuned_on=frozenset(digests[:1])), np.arange(4))


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["finetune", "full"])
def test_training_views_may_be_smaller(strategy: str, few: Path, tmp_path: Path) -> None:
    options = {"image_size": 96, "num_threads": 1, "finetune": {"train_image_size": 64}}
    run = headstart.train(few, out=tmp_path / "run", strategy=strategy, epochs=2, **options)
    assert run.metrics["parity"]["label_agreement"] == 1.0
    assert run.metrics["finetune"]["plan"]["train_image_size"] == 64
    assert run.metrics["finetune"]["plan"]["refit_head"] is True
    assert headstart.predict(run.folder, [str(few / "discs" / "003.jpg")])[0].label in ("discs", "stripes")


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["full", "scratch", "finetune"])
def test_every_strategy_trains_a_model(strategy: str, few: Path, tmp_path: Path) -> None:
    more = {"unfreeze": "stage7@0,stage6@50%", "num_views": 1} if strategy == "finetune" else {}
    run = headstart.train(few, out=tmp_path / "run", strategy=strategy, epochs=2, image_size=64, num_threads=1, **more)
    assert run.metrics["strategy"] == strategy
    assert run.metrics["parity"]["label_agreement"] == 1.0


@pytest.mark.long
def test_auto_compares_candidates(few: Path, tmp_path: Path) -> None:
    run = headstart.train(few, out=tmp_path / "run", budget="4m", num_threads=1)
    pilots = [e["evidence"] for e in events_of(run.folder, "stage_finished") if e["stage"] == "pilot"]
    assert {p["train_from"] for p in pilots} == {"stage6", "stage7"}
    assert all("log_loss_gain" in p for p in pilots)
    assert DecisionReason.PILOTS_COMPARED in check_decisions(run.folder)
    config = check_resolved(run.folder)
    assert config["train_from"]["reason"] == config["lr"]["reason"] == "pilots_compared"
    assert (config["folds"]["value"], config["epochs"]["reason"]) == (3, "trial_fits_budget")
    assert json.loads((run.folder / "metrics.json").read_text())["finetune"]["verdict"]["num_samples"] >= 6


@pytest.mark.long
def test_auto_trains_for_the_requested_epochs(few: Path, tmp_path: Path) -> None:
    """Pilots, folds and the settings of the run keep explicit `epochs`; a budget alone determines the number."""
    settings = {"budget": "4m", "epochs": 2, "train_from": "last", "augment": "none", "num_threads": 1}
    run = headstart.train(few, out=tmp_path / "run", **settings)
    trained = [e["evidence"]["num_epochs"] for e in events_of(run.folder, "stage_finished") if e["stage"] == "pilot"]
    assert trained == [2]
    assert decisions_of(run.folder)["finetune.trial"]["value"]["epochs"] == 2
    config = check_resolved(run.folder)["epochs"]
    assert (config["value"], config["source"]) == (2, "python")


def test_report_describes_rejected_candidates(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worse = ProbeComparison(-0.5, -0.6, -0.4, 0.0, 0.0, 1.0, 1.0, False, 4, -0.5, np.zeros((4, 2), np.float32))
    monkeypatch.setattr(HeldOutTrainer, "compare", lambda *_, **__: worse)
    settings: dict[str, Any] = {
        "strategy": "finetune",
        "train_from": "last",
        "epochs": 1,
        "num_views": 1,
        "select": "best",
    }
    run = headstart.train(few, out=tmp_path / "run", num_threads=1, **settings)
    assert run.metrics["strategy"] == "probe"
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "Fine-tuned against probe on 4 held-out images" in page
    assert "would help more was not measured" not in page
