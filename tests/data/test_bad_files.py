"""Test that every bad file is reported with its kind and never replaced, and that good files are used."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bad_files import bad_files, make_folder, unusual_files
from event_text import finding_lines
from scenes import encode, scene

from headstart.data.image_scan import ScanResult, scan_images
from headstart.data.problem_findings import unreadable_findings
from headstart.data.sources import read
from headstart.errors import DataError
from headstart.preprocessing import image_spec as image_spec
from headstart.quality.duplicates import have_same_pixels
from headstart.quality.inspection import apply_report, inspect_dataset
from headstart.quality.report_findings import dataset_findings, report_to_json
from headstart.types.codes import Finding, FindingKind, Severity
from headstart.types.records import DatasetReport, Samples

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX file systems only")


@dataclass
class Zoo:
    """Folder with all kinds of files, read and scanned."""

    root: Path
    bad: dict[str, str]
    odd: dict[str, str | None]
    samples: Samples
    scan: ScanResult
    report: DatasetReport


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoo]:
    root = tmp_path_factory.mktemp("zoo")
    bad, odd = make_folder(root)
    before = {p: (p.lstat().st_size, p.lstat().st_mtime_ns) for p in sorted(root.rglob("*"))}
    samples = read(root)
    scan = scan_images(samples, num_threads=2)
    yield Zoo(root, bad, odd, samples, scan, inspect_dataset(samples, scan=scan))
    assert {p: (p.lstat().st_size, p.lstat().st_mtime_ns) for p in sorted(root.rglob("*"))} == before


def put(root: Path, name: str, data: bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def small_set(root: Path, per_class: int = 4) -> Path:
    for k, label in enumerate(("a", "b")):
        for i in range(per_class):
            put(root, f"{label}/{i}.jpg", encode(scene(10 * k + i, (80, 60))))
    return root


def test_folder_has_forty_kinds_of_bad_file() -> None:
    assert len(bad_files()) >= 40
    assert len({kind for kind, _ in bad_files().values()}) >= 15


@pytest.mark.parametrize("name", bad_files())
def test_bad_file_is_reported_with_its_kind(zoo: Zoo, name: str) -> None:
    (full,) = [n for n in zoo.bad if n.rpartition("/")[2] == name]
    (problem,) = [p for p in zoo.report.unreadable if p.name == full]
    assert problem.kind == zoo.bad[full]
    assert len(problem.detail) > 10
    assert str(zoo.root) not in problem.detail


def test_no_other_file_is_reported(zoo: Zoo) -> None:
    assert sorted(p.name for p in zoo.report.unreadable) == sorted(zoo.bad)


def test_bad_files_are_not_replaced(zoo: Zoo) -> None:
    """No thumbnail and no info: a black image or a neighbor would show here."""
    lost = [i for i, s in enumerate(zoo.samples) if s.name in zoo.bad]
    assert len(lost) > 20
    for i in lost:
        assert zoo.scan.info[i] is None
        assert not zoo.scan.thumbnails[i].any()
        assert i in zoo.scan.problems
    applied = apply_report(zoo.samples, zoo.report, group_from="none")
    assert applied.excluded[lost].all()
    two_labels = {i for p in zoo.report.label_conflicts for i in (p.index_a, p.index_b)}  # copies of the same page
    assert set(np.flatnonzero(applied.excluded & zoo.scan.is_ok)) == two_labels
    assert {zoo.samples[i].name.rpartition("/")[2] for i in two_labels} == {
        "ok_film.webp",
        "ok_film.png",
        "ok_stack.tif",
    }


@pytest.mark.parametrize("name", unusual_files())
def test_unusual_file_is_used_with_note(zoo: Zoo, name: str) -> None:
    (i,) = [k for k, s in enumerate(zoo.samples) if s.name.rpartition("/")[2] == f"ok_{name}"]
    info = zoo.scan.info[i]
    assert info is not None
    note = zoo.odd[zoo.samples[i].name]
    kinds = {kind for kind, _ in info.notes}
    assert kinds - {"palette"} == ({note} if note else set()) - {"palette"}  # a GIF has a palette too
    assert note != "palette" or "palette" in kinds
    if name != "black.png":
        assert zoo.scan.thumbnails[i].std() > 1


def test_report_counts_handled_files(zoo: Zoo) -> None:
    counts = {r.kind: r.count for r in zoo.report.handled_files}
    expected = Counter(kind for kind in zoo.odd.values() if kind)
    pages = expected.pop("stack") + expected.pop("animated")
    (finding,) = [f for f in zoo.report.findings if f.kind is FindingKind.PAGES_NOT_USED]
    assert finding.severity is Severity.WARNING
    assert finding.evidence["count"] == pages == 4
    expected["palette"] += 1  # of the GIF
    assert counts == expected
    assert sum(zoo.report.formats.values()) == len(zoo.odd)
    assert zoo.report.is_misleading  # files are lost


def test_each_kind_of_bad_file_is_one_finding_and_one_line(zoo: Zoo) -> None:
    findings = [f for f in dataset_findings(zoo.report) if f.kind is FindingKind.UNREADABLE_FILES]
    assert {f.evidence["problem"]: f.evidence["count"] for f in findings} == Counter(zoo.bad.values())
    assert len(findings) == len(set(zoo.bad.values()))
    counts = [int(f.evidence["count"]) for f in findings]  # type: ignore[arg-type]
    assert counts == sorted(counts, reverse=True)
    assert {f.severity for f in findings} == {Severity.ERROR}
    lines = finding_lines(dataset_findings(zoo.report))
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if line in finding_lines(findings)] == finding_lines(findings)
    value = report_to_json(zoo.report)
    assert value["counts"]["unreadable"] == len(zoo.bad)
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")


def test_files_vanish_while_reading(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    samples = read(root)
    (root / "a" / "1.jpg").unlink()
    (root / "b" / "2.jpg").unlink()
    (root / "b" / "2.jpg").mkdir()
    scan = scan_images(samples, num_threads=2)
    kinds = {samples[i].name: p.kind for i, p in scan.problems.items()}
    assert kinds == {"a/1.jpg": "missing", "b/2.jpg": "folder"}
    report = inspect_dataset(samples, scan=scan)
    assert {p.name for p in report.unreadable} == set(kinds)
    assert sum(report.formats.values()) == 6


def test_folder_vanishes_while_reading(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    samples = read(root)
    for file in (root / "b").iterdir():
        file.unlink()
    (root / "b").rmdir()
    report = inspect_dataset(samples, num_threads=1)
    assert [p.kind for p in report.unreadable] == ["missing"] * 4
    assert Finding(FindingKind.CLASS_WITHOUT_IMAGES, Severity.ERROR, {"class": "b"}) in report.findings


def test_file_that_vanishes_before_comparison_is_no_duplicate(tmp_path: Path) -> None:
    image = scene(1, (80, 60))
    one, two = put(tmp_path, "1.png", encode(image, "PNG")), put(tmp_path, "2.bmp", encode(image, "BMP"))
    same = partial(have_same_pixels, [str(one), str(two)], 10**8)
    assert same(0, 1)
    two.unlink()
    assert not same(0, 1)


@posix
def test_file_that_becomes_a_pipe_does_not_block(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    samples = read(root)
    (root / "a" / "0.jpg").unlink()
    os.mkfifo(root / "a" / "0.jpg")
    scan = scan_images(samples, num_threads=1)
    assert [p.kind for p in scan.problems.values()] == ["special"]


@posix
def test_permission_denied_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate denied access, because tests may run as root."""
    root = small_set(tmp_path)

    def guarded(path: str, mode: str = "r", *rest: object, **options: object) -> object:
        if str(path).endswith("b/1.jpg"):
            raise PermissionError(13, "Permission denied")
        return open(path, mode, *rest, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(image_spec, "open", guarded, raising=False)
    report = inspect_dataset(read(root), num_threads=1)
    assert [(p.name, p.kind) for p in report.unreadable] == [("b/1.jpg", "permission")]
    assert sum(report.formats.values()) == 7


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_permission_denied_by_the_system_itself(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    (root / "a" / "2.jpg").chmod(0)
    report = inspect_dataset(read(root), num_threads=1)
    assert [(p.name, p.kind) for p in report.unreadable] == [("a/2.jpg", "permission")]


@posix
def test_odd_names_of_bad_and_copied_files(tmp_path: Path) -> None:
    root = os.fsencode(small_set(tmp_path))
    twin = encode(scene(99, (80, 60)))
    for name, data in (
        (b"a/new\nline.jpg", b""),
        (b"b/\xff\xfe.jpg", b"\x01nonsense" * 9),
        (b"a/co\npy.jpg", twin),
        (b"b/\xe9copy.jpg", twin),
        ("b/Ω 漢字 '\" .jpg".encode(), twin),
    ):
        with open(os.path.join(root, name), "wb") as file:
            file.write(data)
    samples = read(tmp_path)
    report = inspect_dataset(samples)
    assert {p.name: p.kind for p in report.unreadable} == {"a/new\nline.jpg": "empty", "b/\\xff\\xfe.jpg": "format"}
    assert len(report.duplicates) == 3
    assert len(report.label_conflicts) == 2
    lines = finding_lines(dataset_findings(report))
    assert all(line.isprintable() for line in lines), [line for line in lines if not line.isprintable()]
    "\n".join(lines).encode("utf-8")
    json.dumps(report_to_json(report), ensure_ascii=False).encode("utf-8")


@posix
def test_link_loops_end(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    (root / "a" / "again").symlink_to(root / "a")
    (root / "b" / "up").symlink_to(root)
    (root / "a" / "self.jpg").symlink_to(root / "a" / "self.jpg")
    report = inspect_dataset(read(root), num_threads=1)
    assert sum(report.formats.values()) == 8
    assert [(p.name, p.kind) for p in report.unreadable] == [("a/self.jpg", "broken-link")]
    assert not report.duplicates


def test_thousands_of_empty_files_give_one_line(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    (root / "a" / "many").mkdir()
    for i in range(1500):
        (root / "a" / "many" / f"{i}.jpg").touch()
    samples = read(root, layout="{label}/**")
    report = inspect_dataset(samples, num_threads=2)
    assert len(report.unreadable) == 1500
    assert sum(report.formats.values()) == 8
    (finding,) = unreadable_findings(report.unreadable)
    assert (finding.evidence["problem"], finding.evidence["count"]) == ("empty", 1500)
    (line,) = [line for line in finding_lines(dataset_findings(report)) if "1,500" in line]
    assert len(line) < 300


def test_raised_pixel_limit_accepts_large_image(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    put(root, "a/large.png", encode(scene(50, (400, 300)), "PNG"))
    tight = inspect_dataset(read(root), max_pixels=100_000, num_threads=1)
    assert [(p.name, p.kind) for p in tight.unreadable] == [("a/large.png", "too-large")]
    assert "100,000" in tight.unreadable[0].detail
    assert not inspect_dataset(read(root), max_pixels=120_000, num_threads=1).unreadable


def test_only_bad_files(tmp_path: Path) -> None:
    for k, (_, make) in enumerate(list(bad_files().values())[:12]):
        (tmp_path / "ab"[k % 2]).mkdir(exist_ok=True)
        make(tmp_path / "ab"[k % 2] / f"{k}.jpg")
    report = inspect_dataset(read(tmp_path), num_threads=1)
    assert len(report.unreadable) == 12
    assert (report.size_range, report.formats, report.intensity_range) == (None, {}, None)
    assert finding_lines(dataset_findings(report))
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no image"):
        read(tmp_path / "none")


def test_scan_does_not_depend_on_threads(zoo: Zoo) -> None:
    again = scan_images(zoo.samples, num_threads=1)
    assert again.info == zoo.scan.info
    np.testing.assert_array_equal(again.thumbnails, zoo.scan.thumbnails)
