"""Test a small detector on colored squares: learning, determinism, frozen weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headstart.data.boxes.records import Boxes
from headstart.detection.augmentation import ViewBoxes
from headstart.detection.decoding import DecodingSettings, decode
from headstart.detection.image_frames import plain_frame
from headstart.detection.loop import DetectNetwork, DetectTraining
from headstart.detection.metrics import evaluate_detections
from headstart.detection.network import DetectorHead
from headstart.detection.plan import DetectPlan
from headstart.preprocessing.image_spec import ImageSpec
from headstart.types.codes import USER_TEST_SPLIT

SIDE = 64
COLORS = ((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0))
SPEC = ImageSpec(size_hw=(SIDE, SIDE), resize_mode="squash")
PLAN = DetectPlan(
    strategy="head",
    epochs=14,
    batch_size=8,
    lr=4e-3,
    fpn_channels=24,
    head_depth=1,
    num_views=2,
    min_stride=8,
    ema_decay=0.9,
)


class Backbone(nn.Module):
    """Fixed random filters; the last stage is trainable."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first = nn.Conv2d(3, 16, 8, stride=8)
            self.last = nn.Sequential(nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16))
        self.eval()


class FeatureTapsSuffix(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.last = backbone.last

    def forward(self, fine: Any) -> tuple[Any, Any]:
        return fine, torch.relu(self.last(fine))


class Squares:
    """Two kinds of squares on noise: red ones and blue ones."""

    def __init__(self, backbone: Backbone, count: int) -> None:
        self.backbone, self.announced = backbone, 0
        self.boxes, images = [], []
        for i in range(count):
            rng = np.random.default_rng([5, i])
            image = rng.normal(0, 0.3, (3, SIDE, SIDE)).astype(np.float32)
            boxes, kinds = [], []
            for k in range(int(rng.integers(0, 3))):
                side = int(rng.integers(14, 30))
                x, y = (int(v) for v in rng.integers(0, SIDE - side, 2))
                kind = int(rng.integers(0, 2))
                if k and overlap(boxes[0], (x, y, x + side, y + side)):
                    break
                image[:, y : y + side, x : x + side] = np.array(COLORS[kind])[:, None, None]
                boxes.append((x, y, x + side, y + side))
                kinds.append(kind)
            images.append(image)
            self.boxes.append(Boxes.of(boxes, kinds))
        self.pixels = torch.from_numpy(np.stack(images))

    def announce(self, pairs: Sequence[tuple[int, int]]) -> None:
        self.announced += len(pairs)

    def batch(self, samples: Any, views: Any) -> tuple[tuple[Any, ...], list[ViewBoxes]]:
        with torch.no_grad():
            fine = torch.relu(self.backbone.first(self.pixels[samples]))
        none = np.zeros((0, 4), dtype=np.float32)
        return (fine,), [ViewBoxes(self.boxes[i].xyxy, self.boxes[i].class_ids, none) for i in samples]


def overlap(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def start(plan: DetectPlan, *, has_stage: bool = False, count: int = 64) -> DetectTraining:
    backbone = Backbone()
    source = Squares(backbone, count + 24)
    head = DetectorHead((16, 16), (8, 16), 2, width=plan.fpn_channels, depth=plan.head_depth, seed=plan.seed)
    stages = [[(n, p) for n, p in backbone.named_parameters() if n.startswith("last")]] if has_stage else []
    net = DetectNetwork(FeatureTapsSuffix(backbone), head, backbone, stages)
    return DetectTraining(net, source, plan, np.arange(count), [(8, 8), (4, 4)])


def score(training: DetectTraining) -> float:
    source, net = training.source, training.net
    assert isinstance(source, Squares)
    unseen = np.arange(64, 88)
    net.set_training(False)
    with torch.no_grad():
        parts, _ = source.batch(unseen, np.zeros(24, dtype=np.int64))
        logits, boxes = net(parts)
    frame = plain_frame((SIDE, SIDE), SPEC)
    pairs = zip(logits.numpy(), boxes.numpy(), strict=True)
    detections = [decode(raw, reach, DecodingSettings(), frame, (SIDE, SIDE)) for raw, reach in pairs]
    truth = [source.boxes[i] for i in unseen]
    value = evaluate_detections(truth, detections, ("red", "blue"), draws=0, setup=USER_TEST_SPLIT).map50.value
    assert value is not None
    return value


@pytest.fixture(scope="module")
def trained() -> DetectTraining:
    training = start(PLAN)
    for _ in training.run():
        pass
    return training


def test_detector_learns_squares(trained: DetectTraining) -> None:
    losses = [r.train_loss for r in trained.records]
    assert len(losses) == PLAN.epochs
    assert losses[-1] < 0.7 * losses[0]
    assert score(trained) > 0.7


def test_untrained_detector_finds_nothing() -> None:
    assert score(start(PLAN)) < 0.2


def test_frozen_tensors_are_bit_identical(trained: DetectTraining) -> None:
    assert trained.net.frozen_digest() == start(PLAN).net.frozen_digest()


def test_stage_trains_after_unfreezing() -> None:
    plan = PLAN.with_(strategy="finetune", epochs=2, unfreeze_after=0.5, ema_decay=0.0)
    training = start(plan, has_stage=True)
    backbone = training.net._owner[0]
    before = {n: t.clone() for n, t in backbone.state_dict().items()}
    frozen = training.net.frozen_digest()
    steps = training.run()
    next(steps)
    assert all(torch.equal(t, before[n]) for n, t in backbone.state_dict().items())
    list(steps)
    after = backbone.state_dict()
    assert not torch.equal(after["last.0.weight"], before["last.0.weight"])
    assert torch.equal(after["first.weight"], before["first.weight"])
    assert torch.equal(after["last.1.running_mean"], before["last.1.running_mean"])
    assert training.net.frozen_digest() == frozen


def test_seed_determines_weights() -> None:
    ends = []
    for seed in (3, 3, 4):
        training = start(PLAN.with_(epochs=1, seed=seed))
        list(training.run())
        ends.append({n: t.clone() for n, t in training.net.trained().items()})
    assert all(torch.equal(t, ends[1][n]) for n, t in ends[0].items())
    assert any(not torch.equal(t, ends[2][n]) for n, t in ends[0].items())


def test_stop_ends_after_step() -> None:
    training = start(PLAN)
    records = list(training.run(stop=lambda: training.step >= 3))
    assert training.step == 3
    assert len(records) == 1


def test_averaged_context_restores_weights() -> None:
    training = start(PLAN.with_(epochs=1))
    list(training.run())
    before = {n: t.clone() for n, t in training.net.trained().items()}
    with training.averaged():
        pass
    assert all(torch.equal(t, before[n]) for n, t in training.net.trained().items())


def test_non_finite_loss_ends_training() -> None:
    training = start(PLAN.with_(epochs=3, lr=1e30, grad_clip_norm=0.0, warmup=0.0))
    list(training.run())
    assert training.is_diverged
