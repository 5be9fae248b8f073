"""Test that scans are cached by content, restored exactly, and discarded if damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import encode, samples_of, scan_of, scene

from headstart.data.image_scan import ImageScanner, ScanResult
from headstart.data.scan_cache import ScanCache
from headstart.data.sources import read
from headstart.preprocessing import reduced_decoding
from headstart.quality.inspection import inspect_dataset
from headstart.store.cache import Cache
from headstart.types.codes import DecisionReason, Finding, FindingKind, GroupStatus, Severity
from headstart.types.records import (
    DatasetReport,
    Decision,
    GroupEvidence,
    GroupPattern,
    HandledFiles,
    ImagePair,
    Problem,
    Samples,
    Shortcut,
)
from headstart.utils.serialization import restore


def photos(first: int = 0, count: int = 6) -> tuple[Samples, list[bytes]]:
    files = [encode(scene(first + i, (60, 40))) for i in range(count)]
    files[1] = encode(scene(first + 1, (60, 40)).convert("CMYK"))
    deep = np.asarray(scene(first + 2, (60, 40)).convert("L"), dtype=np.uint16) * 100
    files[2] = encode(Image.fromarray(deep), "PNG")
    return samples_of([f"{'ab'[i % 2]}/{i}.jpg" for i in range(count)], ["a", "b"] * (count // 2)), files


def scanned(samples: Samples, files: list[bytes], cache: ScanCache | None) -> ScanResult:
    scanner = ImageScanner(samples, cache=cache)
    for i, data in enumerate(files):
        scanner.scan(i, data, hashlib.sha256(data).hexdigest())
    return scanner.result()


def open_cache(root: Path) -> ScanCache:
    return ScanCache(Cache(root))


def assert_equal(one: ScanResult, two: ScanResult) -> None:
    assert one.info == two.info
    for name in ("thumbnails", "colors", "histograms", "borders"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("something was decoded again")

    monkeypatch.setattr("headstart.data.image_scan.decode_reduced", refuse)
    monkeypatch.setattr("headstart.data.image_scan.decode_for_both", refuse)


def test_cached_scan_needs_no_decoding(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    samples, files = photos()
    fresh = scanned(samples, files, None)
    open_cache(tmp_path).save(fresh)
    request.getfixturevalue("no_decoding")
    cache = open_cache(tmp_path)
    assert_equal(scanned(samples, files, cache), fresh)


def test_cache_ignores_order_subset_and_names(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Rows are keyed by content: renamed, reordered and repeated files use them."""
    samples, files = photos()
    fresh = scanned(samples, files, None)
    open_cache(tmp_path).save(fresh)
    request.getfixturevalue("no_decoding")
    order = [4, 0, 4, 3]
    renamed = samples_of([f"x/new{i}.jpg" for i in range(4)])
    again = scanned(renamed, [files[i] for i in order], open_cache(tmp_path))
    assert again.info == tuple(fresh.info[i] for i in order)
    np.testing.assert_array_equal(again.thumbnails, fresh.thumbnails[order])


def test_renamed_file_may_have_wrong_extension(tmp_path: Path) -> None:
    samples, files = photos()
    open_cache(tmp_path).save(scanned(samples, files, None))
    again = scanned(samples_of([f"{i}.png" for i in range(6)]), files, open_cache(tmp_path))
    assert again.info == scan_of(samples_of([f"{i}.png" for i in range(6)]), files).info
    kinds = [{kind for kind, _ in f.notes} for f in again.info if f is not None]
    assert ["wrong-extension" in k for k in kinds] == [True, True, False, True, True, True]


