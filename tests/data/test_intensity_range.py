"""Test the common range of 16-bit and float images, taken from training images only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scenes import encode, samples_of, scan_of, scene

from headstart.data.image_scan import scan_images
from headstart.data.sources import read
from headstart.errors import UsageError
from headstart.preprocessing.image_spec import ImageSpec, read_image
from headstart.quality.inspection import inspect_dataset
from headstart.quality.intensity_range import choose_range, find_mixed_depths, has_16_bit, parse_range
from headstart.types.codes import DecisionReason, FindingKind
from headstart.types.records import Decision


def values(seed: int, low: float, high: float, size: tuple[int, int] = (50, 40)) -> NDArray[np.float64]:
    """Return an image that fills low to high."""
    gray = np.asarray(scene(seed, size).convert("L"), dtype=np.float64)
    gray = (gray - gray.min()) / (gray.max() - gray.min())
    return low + (high - low) * gray


def deep(array: NDArray[np.float64]) -> bytes:
    return encode(Image.fromarray(array.astype(np.uint16)), "PNG")


def floating(array: NDArray[np.float64]) -> bytes:
    return encode(Image.fromarray(array.astype(np.float32)), "TIFF")


def chosen(
    files: list[bytes], splits: list[str | None] | None = None, given: tuple[float, float] | None = None
) -> tuple[tuple[float, float] | None, Decision | None]:
    samples = samples_of([str(i) for i in range(len(files))], ["a", "b"] * (len(files) // 2), splits)
    return choose_range(samples, scan_of(samples, files), given)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_range_is_used_bit_depth(bits: int) -> None:
    top = 2**bits - 1
    files = [deep(values(s, 0.02 * top, rest * top)) for s, rest in zip(range(8), [0.9, 0.7, 1, 0.8] * 2, strict=True)]
    intensity_range, decision = chosen(files)
    assert intensity_range == (0, top)
    assert decision is not None
    assert decision.reason is DecisionReason.VALUE_RANGE_OF_BITS
    assert decision.value == [0, top]


def test_hot_pixel_gives_robust_range() -> None:
    """The bit depth in use would make them all black."""
    files = []
    for s in range(12):
        array = values(s, 300, 900)
        array[3, 3] = 40_000
        files.append(deep(array))
    intensity_range, decision = chosen(files)
    assert intensity_range is not None
    low, high = intensity_range
    assert 250 <= low <= 400
    assert 800 <= high <= 1200
    assert decision is not None
    assert decision.reason is DecisionReason.VALUE_RANGE_OF_PERCENTILES
    assert decision.evidence["largest_value"] == 40_000


def test_outlier_image_does_not_change_range() -> None:
    files = [floating(values(s, -2, 3)) for s in range(30)]
    plain, _ = chosen(files)
    odd, _ = chosen([*files, floating(values(50, -4000, 9000)), floating(values(51, -2, 3))])
    assert plain is not None
    assert odd is not None
    assert np.abs(np.subtract(plain, odd)).max() < 0.5
    assert -2.2 < plain[0] < -1.5
    assert 2.5 < plain[1] < 3.2


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_floats_in_a_usual_range(top: float) -> None:
    assert chosen([floating(values(s, 0.01 * top, 0.97 * top)) for s in range(6)])[0] == (0, top)


def test_small_floats_are_not_zero_to_one() -> None:
    intensity_range, _ = chosen([floating(values(s, 0, 0.01)) for s in range(6)])
    assert intensity_range is not None
    assert intensity_range[1] < 0.02


def test_training_images_only() -> None:
    """Test images twenty times as bright change nothing."""
    train = [deep(values(s, 10, 1000)) for s in range(6)]
    test = [deep(values(s, 10, 60_000)) for s in range(6, 12)]
    alone, _ = chosen(train)
    both, decision = chosen(train + test, ["train"] * 6 + ["test"] * 3 + ["val"] * 3)
    assert alone == both == (0, 1023)
    assert decision is not None
    assert (decision.evidence["num_images"], decision.evidence["is_from_training"]) == (6, True)
    assert chosen(train + test, [None] * 12)[0] == (0, 65535)


def test_deep_images_in_test_only_are_reported() -> None:
    files = [encode(scene(s)) for s in range(4)] + [deep(values(s, 0, 4000)) for s in range(2)]
    intensity_range, decision = chosen(files, ["train"] * 4 + ["test"] * 2)
    assert intensity_range == (0, 4095)
    assert decision is not None
    assert (decision.evidence["num_images"], decision.evidence["is_from_training"]) == (2, False)


def test_one_range_for_all_images() -> None:
    """Brightness is kept: of two images with one range the brighter one stays brighter."""
    files = [deep(values(s, 0.4 * top, top)) for s, top in enumerate((500, 1000, 2000, 4000))]
    intensity_range, _ = chosen(files)
    spec = ImageSpec(size_hw=(32, 32), intensity_range=intensity_range)
    means = [read_image(data, spec).mean() for data in files]
    assert means == sorted(means)
    assert means[3] > 5 * means[0]


def test_8_bit_images_need_no_range() -> None:
    assert chosen([encode(scene(s)) for s in range(4)]) == (None, None)
    assert choose_range(samples_of([]), scan_of(samples_of([]), [])) == (None, None)


def test_mixed_integer_and_float_images_are_reported() -> None:
    files = [deep(values(s, 0, 60_000)) for s in range(3)] + [floating(values(s, 0, 1)) for s in range(2)]
    scan = scan_of(samples_of(list("abcde")), files)
    (finding,) = find_mixed_depths(scan)
    assert (finding.kind, finding.evidence) == (FindingKind.MIXED_PIXEL_TYPES, {"num_float": 2, "num_integer": 3})
    assert find_mixed_depths(scan_of(samples_of(list("abc")), files[:3])) == []
    assert find_mixed_depths(scan_of(samples_of(list("ab")), files[3:])) == []
    assert inspect_dataset(samples_of(list("abcde")), scan=scan, num_threads=1).findings[0] == finding


def test_requested_range_is_used() -> None:
    intensity_range, decision = chosen([deep(values(s, 0, 60_000)) for s in range(4)], given=(100, 900))
    assert intensity_range == (100, 900)
    assert decision is not None
    assert decision.source == "cli"
    assert chosen([encode(scene(s)) for s in range(4)], given=(100, 900)) == (None, None)


def test_images_of_one_value() -> None:
    intensity_range, decision = chosen([floating(np.full((9, 9), 7.5))] * 4)
    assert intensity_range == (7.5, 8.5)
    assert decision is not None
    assert decision.reason is DecisionReason.VALUE_RANGE_CONSTANT


def test_nan_values_are_ignored() -> None:
    files = []
    for s in range(6):
        array = values(s, 0, 0.9)
        array[0, :5] = np.nan
        files.append(floating(array))
    assert chosen(files)[0] == (0, 1)


@pytest.mark.parametrize(
    ("name", "data", "may_be"),
    [
        ("a.png", deep(values(1, 0, 900)), True),
        ("a.tif", floating(values(1, 0, 1)), True),
        ("no_ending", deep(values(1, 0, 900)), True),
        ("a.pgm", b"P5\n4 4\n65535\n" + bytes(32), True),
        ("a.png", encode(scene(1, (20, 20)), "PNG"), False),
        ("a.png", encode(scene(1, (20, 20)).convert("L"), "PNG"), False),
        ("a.jpg", encode(scene(1, (20, 20))), False),
        ("misnamed.jpg", deep(values(1, 0, 900)), True),
        ("misnamed.WEBP", floating(values(1, 0, 1)), True),
        ("a.webp", encode(scene(1, (20, 20)), "WEBP"), False),
        ("a.png", b"", False),
        ("a.png", b"\x89PNG", False),
    ],
)
def test_may_have_deep_images(tmp_path: Path, name: str, data: bytes, may_be: bool) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert has_16_bit([str(path)]) == may_be
    assert has_16_bit([str(tmp_path / "gone.png"), str(tmp_path), str(path)]) == may_be


def test_has_16_bit_covers_every_deep_image(tmp_path: Path) -> None:
    """Otherwise a network would get it without the range."""
    arrays = [values(s, 0, 4000) for s in range(4)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    Image.fromarray(arrays[0].astype(np.uint16)).save(tmp_path / "a" / "0.png")
    Image.fromarray(arrays[1].astype(np.uint16)).save(tmp_path / "a" / "1.tif")
    Image.fromarray(arrays[2].astype(np.int32)).save(tmp_path / "b" / "2.tif")
    Image.fromarray(arrays[3].astype(np.float32)).save(tmp_path / "b" / "3.tiff", compression="tiff_lzw")
    samples = read(tmp_path)
    scan = scan_images(samples, num_threads=1)
    assert all(f is not None and f.quantiles is not None for f in scan.info)
    assert all(has_16_bit([path]) for path in samples.paths)


def test_parse_range() -> None:
    assert parse_range("0,4095") == (0, 4095)
    assert parse_range(" -1.5 , 2e3 ") == (-1.5, 2000)
    for text in ("", "5", "1,2,3", "a,b", "5,5", "7,3", "0,inf", "nan,1"):
        with pytest.raises(UsageError, match="--intensity-range"):
            parse_range(text)
