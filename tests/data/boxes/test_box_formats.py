"""Test boxes whose numbers contradict the stated format: converted and reported, or refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from box_folders import coco_json, put_image, put_text, voc_xml
from numpy.typing import NDArray

from headstart.data.boxes.formats import BOX_FORMATS, BoxFormat, choose_format
from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.errors import BoxFormatError, UsageError
from headstart.types.codes import ReadingKind

WIDTH, HEIGHT = 160, 120
NUM_IMAGES, PER_IMAGE = 6, 3
Array = NDArray[np.float64]


def true_boxes(seed: int = 0) -> Array:
    """Return (N, 4) corners in pixels that are spread over the image."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(1, (WIDTH - 40, HEIGHT - 40), (NUM_IMAGES * PER_IMAGE, 2))
    low[:4] = [[1, 1], [118, 2], [3, 85], [120, 88]]  # all four corners occur
    return np.concatenate([low, low + rng.uniform(20, 38, low.shape)], axis=1).round()


def written(corners: Array, name: str) -> Array:
    """Return the numbers of a box format for corners in pixels: the inverse of `BoxFormat.to_corners`."""
    box_format = BOX_FORMATS[name]
    low, high = corners[:, :2], corners[:, 2:]
    if box_format.is_relative:
        low, high = (v / (WIDTH, HEIGHT) * box_format.scale for v in (low, high))
    if box_format.layout == "cxcywh":
        pair = (low + high) / 2, high - low
    else:
        pair = low, high - low if box_format.layout in ("xywh", "yxhw") else high
    order = [1, 0, 3, 2] if box_format.layout in ("yxyx", "yxhw") else [0, 1, 2, 3]
    return np.concatenate(pair, axis=1)[:, order]


def put_images(root: Path) -> list[str]:
    names = [f"a{i}.jpg" for i in range(NUM_IMAGES)]
    for i, name in enumerate(names):
        put_image(root / name, (WIDTH, HEIGHT), seed=i)
    return names


