"""Test the activation cache: gradients as without it, complete or rebuilt, safe with two processes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headstart.errors import DataError
from headstart.features.view_activations import ViewActivations, ViewSet
from headstart.preprocessing.augmentation import make_view, parse_augment, view_rng
from headstart.preprocessing.image_spec import ImageSpec, normalize
from headstart.store.arrays import ArrayRows, RowLayout
from headstart.store.cache import Cache, clear_cache

SPEC = ImageSpec(size_hw=(16, 16))
AUGMENT = parse_augment("flip,crop=.5,brightness=.3")
HALF = RowLayout(("state0", "pooled"), ((4, 16, 16), (3,)))


class ToyEngine:
    """Frozen prefix: four mixtures of the colors, and their means."""

    def __init__(self) -> None:
        self.num_images = 0

    def run(self, pixels: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        self.num_images += len(pixels)
        mix = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.3, 0.3, 0.4]], dtype=np.float32)
        return {"state0": np.einsum("kc,bchw->bkhw", mix, pixels), "pooled": pixels.mean(axis=(2, 3))}


@pytest.fixture
def files(photos: Path) -> list[str]:
    return [str(p) for p in sorted(photos.rglob("*.jpg"))[:20]]


def digests_of(files: list[str]) -> list[str]:
    return [hashlib.sha256(Path(f).read_bytes()).hexdigest() for f in files]


def open_views(files: list[str], root: Path, engine: ToyEngine, layout: RowLayout = HALF) -> ViewActivations:
    space = ArrayRows.open(Cache(root), "activations", layout, "graph", SPEC.digest)
    return ViewActivations(ViewSet(files, digests_of(files), files, AUGMENT), engine, SPEC, space, num_threads=2)


def expected_rows(files: list[str], layout: RowLayout, view: int) -> NDArray[np.floating]:
    pixels = []
    for file, digest in zip(files, digests_of(files), strict=True):
        rng = view_rng(bytes.fromhex(digest), view, 0) if view else None
        pixels.append(make_view(Path(file).read_bytes(), SPEC, AUGMENT, rng))
    return layout.pack(ToyEngine().run(normalize(np.stack(pixels), SPEC)))


def test_rows_match_views_and_are_computed_once(files: list[str], tmp_path: Path) -> None:
    engine = ToyEngine()
    views = open_views(files, tmp_path, engine)
    pairs = [(i, v) for v in (0, 1, 2) for i in range(20)]
    assert views.prepare(pairs) == 60
    for view in (2, 0, 1):
        np.testing.assert_array_equal(views.rows(range(20), [view] * 20), expected_rows(files, HALF, view))
    views.close()
    assert engine.num_images == 60
    again = open_views(files, tmp_path, engine)
    assert again.prepare(pairs) == 0
    np.testing.assert_array_equal(again.rows([3], [1])[0], expected_rows(files, HALF, 1)[3])
    assert engine.num_images == 60


def test_unprepared_rows_are_computed_and_cached(files: list[str], tmp_path: Path) -> None:
    engine = ToyEngine()
    views = open_views(files, tmp_path, engine)
    views.rows([0, 1], [1, 1])
    views.rows([0, 1], [1, 1])
    assert engine.num_images == 2
    views.close()
    assert len(open_views(files, tmp_path, engine).space) == 2


def test_damaged_rows_are_recomputed(files: list[str], tmp_path: Path) -> None:
    engine = ToyEngine()
    views = open_views(files, tmp_path, engine)
    views.prepare([(i, 1) for i in range(20)])
    views.rows(range(20), [1] * 20)
    views.close()
    shard = next(views.space.folder.glob("*.rows"))
    content = bytearray(shard.read_bytes())
    content[-10] ^= 0xFF  # one row
    shard.write_bytes(content)
    again = open_views(files, tmp_path, engine)
    np.testing.assert_array_equal(again.rows(range(20), [1] * 20), expected_rows(files, HALF, 1))
    assert engine.num_images == 21
    again.close()
    for end in (5, 30, len(content) - 7):  # killed while writing, on a file system that does not flush
        for file in views.space.folder.glob("*.rows"):
            file.unlink()
        shard.write_bytes(content[:end])
        assert len(ArrayRows(views.space.folder, HALF)) == 0
        assert not shard.exists()


def test_changed_file_raises(files: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "a.jpg"
    copy.write_bytes(Path(files[0]).read_bytes())
    views = open_views([str(copy)], tmp_path / "cache", ToyEngine())
    copy.write_bytes(Path(files[1]).read_bytes())
    views.prepare([(0, 1)])
    with pytest.raises(DataError, match="changed"):
        views.rows([0], [1])
    views.close()


def test_full_disk_only_costs_time(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headstart.store.rows.private_folder", full)
    views = open_views(files, tmp_path, ToyEngine())
    views.prepare([(i, 1) for i in range(20)])
    np.testing.assert_array_equal(views.rows(range(20), [1] * 20), expected_rows(files, HALF, 1))
    views.close()
    assert views.space.write_error == "the disk is full"


def test_concurrent_use_and_eviction_are_safe(files: list[str], tmp_path: Path) -> None:
    one, two = open_views(files, tmp_path, ToyEngine()), open_views(files, tmp_path, ToyEngine())
    pairs = [(i, 1) for i in range(20)]
    one.prepare(pairs)
    two.prepare(pairs)
    expected = expected_rows(files, HALF, 1)
    np.testing.assert_array_equal(one.rows(range(20), [1] * 20), expected)
    np.testing.assert_array_equal(two.rows(range(20), [1] * 20), expected)
    one.close()
    two.close()
    assert clear_cache(tmp_path, "activations") > 0
    np.testing.assert_array_equal(one.rows(range(20), [1] * 20), expected)


def test_overflow_of_half_precision() -> None:
    with pytest.raises(OverflowError):
        HALF.pack({"state0": np.full((1, 4, 16, 16), 1e6, dtype=np.float32), "pooled": np.zeros((1, 3), np.float32)})


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float16", 2e-2)])
def test_gradients_equal_those_of_the_uncached_network(
    dtype: str, tolerance: float, files: list[str], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    from headstart.backbones import load_backbone, pooled_outputs
    from headstart.backbones.suffix_parts import pooled_suffix
    from headstart.training.batch_sources import ActivationSource

    backbone = load_backbone()
    spec = backbone.card.image_spec(64)

    class TorchPrefix:
        def run(self, pixels: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
            with torch.no_grad():
                return {"state0": backbone.prefix("last-2")(torch.from_numpy(pixels)).numpy()}

    pixels = np.stack(
        [
            normalize(make_view(Path(f).read_bytes(), spec, AUGMENT, view_rng(bytes.fromhex(d), 1, 0)), spec)
            for f, d in zip(files[:6], digests_of(files[:6]), strict=True)
        ]
    )
    with torch.no_grad():
        shape = tuple(backbone.prefix("last-2")(torch.from_numpy(pixels[:1])).shape[1:])
    layout = RowLayout(("state0",), (shape,), dtype)
    space = ArrayRows.open(Cache(tmp_path), "activations", layout, "prefix", spec.digest)
    images = ViewSet(files[:6], digests_of(files[:6]), files[:6], AUGMENT)
    views = ViewActivations(images, TorchPrefix(), spec, space, num_threads=1)
    states, _ = ActivationSource(views, 1).batch(np.arange(6), np.ones(6, dtype=np.int64))
    suffix = pooled_suffix(backbone.network, "last-2", ["embedding"])
    parameters = list(suffix.parameters())
    cached = torch.autograd.grad(suffix(*states)[0].square().sum(), parameters)
    whole = pooled_outputs(backbone, ["embedding"])
    uncached = torch.autograd.grad(whole(torch.from_numpy(pixels))[0].square().sum(), parameters)
    for a, b in zip(cached, uncached, strict=True):
        assert float((a - b).norm()) <= tolerance * float(b.norm()) + 1e-6
    views.close()
