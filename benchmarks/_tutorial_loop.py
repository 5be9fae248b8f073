"""Implement the common tutorial loop: train a new layer on a frozen network, then everything at a tenth of the rate.

Only decoded images are cached. The best epoch on a held-out fifth is kept, as in the tutorials.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BATCH = 32


def tutorial_accuracy(
    train: list[tuple[Path, str]], test: list[tuple[Path, str]], budget_s: float, seed: int
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Return (N,) hits on the test images after `budget_s` of `time.monotonic`, and the epochs of both phases."""
    import torch
    from torchvision.transforms import v2

    from headstart.backbones import load_backbone
    from headstart.backbones.classifier_head import attach_head

    started = time.monotonic()
    torch.manual_seed(seed)
    names = sorted({label for _, label in train})
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(train))
    held = set(order[: max(1, len(train) // 5)].tolist())
    pixels = [_decode(file) for file, _ in train]
    ids = torch.tensor([names.index(label) for _, label in train])
    backbone = load_backbone()
    net = attach_head(backbone, len(names)).to(memory_format=torch.channels_last)
    spec = backbone.card.image_spec()
    normal = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(spec.mean, spec.std)])
    views = v2.Compose([v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip(), normal])
    plain = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224), normal])
    fit = [i for i in range(len(train)) if i not in held]
    best: tuple[float, dict[str, Any]] = (-1.0, {})
    epochs = {"frozen": 0, "whole": 0}

    def score() -> float:
        net.eval()
        hits = _hits(net, [plain(pixels[i]) for i in sorted(held)], ids[sorted(held)])
        return float(hits.mean())

    for part, share, rate in (("frozen", 0.5, 1e-3), ("whole", 1.0, 1e-4)):
        for parameter in backbone.module.parameters():
            parameter.requires_grad_(part == "whole")
        optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=rate)
        while time.monotonic() - started < share * budget_s:
            net.train()
            if part == "frozen":
                net.body.eval()
            shuffled = torch.randperm(len(fit)).tolist()
            for start in range(0, len(fit), _BATCH):
                rows = [fit[i] for i in shuffled[start : start + _BATCH]]
                if len(rows) < 2:
                    continue
                batch = torch.stack([views(pixels[i]) for i in rows]).contiguous(memory_format=torch.channels_last)
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(net(batch), ids[rows]).backward()
                optimizer.step()
                if time.monotonic() - started >= share * budget_s:
                    break
            epochs[part] += 1
            value = score()
            if value >= best[0]:
                best = (value, {n: t.clone() for n, t in net.state_dict().items()})
    net.load_state_dict(best[1])
    net.eval()
    truth = torch.tensor([names.index(label) for _, label in test])
    return _hits(net, [plain(_decode(file)) for file, _ in test], truth), epochs


def _hits(net: Any, images: list[Any], truth: Any) -> NDArray[np.bool_]:
    import torch

    hits = []
    with torch.no_grad():
        for start in range(0, len(images), 64):
            batch = torch.stack(images[start : start + 64]).contiguous(memory_format=torch.channels_last)
            hits.append((net(batch).argmax(1) == truth[start : start + 64]).numpy())
    return np.concatenate(hits)


def _decode(file: Path) -> Any:
    """Return (3, H, W) uint8, the shorter side 256."""
    import torch

    with Image.open(file) as image:
        rgb = image.convert("RGB")
        scale = 256 / min(rgb.size)
        rgb = rgb.resize((round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(rgb).copy()).permute(2, 0, 1)
