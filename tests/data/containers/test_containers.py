"""Test reading arrays, tar shards, parquet files and archives."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from headstart.data.archive_names import guess_encoding
from headstart.data.containers import store
from headstart.data.sources import read
from headstart.errors import DataError, HeadstartError, UsageError
from headstart.preprocessing.image_spec import ImageError, open_image, read_bytes
from headstart.types.codes import ReadingKind
from headstart.types.records import Samples

X = np.random.default_rng(0).integers(0, 256, (12, 8, 9, 3), dtype=np.uint8)
Y = np.arange(12) % 3
NAMES = ["cat", "dog", "owl"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pixels(samples: Samples, i: int) -> NDArray[np.uint8]:
    with open_image(samples[i].path, 1 << 20) as image:
        return np.asarray(image)


def png(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(X[i]).save(buffer, "PNG")
    return buffer.getvalue()


def put_tar(path: Path, members: dict[str, bytes], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def put_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        (("train_images", "train_labels", "val_images", "val_labels"), "d.npz/train_images#0"),
        (("x_train", "y_train", "x_test", "y_test"), "d.npz/x_train#0"),
        (("trainX", "trainY", "testX", "testY"), "d.npz/trainX#0"),
    ],
)
def test_keys_of_arrays_give_splits(tmp_path: Path, keys: tuple[str, ...], place: str) -> None:
    np.savez(tmp_path / "d.npz", **dict(zip(keys, (X[:8], Y[:8, None], X[8:], Y[8:, None]), strict=True)))  # type: ignore[arg-type]
    samples = read(tmp_path / "d.npz")
    assert samples.names[0] == place
    assert [s.label for s in samples] == [str(y) for y in Y]
    assert sorted(Counter(s.split for s in samples).values()) == [4, 8]
    assert (pixels(samples, 0) == X[0]).all()
    assert samples.inventory.tables[0].num_used == 12
    assert read(tmp_path / "d.npz").paths == samples.paths


@pytest.mark.parametrize(
    ("images", "scaled"),
    [
        (X.transpose(0, 3, 1, 2), None),
        (X.astype(np.int64), None),
        ((X / 255).astype(np.float32), "unit"),
        (X.astype(np.float64), None),
    ],
)
def test_arrays_of_other_shapes_and_types(tmp_path: Path, images: NDArray[Any], scaled: str | None) -> None:
    np.savez(tmp_path / "d.npz", images, Y)
    samples = read(tmp_path / "d.npz")
    assert samples.names[11] == "d.npz#11"
    assert (pixels(samples, 5) == X[5]).all()
    notes = {n.kind: n for n in samples.notes}
    assert (notes[ReadingKind.VALUES_SCALED].evidence["scale"] if scaled else None) == scaled


def test_stacks_keep_every_page(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=np.repeat(X[:, None, :, :, 0], 6, axis=1), labels=Y)
    with open_image(read(tmp_path / "d.npz")[0].path, 1 << 20) as image:
        assert (getattr(image, "n_frames", 1), image.size) == (6, (9, 8))


def test_16_bit_values_are_kept(tmp_path: Path) -> None:
    deep = X[..., 0].astype(np.uint16) * 16
    np.savez(tmp_path / "d.npz", images=deep, labels=Y)
    assert (pixels(read(tmp_path / "d.npz"), 3) == deep[3]).all()


def test_class_names_in_the_container(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=X, labels=Y, class_names=np.array(NAMES))
    samples = read(tmp_path / "d.npz")
    assert [s.label for s in samples][:3] == NAMES
    assert ReadingKind.NAMES_FROM_FILE in {n.kind for n in samples.notes}
    np.savez(tmp_path / "e.npz", images=X[1:], labels=Y[1:] % 2 + 1, class_names=np.array([*NAMES, "yak"]))
    with pytest.raises(UsageError, match="--first-id"):
        read(tmp_path / "e.npz")
    assert read(tmp_path / "e.npz", first_id=0).class_names == ("dog", "owl")


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": X, "labels": Y[:5]},
        {"images": (X / 255 - 0.5) / 0.2, "labels": Y},
        {"images": X, "labels": np.ones((12, 14))},
        {"features": np.zeros((12, 65)), "labels": Y},
        {"images": np.full((12, 8, 8), np.nan), "labels": Y},
        {"images": np.array([None] * 12, dtype=object), "labels": Y},
        {"images": X},
    ],
)
def test_arrays_that_cannot_be_used_are_refused(tmp_path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    np.savez(tmp_path / "d.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError):
        read(tmp_path / "d.npz")


def test_other_arrays_are_columns_or_named_as_unused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=X, labels=Y, masks=X[..., 0] > 9, patient=np.arange(12) // 2)
    samples = read(tmp_path / "d.npz")
    assert [u.path for u in samples.inventory.unused] == ["d.npz/masks"]
    assert samples.columns["patient"][-1] == "5"


def test_arrays_and_idx_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "data.npy", X)
    np.save(tmp_path / "npy" / "labels.npy", Y)
    assert read(tmp_path / "npy").names[2] == "data.npy#2"
    (tmp_path / "idx").mkdir()
    for name, array in (("train-images", X[:8, ..., 0]), ("train-labels", Y[:8]), ("t10k-images", X[8:, ..., 0])):
        shape = np.array(array.shape, dtype=">u4").tobytes()
        data = bytes((0, 0, 8, array.ndim)) + shape + array.astype(np.uint8).tobytes()
        (tmp_path / "idx" / f"{name}-idx{array.ndim}-ubyte.gz").write_bytes(gzip.compress(data))
    data = bytes((0, 0, 8, 1, 0, 0, 0, 4)) + Y[8:].astype(np.uint8).tobytes()
    (tmp_path / "idx" / "t10k-labels-idx1-ubyte").write_bytes(data)
    samples = read(tmp_path / "idx")
    assert Counter(s.split for s in samples) == {"train": 8, "test": 4}
    assert {s.label for s in samples} == {"0", "1", "2"}


def test_many_images_take_one_file(tmp_path: Path, cache: Path) -> None:
    np.savez(tmp_path / "d.npz", images=np.zeros((3000, 8, 8), np.uint8), labels=np.arange(3000) % 3)
    assert len(read(tmp_path / "d.npz")) == 3000
    assert sum(p.is_file() for p in cache.rglob("*")) == 2


@pytest.mark.parametrize(("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz")])
@pytest.mark.parametrize("kind", ["cls", "json", "txt"])
def test_tar_shards(tmp_path: Path, suffix: str, mode: str, kind: str) -> None:
    for split, part in (("train", range(8)), ("val", range(8, 12))):
        members = {}
        for i in part:
            members[f"{i:06d}.png"] = png(i)
            label = json.dumps({"label": NAMES[Y[i]], "id": i}) if kind == "json" else NAMES[Y[i]]
            members[f"{i:06d}.{kind}"] = label.encode()
        put_tar(tmp_path / f"{split}-000{suffix}", members, mode)
    samples = read(tmp_path)
    assert samples.names[0] == f"train-000{suffix}/000000.png"
    assert [s.label for s in samples] == [NAMES[y] for y in Y]
    assert Counter(s.split for s in samples) == {"train": 8, "val": 4}
    assert read_bytes(samples[3].path) == png(3)


def test_archives_of_folders(tmp_path: Path) -> None:
    members = {f"{NAMES[Y[i]]}/{i}.png": png(i) for i in range(12)}
    assert read(put_tar(tmp_path / "a.tar.bz2", members, "w:bz2")).class_names == tuple(NAMES)
    (tmp_path / "classes").mkdir()
    for k, name in enumerate(NAMES):
        put_tar(tmp_path / "classes" / f"{name}.tar", {f"{i}.png": png(i) for i in range(12) if Y[i] == k})
    assert read(tmp_path / "classes").names[0] == "cat/0.png"
    (tmp_path / "zips").mkdir()
    for split, part in (("train", range(8)), ("test", range(8, 12))):
        put_zip(tmp_path / "zips" / f"{split}.zip", {f"{split}/{NAMES[Y[i]]}/{i}.png": png(i) for i in part})
    inner = {p.name: p.read_bytes() for p in (tmp_path / "zips").iterdir()}
    for place in (tmp_path / "zips", put_zip(tmp_path / "outer.zip", inner)):
        samples = read(place)
        assert Counter(s.split for s in samples) == {"train": 8, "test": 4}
        assert ReadingKind.ARCHIVES_UNPACKED in {n.kind for n in samples.notes}


def test_containers_beside_images_are_named(tmp_path: Path) -> None:
    members = {f"{NAMES[Y[i]]}/{i}.png": png(i) for i in range(12)}
    samples = read(put_zip(tmp_path / "a.zip", {**members, "x/more.tar": b"?", "notes.xml": b"<a/>"}))
    assert [(u.path, u.reason) for u in samples.inventory.unused] == [
        ("notes.xml", "not_an_image"),
        ("x/more.tar", "container"),
    ]


@pytest.mark.parametrize(
    ("name", "data"), [("d.npz", b"PK\3\4"), ("d.npy", b"x"), ("d.tar", b"x"), ("d.zip", b"x"), ("d.npz", b"")]
)
def test_damaged_containers(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=name):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.h5", "a.tfrecord", "train.tfrecord-00000-of-00002", "data.mdb", "a.pkl"])
def test_unsupported_containers_name_their_export(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    for place in (tmp_path / name, tmp_path):
        with pytest.raises(HeadstartError) as caught:
            read(place)
        assert "export" in str(caught.value.hint) or "numpy.savez" in str(caught.value.hint)


def test_missing_packs_are_problems_of_each_image(tmp_path: Path, cache: Path) -> None:
    np.savez(tmp_path / "d.npz", images=X, labels=Y)
    path = read(tmp_path / "d.npz")[0].path
    (next(cache.rglob("images.pack"))).unlink()
    with pytest.raises(ImageError):
        read_bytes(path)


def test_least_recently_used_tables_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_KEPT_S", -1.0)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "images.pack").write_bytes(bytes(100))
    import os

    os.utime(tmp_path / "old", (1, 1))
    store.drop_unused(tmp_path, limit_bytes=150)
    assert [p.name for p in tmp_path.iterdir() if p.name in ("old", "new")] == ["new"]


@pytest.mark.parametrize(
    ("codec", "names"),
    [
        ("utf-8", ["été", "Straße"]),
        ("gbk", ["玻璃", "纸板", "金属"]),
        ("gbk", ["苹果", "香蕉", "橙子"]),
        ("cp932", ["ガラス", "金属", "紙"]),
        ("cp932", ["りんご", "みかん"]),
        ("cp949", ["유리", "금속", "종이"]),
        ("cp950", ["蘋果", "香蕉"]),
        ("cp866", ["Стекло", "металл"]),
        ("cp1251", ["стекло", "Металл"]),
        ("cp437", ["café", "Äpfel", "piña"]),
    ],
)
def test_encodings_of_names(codec: str, names: list[str]) -> None:
    raw = [f"{name}/{i}.jpg".encode(codec) for name in names for i in range(3)]
    found = guess_encoding(raw)
    assert [r.decode(found.name) for r in raw] == [r.decode(codec) for r in raw]
    assert found.is_certain == (codec == "utf-8")


def test_names_in_a_legacy_encoding(tmp_path: Path) -> None:
    place = put_zip(tmp_path / "a.zip", {f"{'QAAQ' if Y[i] else 'QBBQ'}/{i}.png": png(i) for i in range(12)})
    data = place.read_bytes().replace(b"QAAQ", "玻璃".encode("gbk")).replace(b"QBBQ", "金属".encode("gbk"))
    place.write_bytes(data)
    samples = read(place)
    assert samples.class_names == ("玻璃", "金属")
    assert {n.kind: n for n in samples.notes}[ReadingKind.ARCHIVE_NAMES_DECODED].evidence["name"] == "gbk"
    assert read(place, name_encoding="cp1251").class_names != samples.class_names
    with pytest.raises(UsageError, match="klingon"):
        read(place, name_encoding="klingon")


def test_parquet_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(HeadstartError, match="data"):
        read(tmp_path / "a.parquet")


def _parquet(path: Path, part: range, **columns: list[Any]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": NAMES}}
    table = pyarrow.table(
        {
            "image": [{"bytes": png(i), "path": f"{i}.png"} for i in part],
            "label": [int(Y[i]) for i in part],
            **columns,
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pytest.importorskip("pyarrow.parquet").write_table(table.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize("is_listed", [False, True])
def test_parquet_with_boxes_is_refused(tmp_path: Path, is_listed: bool) -> None:
    pa = pytest.importorskip("pyarrow")
    one = {"bbox": [[1, 2, 3, 4]], "categories": [0]}
    objects = [[one] if is_listed else one for _ in range(3)]
    table = pa.table({"image": [{"bytes": png(i), "path": f"{i}.png"} for i in range(3)], "objects": objects})
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match="objects") as caught:
        read(tmp_path / "train.parquet")
    assert "--task detect" in caught.value.hint


def test_parquet_of_hugging_face(tmp_path: Path) -> None:
    _parquet(tmp_path / "data" / "train-00000-of-00003.parquet", range(4))
    _parquet(tmp_path / "data" / "train-00001-of-00003.parquet", range(4, 8))
    _parquet(tmp_path / "data" / "test-00000-of-00001.parquet", range(8, 12))
    (tmp_path / "README.md").write_text("card")
    samples = read(tmp_path)
    assert samples.class_names == tuple(NAMES)
    assert samples.names[0] == "data/test-00000-of-00001.parquet#0"
    assert Counter(s.split for s in samples) == {"train": 8, "test": 4}
    (note,) = samples.notes
    assert (note.kind, note.examples) == (ReadingKind.SHARDS_MISSING, ("data/train-00002-of-00003.parquet",))


def test_parquet_with_several_labels_asks(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = {"img": [png(i) for i in range(12)], "fine_label": Y, "coarse_label": (Y > 0).astype(int)}
    parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="--label-column"):
        read(tmp_path / "a.parquet")
    assert len(read(tmp_path / "a.parquet", label_column="coarse_label").class_names) == 2
