"""Test that datasets with boxes in archives are read as their unpacked folders are."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from box_folders import coco_json, put_image, put_text, voc_xml
from typer.testing import CliRunner

from headstart.cli.main import app
from headstart.data.boxes.reader import has_boxes, read_boxes
from headstart.data.sources import read
from headstart.errors import DataError, UsageError
from headstart.types.codes import ReadingKind

BOX = ("cat", (10, 20, 50, 60))
RUNNER = CliRunner()


def write(folder: Path, kind: str) -> None:
    for i in range(3):
        put_image(folder / "images" / f"{i}.png", seed=i)
        if kind == "voc":
            put_text(folder / "annotations" / f"{i}.xml", voc_xml([BOX]))
        elif kind == "yolo":
            put_text(folder / "labels" / f"{i}.txt", "0 0.3 0.5 0.4 0.5\n")
    if kind == "coco":
        boxes = [{"image_id": i, "category_id": 1, "bbox": [10, 20, 40, 40]} for i in range(3)]
        text = coco_json({i: (f"{i}.png", (100, 80)) for i in range(3)}, boxes, {1: "cat"})
        put_text(folder / "annotations" / "instances.json", text)


def pack(folder: Path, out: Path, form: str) -> Path:
    """Return the archive of a folder, or a folder with one archive for each of its folders."""
    if form in ("zip", "tar"):
        return Path(shutil.make_archive(str(out / "data"), form, folder))
    for inner in folder.iterdir():
        shutil.make_archive(str(out / "packed" / inner.name), "zip", inner)
    return out / "packed"


@pytest.mark.parametrize("form", ["zip", "tar", "several"])
@pytest.mark.parametrize("kind", ["voc", "yolo", "coco"])
def test_archives_are_read_as_folders(tmp_path: Path, kind: str, form: str) -> None:
    write(tmp_path / "plain", kind)
    packed = pack(tmp_path / "plain", tmp_path / "out", form)
    expected, samples = read_boxes(tmp_path / "plain"), read_boxes(packed)
    assert has_boxes(packed)
    assert samples.names == expected.names == tuple(f"images/{i}.png" for i in range(3))
    assert samples.class_names == expected.class_names
    assert np.array_equal(np.stack([b.xyxy for b in samples.boxes]), np.stack([b.xyxy for b in expected.boxes]))
    unpacked = [n.count for n in samples.notes if n.kind is ReadingKind.ARCHIVES_UNPACKED]
    assert unpacked == ([] if form != "several" else [2])


def test_archived_images_beside_annotations(tmp_path: Path) -> None:
    write(tmp_path / "plain", "coco")
    packed = tmp_path / "packed"
    shutil.make_archive(str(packed / "images"), "zip", tmp_path / "plain" / "images")
    shutil.copy(tmp_path / "plain" / "annotations" / "instances.json", packed)
    assert has_boxes(packed)
    assert len(read_boxes(packed)) == 3


@pytest.mark.parametrize("kind", ["voc", "yolo", "coco"])
def test_archived_annotations_beside_images(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "plain", kind)
    expected = read_boxes(tmp_path / "plain")
    (inner,) = [f for f in (tmp_path / "plain").iterdir() if f.name != "images"]
    shutil.make_archive(str(inner), "zip", inner)
    shutil.rmtree(inner)
    put_text(tmp_path / "plain" / "README.txt", "Photos of cats.")
    assert has_boxes(tmp_path / "plain")
    samples = read_boxes(tmp_path / "plain")
    assert samples.names == expected.names
    assert [b.xyxy.tolist() for b in samples.boxes] == [b.xyxy.tolist() for b in expected.boxes]
    assert [n.count for n in samples.notes if n.kind is ReadingKind.ARCHIVES_UNPACKED] == [1]


def test_names_in_archives_follow_the_given_encoding(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        image = put_image(tmp_path / "a.png").read_bytes()
        for ending, content in ((".png", image), (".xml", voc_xml([BOX]).encode())):
            info = zipfile.ZipInfo("xxxx" + ending)
            archive.writestr(info, content)
    raw = (tmp_path / "data.zip").read_bytes().replace(b"xxxx", "\u87ba\u6813".encode("gbk"))
    (tmp_path / "data.zip").write_bytes(raw)
    samples = read_boxes(tmp_path / "data.zip", name_encoding="gbk")
    assert samples.names == ("\u87ba\u6813.png",)
    assert read_boxes(tmp_path / "data.zip", name_encoding="cp866").names != samples.names
    with pytest.raises(UsageError):
        read_boxes(tmp_path / "data.zip", name_encoding="klingon")


def test_archives_of_labeled_images_have_no_boxes(tmp_path: Path) -> None:
    for label in ("a", "b"):
        put_image(tmp_path / "plain" / label / "1.png")
    packed = pack(tmp_path / "plain", tmp_path / "out", "zip")
    assert not has_boxes(packed)
    assert len(read(packed)) == 2


def test_bad_archives(tmp_path: Path) -> None:
    bad = put_text(tmp_path / "bad.zip", "x")
    assert not has_boxes(bad)
    with pytest.raises(DataError):
        read_boxes(bad)
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("../a.xml", voc_xml([BOX]))
    with pytest.raises(DataError):
        read_boxes(tmp_path / "out.zip")


def test_commands_accept_archives(tmp_path: Path) -> None:
    write(tmp_path / "plain", "voc")
    packed = str(pack(tmp_path / "plain", tmp_path / "out", "zip"))
    assert RUNNER.invoke(app, ["check", packed, "--pixels-only", "--json", "-"]).exit_code in (0, 3)
    assert RUNNER.invoke(app, ["show", packed, "--out", str(tmp_path / "sheet.png")]).exit_code == 0
    result = RUNNER.invoke(app, ["convert", packed, "--to", "yolo", "--out", str(tmp_path / "yolo"), "--copy-images"])
    assert result.exit_code == 0
    assert len(read_boxes(tmp_path / "yolo")) == 3
