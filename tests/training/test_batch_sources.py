"""Test training from pixels: same weights with and without cached images; workers run ahead."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from tiny_networks import PLAN, Owner  # noqa: E402

from headstart.features.decoded_cache import DecodedCache, DecodedImages  # noqa: E402
from headstart.features.view_activations import ViewSet  # noqa: E402
from headstart.preprocessing.augmentation import parse_augment  # noqa: E402
from headstart.preprocessing.image_spec import ImageSpec  # noqa: E402
from headstart.probe.probe import fit_probe  # noqa: E402
from headstart.store.cache import Cache  # noqa: E402
from headstart.training.batch_sources import PixelSource  # noqa: E402
from headstart.training.loop import Training  # noqa: E402
from headstart.training.network import FinetunedNetwork, HeadModule  # noqa: E402

SPEC = ImageSpec(size_hw=(8, 8))
FULL = PLAN.with_(strategy="full", num_views=3, epochs=3, batch_size=8, augment="flip,crop=.5,brightness=.3")


class Whole(torch.nn.Module):
    """Maps images to one pooled block."""

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self.low, self.high = owner.low, owner.high

    def forward(self, pixels: Any) -> tuple[Any]:
        return (self.high(self.low(pixels)).mean((2, 3)),)


def open_images(files: list[str], cache: DecodedCache | None) -> DecodedImages:
    digests = [hashlib.sha256(Path(f).read_bytes()).hexdigest() for f in files]
    images = ViewSet(files, digests, files, parse_augment(FULL.augment), FULL.seed)
    return DecodedImages(images, SPEC, cache)


def open_training(files: list[str], images: DecodedImages) -> Training:
    owner = Owner()
    suffix = Whole(owner)
    ids = np.arange(len(files)) * 3 // len(files)
    with torch.no_grad():
        plain = np.stack([images.make(i, 0) for i in range(len(files))])
        features = suffix(torch.from_numpy(plain))[0].numpy()
    stage_of = {name: 0 if name.startswith("low") else 1 for name, _ in owner.named_parameters()}
    head = HeadModule(fit_probe({"embedding": features}, ids, 3).head)
    net = FinetunedNetwork(head, suffix, ("embedding",), owner=owner, stage_of=stage_of, trainable=[0, 1])
    return Training(net, PixelSource(images.make, 2), ids, FULL, np.arange(0, 40), np.arange(40, 48))


def finish(training: Training) -> dict[str, NDArray[np.float32]]:
    for _ in training.run():
        pass
    training.source.close()  # type: ignore[attr-defined]
    return {name: tensor.numpy() for name, tensor in training.net.trained().items()}


def test_resumed_training_is_independent_of_cache(photos: Path, tmp_path: Path) -> None:
    files = [str(p) for p in sorted(photos.rglob("*.jpg"))]
    expected = finish(open_training(files, open_images(files, None)))
    cache = DecodedCache(Cache(tmp_path), read_rate=np.inf)
    images = open_images(files, cache)
    halfway = open_training(files, images)
    for _ in zip(halfway.run(), range(7), strict=False):
        pass
    snapshot = halfway.snapshot()
    halfway.source.close()  # type: ignore[attr-defined]
    assert images.num_decoded == 40 + 48
    cache.rows.flush()
    for again in (open_images(files, DecodedCache(Cache(tmp_path))), open_images(files, None)):
        training = open_training(files, again)
        training.restore(snapshot)
        weights = finish(training)
        assert all(np.array_equal(weights[name], expected[name]) for name in expected)
    assert again.num_decoded > 0


def test_second_training_has_free_workers() -> None:
    requested: list[tuple[int, int]] = []
    is_free = threading.Event()

    def make(sample: int, view: int) -> NDArray[np.float32]:
        requested.append((sample, view))
        if sample == 9:
            is_free.wait(10)
        return np.full((3, 2, 2), sample + 10 * view, dtype=np.float32)

    source = PixelSource(make, 2, ahead=4)
    source.announce([(0, 1), (9, 1), (2, 1), (3, 1), (4, 1)])
    source.batch(np.array([0]), np.array([1]))  # the others are started but never requested
    source.announce([(sample, 2) for sample in range(6)])
    (pixels,), _ = source.batch(np.array([0, 1]), np.array([2, 2]))
    np.testing.assert_array_equal(pixels[:, 0, 0, 0].numpy(), [20, 21])
    is_free.set()
    source.close()
    assert {(2, 2), (3, 2), (4, 2), (5, 2)} <= set(requested) | set(source._started)
