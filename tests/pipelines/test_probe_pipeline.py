"""Test the probe pipeline from images to a model through the Python API, with sockets blocked."""

from __future__ import annotations

import csv
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decision_checks import check_decisions, check_resolved
from event_text import events_of
from PIL import Image

import headstart
from headstart.cli.main import main
from headstart.errors import DataError, HeadstartError, SettingError, UsageError
from headstart.types.codes import DecisionReason


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test on any attempt to connect."""

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("something tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> headstart.Run:
    return headstart.train(photos, out=tmp_path_factory.mktemp("runs") / "one")


def test_run_folder_has_all_files(run: headstart.Run) -> None:
    names = {p.name for p in run.folder.iterdir()}
    assert names >= {
        "config.resolved.yaml", "split.csv", "oof.npz",
        "dataset_report.json", "metrics.json", "predictions.csv", "bundle",
        "environment.json", "train.log",
    }  # fmt: skip
    assert {p.name for p in (run.folder / "bundle").iterdir()} >= {"model.safetensors", "model.onnx", "bundle.json"}


def test_environment_has_times(run: headstart.Run, check_times: Callable[[Path], None]) -> None:
    check_times(run.folder)


def test_metrics_json_keys(run: headstart.Run) -> None:
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert set(metrics) >= {
        "schema", "task", "strategy", "backbone", "num_samples", "num_groups", "num_classes", "class_names",
        "duration_s", "baselines", "train", "cv", "val", "test",
    }  # fmt: skip
    assert (metrics["schema"], metrics["task"], metrics["strategy"]) == (1, "classify", "probe")
    assert (metrics["num_samples"], metrics["num_groups"], metrics["num_classes"]) == (48, None, 3)
    assert set(metrics["duration_s"]) >= {"total", "read", "features", "probe"}
    assert set(metrics["baselines"]) == {"majority", "nearest_neighbor"}
    assert metrics["val"] is None
    assert metrics["test"] is None
    assert metrics["train"]["protocol"] == "resubstitution"
    cv = metrics["cv"]
    assert cv["protocol"] == "leave_one_out"
    for name in ("accuracy", "balanced_accuracy", "f1_macro"):
        assert set(cv[name]) == {"value", "low", "high", "raw_value", "n_eff"}
    assert cv["accuracy"]["low"] <= cv["accuracy"]["value"] <= cv["accuracy"]["high"]
    assert set(cv) >= {"num_samples", "log_loss", "ece", "per_class", "confusion"}
    assert np.sum(cv["confusion"]) == 48
    assert cv["accuracy"]["value"] > 0.9  # stripes, discs and checks are easy


def test_oof_npz_matches_cv_score(run: headstart.Run) -> None:
    with np.load(run.folder / "oof.npz", allow_pickle=False) as oof:
        assert set(oof.files) == {"paths", "group", "label", "logits", "protocol"}
        hits = (oof["logits"].argmax(1) == oof["label"]).mean()
        assert str(oof["protocol"]) == "leave_one_out"
    assert hits == pytest.approx(run.metrics["cv"]["accuracy"]["raw_value"])


def test_every_setting_has_source_and_reason(run: headstart.Run) -> None:
    rows = check_resolved(run.folder)
    keys = {"value", "source", "reason"}
    assert all(keys <= set(row) <= keys | {"evidence", "text"} for row in rows.values())
    assert rows["data"]["source"] == "python"
    assert DecisionReason.PENALTIES_COMPARED in check_decisions(run.folder)
    used = {"task": "classify", "strategy": "probe", "image_size": 224, "device": "cpu", "probe.flip_tta": "off"}
    assert {name: rows[name]["value"] for name in used} == used
    assert rows["weights"]["value"].startswith("efficientnet_lite0.")
    assert rows["num_threads"]["value"] >= 1
    losses = rows["probe.blocks"]["evidence"]["log_loss"]
    assert set(losses) == {"all_stages", "all_stages_earlier_half", "last_stage"}


def test_bundle_matches_training(run: headstart.Run, photos: Path) -> None:
    assert run.metrics["parity"]["label_agreement"] == 1.0
    assert run.metrics["parity"]["max_difference"] < 1e-3
    files = sorted(photos.rglob("*.jpg"))
    predictions = run.predict([str(f) for f in files])
    assert sum(p.label == f.parent.name for p, f in zip(predictions, files, strict=True)) >= 46


def test_results_are_readable(run: headstart.Run, photos: Path, tmp_path: Path) -> None:
    assert "accuracy" in repr(run)
    assert "<table>" in run._repr_html_()
    assert list(run.to_pandas()["class"]) == ["checks", "discs", "stripes"]
    predictions = run.predict(photos / "discs", top=2)
    assert len(predictions) == 16
    columns = [
        "file",
        "label",
        "probability",
        "label2",
        "probability2",
        "ood_score",
        "is_ood",
        "prediction_set",
        "error",
    ]
    assert list(predictions.to_pandas().columns) == columns
    predictions.to_csv(tmp_path / "p.csv")
    with open(tmp_path / "p.csv", encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)) == columns
    assert "16 predictions" in repr(predictions)
    assert "discs" in predictions._repr_html_()


def test_images_in_memory(run: headstart.Run, photos: Path) -> None:
    file = photos / "stripes" / "003.jpg"
    image = Image.open(file)
    array = np.asarray(image.convert("RGB"))
    expected = run.predict_proba([str(file)])
    np.testing.assert_allclose(run.predict_proba([image]), expected, atol=1e-6)
    np.testing.assert_allclose(run.predict_proba([array]), expected, atol=1e-6)
    bgr = run.model.predict_proba([array[..., ::-1].copy()], channel_order="bgr")
    np.testing.assert_allclose(bgr, expected, atol=1e-6)


def test_evaluate_separates_training_images(
    run: headstart.Run, photos: Path, tmp_path: Path, make_images: Callable[..., Path]
) -> None:
    new = make_images(tmp_path / "new", {"stripes": 5, "discs": 5}, first_seed=500)
    shutil.copy(photos / "discs" / "000.jpg", new / "discs" / "seen.jpg")
    (new / "giraffe").mkdir()
    shutil.copy(new / "stripes" / "000.jpg", new / "giraffe" / "a.jpg")
    (new / "discs" / "broken.jpg").write_bytes(b"")
    result = headstart.evaluate(run.folder, new)
    assert result.evaluation is not None
    assert result.known is not None
    assert result.evaluation.num_samples == 10
    assert result.known.num_samples == 1
    assert result.new_classes == ("giraffe",)
    assert result.missing_classes == ("checks",)
    assert result.num_unreadable == 1
    assert json.dumps(result.to_json())


def test_user_split_is_used(tmp_path: Path, make_images: Callable[..., Path]) -> None:
    data = tmp_path / "data"
    make_images(data / "Train", {"a": 8, "b": 8})
    make_images(data / "valid", {"a": 4, "b": 4}, first_seed=100)
    run = headstart.train(data, out=tmp_path / "two")
    assert run.metrics["test"]["protocol"] == "validation_split"
    assert run.metrics["test"]["num_samples"] == 8
    assert run.metrics["val"] is None
    make_images(data / "TESTING", {"a": 3, "b": 3}, first_seed=200)
    run = headstart.train(data, out=tmp_path / "three")
    assert run.metrics["test"]["num_samples"] == 6
    assert run.metrics["val"]["num_samples"] == 8
    assert run.metrics["cv"]["num_samples"] == 16


def test_test_size_holds_out_whole_groups(tmp_path: Path, photos: Path) -> None:
    rows = ["image,label,group"]
    for file in sorted(photos.rglob("*.jpg")):
        rows.append(f"{file.relative_to(photos).as_posix()},{file.parent.name},g{int(file.stem) // 2}")
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    (data / "table.csv").write_text("\n".join(rows))
    run = headstart.train(data / "table.csv", out=tmp_path / "run", test_size=0.25, group_from="group")
    assert run.metrics["cv"]["protocol"] == "leave_one_group_out"
    assert run.metrics["num_groups"] == 8
    with open(run.folder / "split.csv", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    sides: dict[str, set[str]] = {}
    for row in table:
        sides.setdefault(row["group"], set()).add(row["split"])
    assert all(len(s) == 1 for s in sides.values())
    again = headstart.train(data / "table.csv", out=tmp_path / "again", split=str(run.folder / "split.csv"))
    assert again.metrics["test"]["accuracy"] == run.metrics["test"]["accuracy"]


def test_flip_tta_is_part_of_bundle(tmp_path: Path, photos: Path) -> None:
    run = headstart.train(photos, out=tmp_path / "run", config={"probe": {"flip_tta": "on"}})
    assert run.model.runtime.bundle.info["has_flip"] is True
    assert run.metrics["parity"]["max_difference"] < 1e-3
    file = photos / "stripes" / "001.jpg"
    turned = Image.open(file).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    upright = run.predict_proba([str(file)])
    np.testing.assert_allclose(run.predict_proba([turned]), upright, atol=0.02)


def test_shuffled_labels_score_chance(tmp_path: Path, photos: Path) -> None:
    files = sorted(photos.rglob("*.jpg"))
    labels = np.random.default_rng(3).permutation([f.parent.name for f in files])
    rows = [f"{f.relative_to(photos).as_posix()},{label}" for f, label in zip(files, labels, strict=True)]
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    (data / "table.csv").write_text("image,label\n" + "\n".join(rows))
    run = headstart.train(data / "table.csv", out=tmp_path / "run")
    assert run.metrics["cv"]["accuracy"]["value"] < 0.55
    assert run.metrics["cv"]["accuracy"]["low"] < 1 / 3


@pytest.mark.parametrize(("first_seed", "is_constant"), [(40, True), (0, False)])
def test_uninformative_images_are_reported(
    first_seed: int, is_constant: bool, tmp_path: Path, make_images: Callable[..., Path]
) -> None:
    """One kind of images in two classes: differences are due to chance."""
    data = make_images(tmp_path / "data", {"a": 20}, first_seed=first_seed)
    (data / "b").mkdir()
    for i in range(1, 20, 2):
        (data / "a" / f"{i:03d}.jpg").rename(data / "b" / f"{i:03d}.jpg")
    run = headstart.train(data, out=tmp_path / "run")
    (probe,) = (e for e in events_of(run.folder, "stage_finished") if e["stage"] == "probe")
    reported = probe["evidence"]["is_constant"]
    spread = np.ptp([p.probability for p in headstart.predict(run.folder, data)])
    assert reported == is_constant
    assert (spread < 0.01) == is_constant


def test_embed_extracts_features(tmp_path: Path, photos: Path) -> None:
    result = headstart.embed(photos, out=tmp_path / "f.npz")
    assert result.features.shape == (48, 1280)
    assert set(result.labels) == {"stripes", "discs", "checks"}
    with np.load(tmp_path / "f.npz", allow_pickle=False) as data:
        assert data["features"].shape == (48, 1280)
        assert data["paths"][0] == "checks/000.jpg"
    assert result.to_pandas().shape == (48, 1282)


def test_embed_with_pixel_limit_and_label_pattern(tmp_path: Path) -> None:
    for name, side in (("cat_1.png", 40), ("cat_2.png", 60), ("dog_1.png", 40)):
        Image.new("RGB", (side, side), (side, 90, 30)).save(tmp_path / name)
    result = headstart.embed(tmp_path, max_pixels=2000, label_pattern="{label}_*", cache=False)
    assert result.paths == ("cat_1.png", "dog_1.png")
    assert result.labels == ("cat", "dog")
    with pytest.raises(SystemExit) as stopped:
        main(["embed", str(tmp_path), "--out", str(tmp_path / "f.npz"), "--max-pixels", "1000"])
    assert stopped.value.code == 3
    assert not (tmp_path / "f.npz").exists()


def test_embed_refuses_settings_without_effect(photos: Path) -> None:
    with pytest.raises(SettingError, match="`test_size`"):
        headstart.embed(photos, test_size=0.2)


@pytest.mark.parametrize("name", ["=1+1", "<script>alert(1)</script>", "Käfer & Ω", "with space"])
def test_odd_class_names_survive(tmp_path: Path, make_images: Callable[..., Path], name: str) -> None:
    data = make_images(tmp_path / "d", {"plain": 6, name.replace("/", "∕"): 6})
    run = headstart.train(data, out=tmp_path / "run")
    assert name.replace("/", "∕") in run.model.class_names
    text = (run.folder / "predictions.csv").read_text()
    assert "\n=" not in text
    assert ",=1" not in text


class TestBadInput:
    """Invalid input gives an error with file, cause and fix; nothing is lost."""

    def test_missing_path(self, tmp_path: Path) -> None:
        with pytest.raises(HeadstartError, match="does not exist"):
            headstart.train(tmp_path / "none", out=tmp_path / "run")

    def test_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "d").mkdir()
        with pytest.raises(DataError):
            headstart.train(tmp_path / "d", out=tmp_path / "run")

    def test_one_class(self, tmp_path: Path, make_images: Callable[..., Path]) -> None:
        with pytest.raises(DataError, match="class"):
            headstart.train(make_images(tmp_path / "d", {"only": 5}), out=tmp_path / "run")

    def test_one_image_per_class(self, tmp_path: Path, make_images: Callable[..., Path]) -> None:
        data = make_images(tmp_path / "d", {"a": 6, "b": 6, "lonely": 1})
        with pytest.raises(DataError, match="lonely") as caught:
            headstart.train(data, out=tmp_path / "run")
        assert "--exclude-classes" in (caught.value.hint or "")
        run = headstart.train(data, out=tmp_path / "run2", exclude_classes=["lonely"])
        assert run.model.class_names == ("a", "b")

    def test_all_unreadable(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / "d" / name).mkdir(parents=True)
            for i in range(20):
                (tmp_path / "d" / name / f"{i}.jpg").write_bytes(b"nonsense")
        with pytest.raises(DataError, match=r"a.0\.jpg") as caught:
            headstart.train(tmp_path / "d", out=tmp_path / "run")
        assert "more" in caught.value.message

    def test_unreadable_images_are_listed_and_skipped(self, tmp_path: Path, make_images: Callable[..., Path]) -> None:
        data = make_images(tmp_path / "d", {"a": 8, "b": 8})
        (data / "a" / "broken.jpg").write_bytes((data / "a" / "000.jpg").read_bytes()[:600])
        run = headstart.train(data, out=tmp_path / "run")
        report = json.loads((run.folder / "dataset_report.json").read_text())
        assert [p["name"] for p in report["unreadable"]] == ["a/broken.jpg"]
        assert run.metrics["num_samples"] == 16
        assert "a/broken.jpg" in (run.folder / "train.log").read_text()

    def test_run_is_not_overwritten(self, run: headstart.Run, photos: Path) -> None:
        before = (run.folder / "metrics.json").read_bytes()
        with pytest.raises(UsageError, match="not empty"):
            headstart.train(photos, out=run.folder)
        assert (run.folder / "metrics.json").read_bytes() == before

    def test_unknown_network(self, photos: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError) as caught:
            headstart.train(photos, out=tmp_path / "run", backbone="efficientnet_light0")
        assert "efficientnet_lite0" in (caught.value.hint or "")

    def test_full_disk_while_caching(
        self, photos: Path, tmp_path: Path, run: headstart.Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("headstart.store.rows.RowStore.refresh", lambda self: None)
        monkeypatch.setattr("headstart.store.rows.private_folder", full)
        again = headstart.train(photos, out=tmp_path / "run")
        assert again.score == run.score
        assert "disk is full" in (again.folder / "train.log").read_text()

    def test_read_only_cache(
        self, photos: Path, tmp_path: Path, cache_root: Path, run: headstart.Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A cache prepared by an administrator, not writable by others."""
        (tmp_path / "cache").mkdir()
        for part in cache_root.iterdir():
            if part.name != "graphs":
                (tmp_path / "cache" / part.name).write_text("no folder can be made here")
        (tmp_path / "cache" / "graphs").symlink_to(cache_root / "graphs")
        monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
        again = headstart.train(photos, out=tmp_path / "run")
        assert again.score == run.score
        (note,) = [e for e in events_of(again.folder, "note") if e["kind"] == "cache_not_written"]
        assert note["evidence"]["what"] == "features"

    def test_full_disk_while_writing_run(self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("headstart.tasks.classify.run_files.write_oof", full)
        with pytest.raises(HeadstartError, match="No space left"):
            headstart.train(photos, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()
