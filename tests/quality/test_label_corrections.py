"""Test that label errors are written, corrected and applied without changing files or scored images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from headstart.errors import DataError, UsageError
from headstart.evaluation.head_evaluation import evaluate_head
from headstart.events import EventStream, FindingMade
from headstart.probe.probe import fit_probe
from headstart.quality.label_corrections import COLUMNS, correct_labels, write_label_errors
from headstart.types.codes import USER_TEST_SPLIT, Evidence, Finding, FindingKind
from headstart.types.records import Features, Sample, Samples, Split

NAMES = ("=cat", "dog", "owl")


def make_dataset(
    per_class: int = 40, flips: tuple[int, ...] = (3, 50)
) -> tuple[Samples, Features, Split, tuple[int, ...]]:
    """Return three well-separated classes with some flipped labels; the last tenth of each class is the test split."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), per_class)
    center = rng.normal(size=(3, 24)) * 2
    rows = (center[truth] + rng.normal(size=(len(truth), 24))).astype(np.float32)
    labels = truth.copy()
    for i in flips:
        labels[i] = (truth[i] + 1) % 3
    items = tuple(Sample(f"/d/{i}.jpg", f"d/{i:03d}.jpg", NAMES[labels[i]]) for i in range(len(truth)))
    digests = tuple(f"{i:016x}" for i in range(len(truth)))
    features = Features({"embedding": rows}, digests, (), np.ones(len(truth), dtype=bool))
    assignment = np.where(np.arange(len(truth)) % per_class >= 0.9 * per_class, "test", "train")
    return Samples(items, NAMES), features, Split(assignment, None, "made", USER_TEST_SPLIT, 0), flips


def written(tmp_path: Path, flips: tuple[int, ...] = (3, 50)) -> tuple[Samples, list[dict[str, str]], Path]:
    samples, features, split, _ = make_dataset(flips=flips)
    train = split.where("train")
    fit = fit_probe({"embedding": features.blocks["embedding"][train]}, samples.class_ids[train], 3)
    path = tmp_path / "label_errors.csv"
    write_label_errors(path, samples, features, split, fit, evaluate_head(samples, features, split, fit))
    with open(path, encoding="utf-8", newline="") as file:
        return samples, list(csv.DictReader(file)), path


def test_flipped_labels_come_first(tmp_path: Path) -> None:
    samples, rows, _ = written(tmp_path)
    assert tuple(rows[0]) == COLUMNS
    assert {r["image"] for r in rows[:2]} == {"d/003.jpg", "d/050.jpg"}
    first = next(r for r in rows if r["image"] == "d/003.jpg")
    assert (first["label"], first["suggested"], first["is_label_error"]) == ("dog", "'=cat", "true")
    label = dict(zip(samples.names, (s.label for s in samples), strict=True))
    assert [label[first[f"neighbor{n}"]] for n in (1, 2, 3)] == ["=cat"] * 3
    assert first["image"] not in [first[f"neighbor{n}"] for n in (1, 2, 3)]
    assert all(r["action"] == "" for r in rows)


def test_flipped_test_label_comes_last(tmp_path: Path) -> None:
    _, rows, _ = written(tmp_path, flips=(3, 39))
    splits = [r["split"] for r in rows]
    assert splits == sorted(splits, reverse=True)
    assert next(r for r in rows if r["split"] == "test")["image"] == "d/039.jpg"


def findings(events: EventStream) -> dict[FindingKind, Evidence]:
    """Return the evidence of each finding by kind."""
    make_dataset = (event.finding for event in events.history if isinstance(event, FindingMade))
    return {finding.kind: finding.evidence for finding in make_dataset if isinstance(finding, Finding)}


def fill(path: Path, rows: list[dict[str, str]], actions: dict[str, str]) -> str:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**row, "action": actions.get(row["image"], "")} for row in rows)
    return str(path)


def test_corrections_are_applied_by_name(tmp_path: Path) -> None:
    samples, rows, path = written(tmp_path)
    other = rows[5]["image"]
    events = EventStream()
    actions = {"d/003.jpg": "relabel:=cat", "d/050.jpg": "drop", other: "keep"}
    changed = correct_labels(samples, fill(path, rows, actions), events)
    label = {s.name: s.label for s in changed}
    assert label["d/003.jpg"] == "=cat"
    assert "d/050.jpg" not in label
    assert len(changed) == len(samples) - 1
    assert changed.class_names == samples.class_names
    assert int(changed.class_ids[changed.names.index("d/003.jpg")]) == 0
    assert label[other] == dict(zip(samples.names, (s.label for s in samples), strict=True))[other]
    assert findings(events) == {FindingKind.CORRECTIONS_APPLIED: {"num_relabeled": 1, "num_dropped": 1}}


def test_corrections_of_scored_images_are_skipped(tmp_path: Path) -> None:
    samples, rows, path = written(tmp_path, flips=(3, 39))
    events = EventStream()
    changed = correct_labels(samples, fill(path, rows, {"d/039.jpg": "relabel:=cat", "d/003.jpg": "drop"}), events)
    assert {s.name: s.label for s in changed}["d/039.jpg"] == "dog"
    assert findings(events)[FindingKind.CORRECTIONS_OF_SCORED_IMAGES] == {"count": 1, "examples": ["d/039.jpg"]}


def test_invalid_corrections_are_listed(tmp_path: Path) -> None:
    samples, rows, path = written(tmp_path)
    bad = fill(path, rows, {rows[0]["image"]: "relabel:dgo", rows[1]["image"]: "delete"})
    with pytest.raises(DataError) as caught:
        correct_labels(samples, bad, EventStream())
    assert "line 2" in str(caught.value)
    assert "`dog`" in str(caught.value)
    assert "`delete`" in str(caught.value)
    with pytest.raises(UsageError, match="cannot read"):
        correct_labels(samples, str(tmp_path / "none.csv"), EventStream())
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="no column action, image"):
        correct_labels(samples, str(tmp_path / "other.csv"), EventStream())
    assert correct_labels(samples, None, EventStream()) is samples
