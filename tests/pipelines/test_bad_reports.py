"""Test reports of runs with hostile names, few images and missing data."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from event_text import events_of
from PIL import Image

import headstart
from headstart.api.run import Run
from headstart.errors import SettingError

Make = Callable[..., Path]

EVIL = ("<script>alert(1)</script>", "=1+1", '猫 | Ω, "x"')


def command(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "headstart", *map(str, arguments)],
        capture_output=True, encoding="utf-8", timeout=300, cwd=cwd,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def page_of(run: Run) -> str:
    return (run.folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, make_images: Make) -> Path:
    """Write a CSV with three classes with hostile names and Unicode file names."""
    root = tmp_path_factory.mktemp("table")
    make_images(root / "images", {"ä 猫": 16, "b": 16, "c": 16})
    with open(root / "data.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        for folder, label in zip(("ä 猫", "b", "c"), EVIL, strict=True):
            for i in range(16):
                writer.writerow([f"images/{folder}/{i:03d}.jpg", label])
    return root / "data.csv"


@pytest.fixture(scope="module")
def hostile(table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    folder = tmp_path_factory.mktemp("runs") / "evil"
    done = command("train", table, "--out", folder, "--test-size", "0.25")
    assert done.returncode == 0, done.stderr
    headstart.report(folder, attributions=False, curve=False, figures=False)
    return Run(folder), done.stderr


def test_names_are_escaped_in_page_tables_and_texts(hostile: tuple[Run, str]) -> None:
    run, _ = hostile
    page = page_of(run)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert len(re.findall("<script", page)) == 1
    for name in ("predictions.csv", "classification_report.csv", "label_errors.csv", "split.csv"):
        with open(run.folder / name, encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [c for c in cells if c.startswith(("=", "+", "@"))], name
    assert "'=1+1" in (run.folder / "predictions.csv").read_text(encoding="utf-8")
    assert "<script>" not in (run.folder / "comment.md").read_text(encoding="utf-8")
    assert run.metrics["class_names"] == sorted(EVIL), "exactly as they were written"


@pytest.mark.long
def test_tables_escape_formulas(hostile: tuple[Run, str], table: Path, tmp_path: Path) -> None:
    run, _ = hostile
    done = command("predict", run.folder, table.parent / "images", "--top", 3)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 48
    assert {"'=1+1", EVIL[0], EVIL[2]} == {r["label"] for r in rows}
    assert all(not r[c].startswith("=") for r in rows for c in ("label", "label2", "label3", "prediction_set"))
    assert any("\\|" in r["prediction_set"] for r in rows), "a bar within a name is no border"
    done = command("predict", run.folder, table.parent / "images", "--out", tmp_path / "p.jsonl")
    predictions = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {p["label"] for p in predictions} == set(EVIL)
    assert {name for p in predictions for name in p["set"]} <= set(EVIL)
    count = sum(bool(p["is_ood"]) for p in predictions)
    assert (f"{count} of 48 images" in done.stderr) == (count > 0)
    assert command("evaluate", run.folder, table).returncode == 0
    done = command("compare", run.folder, run.folder, "--out", tmp_path / "compared")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "compared" / "compare.png").is_file()


@pytest.mark.long
def test_figures_draw_every_name(hostile: tuple[Run, str], tmp_path: Path) -> None:
    done = command("report", hostile[0].folder, "--out", tmp_path / "r", "--no-attributions", "--no-curve")
    assert done.returncode == 0, done.stderr
    for name in ("samples", "confusion", "classes", "diagram"):
        assert (tmp_path / "r" / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert "with file names; --no-images" in done.stderr


def test_comment_ends_with_report_content(hostile: tuple[Run, str]) -> None:
    shown = len(json.loads((hostile[0].folder / "report.json").read_text(encoding="utf-8"))["images"])
    (written,) = [e for e in events_of(hostile[0].folder, "file") if e["role"] == "report"]
    assert written["evidence"]["num_images"] == shown > 0
    assert "report.html" in hostile[1]


def test_report_without_images_names_no_file(table: Path, tmp_path: Path) -> None:
    done = command("train", table, "--out", tmp_path / "run", "--no-images")
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "run")
    (written,) = [e for e in events_of(run.folder, "file") if e["role"] == "report"]
    assert written["evidence"]["num_images"] == 0
    headstart.report(run.folder, attributions=False, curve=False, figures=False)
    names = ("report.html", "report.json", "classification_report.txt", "classification_report.csv", "summary.txt",
             "comment.md", "bundle/README.md", "bundle/bundle.json")  # fmt: skip
    for name in names:
        text = (run.folder / name).read_text(encoding="utf-8")
        assert ".jpg" not in text, name
        assert "data:image/jpeg" not in text, name
        assert str(table.parent) not in text, name
    assert {"ood", "coverage", "calibration", "confusion"} <= set(json.loads((run.folder / "report.json").read_text()))
    again = headstart.report(run.folder, attributions=False, curve=False)
    assert not again.has_images, "the setting of the training still applies"
    assert "data:image/jpeg" not in page_of(run)
    assert not (run.folder / "figures" / "samples.png").exists()
    headstart.report(run.folder, images=True, attributions=False, curve=False, figures=False)
    assert "data:image/jpeg" in page_of(run)


def test_report_of_three_images_per_class(tmp_path: Path, make_images: Make) -> None:
    data = make_images(tmp_path / "data", {"stripes": 20, "discs": 20, "checks": 3})
    run = headstart.train(data, out=str(tmp_path / "run"))
    page = page_of(run)
    assert "checks" in page
    assert "leave-one-out" in page
    assert run.metrics["test"] is None
    headstart.report(run.folder, curve=True, figures=False)
    assert "was not measured: a class has 3 images" in page_of(run)


def test_report_of_two_classes(tmp_path: Path, make_images: Make) -> None:
    data = make_images(tmp_path / "data", {"stripes": 20, "discs": 20})
    run = headstart.train(data, out=str(tmp_path / "run"))
    page = page_of(run)
    assert "with two classes, no class can be held out" in page
    assert "by false-positive rate" in page
    assert run.metrics["positive"] == "stripes"  # of two classes of one size the last
    settings = yaml.safe_load((run.folder / "config.resolved.yaml").read_text())
    assert settings["positive"]["value"] == "stripes"
    assert settings["positive"]["evidence"] == {"num_positive": 20, "num_negative": 20}
    assert run.score["roc_auc"] == run.metrics["cv"]["binary"]["roc_auc"]
    assert 0.75 < run.score["roc_auc"]["low"] <= run.score["roc_auc"]["value"]
    assert run.score["sensitivity"]["value"] == run.metrics["cv"]["per_class"][1]["recall"]["value"]
    assert "`stripes`" in repr(run)
    assert "ROC AUC" in page


def test_positive_class_of_saved_model(tmp_path: Path, make_images: Make) -> None:
    data = make_images(tmp_path / "data", {"stripes": 20, "discs": 14})
    run = headstart.train(data, out=str(tmp_path / "run"), positive="stripes", verbose=False)
    assert run.metrics["positive"] == run.model.runtime.bundle.positive == "stripes"
    new = make_images(tmp_path / "new", {"stripes": 9, "discs": 7}, first_seed=500)
    trained, other = headstart.evaluate(run.folder, new), headstart.evaluate(run.folder, new, positive="discs")
    binary, swapped = (result.evaluation.extra["binary"] for result in (trained, other))
    assert (binary["positive"], swapped["positive"]) == ("stripes", "discs")
    assert binary["sensitivity"] == swapped["specificity"]
    assert trained.to_json()["test"]["binary"] == binary
    one = make_images(tmp_path / "one", {"stripes": 9}, first_seed=700)
    undefined = headstart.evaluate(run.folder, one).evaluation.extra["binary"]
    assert undefined["roc_auc"]["value"] is undefined["specificity"]["value"] is None
    assert undefined["sensitivity"]["value"] is not None
    with pytest.raises(SettingError) as caught:
        headstart.evaluate(run.folder, new, positive="dots")
    assert "discs" in caught.value.hint
    assert "stripes" in caught.value.hint


@pytest.mark.long
def test_report_of_two_hundred_classes(tmp_path: Path, make_images: Make) -> None:
    source = make_images(tmp_path / "source", {"stripes": 40, "discs": 40})
    files = sorted(source.rglob("*.jpg"))
    for k in range(200):
        folder = tmp_path / "data" / f"class {k:03d} Ω"
        folder.mkdir(parents=True)
        for i in range(2):
            image = Image.open(files[(2 * k + i) % len(files)]).rotate(
                (7 * k + 31 * i) % 360, fillcolor=(k, 9, 200 - k)
            )
            image.save(folder / f"{i}.jpg")
    run = headstart.train(tmp_path / "data", out=str(tmp_path / "run"))
    page = page_of(run)
    assert len(page) < 10_000_000
    assert "Confusion matrix of 200 classes" in page
    assert page.count("class 199 Ω") >= 2
    assert (
        len(run.metrics["ood"]["held_out_classes"]["per_class"] if run.metrics["ood"]["held_out_classes"] else []) <= 10
    )
    headstart.report(run.folder, attributions=False, curve=False)
    assert (run.folder / "figures" / "confusion.png").is_file()


@pytest.mark.long
def test_report_of_moved_images(tmp_path: Path, make_images: Make) -> None:
    data = make_images(tmp_path / "data", {"stripes": 12, "discs": 12, "checks": 12})
    run = headstart.train(data, out=str(tmp_path / "run"))
    shutil.move(data, tmp_path / "elsewhere")
    done = command("report", run.folder, "--no-figures")
    assert done.returncode == 0
    assert "data are not at the path" in done.stderr
    page = page_of(run)
    assert "this image is missing" in page
    assert run.metrics["headline"]["value"] is not None
    result = command("report", run.folder, "--no-figures", "--data", tmp_path / "elsewhere")
    assert result.returncode == 0
    assert "this image is missing" not in page_of(run)
