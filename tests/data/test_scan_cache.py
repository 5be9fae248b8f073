"""Test that scans are cached by content, restored exactly, and discarded if damaged."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import encode, samples_of, scan_of, scene

from headstart.data import scan_cache as memory_room
from headstart.data.image_scan import ImageScanner, ScanResult
from headstart.data.scan_cache import ScanCache, digest_of, report_from_note
from headstart.data.sources import read
from headstart.errors import CacheError
from headstart.preprocessing import reduced_decoding
from headstart.quality.inspection import inspect_dataset
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


def assert_equal(one: ScanResult, two: ScanResult) -> None:
    assert one.info == two.info
    for name in ("thumbs", "colors", "histograms", "borders"):
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
    ScanCache(tmp_path, "photos").save(fresh)
    request.getfixturevalue("no_decoding")
    cache = ScanCache(tmp_path, "photos")
    assert len(cache) == 6
    assert_equal(scanned(samples, files, cache), fresh)


def test_cache_ignores_order_subset_and_names(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Rows are keyed by content: renamed, reordered and repeated files use them."""
    samples, files = photos()
    fresh = scanned(samples, files, None)
    ScanCache(tmp_path, "photos").save(fresh)
    request.getfixturevalue("no_decoding")
    order = [4, 0, 4, 3]
    renamed = samples_of([f"x/new{i}.jpg" for i in range(4)])
    again = scanned(renamed, [files[i] for i in order], ScanCache(tmp_path, "photos"))
    assert again.info == tuple(fresh.info[i] for i in order)
    np.testing.assert_array_equal(again.thumbs, fresh.thumbs[order])


def test_renamed_file_may_have_wrong_extension(tmp_path: Path) -> None:
    samples, files = photos()
    ScanCache(tmp_path, "photos").save(scanned(samples, files, None))
    again = scanned(samples_of([f"{i}.png" for i in range(6)]), files, ScanCache(tmp_path, "photos"))
    assert again.info == scan_of(samples_of([f"{i}.png" for i in range(6)]), files).info
    kinds = [{kind for kind, _ in f.notes} for f in again.info if f is not None]
    assert ["wrong-extension" in k for k in kinds] == [True, True, False, True, True, True]


def test_only_what_changed_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, files = photos()
    ScanCache(tmp_path, "photos").save(scanned(samples, files, None))
    changed = [*files[:4], encode(scene(77, (60, 40))), files[5]]
    decoded = []

    def count_them(data: bytes, **options: object) -> reduced_decoding.ReducedImage:
        decoded.append(data)
        return reduced_decoding.decode_reduced(data, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("headstart.data.image_scan.decode_reduced", count_them)
    again = scanned(samples, changed, ScanCache(tmp_path, "photos"))
    assert decoded == [changed[4]]
    monkeypatch.undo()
    assert_equal(again, scanned(samples, changed, None))


def test_datasets_have_separate_caches(tmp_path: Path) -> None:
    (samples, files), (others, other_files) = photos(), photos(100)
    ScanCache(tmp_path, "one").save(scanned(samples, files, None), {"key": {"a": 1}})
    ScanCache(tmp_path, "two").save(scanned(others, other_files, None))
    assert len(list((tmp_path / "looks").glob("*.npz"))) == 2
    one, two = ScanCache(tmp_path, "one"), ScanCache(tmp_path, "two")
    digest = hashlib.sha256(files[0]).hexdigest()
    assert one.get(digest) is not None
    assert two.get(digest) is None
    assert (one.note("key"), two.note("key")) == ({"a": 1}, None)


def test_equivalent_paths_share_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, files = photos()
    monkeypatch.chdir(tmp_path)
    ScanCache(tmp_path, "photos").save(scanned(samples, files, None))
    for place in (str(tmp_path / "photos"), "./photos/", "x/../photos"):
        assert len(ScanCache(tmp_path, place)) == 6


def test_only_newest_notes_are_kept(tmp_path: Path) -> None:
    samples, files = photos()
    scan = scanned(samples, files, None)
    for k in range(12):
        ScanCache(tmp_path, "photos").save(scan, {f"key{k}": k})
    cache = ScanCache(tmp_path, "photos")
    assert cache.note("key11") == 11
    assert cache.note("key0") is None
    assert sum(cache.note(f"key{k}") is not None for k in range(12)) == 8


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:40],
        lambda data: b"nonsense" * 400,
        lambda data: data[:300] + bytes(x ^ 255 for x in data[300:340]) + data[340:],
    ],
    ids=["empty", "half", "head", "nonsense", "flipped bits"],
)
def test_damaged_cache_is_ignored(tmp_path: Path, spoil: object) -> None:
    samples, files = photos()
    fresh = scanned(samples, files, None)
    cache = ScanCache(tmp_path, "photos")
    cache.save(fresh)
    cache.path.write_bytes(spoil(cache.path.read_bytes()))  # type: ignore[operator]
    cache = ScanCache(tmp_path, "photos")
    assert_equal(scanned(samples, files, cache), fresh)
    cache.save(fresh)
    assert len(ScanCache(tmp_path, "photos")) == 6


