"""Test check, evaluate, predict and report with a trained detector, on the command line and in Python."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart.cli.main import main
from headstart.data.boxes.reader import read_boxes
from headstart.data.options import ReadOptions
from headstart.detection.decoding import iou_matrix
from headstart.errors import DataError, SettingError, UsageError
from headstart.pipelines.report import report as remake
from headstart.reports.record import DetectorRecord, read_record
from headstart.reports.summary import summarize, without_images
from headstart.reports.writer import ReportOptions, write_report
from headstart.types.codes import FindingKind, ReadingKind

SETTINGS: dict[str, Any] = {
    "backbone": "timm:resnet10t",
    "weights": "none",
    "image_size": 64,
    "num_views": 1,
    "epochs": 1,
    "num_threads": 1,
    "detect.fpn_channels": 16,
    "detect.head_depth": 1,
    "detect.min_stride": 16,
    "strategy": "head",
}


def draw(root: Path, seed: int, count: int, names: tuple[str, str] = ("blue", "red")) -> Path:
    """Draw squares of two colors on noise, with VOC files."""
    root.mkdir(parents=True)
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        pixels = rng.integers(60, 120, (60, 90, 3)).astype(np.uint8)
        side, kind = int(rng.integers(20, 40)), i % 2
        x, y = int(rng.integers(0, 90 - side)), int(rng.integers(0, 60 - side))
        pixels[y : y + side, x : x + side] = (230, 40, 40) if kind else (40, 40, 230)
        Image.fromarray(pixels).save(root / f"{i:02d}.png")
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + side, y + side), strict=True)
        box = "".join(f"<{c}>{v}</{c}>" for c, v in corners)
        text = f"<annotation><object><name>{names[kind]}</name><bndbox>{box}</bndbox></object></annotation>"
        (root / f"{i:02d}.xml").write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("detected") / "squares", 1, 16)


def part(squares: Path, root: Path) -> Path:
    """Twelve images to train on and five to score, one of which is among the twelve."""
    for split, numbers in (("train", range(12)), ("test", range(11, 16))):
        (root / split).mkdir(parents=True)
        for i in numbers:
            for ending in ("png", "xml"):
                shutil.copy(squares / f"{i:02d}.{ending}", root / split)
    return root


@pytest.fixture(scope="module")
def leaky(squares: Path) -> Path:
    return part(squares, squares.parent / "leaky")


@pytest.fixture(scope="module")
def run(leaky: Path) -> Path:
    return headstart.train(leaky, out=leaky.parent / "run", **SETTINGS).folder


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_check_exits_with_3_for_lost_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str], squares: Path) -> None:
    code, out, err = command(capsys, "check", str(squares))
    assert code == 0
    assert out == ""
    assert err.splitlines()[0].split(None, 1) == ["Dataset", "16 images, 2 classes, 16 boxes; VOC XML"]
    code, _, err = command(capsys, "check", str(squares), "-v")
    assert [line.split()[:3] for line in err.splitlines() if line.strip().startswith("red")] == [["red", "8", "8"]]
    broken = shutil.copytree(squares, tmp_path / "broken")
    (broken / "00.xml").write_text("<annotation>", encoding="utf-8")
    sheet, report_path = tmp_path / "sheet.png", tmp_path / "report.json"
    code, _, err = command(capsys, "check", str(broken), "--sheet", str(sheet), "--json", str(report_path))
    assert code == 3
    assert "00.xml" in err
    assert size_of(sheet)[0] > 400
    value = json.loads(report_path.read_text(encoding="utf-8"))
    assert value["task"] == "detect"
    assert value["counts"] == {"bad-xml": 1, "no-annotation": 1}


def test_classification_option_is_refused_for_boxes(capsys: pytest.CaptureFixture[str], squares: Path) -> None:
    code, _, err = command(capsys, "check", str(squares), "--layout", "{label}/*")
    assert code == 2
    assert "--layout has no effect on images with boxes" in err
    code, _, err = command(capsys, "check", str(squares), "--task", "segment")
    assert code == 2
    assert "task" in err


@pytest.fixture(scope="module")
def sizes_in_corners(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write boxes as width and height in columns named as corners."""
    root = shutil.copytree(squares, tmp_path_factory.mktemp("sizes") / "data", ignore=shutil.ignore_patterns("*.xml"))
    samples = read_boxes(squares)
    lines = ["image,label,xmin,ymin,xmax,ymax"]
    for name, boxes in zip(samples.names, samples.boxes, strict=True):
        for (a, b, c, d), kind in zip(boxes.xyxy.tolist(), boxes.class_ids, strict=True):
            lines.append(f"{name},{samples.class_names[kind]},{a},{b},{c - a},{d - b}")
    (root / "boxes.csv").write_text("\n".join(lines), encoding="utf-8")
    return root


