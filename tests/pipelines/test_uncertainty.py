"""Test OOD scores and prediction sets of a small run: fitted, stored, printed, verified."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from event_text import events_of

import headstart
from headstart.api.run import Run
from headstart.errors import UsageError
from headstart.evaluation.head_evaluation import ModelLogits
from headstart.evaluation.softmax import softmax
from headstart.evaluation.uncertainty import UncertaintyTargets, fit_finetuned_uncertainty
from headstart.probe.linear import LinearHead
from headstart.probe.normalize import fit_normalizer
from headstart.reports.record import ClassifierRecord, read_record
from headstart.types.codes import FindingKind
from headstart.types.records import Features, Sample, Samples, Split

Make = Callable[..., Path]
CLASSES = {"stripes": 40, "discs": 40, "checks": 40}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, make_images: Make) -> Path:
    return make_images(tmp_path_factory.mktemp("data"), CLASSES)


@pytest.fixture(scope="module")
def unknown_images(tmp_path_factory: pytest.TempPathFactory, make_images: Make) -> Path:
    """Write ten unseen images of each known kind, and twenty of an unknown kind."""
    folder = make_images(tmp_path_factory.mktemp("new"), dict.fromkeys(CLASSES, 10) | {"noise": 20}, first_seed=900)
    assert sorted(p.name for p in folder.iterdir()) == ["checks", "discs", "noise", "stripes"]
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return headstart.train(data, out=str(tmp_path_factory.mktemp("runs") / "one"), test_size=0.25, ood_fpr="10%")


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_metrics_have_targets_and_results(run: Run) -> None:
    ood, coverage = run.metrics["ood"], run.metrics["coverage"]
    assert ood["ood_fpr"] == 0.1
    assert 0 <= ood["out_of_fold"]["false_positive_rate"] <= 0.1
    rows = [r for r in rows_of(run.folder / "predictions.csv") if r["split"] == "test"]
    assert ood["test"]["num_samples"] == len(rows) == 30
    alarms = np.mean([r["is_ood"] == "true" for r in rows])
    assert ood["test"]["false_positive_rate"]["raw_value"] == pytest.approx(alarms)
    assert {c["name"] for c in ood["held_out_classes"]["per_class"]} == set(CLASSES)
    assert 0 <= ood["held_out_classes"]["ood_recall"] <= 1
    assert sum(ood["histogram"]["known"]) == 90
    held = np.mean([r["label"] in r["prediction_set"].split("|") for r in rows])
    assert coverage["test"]["empirical"]["raw_value"] == pytest.approx(held)
    assert (coverage["coverage"], coverage["is_guaranteed"], coverage["num_fitted"]) == (0.9, False, 90)


def test_rates_are_in_events(run: Run) -> None:
    (event,) = [e for e in events_of(run.folder, "stage_finished") if e["stage"] == "uncertainty"]
    ood, coverage = event["evidence"]["ood"], event["evidence"]["coverage"]
    stored = run.metrics["ood"]
    assert ood["threshold"] == pytest.approx(stored["threshold"])
    assert ood["test"]["false_positive_rate"]["value"] == pytest.approx(stored["test"]["false_positive_rate"]["value"])
    assert ood["held_out_classes"]["ood_recall"] == pytest.approx(stored["held_out_classes"]["ood_recall"])
    empirical = run.metrics["coverage"]["test"]["empirical"]["value"]
    assert coverage["test"]["empirical"]["value"] == pytest.approx(empirical)
    assert coverage["is_guaranteed"] is False, "nothing was kept apart for that"


def test_bundle_matches_predictions(run: Run, data: Path) -> None:
    rows = {r["file"]: r for r in rows_of(run.folder / "predictions.csv") if r["split"] == "test"}
    for p in run.predict([data / name for name in rows]):
        row = rows[str(Path(p.file).relative_to(data))]
        assert p.ood_score == pytest.approx(float(row["ood_score"]), abs=0.02)
        assert row["is_ood"] == str(p.is_ood).lower() or abs(p.ood_score - float(row["ood_score"])) < 0.02
        assert "|".join(p.prediction_set or ()) == row["prediction_set"]
        assert p.label == row["prediction"], "the label stays the best known class"
    assert run.metrics["parity"]["max_ood_score_difference"] < 0.05


def test_training_images_have_out_of_fold_scores(run: Run) -> None:
    scores = np.load(run.folder / "scores.npz", allow_pickle=False)
    is_train = scores["split"] == "train"
    threshold = run.metrics["ood"]["threshold"]
    assert (scores["ood_score"][is_train] > threshold).mean() == pytest.approx(
        run.metrics["ood"]["out_of_fold"]["false_positive_rate"]
    )
    facts = read_record(run.folder, has_paths=False)
    assert isinstance(facts, ClassifierRecord)
    assert facts.scored.ood_score is not None
    np.testing.assert_allclose(np.sort(facts.scored.ood_score), np.sort(scores["ood_score"]), rtol=1e-6)


def test_new_class_is_detected_as_ood(run: Run, unknown_images: Path) -> None:
    result = run.evaluate(unknown_images)
    unknown = result.ood
    assert result.new_classes == ("noise",)
    assert unknown["ood_recall"]["num_samples"] == 20
    assert unknown["ood_recall"]["value"] >= 0.9, "noise is nothing like the three kinds"
    assert unknown["false_positive_rate"]["num_samples"] == 30
    assert unknown["false_positive_rate"]["value"] <= 0.3
    assert unknown["empirical"]["low"] <= unknown["empirical"]["value"] <= unknown["empirical"]["high"]
    (rates,) = [f.evidence for f in result.findings if f.kind is FindingKind.OOD_RATES]
    assert (rates["known"], rates["new"]) == (unknown["false_positive_rate"], unknown["ood_recall"])
    assert json.loads(json.dumps(result.to_json()))["ood"] == unknown
    assert sum(bool(p.is_ood) for p in result.predictions) == round(unknown["false_positive_rate"]["value"] * 30)


def test_predict_with_other_rates(run: Run, unknown_images: Path) -> None:
    few, many = (run.predict(unknown_images, ood_fpr=r) for r in (0.05, 0.4))
    assert sum(bool(p.is_ood) for p in few) < sum(bool(p.is_ood) for p in many)
    small, large = (run.predict(unknown_images, coverage=c) for c in (0.5, 0.99))
    assert sum(len(p.prediction_set or ()) for p in small) < sum(len(p.prediction_set or ()) for p in large)
    assert {"ood_score", "is_ood", "prediction_set"} <= set(run.predict(unknown_images).to_pandas().columns)
    with pytest.raises(UsageError, match="coverage must be at most"):
        run.predict(unknown_images, coverage=0.999)


def test_two_classes_have_no_held_out_class_recall(data: Path, tmp_path: Path) -> None:
    run = headstart.train(data, out=str(tmp_path / "two"), exclude_classes=("discs",))
    assert run.metrics["ood"]["held_out_classes"] is None
    assert run.metrics["ood"]["threshold"] is not None
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "with two classes, no class can be held out" in page


def test_validation_split_gives_guaranteed_coverage(tmp_path: Path, make_images: Make) -> None:
    root = tmp_path / "data"
    make_images(root / "train", dict.fromkeys(CLASSES, 14))
    make_images(root / "val", dict.fromkeys(CLASSES, 30), first_seed=300)
    make_images(root / "test", dict.fromkeys(CLASSES, 4), first_seed=600)
    run = headstart.train(root, out=str(tmp_path / "run"))
    coverage = run.metrics["coverage"]
    assert (coverage["is_guaranteed"], coverage["num_fitted"]) == (True, 90)
    bundle = json.loads((run.folder / "bundle" / "bundle.json").read_text(encoding="utf-8"))
    assert bundle["prediction_sets"]["is_guaranteed"] is True
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "guaranteed for images from the distribution of the validation split" in page
    less = headstart.train(root, out=str(tmp_path / "less"), coverage=0.95)
    assert less.metrics["coverage"]["is_guaranteed"] is False, "90 images are too few at 95 %"


def test_few_images_have_no_threshold(tmp_path: Path, make_images: Make) -> None:
    data = make_images(tmp_path / "few", {"stripes": 4, "discs": 4, "checks": 3})
    run = headstart.train(data, out=str(tmp_path / "run"))
    assert run.metrics["ood"]["threshold"] is None
    (event,) = [e for e in events_of(run.folder, "stage_finished") if e["stage"] == "uncertainty"]
    assert event["evidence"]["ood"]["threshold"] is None
    assert "too few for an OOD threshold" in (run.folder / "report.html").read_text(encoding="utf-8")
    first = run.predict(data)[0]
    assert first.ood_score is not None
    assert first.is_ood is None


def test_probabilities_are_calibrated(run: Run, data: Path) -> None:
    """The temperature is applied once: in predictions.csv, in the bundle and in the report."""
    info = json.loads((run.folder / "bundle" / "bundle.json").read_text(encoding="utf-8"))
    facts = read_record(run.folder, has_paths=False)
    assert isinstance(facts, ClassifierRecord)
    at = np.flatnonzero(facts.scored.split == "test")
    files = [data / facts.scored.names[i] for i in at]
    predicted = run.predict_proba(files)
    np.testing.assert_allclose(softmax(facts.scored.logits[at]), predicted, atol=1e-3)
    assert info["temperature"] != 1.0
    x = run.model.embed(files)
    from headstart.inference.bundle import read_bundle

    tensors = read_bundle(run.folder).weights()
    assert x.shape[1] <= tensors["head.weight"].shape[1]
    report = headstart.report(run.folder, figures=False, attributions=False, curve=False).data
    before, after = report["calibration"]["log_loss_before"], report["calibration"]["log_loss"]
    uncalibrated = softmax(facts.scored.logits[at].astype(np.float64) * info["temperature"])
    truth = facts.scored.class_ids[at]
    assert before == pytest.approx(-np.log(uncalibrated[np.arange(len(at)), truth]).mean(), rel=1e-6)
    assert after == pytest.approx(-np.log(predicted[np.arange(len(at)), truth]).mean(), rel=1e-2)
    assert {"error", "error_before", "brier", "brier_before"} <= set(report["calibration"])
    assert report["calibration"]["error"]["low"] <= report["calibration"]["error"]["high"]


class TestTunedNetworks:
    """Features of images used for fine-tuning are biased and must not set the threshold."""

    @pytest.fixture
    def made(self) -> tuple[Samples, Features, Split, LinearHead, np.ndarray]:
        rng = np.random.default_rng(0)
        ids = rng.integers(0, 3, 120)
        rows = (rng.normal(size=(120, 40)) + np.eye(40)[ids] * 5).astype(np.float32)
        items = tuple(Sample(f"/{i}", f"{i}.png", "abc"[k]) for i, k in enumerate(ids))
        samples = Samples(items, ("a", "b", "c"))
        blocks = {"stage1": rows[:, :10], "embedding": rows[:, 10:]}
        features = Features(blocks, tuple(f"{i:064x}" for i in range(120)), (), np.ones(120, dtype=bool))
        split = Split(np.array(["train"] * 100 + ["test"] * 20), None, "made", None, 0)
        norm = fit_normalizer({name: block[:100] for name, block in blocks.items()})
        head = LinearHead(norm, rng.normal(size=(3, 40)).astype(np.float32), np.zeros(3, np.float32), 1.0)
        return samples, features, split, head, head.logits(features.blocks)

    @pytest.mark.parametrize(
        ("frozen", "num_held_out", "has_head", "counted"),
        [
            (("stage1", "embedding"), 0, True, 40),
            ((), 30, True, 40),
            (("stage1",), 0, True, 10),
            ((), 0, True, 0),
            (("stage1",), 0, False, 0),
        ],
        ids=["frozen", "held out", "earlier stages frozen", "tuned on all", "head in the graph"],
    )
    def test_residual_norm_needs_held_out_features(
        self,
        made: tuple[Samples, Features, Split, LinearHead, np.ndarray],
        frozen: tuple[str, ...],
        num_held_out: int,
        has_head: bool,
        counted: int,
    ) -> None:
        samples, features, split, head, logits = made
        train = np.arange(100)
        scored = train[100 - num_held_out :] if num_held_out else train
        uncertainty = fit_finetuned_uncertainty(
            samples,
            features,
            split,
            head if has_head else None,
            ModelLogits(logits, scored, logits[scored], train[: 100 - num_held_out]),
            UncertaintyTargets(ood_fpr=0.1, coverage=0.9),
            frozen=frozen,
        )
        assert uncertainty.ood.rule.has_residual_norm is (counted > 0)
        assert uncertainty.json["ood"]["has_residual_norm"] is (counted > 0)
        if counted:
            # Values that do not count may change.
            rows = head.normalizer(features.blocks)
            changed = rows.copy()
            changed[:, counted:] += 3.0
            p = softmax(logits)
            np.testing.assert_array_equal(uncertainty.ood.score(changed, p), uncertainty.ood.score(rows, p))
            changed[:, :counted] += 3.0
            assert (uncertainty.ood.score(changed, p) > uncertainty.ood.score(rows, p) + 1).all()
        assert np.isfinite(uncertainty.held_out[scored]).all()
        assert np.isfinite(uncertainty.held_out[100:]).all()
        assert np.isnan(uncertainty.held_out[: 100 - len(scored)]).all()
        assert (uncertainty.held_out[scored] > uncertainty.ood.threshold).mean() <= 0.1
        assert uncertainty.json["coverage"]["is_guaranteed"] is False


def test_data_folder_is_unchanged(run: Run, data: Path, tmp_path: Path) -> None:
    assert sorted(p.name for p in data.iterdir()) == sorted(CLASSES)
    shutil.rmtree(tmp_path, ignore_errors=True)