def test_plain_array_file_is_ignored(tmp_path: Path) -> None:
    samples, files = photos()
    cache = ScanCache(tmp_path, "photos")
    cache.save(scanned(samples, files, None))
    with cache.path.open("wb") as file:
        np.save(file, np.arange(5))
    assert len(ScanCache(tmp_path, "photos")) == 0


def opened(tmp_path: Path) -> tuple[Samples, ScanResult, ScanCache, ImageScanner]:
    """Return cached files on disk whose rows the scanner has not fetched yet."""
    (tmp_path / "photos").mkdir()
    _, files = photos()
    for i, data in enumerate(files):
        (tmp_path / "photos" / f"{i}.jpg").write_bytes(data)
    samples = read(tmp_path / "photos", task="images")
    fresh = scanned(samples, files, None)
    ScanCache(tmp_path, "photos").save(fresh)
    cache = ScanCache(tmp_path, "photos")
    scanner = ImageScanner(samples, cache=cache)
    for i, data in enumerate(files):
        scanner.scan(i, data, hashlib.sha256(data).hexdigest())
    return samples, fresh, cache, scanner


def test_damaged_rows_with_intact_info(tmp_path: Path) -> None:
    """Info is read first and rows last: unreadable rows are scanned again."""
    samples, fresh, cache, scanner = opened(tmp_path)
    data = bytearray(cache.path.read_bytes())
    data[bytes(data).index(fresh.thumbs[3].tobytes()[:64])] ^= 255
    cache.path.write_bytes(bytes(data))
    assert len(ScanCache(tmp_path, "photos")) == 6
    scan = scanner.result()
    assert_equal(scan, fresh)
    cache.save(scan, {"new": 1})
    repaired = ScanCache(tmp_path, "photos")
    assert_equal(scanned(samples, [Path(p).read_bytes() for p in samples.paths], repaired), fresh)


def test_cache_cleared_while_in_use(tmp_path: Path) -> None:
    """`headstart cache clear` in another process, and a file that vanishes too."""
    _, fresh, cache, scanner = opened(tmp_path)
    cache.path.unlink()
    (tmp_path / "photos" / "5.jpg").unlink()
    scan = scanner.result()
    assert scan.info[:5] == fresh.info[:5]
    np.testing.assert_array_equal(scan.thumbs[:5], fresh.thumbs[:5])
    assert scan.info[5] is None
    assert scan.problems[5].kind == "missing"
    assert scanner.digests()[5] == ""


def test_cache_rewritten_in_another_order(tmp_path: Path) -> None:
    samples, files = photos()
    fresh = scanned(samples, files, None)
    ScanCache(tmp_path, "photos").save(fresh)
    cache = ScanCache(tmp_path, "photos")
    ScanCache(tmp_path, "photos").path.unlink()
    turned = samples_of([s.name for s in samples][::-1])
    ScanCache(tmp_path, "photos").save(scanned(turned, files[::-1], None))
    assert_equal(scanned(samples, files, cache), fresh)


def test_other_version_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, files = photos()
    monkeypatch.setattr(memory_room, "_VERSION", 999)
    ScanCache(tmp_path, "photos").save(scanned(samples, files, None), {"key": 1})
    assert len(ScanCache(tmp_path, "photos")) == 6
    monkeypatch.undo()
    cache = ScanCache(tmp_path, "photos")
    assert (len(cache), cache.note("key")) == (0, None)


