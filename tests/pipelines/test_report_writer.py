"""Test the report of a small run: written by training, rewritten, without images, after a move."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import headstart
from headstart.api.run import Run
from headstart.config.settings import resolve
from headstart.errors import DataError, UsageError
from headstart.events import EventStream
from headstart.features.extractor import open_embedder
from headstart.pipelines.report import report as remake
from headstart.preprocessing.image_spec import ImageSpec
from headstart.reports import attribution, learning_curve
from headstart.reports.attribution import AttributionMaps
from headstart.reports.learning_curve import _measure
from headstart.reports.record import ClassifierRecord, read_record
from headstart.reports.slow_sections import SlowSections
from headstart.reports.writer import ReportOptions, write_report
from headstart.runs.context import RunContext
from headstart.tasks.classify import report_sections
from headstart.types.report import ReportFinding

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., Path]) -> Path:
    return make_images(tmp_path_factory.mktemp("evil"), {EVIL: 14, "=1+1": 14, "Käse 猫": 14})


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return headstart.train(data, out=str(tmp_path_factory.mktemp("runs") / "one"))


def test_training_writes_report(run: Run) -> None:
    for name in ("report.html", "report.json", "label_errors.csv", "scores.npz", "bundle/README.md"):
        assert (run.folder / name).stat().st_size > 0, name
    assert not {"comment.md", "summary.txt", "classification_report.txt", "figures"} & {
        path.name for path in run.folder.iterdir()
    }, "files to hand in are written by `headstart report`"
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert EVIL not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "data:image/jpeg" in page
    scores = np.load(run.folder / "scores.npz", allow_pickle=False)
    assert scores["logits"].shape == (42, 3)


def test_rewritten_report_has_maps_figures_and_curve(run: Run, tmp_path: Path) -> None:
    report = headstart.report(run.folder, out=tmp_path / "again", attributions=True, curve=True)
    assert report.data["attribution"]["similarity"] < attribution.MAX_SIMILARITY
    shown = len(report.data["errors"]["wrong"]) + len(report.data["errors"]["unsure"])
    page = report.path.read_text(encoding="utf-8")
    assert page.count('alt="Attribution map') == shown
    assert report.data["learning"]["curve"]["series"][0]["x"][-1] == 42
    for name in ("samples", "confusion", "confusion_rates", "classes", "diagram", "learning_curve"):
        assert (tmp_path / "again" / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert "'=1+1," in (tmp_path / "again" / "classification_report.csv").read_text(encoding="utf-8")
    for name in ("classification_report.txt", "summary.txt", "comment.md"):
        assert (tmp_path / "again" / name).stat().st_size > 0, name
    frame = report._repr_html_()
    assert frame.startswith("<iframe")
    assert 'sandbox="allow-scripts"' in frame
    assert not (tmp_path / "again" / "bundle").exists()


def assert_same_page(run: Run, out: Path) -> ClassifierRecord:
    """Check that the files of a run give the page of its training, byte for byte."""
    record = read_record(run.folder)
    write_report(run.folder, record, out=out)
    for name in ("report.html", "report.json"):
        assert (out / name).read_bytes() == (run.folder / name).read_bytes()
    assert isinstance(record, ClassifierRecord)
    return record


def test_record_of_training_equals_record_of_files(run: Run, tmp_path: Path) -> None:
    """Training builds the report from memory; rewriting it from the files gives the same bytes."""
    record = assert_same_page(run, tmp_path)
    assert record.settings["report.sections"]["value"] == [], "they take more than a tenth of a run of seconds"
    assert record.sections.curve is None
    assert not (run.folder / "report_sections.json").exists()


@pytest.mark.parametrize("per_class", [14, 4])
def test_sections_of_training_are_stored(
    per_class: int, make_images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of a run with slow sections, measured or with the reason why not, is written again without measuring."""
    monkeypatch.setattr(report_sections, "_FRACTION", 1e6)
    run = headstart.train(make_images(tmp_path / "data", {"a": per_class, "b": 14}), out=tmp_path / "run")
    monkeypatch.setattr(learning_curve, "fit_probe", None)
    monkeypatch.setattr(attribution, "read_bundle", None)
    record = assert_same_page(run, tmp_path / "again")
    assert record.settings["report.sections"]["value"] == ["learning_curve", "attribution_maps"]
    assert isinstance(record.sections.curve, ReportFinding) == (per_class < 8)
    assert isinstance(record.sections.maps, AttributionMaps)
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert page.count('alt="Attribution map') == len(record.sections.maps.maps) > 0
    bare = headstart.report(run.folder, out=tmp_path / "bare", attributions=False, curve=False, figures=False).data
    assert {bare["attribution"]["finding"]["kind"], bare["learning"]["curve"]["finding"]["kind"]} == {
        "attribution_not_measured", "curve_not_measured"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "spent", "is_chosen"),
    [(None, 100.0, True), (None, 10.0, False), (2.0, 100.0, True), (2.0, 119.5, False)],
)
def test_sections_take_a_tenth_of_the_run_within_its_budget(
    run: Run, budget: float | None, spent: float, is_chosen: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    resolved = resolve({"data": "x", "time_budget": budget})
    context = RunContext(resolved, EventStream(), tmp_path, {"parity": 1.0, "probe": 1.0}, lambda: spent, 0.0)
    monkeypatch.setattr(report_sections, "measure_sections", lambda *_, **__: SlowSections())
    probe = SimpleNamespace(data=SimpleNamespace(blocks=lambda _: {}, train=None))
    report_sections.add_slow_sections(context, read_record(run.folder), probe)  # type: ignore[arg-type]
    decision = context.resolved.decisions[-1]
    assert bool(decision.value) == is_chosen
    assert decision.evidence["expected_seconds"] == pytest.approx(2.25)


def test_maps_that_fail_control_are_omitted(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "mean_similarity", lambda a, b: 0.9)
    report = remake(run.folder, ReportOptions(out=tmp_path, figures=False, attributions=True))
    assert "0.90" in report.data["attribution"]["missing"]
    assert 'alt="Attribution map' not in report.path.read_text(encoding="utf-8")


def test_report_without_images_names_no_file(run: Run, tmp_path: Path) -> None:
    remake(run.folder, ReportOptions(out=tmp_path / "bare", images=False))
    for path in (tmp_path / "bare").rglob("*"):
        if path.suffix in (".html", ".json", ".txt", ".csv", ".md"):
            text = path.read_text(encoding="utf-8")
            assert ".jpg" not in text, path
            assert "data:image/jpeg" not in text, path
    assert not (tmp_path / "bare" / "figures" / "samples.png").exists()


def test_moved_images_are_found_with_data_option(run: Run, data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.folder, copy)
    config = (copy / "config.resolved.yaml").read_text(encoding="utf-8")
    (copy / "config.resolved.yaml").write_text(config.replace(str(data), str(tmp_path / "gone")), encoding="utf-8")
    report = remake(copy, ReportOptions(figures=False, attributions=True, curve=True))
    assert "data_moved" in {p["kind"] for p in report.data["problems"]}
    assert "missing" in report.data["attribution"]
    assert "missing" in report.data["learning"]["curve"]
    assert "The data are not at the path of the run" in report.path.read_text(encoding="utf-8")
    shutil.copytree(data, tmp_path / "new")
    remade = remake(copy, ReportOptions(data=tmp_path / "new", figures=False, curve=False, attributions=False))
    assert remade.data["problems"] == []
    with pytest.raises(DataError):
        remake(copy, ReportOptions(data=tmp_path / "nowhere"))


def test_report_of_damaged_run(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.folder, copy)
    for name in ("scores.npz", "dataset_report.json", "environment.json", "label_errors.csv", "split.csv"):
        (copy / name).unlink()
    shutil.rmtree(copy / "bundle")
    report = remake(copy, ReportOptions(attributions=True, curve=True, figures=False)).data
    assert "missing" in report["calibration"]
    assert "missing" in report["label_errors"]
    assert "missing" in report["attribution"]
    assert "run_without_predictions" in {p["kind"] for p in report["problems"]}
    (copy / "metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="finished run"):
        read_record(copy)


def test_python_report_has_text_and_figures(run: Run) -> None:
    assert "parameters" in run.summary()
    assert "macro avg" in run.classification_report()
    assert "pretraining data" in run.comment()
    assert run.plot_curves() is None, "the probe is computed in one step"
    assert run.plot_confusion(rates=True).get_axes()
    assert run.plot_diagram().get_axes()
    json.dumps(run.report(figures=False, attributions=False, curve=False).data)


def test_curve_scores_held_out_images_only() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    blocks = {"embedding": rng.normal(size=(80, 16)).astype(np.float32)}
    sizes, hits = _measure(blocks, rng.permutation(labels), 2, None)
    assert sizes == [10, 20, 40]
    assert all(abs(h.mean() - 0.5) < 0.2 for h in hits), "shuffled labels score chance"


def test_curve_uses_settings_of_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise features are recomputed, and images that the run may read are rejected."""
    run = headstart.train(data, out=tmp_path / "run", resize_mode="squash", max_pixels=300_000_000)
    opened = []

    def watched(*arguments: Any, **settings: Any) -> Any:
        opened.append(open_embedder(*arguments, **settings))
        return opened[-1]

    monkeypatch.setattr(learning_curve, "open_embedder", watched)
    report = headstart.report(run.folder, out=tmp_path / "report", curve=True, figures=False)
    assert "series" in report.data["learning"]["curve"]
    pixels = json.loads((run.folder / "bundle" / "bundle.json").read_text(encoding="utf-8"))["pixels"]
    assert [e.spec for e in opened] == [ImageSpec.from_json(pixels)]
