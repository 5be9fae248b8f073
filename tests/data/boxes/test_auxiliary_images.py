"""Test that masks and previews are excluded, and that real images never count as masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from box_folders import coco_json, put_image, put_text, voc_xml
from PIL import Image, ImageDraw

from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.quality.box_inspection import inspect_box_dataset
from headstart.quality.report_findings import box_report_to_json
from headstart.types.codes import ReadingKind, ReadingNote

SIZE = (100, 80)
COUNT = 4


def note_of(samples: DetectionSamples, kind: ReadingKind = ReadingKind.AUXILIARY_IMAGES) -> ReadingNote:
    return next(n for n in samples.notes if n.kind is kind)


def put_mask(path: Path, mode: str = "P") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new(mode, SIZE)
    if mode == "P":
        mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 759)
    ImageDraw.Draw(mask).ellipse((10, 20, 50, 60), fill={"P": 1, "1": 1, "L": 255, "RGB": (0, 128, 0)}[mode])
    mask.save(path)


def put_preview(path: Path, image: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(image) as opened:
        drawn = opened.convert("RGB")
    ImageDraw.Draw(drawn).rectangle((10, 20, 50, 60), outline=(255, 0, 0))
    drawn.save(path)


def put_yolo(root: Path, images: str = "images/", count: int = COUNT) -> list[Path]:
    image_paths = []
    for i in range(count):
        image_paths.append(put_image(root / f"{images}pic{i}.jpg", SIZE, seed=i))
        place = root / (f"labels/pic{i}.txt" if images == "images/" else f"{images}pic{i}.txt")
        put_text(place, "0 0.3 0.5 0.4 0.5\n")
    return image_paths


@pytest.mark.parametrize(
    "mask",
    [
        "masks/{}.png",
        "images/{}_mask.png",
        "images/{}.png",
        "images/mask_{}.png",
        "gt/{}.png",
        "SegmentationClass/{}.png",
        "images/{}-seg.jpg",
        "anything/{}.png",
    ],
)
@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_masks_next_to_yolo_images_are_excluded_with_note(tmp_path: Path, mask: str, mode: str) -> None:
    if mask.endswith(".jpg") and mode == "P":
        mode = "L"
    images = put_yolo(tmp_path)
    for image in images:
        put_mask(tmp_path / mask.format(image.stem), mode)
    put_image(tmp_path / "images/empty.jpg", SIZE, seed=50)  # a real image without objects
    samples = read_boxes(tmp_path)
    assert len(samples) == COUNT + 1
    note = note_of(samples)
    assert note.count == COUNT
    assert note.is_unused
    assert list(note.evidence["folders"].values()) == [COUNT]
    assert note_of(samples, ReadingKind.IMAGES_ASSUMED_EMPTY).count == 1
    report = inspect_box_dataset(samples)
    assert report.num_empty == 1
    assert not report.is_misleading
    assert ReadingKind.AUXILIARY_IMAGES.value in [n["kind"] for n in box_report_to_json(report)["unused_data"]]


@pytest.mark.parametrize(
    "preview", ["labels_vis/{}.jpg", "images/{}_overlay.jpg", "runs/{}.png", "runs/detect/predict2/{}.jpg"]
)
def test_previews_with_drawn_boxes_are_excluded_with_note(tmp_path: Path, preview: str) -> None:
    for image in put_yolo(tmp_path):
        put_preview(tmp_path / preview.format(image.stem), image)
    samples = read_boxes(tmp_path)
    assert len(samples) == COUNT
    assert note_of(samples).count == COUNT


def test_voc_masks_do_not_make_names_ambiguous(tmp_path: Path) -> None:
    for i in range(COUNT):
        put_image(tmp_path / f"JPEGImages/pic{i}.png", SIZE, seed=i)
        put_text(tmp_path / f"Annotations/pic{i}.xml", voc_xml([("cat", (10, 20, 50, 60))], SIZE))
        for kind in ("SegmentationClass", "SegmentationObject"):
            put_mask(tmp_path / kind / f"pic{i}.png")
    put_text(tmp_path / "ImageSets/Main/train.txt", "\n".join(f"pic{i}" for i in range(COUNT)))
    samples = read_boxes(tmp_path)
    assert samples.names == tuple(f"JPEGImages/pic{i}.png" for i in range(COUNT))
    assert note_of(samples).evidence["folders"] == {"SegmentationClass/": COUNT, "SegmentationObject/": COUNT}
    assert not samples.problems


def test_unlisted_images_are_distinguished_from_masks(tmp_path: Path) -> None:
    for i in range(COUNT):
        put_image(tmp_path / f"images/pic{i}.jpg", SIZE, seed=i)
        put_mask(tmp_path / f"masks/pic{i}.png", "L")
    put_image(tmp_path / "images/other.jpg", SIZE, seed=9)
    boxes = [{"image_id": i, "category_id": 1, "bbox": [10, 20, 40, 40]} for i in range(COUNT)]
    images = {i: (f"pic{i}.jpg", SIZE) for i in range(COUNT)}
    put_text(tmp_path / "train.json", coco_json(images, boxes, {1: "cat"}))
    samples = read_boxes(tmp_path)
    assert note_of(samples).count == COUNT
    assert note_of(samples, ReadingKind.IMAGES_NOT_ANNOTATED).examples == ("images/other.jpg",)
    (tmp_path / "train.json").unlink()
    rows = "\n".join(f"images/pic{i}.jpg,cat,10,20,50,60" for i in range(COUNT))
    put_text(tmp_path / "boxes.csv", f"image,label,xmin,ymin,xmax,ymax\n{rows}\n")
    samples = read_boxes(tmp_path)
    assert note_of(samples).count == COUNT
    assert note_of(samples, ReadingKind.IMAGES_NOT_ANNOTATED).count == 1


def test_many_masks_are_detected_from_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.data.boxes import auxiliary

    for image in put_yolo(tmp_path, count=60):
        put_mask(tmp_path / f"masks/{image.stem}.png", "L")
    opened: list[str] = []
    real = auxiliary.open_image
    monkeypatch.setattr(auxiliary, "open_image", lambda path, most: opened.append(path) or real(path, most))
    assert note_of(read_boxes(tmp_path)).count == 60
    assert len(opened) < 60


def test_images_named_mask_and_other_splits_are_kept(tmp_path: Path) -> None:
    put_yolo(tmp_path, "masks/")
    put_image(tmp_path / "masks/with.jpg", SIZE, seed=20)
    put_image(tmp_path / "masks/with_mask.jpg", SIZE, seed=21)
    samples = read_boxes(tmp_path)
    assert len(samples) == COUNT + 2
    assert {n.kind for n in samples.notes} == {ReadingKind.CLASSES_NUMBERED, ReadingKind.IMAGES_ASSUMED_EMPTY}


def test_other_images_of_same_name_are_kept(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for i in range(COUNT):
            put_image(tmp_path / f"{split}/images/{i}.jpg", SIZE, seed=i + 10 * (split == "test"))
            if split == "train":
                put_text(tmp_path / f"{split}/labels/{i}.txt", "0 0.3 0.5 0.4 0.5\n")
    put_image(tmp_path / "background/0.jpg", SIZE, seed=77)
    samples = read_boxes(tmp_path)
    assert len(samples) == 2 * COUNT + 1
    assert ReadingKind.AUXILIARY_IMAGES not in [n.kind for n in samples.notes]


def test_image_with_few_colors_is_not_a_mask(tmp_path: Path) -> None:
    for i in range(COUNT):
        put_mask(tmp_path / f"images/pic{i}.png", "RGB")  # a line drawing
        put_text(tmp_path / f"Annotations/pic{i}.xml", voc_xml([("cat", (10, 20, 50, 60))], SIZE))
        noise = np.random.default_rng(i).normal(0, 9, (SIZE[1], SIZE[0], 3))
        with Image.open(tmp_path / f"images/pic{i}.png") as drawing:
            pixels = np.clip(np.asarray(drawing) + noise, 0, 255).astype(np.uint8)
        (tmp_path / "vis").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"vis/pic{i}.jpg")
    samples = read_boxes(tmp_path)
    assert samples.names == tuple(f"images/pic{i}.png" for i in range(COUNT))
    assert note_of(samples).evidence["folders"] == {"vis/": COUNT}


def test_unreadable_file_is_not_a_mask(tmp_path: Path) -> None:
    for image in put_yolo(tmp_path):
        put_text(tmp_path / f"masks/{image.stem}.png", "no image")
    samples = read_boxes(tmp_path)
    assert ReadingKind.AUXILIARY_IMAGES not in [n.kind for n in samples.notes]
    assert [p.kind for p in samples.problems] == ["unreadable-image"] * COUNT
