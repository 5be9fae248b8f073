"""Test bad input: all problems are reported at once, valid files are used, and no external file is opened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from box_folders import coco_json, put_image, put_text, voc_xml

from headstart.data.boxes.reader import read_boxes
from headstart.errors import DataError
from headstart.quality.box_inspection import inspect_box_dataset, is_dropped
from headstart.quality.report_findings import box_findings, box_problem_findings, box_report_to_json, dataset_findings
from headstart.types.codes import Finding, FindingKind, Severity
from headstart.types.records import DatasetReport, Problem

GOOD = ("cat", (10, 20, 50, 60))


def kinds(problems: tuple[Problem, ...]) -> list[tuple[str, str]]:
    return sorted((p.kind, p.name) for p in problems)


def voc_folder(root: Path, **objects: list[tuple[str, tuple[object, object, object, object]]]) -> Path:
    """Create one image and XML per name, and a valid one next to them."""
    for i, (name, boxes) in enumerate({"good": [GOOD], **objects}.items()):
        put_image(root / f"{name}.png", seed=i)
        put_text(root / f"{name}.xml", voc_xml(boxes))
    return root


def test_every_kind_of_bad_box_is_reported_and_others_kept(tmp_path: Path) -> None:
    voc_folder(
        tmp_path,
        empty=[("cat", (5, 5, 5, 30)), GOOD],
        outside=[("cat", (150, 5, 180, 30)), GOOD],
        over=[("cat", (60, 5, 130, 30))],
        edge=[("cat", (1, 1, 101, 81))],
        swapped=[("cat", (50, 60, 10, 20))],
        twice=[GOOD, GOOD],
        both=[GOOD, ("dog", (10, 20, 50, 60))],
        nan=[("cat", ("nan", 1, 20, 20)), GOOD],
        words=[("cat", ("ten", 1, 20, 20)), GOOD],
        vast=[("cat", (1, 1, "1e300", 20)), ("cat", ("1e300", 1, "1e305", 20))],
        nameless=[(" ", (1, 1, 20, 20)), GOOD],
    )
    samples = read_boxes(tmp_path)
    assert kinds(samples.problems) == [
        ("duplicate", "twice.png"),
        ("no-area", "empty.png"),
        ("no-box", "words.xml"),
        ("no-class", "nameless.xml"),
        ("not-a-number", "nan.png"),
        ("outside", "outside.png"),
        ("outside", "vast.png"),
        ("over-edge", "over.png"),
        ("over-edge", "vast.png"),
        ("swapped", "swapped.png"),
        ("two-classes", "both.png"),
    ]
    boxes = dict(zip(samples.names, samples.boxes, strict=True))
    assert boxes["over.png"].xyxy.tolist() == [[60, 5, 100, 30]]
    assert boxes["edge.png"].xyxy.tolist() == [[1, 1, 100, 80]]  # 1-based: clipped silently
    assert boxes["swapped.png"].xyxy.tolist() == [[10, 20, 50, 60]]
    assert len(boxes["both.png"]) == 2
    assert {n: len(b) for n, b in boxes.items()} == {n: 1 if n != "both.png" else 2 for n in samples.names}


def test_unpaired_and_damaged_files(tmp_path: Path) -> None:
    voc_folder(tmp_path)
    put_text(tmp_path / "alone.xml", voc_xml([GOOD], filename="alone.jpg"))
    put_image(tmp_path / "unknown.png", seed=5)
    put_image(tmp_path / "broken.png", seed=6)
    (tmp_path / "broken.png").write_bytes(b"no image")
    put_text(tmp_path / "broken.xml", voc_xml([GOOD]))
    put_image(tmp_path / "open.png", seed=7)
    put_text(tmp_path / "open.xml", "<annotation><object>")
    put_image(tmp_path / "other.png", seed=8)
    put_text(tmp_path / "other.xml", "<project><annotation/></project>")
    samples = read_boxes(tmp_path)
    problem_kinds = kinds(samples.problems)
    assert ("no-image", "alone.xml") in problem_kinds
    assert ("no-annotation", "unknown.png") in problem_kinds
    assert ("unreadable-image", "broken.png") in problem_kinds
    assert ("bad-xml", "open.xml") in problem_kinds
    assert ("bad-xml", "other.xml") in problem_kinds
    assert samples.names == ("good.png",)
    assert inspect_box_dataset(samples).is_misleading


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a SYSTEM "http://example.invalid/a.dtd">',
        '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;">]>',
    ],
)
def test_xml_with_entities_is_refused(tmp_path: Path, head: str) -> None:
    voc_folder(tmp_path, evil=[GOOD])
    put_text(tmp_path / "evil.xml", head + voc_xml([("&x;" if "ENTITY" in head else "cat", (1, 1, 30, 30))]))
    samples = read_boxes(tmp_path)
    assert kinds(samples.problems) == [("entity", "evil.xml"), ("no-annotation", "evil.png")]
    assert samples.names == ("good.png",)


def test_json_with_nan_loses_the_box_not_the_file(tmp_path: Path) -> None:
    put_image(tmp_path / "a.png")
    value = json.loads(coco_json({1: ("a.png", (100, 80))}, [], {1: "cat"}))
    value["annotations"] = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1.0, float("nan"), 5.0, 5.0]},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [10, 20, float("inf"), 40]},
        {"id": 3, "image_id": 1, "category_id": 1, "bbox": [10, 20, 40, 40]},
        {"id": 4, "image_id": 1, "category_id": 8, "bbox": [10, 20, 40, 40]},
        {"id": 5, "image_id": 99, "category_id": 1, "bbox": [10, 20, 40, 40]},
        {"id": 6, "image_id": 1, "category_id": 1, "bbox": [10, 20, 40]},
        {"id": 7, "image_id": 1, "category_id": 1, "bbox": None},
        "nonsense",
    ]
    value["images"] += [{"id": 3, "file_name": "b.png"}, {"id": "3", "file_name": "d.png"}]
    value["images"] += [{"id": 2, "file_name": "missing.png"}, {"file_name": "c"}, 7]
    place = put_text(tmp_path / "x.json", json.dumps(value))
    assert "NaN" in place.read_text()
    samples = read_boxes(tmp_path)
    assert samples.boxes[0].xyxy.tolist() == [[10, 20, 50, 60]]
    problem_kinds = [k for k, _ in kinds(samples.problems)]
    assert problem_kinds == sorted(
        ["not-a-number"] * 2
        + ["no-class", "no-image", "no-image", "no-box", "no-box", "repeated-id"]
        + ["bad-json"] * 3
    )


@pytest.mark.parametrize(
    "text", ['{"images": [], "annotations": [}', '{"images": {}, "annotations": []}', "[" * 100_000]
)
def test_invalid_json_error_contains_file(tmp_path: Path, text: str) -> None:
    put_image(tmp_path / "a.png")
    put_text(tmp_path / "x.json", text + ' "images" "annotations"' if text.startswith("[[") else text)
    with pytest.raises(DataError, match=r"x\.json"):
        read_boxes(tmp_path)


def test_invalid_yolo_lines_are_reported(tmp_path: Path) -> None:
    put_image(tmp_path / "images/a.png")
    put_image(tmp_path / "images/b.png", seed=1)
    lines = [
        "0 0.3 0.5 0.4 0.5",
        "0 30 50 40 50",
        "0 1.2 0.5 0.4 0.5",
        "-1 0.3 0.5 0.4 0.5",
        "0.5 0.3 0.5 0.4 0.5",
        "7 0.3 0.5 0.4 0.5",
        "0 0.3 0.5",
        "0 0.3 0.5 0.4 0.5 0.1 0.1 0.2",
        "cat 0.3 0.5 0.4 0.5",
        "0 nan 0.5 0.4 0.5",
        "0 0.3 0.5 0 0.5",
        "",
        "0 1.0005 0.5 0.4 0.5",
        "0 0.2 0.2 0.1 0.1",
        "0 0.4 0.2 0.1 0.1",
        "0 0.8 0.7 0.2 0.2",
    ]
    put_text(tmp_path / "labels/a.txt", "\n".join(lines))
    put_text(tmp_path / "labels/lost.txt", "0 0.3 0.5 0.4 0.5\n")
    put_text(tmp_path / "data.yaml", "train: images\nnames: [cat, unused]\n")
    samples = read_boxes(tmp_path)
    problem_kinds = [k for k, _ in kinds(samples.problems)]
    assert problem_kinds.count("not-a-share") == 2
    assert problem_kinds.count("no-class") == 3
    assert problem_kinds.count("bad-line") == 2
    assert problem_kinds.count("duplicate") == 1  # `cat` instead of its number
    assert problem_kinds.count("not-a-number") == 1
    assert problem_kinds.count("no-area") == 1
    assert problem_kinds.count("no-image") == 1
    assert problem_kinds.count("unused-class") == 1
    assert len(samples.boxes[0]) == 5
    assert len(samples.boxes[1]) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names: !!python/object/apply:os.system ['touch {mark}']\ntrain: images\n", "not allowed"),
        ("names: [cat\ntrain: images\n", "not valid YAML"),
        ("names: [cat]\nnc: 3\ntrain: images\n", "nc: 3"),
        ("names: [[cat]]\ntrain: images\n", "only class names"),
        ("names: cat\ntrain: images\n", "must be a list"),
    ],
)
def test_invalid_or_unsafe_yaml_raises(tmp_path: Path, text: str, words: str) -> None:
    put_image(tmp_path / "images/a.png")
    put_text(tmp_path / "labels/a.txt", "0 0.3 0.5 0.4 0.5\n")
    mark = tmp_path / "ran"
    put_text(tmp_path / "data.yaml", text.format(mark=mark))
    with pytest.raises(DataError, match=words):
        read_boxes(tmp_path)
    assert not mark.exists()


def test_yaml_paths_outside_are_not_read(tmp_path: Path) -> None:
    put_image(tmp_path / "secret" / "images" / "x.png")
    put_text(tmp_path / "secret" / "labels" / "x.txt", "0 0.3 0.5 0.4 0.5\n")
    put_image(tmp_path / "data" / "train" / "a.png")
    put_text(tmp_path / "data" / "train" / "a.txt", "0 0.3 0.5 0.4 0.5\n")
    put_text(tmp_path / "data" / "data.yaml", "train: train\nval: ../secret/images\nnames: [cat]\n")
    samples = read_boxes(tmp_path / "data")
    assert samples.names == ("train/a.png",)
    assert [p.kind for p in samples.problems] == ["no-images"]


def test_external_link_is_not_followed(tmp_path: Path) -> None:
    put_text(tmp_path / "outside.xml", voc_xml([("secret", (1, 1, 30, 30))]))
    voc_folder(tmp_path / "data", a=[GOOD])
    (tmp_path / "data" / "a.xml").unlink()
    (tmp_path / "data" / "a.xml").symlink_to(tmp_path / "outside.xml")
    assert read_boxes(tmp_path / "data").class_names == ("cat",)
    assert set(read_boxes(tmp_path / "data", allow_external_paths=True).class_names) == {"cat", "secret"}


def test_bad_table_rows_are_reported_by_line(tmp_path: Path) -> None:
    put_image(tmp_path / "a.png")
    lines = ["a.png,cat,10,20,50,60", "missing.png,cat,1,2,3,4", "missing.png,cat,1,2,9,9", ",cat,1,2,3,4"]
    lines += ["a.png,cat,x,2,3,4", "a.png,,1,2,30,40", "a.png,cat,1,2,,4"]
    put_text(tmp_path / "x.csv", "image,label,xmin,ymin,xmax,ymax\n" + "\n".join(lines) + "\n")
    samples = read_boxes(tmp_path)
    assert samples.num_boxes == 1
    assert [k for k, _ in kinds(samples.problems)] == ["bad-line", "bad-line", "bad-line", "no-class", "no-image"]


def test_no_images_with_objects_raises_with_all_reasons(tmp_path: Path) -> None:
    for i in range(12):
        put_image(tmp_path / f"p{i}.png", seed=i)
        put_text(tmp_path / f"p{i}.xml", voc_xml([("cat", (5, 5, 5, 30))]))
    with pytest.raises(DataError, match=r"has a box.*p0\.png.*12 in all"):
        read_boxes(tmp_path)


def test_class_without_training_boxes_is_reported(tmp_path: Path) -> None:
    for i, (split, label) in enumerate([("train", "cat"), ("train", "cat"), ("valid", "dog"), ("test", "cat")]):
        put_image(tmp_path / split / f"{i}.png", seed=i)
        put_text(tmp_path / split / f"{i}.xml", voc_xml([(label, (1, 1, 30, 30))]))
    report = inspect_box_dataset(read_boxes(tmp_path))
    assert report.is_misleading
    assert (
        Finding(FindingKind.CLASS_NOT_IN_TRAIN, Severity.ERROR, {"class": "dog", "splits": ["val"]}) in report.findings
    )


def test_duplicates_and_leaks_are_reported(tmp_path: Path) -> None:
    voc_folder(tmp_path / "train", a=[GOOD])
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "b.png").write_bytes((tmp_path / "train" / "a.png").read_bytes())
    put_text(tmp_path / "test" / "b.xml", voc_xml([GOOD]))
    samples = read_boxes(tmp_path)
    report = inspect_box_dataset(samples)
    assert [(p.a, p.b) for p in report.images.leaks] == [("test/b.png", "train/a.png")]
    assert report.is_misleading
    first = dataset_findings(report.images)[0]
    assert (first.kind, first.severity) == (FindingKind.LEAKING_IMAGES, Severity.ERROR)
    assert first.evidence == {
        "split": "test",
        "other_split": "train",
        "count": 1,
        "pairs": [["test/b.png", "train/a.png"]],
        "is_headline": True,
    }
    assert box_findings(report)[0] == first


def test_duplicates_with_different_boxes_are_reported(tmp_path: Path) -> None:
    near = ("cat", (11, 21, 49, 58))
    voc_folder(tmp_path, a=[GOOD, ("dog", (60, 5, 90, 30))], b=[near, ("dog", (61, 5, 90, 30))], c=[near], d=[GOOD])
    for name, copy in (("a", "b"), ("c", "d")):
        (tmp_path / f"{copy}.png").write_bytes((tmp_path / f"{name}.png").read_bytes())
    assert FindingKind.DUPLICATES_WITH_OTHER_BOXES not in {
        f.kind for f in inspect_box_dataset(read_boxes(tmp_path)).findings
    }
    put_text(tmp_path / "b.xml", voc_xml([near, ("cat", (61, 5, 90, 30))]))  # another class
    put_text(tmp_path / "d.xml", voc_xml([GOOD, ("cat", (1, 60, 30, 79))]))  # one more
    findings = {f.kind: f for f in inspect_box_dataset(read_boxes(tmp_path)).findings}
    assert findings[FindingKind.DUPLICATES_WITH_OTHER_BOXES].evidence == {
        "pairs": [["a.png", "b.png"], ["c.png", "d.png"]]
    }


def test_clean_dataset_has_no_findings_and_counts_boxes(tmp_path: Path) -> None:
    for i in range(10):
        put_image(tmp_path / f"{i}.png", (100 + i, 80), seed=i)
        put_text(tmp_path / f"{i}.xml", voc_xml([GOOD], None))
    report = inspect_box_dataset(read_boxes(tmp_path))
    assert not report.is_misleading
    assert box_findings(report) == []
    (counted,) = report.classes
    assert (counted.name, counted.boxes, counted.images, counted.median_side) == ("cat", {"none": 10}, 10, 40.0)
    json.dumps(box_report_to_json(report), allow_nan=False)


def test_problems_are_counted_by_kind_with_losses_first() -> None:
    problems = [Problem(f"{i}.png", "outside", "x") for i in range(14)] + [Problem("a", "swapped", "y")] * 20
    lost, kept = box_problem_findings(problems)
    assert (lost.kind, lost.severity) == (FindingKind.ANNOTATIONS_NOT_USED, Severity.ERROR)
    assert lost.evidence == {
        "problem": "outside", "count": 14, "examples": [f"{i}.png" for i in range(5)], "detail": "x",
    }  # fmt: skip
    assert (kept.kind, kept.severity) == (FindingKind.ANNOTATIONS_CORRECTED, Severity.INFO)
    assert (kept.evidence["problem"], kept.evidence["count"]) == ("swapped", 20)
    assert is_dropped("outside")
    assert not is_dropped("swapped")


def test_findings_about_files_with_any_name_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voc_folder(tmp_path, a=[GOOD], b=[("dog", (1, 1, 30, 30))])
    evidence = {"num_groups": 2, "grouping": {"grouped_by": "folder", "name": "folder"}, "scored_fraction": 0.5}
    across = Finding(FindingKind.GROUPS_ACROSS_SPLITS, Severity.ERROR, evidence)
    image_report = DatasetReport(2, "VOC XML", {}, {}, findings=(across,))
    monkeypatch.setattr("headstart.quality.box_inspection.inspect_dataset", lambda *_, **__: image_report)
    report = inspect_box_dataset(read_boxes(tmp_path))
    assert across in report.findings
    assert report.is_misleading


def test_images_with_boxes_are_checked_without_labels(tmp_path: Path) -> None:
    voc_folder(tmp_path, a=[GOOD], b=[GOOD])
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    report = inspect_box_dataset(read_boxes(tmp_path))
    assert [(p.label_a, p.label_b) for p in report.images.duplicates] == [(None, None)]
    assert [f.kind for f in report.findings] == [FindingKind.CLASS_TOO_SMALL]  # of the boxes, not of an image class
    assert report.findings[0].evidence["unit"] == "boxes"


def test_unreadable_image_loses_its_boxes(tmp_path: Path) -> None:
    voc_folder(tmp_path, broken=[GOOD])
    (tmp_path / "broken.png").write_bytes(b"no image")
    report = inspect_box_dataset(read_boxes(tmp_path))
    assert ("unreadable-image", "broken.png") in kinds(report.problems)
    assert is_dropped("unreadable-image")
    assert is_dropped("a kind that a reader adds later")
    assert report.is_misleading
