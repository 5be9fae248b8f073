"""Test training a detector's whole network from cached decoded images."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_text import notes_of
from PIL import Image

from headstart.config.effects import validate_detector_combination
from headstart.config.settings import resolve
from headstart.data.boxes.records import Boxes, DetectionSamples
from headstart.detection.backbone import DetectorBackbone
from headstart.detection.decoding import DecodingSettings
from headstart.detection.plan import DetectPlan
from headstart.detection.trainer import DetectorTrainer
from headstart.events import EventStream
from headstart.features.decoded_cache import DecodedCache
from headstart.preprocessing.image_spec import ImageSpec
from headstart.store.cache import cache_info
from headstart.types.codes import NoteKind

pytest.importorskip("torch")

PLAN = DetectPlan(
    strategy="full",
    train_from="stem",
    epochs=2,
    batch_size=3,
    num_views=2,
    fpn_channels=16,
    head_depth=1,
    unfreeze_after=0.0,
)
IDS = np.arange(6)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set up a cache that keeps images regardless of decoding speed."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("headstart.detection.trainer.DecodedCache", partial(DecodedCache, read_rate=np.inf))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder, files = tmp_path_factory.mktemp("squares"), []
    for i in IDS:
        pixels = np.random.default_rng([5, int(i)]).integers(60, 120, (70, 90, 3)).astype(np.uint8)
        pixels[20:50, 10 + 5 * i : 40 + 5 * i] = (230, 40, 40)
        files.append(str(folder / f"{i}.png"))
        Image.fromarray(pixels).save(files[-1])
    return files


def train(images: list[str], events: EventStream, **settings: Any) -> dict[str, Any]:
    """Return the weights after two epochs; validation images are scored as in training."""
    given = {"data": "x", "task": "detect", "backbone": "timm:resnet10t", "weights": "none", **settings}
    samples = DetectionSamples(
        names=tuple(images),
        paths=tuple(map(Path, images)),
        boxes=tuple(Boxes.of([(10 + 5 * int(i), 20, 40 + 5 * int(i), 50)], [0]) for i in IDS),
        sizes_hw=np.array([(70, 90)] * len(IDS)),
        class_names=("square",),
        split=("",) * len(IDS),
        group=(None,) * len(IDS),
        layout="drawn",
        notes=(),
        root=Path(images[0]).parent,
    )
    digests = [hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in images]
    resolved = resolve(given, source="python", validate=validate_detector_combination).settings
    backbone = DetectorBackbone(resolved, ImageSpec(size_hw=(64, 64), resize_mode="squash"), 1, events)
    folder = None if resolved.cache else samples.root / "private"
    trainer = DetectorTrainer(samples, digests, backbone, events, num_threads=1, view_folder=folder)
    try:
        training = trainer.training(PLAN, IDS)
        assert len(list(training.run())) == 2
        trainer.detect(training.net, PLAN, IDS[:2], DecodingSettings())
        return {name: tensor.numpy().copy() for name, tensor in training.net.trained().items()}
    finally:
        trainer.close()


def test_images_are_decoded_once(images: list[str], own_cache: Path, decodes: list[bytes]) -> None:
    without = train(images, EventStream(), cache=False)
    num_without = len(decodes)
    assert num_without == 6 * 2 + 2
    assert cache_info(own_cache) == []
    kept = train(images, EventStream())
    assert len(decodes) - num_without == 6 + 2  # once for the views, once as prediction sees it
    assert [part.name for part in cache_info(own_cache)] == ["decoded"]
    retrained = train(images, EventStream())
    assert len(decodes) - num_without == 6 + 2
    for weights in (kept, retrained):
        assert all(np.array_equal(weights[name], without[name]) for name in without)


def test_failed_cache_write_is_reported(images: list[str], own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headstart.store.rows.private_folder", full)
    events = EventStream()
    train(images, events)
    (note,) = notes_of(events, NoteKind.CACHE_NOT_WRITTEN)
    assert note.evidence == {"what": "decoded images", "reason": "the disk is full"}