def write_coco(root: Path, values: Array) -> None:
    images = {i: (n, (WIDTH, HEIGHT)) for i, n in enumerate(put_images(root))}
    boxes = [{"image_id": i // PER_IMAGE, "category_id": 1, "bbox": v.tolist()} for i, v in enumerate(values)]
    put_text(root / "train.json", coco_json(images, boxes, {1: "nut"}))


def write_csv(root: Path, values: Array, columns: str = "xmin,ymin,xmax,ymax") -> None:
    names = put_images(root)
    lines = [f"{names[i // PER_IMAGE]},nut,{','.join(map(repr, v.tolist()))}" for i, v in enumerate(values)]
    put_text(root / "boxes.csv", f"filename,class,{columns}\n" + "\n".join(lines) + "\n")


def write_voc(root: Path, values: Array) -> None:
    for k, name in enumerate(put_images(root)):
        boxes = [("nut", tuple(v)) for v in values[k * PER_IMAGE : (k + 1) * PER_IMAGE].tolist()]
        put_text(root / f"{name[:-4]}.xml", voc_xml(boxes, (WIDTH, HEIGHT)))  # type: ignore[arg-type]


def write_yolo(root: Path, values: Array) -> None:
    for k, name in enumerate(put_images(root)):
        boxes = values[k * PER_IMAGE : (k + 1) * PER_IMAGE].tolist()
        put_text(root / f"{name[:-4]}.txt", "".join(f"0 {' '.join(map(repr, v))}\n" for v in boxes))


def corners_of(samples: DetectionSamples) -> Array:
    return np.concatenate([b.xyxy for b in samples.boxes]).astype(np.float64)


def kinds(samples: DetectionSamples) -> list[ReadingKind]:
    return [note.kind for note in samples.notes if note.kind is not ReadingKind.CLASSES_NUMBERED]


@pytest.mark.parametrize(
    ("write", "stated", "actual", "is_taken"),
    [
        (write_coco, "xywh", "rel_xywh", True),
        (write_coco, "xywh", "rel_xyxy", True),
        (write_coco, "xywh", "rel_cxcywh", True),
        (write_coco, "xywh", "xyxy", True),
        (write_csv, "xyxy", "rel_xyxy", True),
        (write_csv, "xyxy", "xywh", False),  # columns name the corners: another layout is never taken
        (write_csv, "xyxy", "yxyx", False),
        (write_csv, "xyxy", "rel_xywh", False),
        (write_csv, "xyxy", "rel_cxcywh", False),
        (write_voc, "xyxy", "rel_xyxy", True),
        (write_voc, "xyxy", "xywh", False),
        (write_voc, "xyxy", "yxyx", False),
        (write_yolo, "rel_cxcywh", "cxcywh", True),
        (write_yolo, "rel_cxcywh", "xyxy", True),
        (write_yolo, "rel_cxcywh", "xywh", True),
        (write_yolo, "rel_cxcywh", "rel_xyxy", True),
    ],
)
def test_boxes_in_another_format_are_converted_or_refused(
    tmp_path: Path, write: Callable[[Path, Array], None], stated: str, actual: str, is_taken: bool
) -> None:
    corners = true_boxes()
    write(tmp_path, written(corners, actual))
    if is_taken:
        samples = read_boxes(tmp_path)
        np.testing.assert_allclose(corners_of(samples), corners, atol=1e-3)
        assert (samples.notes[0].evidence["stated"], samples.notes[0].evidence["used"]) == (stated, actual)
        assert not samples.problems
        assert kinds(samples) == [ReadingKind.BOX_FORMAT_ASSUMED]
    else:
        with pytest.raises(BoxFormatError) as caught:
            read_boxes(tmp_path)
        assert (caught.value.stated, caught.value.exit_code) == (stated, 3)
        assert actual in caught.value.fitting
        assert actual in str(caught.value.hint)
    requested = read_boxes(tmp_path, box_format=actual)
    np.testing.assert_allclose(corners_of(requested), corners, atol=1e-3)
    assert not requested.problems
    assert not kinds(requested)


@pytest.mark.parametrize(
    ("write", "stated"), [(write_coco, "xywh"), (write_csv, "xyxy"), (write_voc, "xyxy"), (write_yolo, "rel_cxcywh")]
)
def test_stated_format_gives_no_notes(tmp_path: Path, write: Callable[[Path, Array], None], stated: str) -> None:
    corners = true_boxes(1)
    write(tmp_path, written(corners, stated))
    samples = read_boxes(tmp_path)
    np.testing.assert_allclose(corners_of(samples), corners, atol=1e-3)
    assert not samples.problems
    assert not kinds(samples)


def test_fractions_may_exceed_range_by_rounding(tmp_path: Path) -> None:
    values = written(true_boxes(), "rel_xyxy")
    values[0, 2] = 1.0000001
    values[1, 0] = -1e-7
    write_csv(tmp_path, values)
    samples = read_boxes(tmp_path)
    assert samples.num_boxes == len(values)
    assert kinds(samples) == [ReadingKind.BOX_FORMAT_ASSUMED]


@pytest.mark.parametrize("stated", ["xywh", "xyxy", "rel_cxcywh"])
@pytest.mark.parametrize("seed", range(5))
def test_objects_beyond_image_keep_stated_format(stated: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.uniform(-0.1, 0.95, (200, 2)) * (WIDTH, HEIGHT)
    corners = np.concatenate([low, low + rng.uniform(10, 60, (200, 2))], axis=1)  # as written by trackers
    sizes = np.full((200, 2), (WIDTH, HEIGHT), dtype=np.float64)
    outside = ((corners < -10) | (corners > [WIDTH + 10, HEIGHT + 10] * 2)).any(axis=1)
    assert 0.1 < outside.mean() < 0.5
    choice = choose_format(
        written(corners, stated), sizes, BOX_FORMATS[stated], source="x", is_layout_certain=stated == "xyxy"
    )
    assert not choice.is_assumed


def test_one_small_box_does_not_change_the_format(tmp_path: Path) -> None:
    values = true_boxes()
    values[5] = [0, 0, 1, 1]
    write_csv(tmp_path, values)
    samples = read_boxes(tmp_path)
    assert samples.num_boxes == len(values)
    assert not samples.problems


def test_boxes_below_one_pixel_are_dropped_and_reported(tmp_path: Path) -> None:
    values = true_boxes()
    values[5] = written(values[5:6], "rel_xyxy")[0]
    write_csv(tmp_path, values)
    samples = read_boxes(tmp_path)
    assert samples.num_boxes == len(values) - 1
    assert [(p.kind, p.name) for p in samples.problems] == [("under-a-pixel", "a1.jpg")]


@pytest.mark.parametrize("write", [write_coco, write_csv, write_voc, write_yolo])
def test_boxes_of_larger_images_are_refused(tmp_path: Path, write: Callable[[Path, Array], None]) -> None:
    stated = {write_coco: "xywh", write_yolo: "rel_cxcywh"}.get(write, "xyxy")
    write(tmp_path, written(true_boxes() * 4 + 60, stated))
    for file in tmp_path.glob("*.xml"):  # the stated size explains them
        file.write_text(file.read_text().replace("<size>", "<other>").replace("</size>", "</other>"))
    for file in tmp_path.glob("*.json"):
        value = json.loads(file.read_text())
        file.write_text(json.dumps(value | {"images": [i | {"width": 0, "height": 0} for i in value["images"]]}))
    with pytest.raises(BoxFormatError) as caught:
        read_boxes(tmp_path)
    assert caught.value.fitting == ()


def test_few_boxes_over_edge_are_clipped_but_most_raise(tmp_path: Path) -> None:
    corners = true_boxes()
    corners[7, 2] = WIDTH + 20
    write_csv(tmp_path, corners)
    assert [p.kind for p in read_boxes(tmp_path).problems] == ["over-edge"]
    corners[:, 2] = WIDTH + 20
    write_csv(tmp_path, corners)
    with pytest.raises(BoxFormatError):
        read_boxes(tmp_path)


@pytest.mark.parametrize("scale", ["percent", "permille"])
def test_percent_and_thousandths_raise(scale: str) -> None:
    corners = true_boxes(2)
    size = np.full((len(corners), 2), (40 * WIDTH, 40 * HEIGHT), dtype=np.float64)
    values = written(corners, f"{scale}_xyxy")
    with pytest.raises(BoxFormatError) as caught:
        choose_format(values, size, BoxFormat("xyxy"), source="x.csv", is_layout_certain=True)
    assert caught.value.fitting == (f"{scale}_xyxy",)
    spread = values.copy()
    spread[0] = size[0, 0] * 0.8
    spread[0, 2:] += 50
    assert not choose_format(spread, size, BoxFormat("xyxy"), source="x", is_layout_certain=True).is_assumed


def test_two_fitting_formats_are_both_listed(tmp_path: Path) -> None:
    low = np.random.default_rng(0).uniform(50, 60, (18, 2))
    corners = np.concatenate([low, low + 12], axis=1)  # central, so that corners and centers are indistinguishable
    write_coco(tmp_path, written(corners, "rel_xywh"))
    with pytest.raises(BoxFormatError) as caught:
        read_boxes(tmp_path)
    assert set(caught.value.fitting) == {"rel_xywh", "rel_cxcywh"}
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.fitting, str(again)) == (caught.value.fitting, str(caught.value))


def test_pixel_boxes_in_text_files_are_read(tmp_path: Path) -> None:
    write_yolo(tmp_path, written(true_boxes(), "cxcywh"))
    assert kinds(read_boxes(tmp_path)) == [ReadingKind.BOX_FORMAT_ASSUMED]


def test_outlines_keep_their_layout_and_follow_the_unit(tmp_path: Path) -> None:
    put_image(tmp_path / "a.jpg", (WIDTH, HEIGHT))
    put_text(tmp_path / "a.txt", "0 40 30 80 30 80 90 40 90\n")
    put_text(tmp_path / "classes.txt", "nut\n")
    put_text(tmp_path / "data.yaml", "train: .\nnames: [nut]\n")
    assert corners_of(read_boxes(tmp_path)).tolist() == [[40, 30, 80, 90]]
    assert corners_of(read_boxes(tmp_path, box_format="cxcywh")).tolist() == [[40, 30, 80, 90]]


@pytest.mark.parametrize(("digits", "is_read"), [(4, True), (3, True), (2, False), (1, False)])
def test_coarsely_rounded_fractions_are_refused(tmp_path: Path, digits: int, is_read: bool) -> None:
    corners = true_boxes()
    write_yolo(tmp_path, written(corners, "rel_cxcywh").round(digits))  # 1.5 * 0.5 * 0.01 * 160 = 1.2 pixels
    if is_read:
        assert np.abs(corners_of(read_boxes(tmp_path)) - corners).max() <= 1
        return
    with pytest.raises(BoxFormatError) as caught:
        read_boxes(tmp_path)
    assert caught.value.fitting == ("rel_cxcywh",)
    assert len(read_boxes(tmp_path, box_format="rel_cxcywh")) == NUM_IMAGES


def test_corners_swapped_in_most_but_not_all_boxes_are_refused() -> None:
    rng = np.random.default_rng(3)
    low = rng.uniform(0, 500, (24, 2))
    values = np.concatenate([low, rng.uniform(100, 500, low.shape)], axis=1)  # widths and heights in columns of corners
    sizes = np.full((24, 2), [1000.0, 1000.0])
    is_swapped = (values[:, :2] > values[:, 2:]).any(axis=1)
    assert 0.5 < is_swapped.mean() < 0.98
    with pytest.raises(BoxFormatError):
        choose_format(values, sizes, BoxFormat("xyxy"), source="a.csv", is_layout_certain=True)


def test_whole_thousandths_of_larger_images_are_refused() -> None:
    rng = np.random.default_rng(0)
    low = rng.integers(0, 800, (24, 2)).astype(float)
    low[:2] = [[790, 799], [799, 780]]
    values, sizes = np.concatenate([low, low + 200], axis=1), np.full((24, 2), [1920.0, 1080.0])
    with pytest.raises(BoxFormatError):
        choose_format(values, sizes, BoxFormat("xyxy"), source="a.csv", is_layout_certain=True)


def test_unknown_format_lists_known_ones(tmp_path: Path) -> None:
    write_voc(tmp_path, true_boxes())
    with pytest.raises(UsageError, match="rel_xyxy"):
        read_boxes(tmp_path, box_format="pascal")


@pytest.mark.parametrize("name", BOX_FORMATS)
def test_formats_are_converted_to_corners(name: str) -> None:
    corners = true_boxes(3)
    result = BOX_FORMATS[name].to_corners(written(corners, name), np.array([WIDTH, HEIGHT], dtype=np.float64))
    np.testing.assert_allclose(result, corners)
    assert BOX_FORMATS[name].name == name