def test_only_what_changed_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, files = photos()
    open_cache(tmp_path).save(scanned(samples, files, None))
    changed = [*files[:4], encode(scene(77, (60, 40))), files[5]]
    decoded = []

    def count_them(data: bytes, **options: object) -> reduced_decoding.ReducedImage:
        decoded.append(data)
        return reduced_decoding.decode_reduced(data, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("headstart.data.image_scan.decode_reduced", count_them)
    again = scanned(samples, changed, open_cache(tmp_path))
    assert decoded == [changed[4]]
    monkeypatch.undo()
    assert_equal(again, scanned(samples, changed, None))


def test_datasets_share_scans(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A moved or renamed folder is not scanned again, nor are images that two datasets share."""
    (samples, files), (others, other_files) = photos(), photos(100)
    open_cache(tmp_path).save(scanned(samples, files, None), {"one": {"a": 1}})
    open_cache(tmp_path).save(scanned(others, other_files, None), {"two": {"Ω": [2]}})
    cache = open_cache(tmp_path)
    assert (cache.note("one"), cache.note("two"), cache.note("three")) == ({"a": 1}, {"Ω": [2]}, None)
    request.getfixturevalue("no_decoding")
    both = samples_of([f"{i}.jpg" for i in range(12)])
    scan = scanned(both, [*files, *other_files], cache)
    assert all(scan.is_ok)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.rows")]
    open_cache(tmp_path).save(scan)
    assert [path.stat().st_size for path in tmp_path.rglob("*.rows")] == sizes  # nothing is written twice


def spoil_rows(root: Path, content: bytes) -> None:
    """Flip a bit of the row that begins with some bytes."""
    (path,) = root.rglob("*.rows")
    data = bytearray(path.read_bytes())
    data[bytes(data).index(content)] ^= 1
    path.write_bytes(bytes(data))


def test_damaged_rows_are_scanned_again(tmp_path: Path) -> None:
    samples, files = photos()
    fresh = scanned(samples, files, None)
    open_cache(tmp_path).save(fresh)
    spoil_rows(tmp_path, b'[[null, null, 1], "' + hashlib.sha256(files[4]).hexdigest().encode())
    cache = open_cache(tmp_path)
    assert_equal(scanned(samples, files, cache), fresh)
    cache.save(fresh)
    spoil_rows(tmp_path, b'[[null, null, 1], "' + hashlib.sha256(files[4]).hexdigest().encode())


def opened(tmp_path: Path) -> tuple[Samples, ScanResult, ScanCache, ImageScanner]:
    """Return cached files on disk whose rows the scanner has not fetched yet."""
    (tmp_path / "photos").mkdir()
    _, files = photos()
    for i, data in enumerate(files):
        (tmp_path / "photos" / f"{i}.jpg").write_bytes(data)
    samples = read(tmp_path / "photos", needs_labels=False)
    fresh = scanned(samples, files, None)
    open_cache(tmp_path).save(fresh)
    spoil_rows(tmp_path, fresh.thumbnails[3].tobytes()[:64])
    cache = open_cache(tmp_path)
    scanner = ImageScanner(samples, cache=cache)
    for i, data in enumerate(files):
        scanner.scan(i, data, hashlib.sha256(data).hexdigest())
    return samples, fresh, cache, scanner


def test_damaged_thumbnails_with_intact_properties(tmp_path: Path) -> None:
    """Properties are read first and thumbnails last: unreadable thumbnails are made again."""
    samples, fresh, cache, scanner = opened(tmp_path)
    scan = scanner.result()
    assert_equal(scan, fresh)
    cache.save(scan, {"new": 1})
    files = [Path(p).read_bytes() for p in samples.paths]
    assert_equal(scanned(samples, files, open_cache(tmp_path)), fresh)


def test_file_and_its_thumbnail_are_gone(tmp_path: Path) -> None:
    _, fresh, _, scanner = opened(tmp_path)
    shutil.rmtree(tmp_path / "scans")  # `headstart cache clear` in another process
    (tmp_path / "photos" / "3.jpg").unlink()
    scan = scanner.result()
    rest = [0, 1, 2, 4, 5]
    assert [scan.info[i] for i in rest] == [fresh.info[i] for i in rest]
    np.testing.assert_array_equal(scan.thumbnails[rest], fresh.thumbnails[rest])
    assert scan.info[3] is None
    assert scan.problems[3].kind == "missing"
    assert scanner.digests()[3] == ""


@pytest.mark.parametrize("target", ["headstart.data.scan_cache._VERSION", "PIL.__version__"])
def test_other_version_is_ignored(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, files = photos()
    monkeypatch.setattr(target, "999")
    open_cache(tmp_path).save(scanned(samples, files, None), {"key": 1})
    assert open_cache(tmp_path).note("key") == 1
    monkeypatch.undo()
    cache = open_cache(tmp_path)
    assert (cache.get(hashlib.sha256(files[0]).hexdigest()), cache.note("key")) == (None, None)


def test_full_disk_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, files = photos()
    fresh = scanned(samples, files, None)
    open_cache(tmp_path).save(fresh, {"old": 1})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headstart.store.rows._write_shard", full)
    cache = open_cache(tmp_path)
    cache.save(fresh, {"new": 2})
    assert cache.rows.write_error == "the disk is full"
    assert cache.note("new") is None
    monkeypatch.undo()
    assert open_cache(tmp_path).note("old") == 1


def test_missing_cache_folder_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    samples, files = photos()
    cache = open_cache(tmp_path / "file")
    cache.save(scanned(samples, files, cache))
    assert cache.rows.write_error is not None


def test_rows_hold_no_names_of_files(tmp_path: Path) -> None:
    samples, files = photos()
    open_cache(tmp_path).save(scanned(samples, files, None))
    (path,) = tmp_path.rglob("*.rows")
    assert not [s.name for s in samples if s.name.encode() in path.read_bytes()]


def test_report_round_trips() -> None:
    report = DatasetReport(
        num_samples=3,
        layout="class folders",
        classes={"a": {"none": 2}, "Ω": {"train": 1}},
        formats={"JPEG": 3},
        unreadable=(Problem("x\ny", "empty", "0 bytes"),),
        handled_files=(HandledFiles("rotated", 2, "turned", ("p", "q")),),
        duplicates=(ImagePair("p", "q", "bytes", 1.0, None, None, "a", "a", 0, 1),),
        near_duplicates=(ImagePair("p", "r", "near", 0.98765, "train", "test", "a", None, 0, 2),),
        leaks=(ImagePair("p", "r", "near", 0.98765, "train", "test", "a", None, 0, 2),),
        label_conflicts=(ImagePair("p", "r", "near", 0.9, "train", "test", "a", "b", 0, 2),),
        group_patterns=(
            GroupPattern(
                "^(.)",
                {"grouped_by": "name_part", "position": 1, "value": "7", "example": "7_1.jpg"},
                2,
                GroupStatus.QUESTION_TOO_FEW_GROUPS,
                0.001,
                0.2,
                0.91,
                None,
                GroupEvidence(9, 3, 2.5, {"class": 1.5}, 0.1, 1, 2, 0.1, 0.5, 2, 0.25),
            ),
        ),
        shortcuts=(Shortcut("camera", 0.9, 0.5, "a", 0.4, ("a",), ("p", "q")),),
        size_range=(10, 20, 30),
        overlap_fraction={"crop": 0.7},
        intensity_range=(0.0, 4095.0),
        decisions=(Decision("pixels.intensity_range", [0.0, 4095.0], DecisionReason.VALUE_RANGE_OF_BITS),),
        findings=(Finding(FindingKind.CLASS_NOT_IN_TRAIN, Severity.ERROR, {"class": "a", "splits": ["test"]}),),
        is_misleading=True,
    )
    assert restore(DatasetReport, json.loads(json.dumps(asdict(report)))) == report
    empty = DatasetReport(0, "", {}, {})
    assert restore(DatasetReport, json.loads(json.dumps(asdict(empty)))) == empty


def test_real_report_round_trips() -> None:
    samples, files = photos(count=6)
    files[5] = files[3]
    report = inspect_dataset(samples, scan=scan_of(samples, files), num_threads=1)
    assert report.duplicates
    assert restore(DatasetReport, json.loads(json.dumps(asdict(report)))) == report
