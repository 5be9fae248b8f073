"""Test the report of a fine-tuned network: training and held-out images, unfreezing, verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.reports.figures import draw_figure
from headstart.reports.findings import comment_to_json, summarize_result
from headstart.reports.html import render, render_text
from headstart.reports.record import ClassifierRecord
from headstart.reports.summary import summarize

PLAN = {"train_from": "stage1", "lr": 0.001, "layer_decay": 0.5, "head_lr": 0.01, "epochs": 10, "refit_head": True,
        "unfreeze": [["stage2", 0.0], ["stage1", 0.3]]}  # fmt: skip
VERDICT = {
    "num_samples": 15,
    "accuracy_gain": 0.1,
    "accuracy_error": 0.05,
    "gain": 0.1,
    "is_better": True,
    "is_worse": False,
}
TENSORS = {f"backbone.{n}": (8, 8) for n in ("conv_stem.weight", "blocks.0.w", "blocks.1.w", "conv_head.weight")}
EPOCHS = tuple({"epoch": str(e), "train_loss": "1", "val_loss": "2", "phase": "fold1"} for e in range(1, 11))


@pytest.fixture
def held_out(make_facts: Callable[..., ClassifierRecord]) -> ClassifierRecord:
    """Return 60 training images, of which only the 15 held-out ones are in `predictions.csv`."""
    whole = make_facts(has_test=False, sections={"finetune": {"plan": PLAN, "verdict": VERDICT}}, epochs=EPOCHS)
    some = np.arange(0, 60, 4)
    scored = replace(
        whole.scored,
        **{n: getattr(whole.scored, n)[some] for n in ("split", "class_ids", "logits")},
        names=tuple(whole.scored.names[i] for i in some),
    )
    cv = {**whole.metrics["cv"], "protocol": "validation_split", "num_samples": 15}
    tensors = {**TENSORS, "head.weight": (3, 8), "head.bias": (3,)}
    settings = {"probe.mixture": {"value": {"lda": 0.9}, "source": "auto", "reason": "mixture_compared"}}
    return replace(whole, scored=scored, metrics={**whole.metrics, "cv": cv}, tensors=tensors, settings=settings)


def test_unscored_training_images_are_counted(held_out: ClassifierRecord) -> None:
    report = summarize(held_out)
    assert report["data"]["num_samples"] == 60
    assert report["data"]["counts"] == {"train": [20, 20, 20]}
    assert summarize_result(held_out).train_counts == (20, 20, 20)
    assert "20 training images" in str(comment_to_json(summarize_result(held_out))) + str(report["quadrant"])


def test_held_out_images_are_counted(held_out: ClassifierRecord) -> None:
    left = np.diag(20 - np.bincount(held_out.scored.class_ids)).tolist()
    train = {**held_out.metrics["train"], "confusion": left, "num_samples": 45}
    facts = replace(held_out, metrics={**held_out.metrics, "train": train})
    assert summarize(facts)["data"]["counts"] == {"train": [20, 20, 20]}


def test_hold_out_is_not_cross_validation(held_out: ClassifierRecord) -> None:
    names = [b["name"] for b in summarize(held_out)["learning"]["blocks"]]
    assert names == ["training images", "held-out training images"]
    folds = replace(held_out, metrics={**held_out.metrics, "cv": {**held_out.metrics["cv"], "protocol": "k_fold"}})
    assert summarize(folds)["learning"]["blocks"][1]["name"] == "training images, cross-validated"


def test_learning_rates_equal_those_of_the_optimizer(held_out: ClassifierRecord) -> None:
    report = summarize(held_out)
    rates = {p["name"]: p["rate"] for p in report["model"]["parts"]}
    assert rates == {"stem": None, "stage1": 0.00025, "stage2": 0.0005, "neck": 0.001}
    assert report["model"]["head"]["rate"] == 0.01
    assert "rate 0.01" in render_text("summary.txt", report)


def test_report_has_origin_of_head(held_out: ClassifierRecord, make_facts: Callable[..., ClassifierRecord]) -> None:
    page = render(summarize(held_out), {})
    assert "mean of the trained head and a closed-form head" in page
    assert "mixture of" not in page
    plain = replace(held_out, metrics={**held_out.metrics, "finetune": {"plan": {**PLAN, "refit_head": False}}})
    assert "The head was trained by gradient descent." in render(summarize(plain), {})
    probe = replace(make_facts(), settings=held_out.settings)
    assert "The head is an ensemble of LDA 90 %" in render(summarize(probe), {})


def test_described_head_is_counted_separately(held_out: ClassifierRecord) -> None:
    tensors = {n.replace("backbone.", "backbone.body."): s for n, s in TENSORS.items()}
    own = {"backbone.head.hidden.0.weight": (64, 100), "backbone.head.hidden.0.bias": (64,),
           "backbone.head.output.weight": (3, 64), "backbone.head.output.bias": (3,)}  # fmt: skip
    plan = {**PLAN, "head": "hidden=[64]", "refit_head": False}
    metrics = {**held_out.metrics, "finetune": {"plan": plan}}
    facts = replace(held_out, tensors={**tensors, **own}, metrics=metrics)
    report = summarize(facts)
    model = report["model"]
    assert [p["name"] for p in model["parts"]] == ["stem", "stage1", "stage2", "neck"]
    assert [p["state"] for p in model["parts"]] == ["frozen", "trained", "trained", "trained"]
    assert model["head"]["num_params"] == 64 * 100 + 64 + 3 * 64 + 3
    assert model["head"]["num_features"] == 100
    assert model["num_trained"] == model["head"]["num_params"] + 3 * 64
    assert "head: linear" not in render_text("summary.txt", report)
    assert "6,659" in render(report, {})


def test_unfreezing_is_marked(held_out: ClassifierRecord, tmp_path: Path) -> None:
    report = summarize(held_out)
    assert report["learning"]["unfreezing"] == [{"stage": "stage1", "epoch": 3.0}]
    page = render(report, {})
    assert "unfreezing of stage1" in page
    figure = draw_figure("curves", report)
    assert [t.get_text() for t in figure.axes[0].texts] == ["stage1"]
    assert 3.0 in [float(line.get_xdata()[0]) for line in figure.axes[0].lines]
    without = replace(held_out, metrics={**held_out.metrics, "finetune": None})
    assert "unfreezing of" not in render(summarize(without), {})