@pytest.mark.parametrize("verb", ["check", "show", "evaluate", "train"])
def test_ambiguous_box_format_needs_option(
    verb: str,
    run: Path,
    sizes_in_corners: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    data = str(sizes_in_corners)
    arguments = {"evaluate": ["evaluate", str(run), data], "train": ["train", data, "--out", "run"]}.get(
        verb, [verb, data]
    )
    if verb == "train":
        arguments += [part for name, value in SETTINGS.items() for part in (f"--{name}", str(value))]
    code, _, err = command(capsys, *arguments)
    assert code == 3
    assert "--box-format xywh" in err
    assert command(capsys, *arguments, "--box-format", "xywh")[0] == 0


@pytest.mark.parametrize("name", list(ReadOptions().of_images()))
@pytest.mark.parametrize("check", [headstart.check, headstart.show])
def test_options_of_images_are_refused_for_boxes(check: Callable[..., Any], name: str, squares: Path) -> None:
    with pytest.raises(UsageError, match=name.replace("_", "-")):
        check(squares, **{name: "none"})


def test_box_format_without_boxes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], squares: Path) -> None:
    (tmp_path / "a").mkdir()
    shutil.copy(squares / "00.png", tmp_path / "a")
    assert command(capsys, "check", str(tmp_path), "--box-format", "xywh")[0] == 2
    assert command(capsys, "show", str(tmp_path), "--box-format", "xywh")[0] == 2
    assert command(capsys, "train", str(tmp_path), "--box-format", "xywh")[0] == 2
    assert command(capsys, "train", str(squares), "--box-format", "corners")[0] == 2


def test_leaking_split_is_repaired(tmp_path: Path, capsys: pytest.CaptureFixture[str], squares: Path) -> None:
    part(squares, tmp_path / "data")
    report_path = tmp_path / "report.json"
    code, _, _ = command(
        capsys, "check", str(tmp_path / "data"), "--repair", str(tmp_path / "split.csv"), "--json", str(report_path)
    )
    assert code == 3
    leaks = json.loads(report_path.read_text(encoding="utf-8"))["images"]["leaks"]
    assert [{pair["a"], pair["b"]} for pair in leaks] == [{"test/11.png", "train/11.png"}]
    with open(tmp_path / "split.csv", encoding="utf-8", newline="") as file:
        rows = {r["image"]: r["split"] for r in csv.DictReader(file)}
    assert rows["test/11.png"] == ""
    assert sorted(rows.values()) == [""] + ["test"] * 4 + ["train"] * 12


def test_show_draws_boxes_of_each_class(tmp_path: Path, capsys: pytest.CaptureFixture[str], squares: Path) -> None:
    code, _, err = command(capsys, "show", str(squares), "--out", str(tmp_path / "x.png"), "--per-class", "3")
    assert code == 0
    assert size_of(tmp_path / "x.png")[1] > 400
    code, _, err = command(capsys, "show", str(squares), "--preprocessed")
    assert code == 2
    assert "--preprocessed has no effect" in err


