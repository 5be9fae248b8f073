"""Test extraction: every file once, keyed by content, in the given order."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from headstart.features.engines import FlippedEngine
from headstart.features.extraction import embed_files
from headstart.preprocessing.image_spec import ImageSpec
from headstart.store.arrays import ArrayRows, RowLayout

SPEC = ImageSpec(size_hw=(16, 16))


class CountingEngine:
    """Return means and maxima of the pixels, and count the images."""

    def __init__(self) -> None:
        self.seen = 0
        self.lock = threading.Lock()

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        with self.lock:
            self.seen += len(pixels)
        flat = pixels.reshape(len(pixels), 3, -1)
        return {"mean": flat.mean(2), "halves": flat[:, :, :8].mean(2) - flat[:, :, -8:].mean(2)}


def opened(folder: Path, *names: str) -> ArrayRows:
    names = names or ("mean", "halves")
    return ArrayRows(folder, RowLayout(names, ((3,),) * len(names), "float32"))


@pytest.fixture
def files(photos: Path) -> list[str]:
    return sorted(str(p) for p in photos.rglob("*.jpg"))


def test_order_and_values_do_not_depend_on_threads(files: list[str]) -> None:
    one, _ = embed_files(files, CountingEngine(), SPEC, num_threads=1)
    many, _ = embed_files(files, CountingEngine(), SPEC, num_threads=5)
    assert one.is_ok.all()
    assert one.digests == many.digests
    for name in one.blocks:
        np.testing.assert_array_equal(one.blocks[name], many.blocks[name])


def test_cached_features_are_not_recomputed(files: list[str], tmp_path: Path) -> None:
    engine = CountingEngine()
    first, computed = embed_files(files, engine, SPEC, rows=opened(tmp_path))
    assert computed == engine.seen == len(files)
    moved = tmp_path / "moved"
    moved.mkdir()
    copies = [shutil.copy(f, moved / f"{i}.jpg") for i, f in enumerate(files)]
    again, computed = embed_files([str(c) for c in copies], engine, SPEC, rows=opened(tmp_path))
    assert computed == 0
    assert engine.seen == len(files)
    for name in first.blocks:
        np.testing.assert_array_equal(first.blocks[name], again.blocks[name])


def test_flipped_images_are_flipped(files: list[str]) -> None:
    plain, _ = embed_files(files, CountingEngine(), SPEC)
    flipped, _ = embed_files(files, FlippedEngine(CountingEngine()), SPEC)
    np.testing.assert_allclose(plain.blocks["mean"], flipped.blocks["mean"], atol=1e-6)
    assert np.abs(plain.blocks["halves"] - flipped.blocks["halves"]).max() > 1e-3


def test_bad_files_are_reported_and_others_processed(files: list[str], tmp_path: Path) -> None:
    empty = tmp_path / "empty.jpg"
    empty.touch()
    paths = [str(empty), *files, str(tmp_path / "gone.jpg")]
    features, _ = embed_files(paths, CountingEngine(), SPEC, names=["E", *files, "G"])
    assert [(p.name, p.kind) for p in features.problems] == [("E", "empty"), ("G", "missing")]
    assert features.is_ok.sum() == len(files)
    assert np.isnan(features.blocks["mean"][0]).all()


def test_nothing_readable_gives_no_blocks(tmp_path: Path) -> None:
    features, computed = embed_files([str(tmp_path / "a"), str(tmp_path / "b")], CountingEngine(), SPEC)
    assert (features.blocks, computed, features.is_ok.any()) == ({}, 0, False)


def test_progress_reaches_total(files: list[str]) -> None:
    calls: list[tuple[int, int]] = []
    embed_files(files, CountingEngine(), SPEC, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (len(files), len(files))


class Engine(CountingEngine):
    """The engine of the killed process, without the kill."""

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean": super().run(pixels)["mean"]}


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from headstart.features.extraction import embed_files
from headstart.preprocessing.image_spec import ImageSpec
from headstart.store.arrays import ArrayRows, RowLayout

class Engine:
    seen = 0
    def run(self, pixels):
        Engine.seen += len(pixels)
        if Engine.seen > int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return {"mean": pixels.reshape(len(pixels), 3, -1).mean(2)}

files = sorted(str(p) for p in Path(sys.argv[1]).rglob("*.jpg"))
rows = ArrayRows(Path(sys.argv[2]), RowLayout(("mean",), ((3,),), "float32"))
embed_files(files, Engine(), ImageSpec(size_hw=(16, 16)), rows=rows, num_threads=2)
"""


def test_killed_at_four_fifths_repeats_at_most_a_quarter(tmp_path: Path, make_images: object) -> None:
    images = make_images(tmp_path / "p", {"a": 80, "b": 80})  # type: ignore[operator]
    store = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", KILLED, str(images), str(store), "128"], check=False)
    assert done.returncode != 0
    files = sorted(str(p) for p in images.rglob("*.jpg"))
    known = len(opened(store, "mean"))
    assert 128 - known <= 0.25 * len(files)
    features, computed = embed_files(files, Engine(), SPEC, rows=opened(store, "mean"))
    assert computed == len(files) - known
    assert features.is_ok.all()