def test_full_disk_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, files = photos()
    fresh = scanned(samples, files, None)
    before = ScanCache(tmp_path, "photos")
    before.save(fresh, {"old": 1})
    kept = before.path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headstart.data.scan_cache._write_rows", full)
    cache = ScanCache(tmp_path, "photos")
    cache.save(fresh, {"new": 2})
    assert cache.write_error is not None
    assert cache.write_error == "the disk is full"
    monkeypatch.undo()
    assert cache.path.read_bytes() == kept  # unchanged
    assert not [p for p in cache.folder.iterdir() if p != cache.path]  # without a partial file
    assert ScanCache(tmp_path, "photos").note("old") == 1


def test_missing_cache_folder_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    samples, files = photos()
    cache = ScanCache(tmp_path / "file", "photos")
    cache.save(scanned(samples, files, cache))
    assert cache.write_error is not None


def test_cache_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    for k in range(5):
        samples, files = photos(100 * k)
        cache = ScanCache(tmp_path, f"set{k}")
        cache.save(scanned(samples, files, None))
        os.utime(cache.path, (1000 + k, 1000 + k))
        sizes.append(cache.path.stat().st_size)
    monkeypatch.setattr(memory_room, "_LIMIT_BYTES", int(3.5 * sizes[0]))
    assert len(ScanCache(tmp_path, "set0")) == 6
    samples, files = photos(900)
    ScanCache(tmp_path, "set9").save(scanned(samples, files, None))
    left = [len(ScanCache(tmp_path, f"set{k}")) > 0 for k in (0, 1, 2, 3, 4, 9)]
    assert left == [False, False, False, True, True, True]  # the least recently used ones are evicted
    monkeypatch.setattr(memory_room, "_LIMIT_BYTES", 10)
    ScanCache(tmp_path, "set10").save(scanned(samples, files, None))
    assert [p.name for p in (tmp_path / "looks").iterdir()] == [ScanCache(tmp_path, "set10").path.name]


def test_use_updates_cache_age(tmp_path: Path) -> None:
    samples, files = photos()
    cache = ScanCache(tmp_path, "photos")
    cache.save(scanned(samples, files, None))
    os.utime(cache.path, (1000, 1000))
    cache = ScanCache(tmp_path, "photos")
    cache.save(scanned(samples, files, cache))
    assert cache.path.stat().st_mtime > 1e6


def test_cache_file_is_private_and_without_pickle(tmp_path: Path) -> None:
    samples, files = photos()
    cache = ScanCache(tmp_path, "photos")
    cache.save(scanned(samples, files, None), {"key": {"Ω": [1, 2]}})
    assert cache.folder.stat().st_mode & 0o077 == 0 or os.name == "nt"
    with zipfile.ZipFile(cache.path) as archive:
        assert archive.testzip() is None
    with np.load(cache.path, allow_pickle=False) as data:
        assert json.loads(data["notes"].tobytes()) == {"key": {"Ω": [1, 2]}}
        assert data["thumbs"].shape == (6, 96, 96)
    assert b"photos" not in cache.path.read_bytes()  # no names of files or folders


def test_rows_of_unknown_files_raise(tmp_path: Path) -> None:
    samples, files = photos()
    cache = ScanCache(tmp_path, "photos")
    scan = scanned(samples, files, None)
    cache.save(scan)
    with pytest.raises(CacheError, match="changed by another program"):
        cache.fill(scan, {0: "0" * 64})


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
    assert report_from_note(json.loads(json.dumps(asdict(report)))) == report
    empty = DatasetReport(0, "", {}, {})
    assert report_from_note(json.loads(json.dumps(asdict(empty)))) == empty


def test_real_report_round_trips() -> None:
    samples, files = photos(count=6)
    files[5] = files[3]
    report = inspect_dataset(samples, scan=scan_of(samples, files), num_threads=1)
    assert report.duplicates
    assert report_from_note(json.loads(json.dumps(asdict(report)))) == report


def test_one_digest_of_many() -> None:
    assert digest_of(["a", "b"]) != digest_of(["b", "a"])
    assert digest_of(["a"]) == digest_of(["a"])