def test_leaking_image_is_scored_separately(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test"]["num_samples"] == metrics["headline"]["num_samples"] == 4
    assert metrics["test_including_leaks"]["num_samples"] == 5
    assert metrics["test_including_leaks"]["num_boxes"] == 5
    assert json.loads((run / "dataset_report.json").read_text(encoding="utf-8"))["leaking"] == ["test/11.png"]
    with open(run / "predictions.csv", encoding="utf-8", newline="") as file:
        assert {r["split"] for r in csv.DictReader(file)} == {"test"}


def test_fully_leaking_test_split_is_marked(squares: Path, tmp_path: Path) -> None:
    root = part(squares, tmp_path / "data")
    for i in range(12, 16):
        for ending in ("png", "xml"):
            shutil.copy(root / "test" / f"{i}.{ending}", root / "train")
    folder = headstart.train(root, out=tmp_path / "run", **SETTINGS).folder
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test"]["num_samples"] == metrics["headline"]["num_samples"] == 5
    assert metrics["test"]["is_leaky"] is True
    assert metrics["headline"]["is_leaky"] is True
    assert "test_including_leaks" not in metrics
    findings = json.loads((folder / "dataset_report.json").read_text(encoding="utf-8"))["findings"]
    (leak,) = [f for f in findings if f["kind"] == FindingKind.ALL_SCORED_IMAGES_LEAK]
    assert (leak["severity"], leak["evidence"]["split"], leak["evidence"]["num_images"]) == ("error", "test", 5)
    assert json.loads((folder / "bundle" / "bundle.json").read_text(encoding="utf-8"))["score"]["is_leaky"] is True
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["headline"]["is_leaky"] is True
    assert "data_finding" in [r["kind"] for r in report["comment"]["findings"]]
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert log.count("split as given") == 2  # at the split, and next to the score


def test_leaks_across_split_file_are_excluded(squares: Path, tmp_path: Path) -> None:
    root = shutil.copytree(squares, tmp_path / "data")
    for ending in ("png", "xml"):
        shutil.copy(root / f"00.{ending}", root / f"copy.{ending}")
    rows = [f"{i:02d}.png,,{'test' if i > 10 else 'train'}," for i in range(15)]  # 15.png is in no split
    (tmp_path / "split.csv").write_text("\n".join(["image,label,split,group", *rows, "copy.png,,test,"]))
    run = headstart.train(root, out=tmp_path / "run", split=tmp_path / "split.csv", **SETTINGS)
    assert run.metrics["num_samples"] == 16
    assert run.metrics["test"]["num_samples"] == 4
    assert run.metrics["test"]["is_leaky"] is False
    assert run.metrics["test_including_leaks"]["num_samples"] == 5


def test_evaluate_excludes_training_images(capsys: pytest.CaptureFixture[str], run: Path, leaky: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    code, out, _ = command(capsys, "evaluate", str(run), str(leaky), "--json")
    assert code == 0
    value = json.loads(out)
    assert value["test"]["num_samples"] == metrics["test"]["num_samples"]
    assert value["test"]["mAP50"]["value"] == metrics["test"]["mAP50"]["value"]
    assert value["trained_on"]["num_samples"] == 13  # the copy in test too
    checked = headstart.check(leaky).to_json()
    assert (value["unused"], value["tables"]) == (checked["unused"], checked["tables"])
    assert value["tables"]
    code, out, err = command(capsys, "evaluate", str(run), str(leaky))
    assert out == ""
    assert "13 training images" in err
    assert "mAP50" in err
    assert len(err.splitlines()) <= 12


def test_evaluate_matches_classes_by_name(tmp_path: Path, run: Path) -> None:
    new = draw(tmp_path / "new", 9, 8, ("blue", "red"))
    other = draw(tmp_path / "other", 9, 8, ("zebra", "red"))  # ids are shifted and one class is unknown
    known = headstart.evaluate(run, new)
    partly = headstart.evaluate(run, other)
    assert partly.new_classes == {"zebra": 4}
    assert partly.missing_classes == ("blue",)
    assert known.evaluation.num_boxes == 8
    assert partly.evaluation.num_boxes == 4
    assert partly.evaluation.per_class[1].ap50.value == pytest.approx(known.evaluation.per_class[1].ap50.value)
    (unknown,) = [f.evidence for f in partly.findings if f.kind is FindingKind.CLASSES_NOT_IN_MODEL]
    assert (unknown["count"], list(unknown["classes"])) == (4, ["zebra"])
    assert partly.to_pandas()["class"].tolist() == ["blue", "red"]
    stranger = draw(tmp_path / "strange", 9, 4, ("horse", "zebra"))
    with pytest.raises(headstart.errors.DataError, match="horse, zebra"):
        headstart.evaluate(run, stranger)


def test_reader_notes_are_reported_everywhere(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    data = draw(tmp_path / "data", 9, 8, ("Blue", "red"))
    text = (data / "03.xml").read_text(encoding="utf-8")
    (data / "03.xml").write_text(text.replace("red", "RED"), encoding="utf-8")
    for i in range(8):
        Image.new("1", (90, 60)).save(data / f"{i:02d}_mask.png")
    (data / "gone.xml").write_text(text, encoding="utf-8")
    code, out, _ = command(capsys, "check", str(data), "--json", "-")
    assert code == 3
    value = json.loads(out)
    assert value["counts"] == {"no-image": 1}
    kinds = {row["kind"]: row["count"] for row in (*value["assumptions"], *value["unused_data"])}
    assert kinds == {"classes_alike": 1, "auxiliary_images": 8}
    code, _, err = command(capsys, "show", str(data), "--out", str(tmp_path / "x.png"))
    assert "`RED`" in err
    assert len(err[err.index("Read ") :].splitlines()) >= 3  # spellings, masks, and the annotation without an image
    code, out, err = command(capsys, "evaluate", str(run), str(data), "--json")
    assert "gone.xml" in err
    value = json.loads(out)
    kinds = {row["kind"]: row["count"] for row in (*value["assumptions"], *value["unused_data"])}
    assert kinds == {"labels_matched": 5, "auxiliary_images": 8}
    assert [p["kind"] for p in value["problems"]] == ["no-image"]
    with caplog.at_level("WARNING", logger="headstart"):
        result = headstart.evaluate(run, data)
    assert result.new_classes == {}
    assert result.evaluation.num_boxes == 8
    assert ReadingKind.LABELS_MATCHED in {note.kind for note in result.notes}
    assert "gone.xml" in repr(result)
    assert any("Blue" in record.getMessage() for record in caplog.records)


def test_predict_writes_annotation_formats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Path, squares: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        shutil.copy(squares / f"{i:02d}.png", images)
    code, out, _ = command(capsys, "predict", str(run), str(images), "--min-score", "0", "--draw", str(tmp_path / "d"))
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {os.path.basename(r["file"]) for r in rows} == {"00.png", "01.png", "02.png"}
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["00.png.png", "01.png.png", "02.png.png"]
    count = sum(bool(r["label"]) for r in rows)
    assert count > 3
    for to, place in (("coco", "boxes.json"), ("yolo", "yolo"), ("voc", "voc")):
        target = tmp_path / place
        code, _, err = command(
            capsys, "predict", str(run), str(images), "--min-score", "0", "--to", to, "--out", str(target)
        )
        assert code == 0
        assert f"3 images, {count:,} box" in err
        home = shutil.copytree(images, tmp_path / f"with {to}")
        if target.is_dir():
            shutil.copytree(target, home, dirs_exist_ok=True)
        else:
            shutil.copy(target, home)
            with pytest.raises(DataError, match="predictions"):
                read_boxes(home)
            value = json.loads(target.read_text(encoding="utf-8"))
            for entry in value["annotations"]:  # as an annotation tool that saves corrected boxes
                del entry["score"]
            (home / place).write_text(json.dumps(value), encoding="utf-8")
        samples = read_boxes(home)
        assert 0 < samples.num_boxes <= count
        assert samples.num_boxes + len(samples.problems) >= count  # after rounding to pixels some are the same box
    code, _, err = command(capsys, "predict", str(run), str(images), "--to", "yolo", "--out", str(tmp_path / "yolo"))
    assert code == 2
    assert "is not empty" in err
    code, _, err = command(capsys, "predict", str(run), str(tmp_path / "gone.png"))
    assert code == 1
    assert "gone.png" in err


def test_detection_limit_is_reported(capsys: pytest.CaptureFixture[str], run: Path, squares: Path) -> None:
    image = str(squares / "00.png")
    whole = headstart.load(run).predict(image, min_score=0.0)[0]
    assert len(whole.detections) > 1
    assert not whole.is_limited
    cut = headstart.load(run).predict(image, min_score=0.0, max_detections=1)[0]
    assert cut.is_limited
    np.testing.assert_array_equal(cut.detections.xyxy, whole.detections.xyxy[:1])
    code, out, err = command(capsys, "predict", str(run), image, "--min-score", "0", "--max-detections", "1")
    assert code == 0
    assert len(list(csv.DictReader(io.StringIO(out)))) == 1
    assert "--max-detections" in err
    decoding = json.loads((run / "bundle" / "bundle.json").read_text(encoding="utf-8"))["decoding"]
    assert decoding["num_kept"] >= 1000
    with pytest.raises(headstart.errors.UsageError):
        headstart.load(run).predict(image, max_detections=0)


def test_check_reports_tiny_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, rng = ["image,xmin,ymin,xmax,ymax,label"], np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 255, (900, 1200), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        rows += [f"{i}.png,{20 * j},{100 * i},{20 * j + 12},{100 * i + 12},dot" for j in range(9)]
    (tmp_path / "boxes.csv").write_text("\n".join(rows), encoding="utf-8")
    _, out, _ = command(capsys, "check", str(tmp_path), "--json", "-")
    report = json.loads(out)
    (finding,) = [f for f in report["findings"] if f["kind"] == "small_boxes"]
    assert finding["severity"] == "warning"
    evidence = finding["evidence"]
    assert (evidence["tiny_fraction"], evidence["size"], evidence["better_size"]) == (1.0, 416, 800)
    assert report["sizes"]["counts"] == [[54, 0, 0, 0, 0]]
    checked = headstart.check(tmp_path)
    assert FindingKind.SMALL_BOXES in {f.kind for f in checked.findings}


def test_nms_options_change_the_boxes(capsys: pytest.CaptureFixture[str], run: Path, squares: Path) -> None:
    image, detector = str(squares / "00.png"), headstart.load(run)
    every, strict = (detector.predict(image, min_score=0.0, nms_iou=iou)[0] for iou in (1.0, 0.3))
    assert len(every.detections) > len(strict.detections) > 0
    agnostic = detector.predict(image, min_score=0.0, nms_iou=0.3, class_agnostic_nms=True)[0].detections
    overlap = iou_matrix(agnostic.xyxy, agnostic.xyxy) - np.eye(len(agnostic))
    assert overlap.max(initial=0.0) <= 0.3 + 1e-6
    options = ("--min-score", "0", "--iou", "0.3", "--class-agnostic-nms")
    code, out, _ = command(capsys, "predict", str(run), image, *options)
    assert code == 0
    assert len(list(csv.DictReader(io.StringIO(out)))) == len(agnostic)
    with pytest.raises(headstart.errors.UsageError):
        detector.predict(image, nms_iou=0.0)
    code, _, err = command(capsys, "predict", str(run), image, "--iou", "1.5")
    assert code == 2
    assert "iou" in err


def test_min_score_filters_detections(run: Path, squares: Path) -> None:
    detector = headstart.load(run)
    for own, every in zip(detector.predict(squares), detector.predict(squares, min_score=0.0), strict=True):
        limits = np.array(list(detector.thresholds.values()), dtype=np.float32)[every.detections.class_ids]
        expected = every.detections.take(every.detections.scores >= limits)
        np.testing.assert_array_equal(own.detections.xyxy, expected.xyxy)


def test_report_shows_detections(run: Path, leaky: Path, tmp_path: Path) -> None:
    assert (run / "report.html").is_file()  # written at the end of the training
    made = remake(run, ReportOptions(out=tmp_path / "report"))
    assert made.data["task"] == "detect"
    assert made.data["headline"]["sentence"].startswith("mAP50 ")
    assert made.data["headline"]["including_leaks"]["value"] is not None
    assert made.data["errors"]["num_images"] == 4
    counts = made.data["data"]["counts"]
    assert sum(map(sum, counts.values())) == 17
    assert sum(map(sum, made.data["data"]["sides"]["counts"])) == 17
    shown = made.data["images"]
    assert shown
    for entry in shown.values():
        assert len(entry["ground_truth"]) == 1
        assert entry["name"].endswith(".png")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    for part in ("Precision and recall", "Confusion", "data:image/jpeg", "loss over epochs"):
        assert part in page
    figures = sorted(p.stem for p in (tmp_path / "report" / "figures").iterdir())
    assert {"boxes", "confusion", "curves", "per_class", "samples"} <= set(figures) | {"samples"}
    json.dumps(made.data, allow_nan=False)
    bare = remake(run, ReportOptions(out=tmp_path / "bare", images=False, figures=False))
    for file in ("report.html", "report.json", "detection_report.csv"):
        text = (tmp_path / "bare" / file).read_text(encoding="utf-8")
        assert ".png" not in text
        assert str(leaky) not in text
    assert bare.data["images"] == {}


def test_record_of_training_equals_record_of_files(run: Path, tmp_path: Path) -> None:
    write_report(run, read_record(run), out=tmp_path)
    for name in ("report.html", "report.json"):
        assert (tmp_path / name).read_bytes() == (run / name).read_bytes()


def test_report_without_data(run: Path, leaky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = shutil.copytree(run, tmp_path / "run")
    text = (moved / "config.resolved.yaml").read_text(encoding="utf-8")
    (moved / "config.resolved.yaml").write_text(text.replace(str(leaky), "/nowhere/leaky"), encoding="utf-8")
    facts = read_record(moved)
    assert isinstance(facts, DetectorRecord)
    report = summarize(facts)
    assert "data_moved" in {p["kind"] for p in report["problems"]}
    assert report["per_class"][0]["name"] == "blue"
    assert report["data"]["sides"] is None
    leak = {"kind": "data_finding", "evidence": {"kind": "all_scored_images_leak", "evidence": {"pairs": [["a", "b"]]}}}
    report["comment"]["findings"] += [leak]
    bare = without_images(report)
    assert bare["images"] == {}
    assert leak not in bare["comment"]["findings"]
    code, _, err = command(capsys, "report", str(moved), "--data", str(leaky), "--no-figures")
    assert code == 0
    assert "report.html" in err
    assert json.loads((moved / "report.json").read_text(encoding="utf-8"))["images"]


def test_options_of_other_task_are_refused(capsys: pytest.CaptureFixture[str], run: Path, squares: Path) -> None:
    code, _, err = command(capsys, "predict", str(run), str(squares), "--top", "3")
    assert code == 2
    assert "--top has no effect with a detector" in err


def test_run_summary_and_compare_refusal(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished = headstart.Run(run)
    assert "pyramid    16 channels" in finished.summary()
    assert finished.classification_report().splitlines()[-1].startswith("mAP50")
    assert finished.comment().startswith(f"# Comment on {run.name}")
    assert finished.plot_curves() is not None
    assert finished.plot_confusion() is not None
    assert list(finished.to_pandas()["class"]) == ["blue", "red"]
    with pytest.raises(headstart.errors.UsageError, match="no figure `diagram`"):
        finished.plot_diagram()
    code, out, _ = command(capsys, "summary", str(run))
    assert code == 0
    assert "output     2 classes" in out
    code, _, err = command(capsys, "compare", str(run), str(run))
    assert code == 2
    assert "cannot be compared" in err


@pytest.mark.parametrize("name", ["attributions", "curve"])
@pytest.mark.parametrize("value", [True, False])
def test_report_options_of_classifiers_are_refused(name: str, value: bool, run: Path) -> None:
    for report in (lambda **options: headstart.report(run, **options), headstart.Run(run).report):
        with pytest.raises(SettingError, match=f"`{name}`"):
            report(**{name: value})


def test_archive_of_the_data_is_scored_as_its_folder(tmp_path: Path, run: Path, leaky: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "data"), "zip", leaky)
    plain, packed = headstart.evaluate(run, leaky), headstart.evaluate(run, archive)
    assert plain.evaluation is not None
    assert packed.evaluation is not None
    assert packed.known is not None
    assert packed.evaluation.map50 == plain.evaluation.map50
    assert packed.known.num_samples == 13
    record = read_record(run, data=archive)
    assert isinstance(record, DetectorRecord)
    assert record.samples is not None
    assert record.samples.names == read_boxes(leaky).names


@pytest.mark.long
def test_detector_trained_from_an_archive_is_scored_and_reported(tmp_path: Path, leaky: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "data"), "zip", leaky)
    run = headstart.train(archive, out=tmp_path / "run", **SETTINGS)
    result = headstart.evaluate(run.folder, archive)
    assert result.evaluation is not None
    assert run.metrics["test"]["mAP50"]["value"] == result.evaluation.map50.value
    (tmp_path / "run" / "report.html").unlink()
    headstart.report(run.folder)
    assert (tmp_path / "run" / "report.html").is_file()
