"""Test datasets and images in memory."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.data.memory import images_of
from headstart.data.objects import as_data_path
from headstart.data.sources import read
from headstart.errors import DataError, UsageError
from headstart.inference.image_inputs import as_sources, name_of, to_pixels
from headstart.inference.inputs import expand_inputs, expand_sources
from headstart.preprocessing.image_spec import ImageSpec, open_image

X = np.random.default_rng(0).integers(0, 256, (6, 8, 9, 3), dtype=np.uint8)
NAMES = ["cat", "dog"]
Y = [NAMES[i % 2] for i in range(6)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path, pixels in zip(paths, X, strict=True):
        Image.fromarray(pixels).save(path)
    return list(map(str, paths))


class Indexed:
    """Like a dataset of torch."""

    classes = NAMES

    def __init__(self, labels: Any = (0, 1, 0, 1, 0, 1)) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> Any:
        if i >= 6:
            raise IndexError
        return Image.fromarray(X[i]), self.labels[i]


class ImageFeature:
    decode = True

    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class ClassFeature:
    names = NAMES


class Columns:
    """Like `datasets.Dataset`."""

    column_names = ("image", "label")

    def __init__(self) -> None:
        self.features = {"image": type("Image", (ImageFeature,), {})(), "label": ClassFeature()}
        self.is_encoded = False

    def cast_column(self, name: str, feature: ImageFeature) -> Columns:
        assert not feature.decode
        self.is_encoded = True
        return self

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Any:
        assert self.is_encoded
        for i in range(6):
            yield {"image": {"bytes": encoded(i), "path": None}, "label": i % 2}


def encoded(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(X[i]).save(buffer, "PNG")
    return buffer.getvalue()


def frames(files: list[str]) -> dict[str, Any]:
    pandas = pytest.importorskip("pandas")
    return {
        "paths": pandas.DataFrame({"image": files, "label": Y}),
        "other names": pandas.DataFrame({"file_name": files, "species": Y, "n": range(6)}),
        "images": pandas.DataFrame({"image": [Image.fromarray(x) for x in X], "label": Y}),
        "bytes": pandas.DataFrame({"image": [encoded(i) for i in range(6)], "label": Y}),
    }


@pytest.mark.parametrize("name", ["paths", "other names", "images", "bytes"])
def test_data_frames(files: list[str], name: str) -> None:
    samples = read(as_data_path(frames(files)[name]))
    assert [s.label for s in samples] == Y


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        (X, np.array(Y)),
        (X[..., 0], Y),
        ([Image.fromarray(x) for x in X], Y),
        ([encoded(i) for i in range(6)], Y),
        (tuple(io.BytesIO(encoded(i)) for i in range(6)), Y),
        {"image": list(X), "label": Y},
        [(Image.fromarray(x), y) for x, y in zip(X, Y, strict=True)],
        Indexed(),
        Columns(),
    ],
)
def test_images_and_labels(data: Any) -> None:
    place = as_data_path(data)
    samples = read(place)
    assert [s.label for s in samples] == Y
    assert samples.names[:2] == ["#0", "#1"]
    with open_image(samples[3].path, 1 << 20) as image:
        assert image.size == (9, 8)


def test_a_subset_has_the_classes_of_its_dataset() -> None:
    class Subset:
        dataset = Indexed()

        def __len__(self) -> int:
            return 2

        def __getitem__(self, i: int) -> Any:
            return self.dataset[3 * i]

    assert [s.label for s in read(as_data_path(Subset()))] == ["cat", "dog"]


def test_equal_objects_are_stored_once(cache: Path) -> None:
    assert as_data_path((X, Y)) == as_data_path(X, Y) != as_data_path((X, Y[::-1]))
    assert len([p for p in (cache / "in_memory").iterdir() if p.is_dir()]) == 2


def test_splits_by_name() -> None:
    samples = read(as_data_path({"train": (X[:4], Y[:4]), "validation": (X[4:], Y[4:])}))
    assert Counter(s.split for s in samples) == {"train": 4, "val": 2}


def test_missing_labels_and_damaged_images_are_named(files: list[str]) -> None:
    samples = read(as_data_path((X, [float("nan"), *Y[1:]])))
    assert [(p.name, p.kind) for p in samples.problems] == [("#0", "no-label")]
    samples = read(as_data_path(([files[0], files[1], X[2], "gone.png"], Y[:4])))
    assert [(p.name, p.kind) for p in samples.problems] == [("#3", "missing")]


@pytest.mark.parametrize(
    "data",
    [
        X,
        ["a.png", "b.png"],
        5,
        None,
        {"a": 1},
        iter(X),
        (X, Y[:3]),
        (X, "cats"),
        (X / 255, Y),
        (X.astype(np.int64), Y),
        Indexed([Y, Y]),
        io.StringIO("text"),
        (x for x in X),
        [1, 2],
        {"label": Y},
    ],
)
def test_other_objects_are_refused(data: Any) -> None:
    with pytest.raises((UsageError, IndexError) if isinstance(data, Indexed) else UsageError):
        as_data_path(data)


def test_images_without_labels_can_be_embedded(files: list[str]) -> None:
    assert len(read(as_data_path(files, needs_labels=False), needs_labels=False)) == 6
    assert len(read(as_data_path(X, needs_labels=False), needs_labels=False)) == 6


def test_deleted_copies_are_explained(cache: Path) -> None:
    import shutil

    place = as_data_path((X, Y))
    shutil.rmtree(cache)
    with pytest.raises(DataError, match="memory"):
        read(place)


@pytest.mark.parametrize(
    "images",
    [
        encoded(2),
        io.BytesIO(encoded(2)),
        X[2],
        X[2:3],
        Image.fromarray(X[2]),
        [io.BytesIO(encoded(2))],
        {"bytes": encoded(2), "path": None},
    ],
)
def test_one_image_in_memory(images: Any) -> None:
    spec = ImageSpec(size_hw=(8, 9), resize_mode="squash")
    (found,) = list(as_sources(expand_sources(images)))
    assert (to_pixels(found, spec) == X[2]).all()


def test_open_files(files: list[str]) -> None:
    with open(files[2], "rb") as file:
        (found,) = list(as_sources(expand_sources(file)))
    assert found == Path(files[2]).read_bytes()
    with open(files[2], encoding="latin-1") as file, pytest.raises(UsageError, match="rb"):
        list(as_sources(file))


def test_many_images_in_memory(files: list[str]) -> None:
    pandas = pytest.importorskip("pandas")
    for images in (np.array(files), pandas.Series(files), pandas.DataFrame({"image": files, "n": range(6)})):
        assert list(as_sources(expand_sources(images))) == files
    for images in (Columns(), Indexed(), X, list(X), (x for x in X), X[..., 0]):
        assert len(list(as_sources(expand_sources(images)))) == 6


@pytest.mark.parametrize("images", [X / 255, X[0] / 255, np.dstack([X[0], X[0, ..., :1]]), {"a": 1}, 5, [None]])
def test_other_images_are_refused(images: Any) -> None:
    with pytest.raises(UsageError):
        list(as_sources(expand_sources(images)))


def test_images_of_a_container(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=X, labels=np.arange(6))
    for place in (tmp_path / "d.npz", tmp_path):
        found = list(as_sources(expand_inputs([place])))
        assert name_of(found[2], 0) == str(tmp_path / "d.npz#2")
        assert (to_pixels(found[2], ImageSpec(size_hw=(8, 9), resize_mode="squash")) == X[2]).all()


def test_tensors_of_torch() -> None:
    torch = pytest.importorskip("torch")
    batch = torch.from_numpy(X).permute(0, 3, 1, 2)
    for images in (batch, batch / 255, list(batch)):
        samples = read(as_data_path((images, Y)))
        with open_image(samples[3].path, 1 << 20) as image:
            assert (np.asarray(image) == X[3]).all()
    with pytest.raises(UsageError, match="Normalize"):
        as_data_path((batch / 255 - 0.5, Y))
    assert len(list(images_of(batch))) == 6
