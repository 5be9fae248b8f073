"""Test run comparison: matched by content, refused where images or classes differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headstart
from headstart.errors import DataError, UsageError
from headstart.evaluation.metrics import evaluate, evaluation_to_json
from headstart.evaluation.paired_comparison import ComparisonVerdict
from headstart.pipelines.compare import write_comparison
from headstart.types.codes import USER_TEST_SPLIT, FindingKind

NAMES = ("cat", "dog", "owl")


def write_run(
    folder: Path,
    hits: np.ndarray,
    *,
    names: Sequence[str] = NAMES,
    split: str = "test",
    digests: Sequence[str] | None = None,
    order: np.ndarray | None = None,
    truth: np.ndarray | None = None,
) -> Path:
    """Write a minimal run folder with correct predictions where `hits` is true."""
    folder.mkdir(parents=True)
    num = len(hits)
    truth = np.arange(num) % len(names) if truth is None else truth
    chosen = np.where(hits, truth, (truth + 1) % len(names))
    logits = (3.0 * np.eye(len(names))[chosen]).astype(np.float32)
    files = [f"{folder.name}/{i:03d}.jpg" for i in range(num)]
    digests = list(digests or [f"{i:016x}" for i in range(num)])
    order = np.arange(num) if order is None else order
    block = evaluation_to_json(evaluate(logits, truth, names, setup=USER_TEST_SPLIT, is_logits=True))
    metrics: dict[str, Any] = {
        "task": "classify",
        "class_names": list(names),
        "num_samples": num,
        "train": block,
        "cv": block,
        "val": None,
        "test": block if split == "test" else None,
        "headline": {"metric": "accuracy", **block["accuracy"], "protocol": "test_split"},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    arrays: dict[str, Any] = {
        "paths": np.array(files)[order],
        "split": np.full(num, split),
        "label": truth[order],
        "logits": logits[order],
        "digests": np.array(digests)[order],
        "ood_score": np.zeros(num, np.float32),
    }
    np.savez(folder / "scores.npz", **arrays)
    return folder


def some_hits(share: float, num: int = 300, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).random(num) < share)


def test_clear_gain_is_better(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", some_hits(0.6))
    b = write_run(tmp_path / "b", some_hits(0.9, seed=1))
    comparison = headstart.compare(a, b)
    assert comparison.verdict == "better"
    assert comparison.numbers["accuracy"]["value"] > 0
    assert headstart.compare(b, a).verdict == "worse"
    assert (comparison.numbers["num_samples"], comparison.numbers["protocol"]) == (300, "test_split")


def test_undecided_comparison_names_needed_images(tmp_path: Path) -> None:
    base = np.random.default_rng(0).random(200)
    a, b = write_run(tmp_path / "a", base < 0.80), write_run(tmp_path / "b", base < 0.82)
    b_hits = base < 0.82
    b_hits[:20] = ~b_hits[:20]
    c = write_run(tmp_path / "c", b_hits)
    comparison = headstart.compare(a, c)
    assert comparison.verdict is ComparisonVerdict.UNDECIDED
    assert comparison.numbers["accuracy"]["num_needed"] > comparison.numbers["num_samples"] == 200
    assert headstart.compare(a, a).numbers["accuracy"]["num_needed"] is None
    assert b.is_dir()


def test_images_are_matched_by_content(tmp_path: Path) -> None:
    hits_a, hits_b = some_hits(0.7), some_hits(0.9, seed=2)
    a = write_run(tmp_path / "a", hits_a)
    b = write_run(tmp_path / "b", hits_b, order=np.random.default_rng(3).permutation(300))
    comparison = headstart.compare(a, b)
    assert comparison.numbers["only_a"] == int((hits_a & ~hits_b).sum())
    assert comparison.numbers["only_b"] == int((hits_b & ~hits_a).sum())


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    hits = some_hits(0.8)
    a = write_run(tmp_path / "a", hits)
    swapped = ("owl", "cat", "dog")
    truth = np.array([swapped.index(NAMES[i % 3]) for i in range(300)])
    b = write_run(tmp_path / "b", hits, names=swapped, truth=truth)
    comparison = headstart.compare(a, b)
    assert comparison.numbers["accuracy"]["value"] == 0.0


def test_reading_options_need_data(tmp_path: Path) -> None:
    hits = np.ones(12, dtype=bool)
    a, b = write_run(tmp_path / "a", hits), write_run(tmp_path / "b", hits)
    for name, value in {"first_id": 0, "layout": "{label}/*", "exclude": ["masks"]}.items():
        with pytest.raises(UsageError, match=name.replace("_", "-")):
            headstart.compare(a, b, **{name: value})


def test_different_test_sets_are_refused(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", some_hits(0.8))
    b = write_run(tmp_path / "b", some_hits(0.8, num=200))
    with pytest.raises(DataError, match=r"a was scored on 300 images, b on 200, with 200 in both"):
        headstart.compare(a, b)
    c = write_run(tmp_path / "c", some_hits(0.8), split="train")
    with pytest.raises(DataError, match="images differ"):
        headstart.compare(a, c)


def test_different_classes_or_labels_are_refused(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", some_hits(0.8))
    b = write_run(tmp_path / "b", some_hits(0.8), names=("cat", "dog", "fox"))
    with pytest.raises(DataError, match=r"only a has `owl`; only b has `fox`"):
        headstart.compare(a, b)
    more = write_run(tmp_path / "more", np.ones(200, dtype=bool), names=(*NAMES, "yak"))
    with pytest.raises(DataError, match=r"different classes: only more has `yak`\."):
        headstart.compare(a, more)
    c = write_run(tmp_path / "c", some_hits(0.8), truth=(np.arange(300) + 1) % 3)
    with pytest.raises(DataError, match="labels in c and a differ for 300 images"):
        headstart.compare(a, c)


def test_cross_validated_comparison_is_marked(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", some_hits(0.6), split="train")
    b = write_run(tmp_path / "b", some_hits(0.9, seed=1), split="train")
    comparison = headstart.compare(a, b)
    assert comparison.numbers["is_out_of_fold"]
    assert FindingKind.SCORES_OUT_OF_FOLD in {f.kind for f in comparison.findings}
    assert comparison.numbers["protocol"] == "k_fold"
    (a / "scores.npz").unlink()
    with pytest.raises(DataError, match="no stored scores"):
        headstart.compare(a, b)


def test_comparison_is_written(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "<a>", some_hits(0.6)), write_run(tmp_path / "$b$", some_hits(0.9, seed=1))
    comparison = headstart.compare(a, b)
    written = write_comparison(tmp_path / "out", comparison)
    assert json.loads(written[0].read_text())["verdict"] == "better"
    assert written[1].read_bytes()[:4] == b"\x89PNG"
    assert "<a>" not in comparison._repr_html_()
    assert "&lt;a&gt;" in comparison._repr_html_()
    assert "McNemar" in repr(comparison)
