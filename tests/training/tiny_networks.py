"""Provide a tiny network with batch norm, and in-memory batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from headstart.probe.linear import LinearHead
from headstart.probe.probe import fit_probe
from headstart.training.network import FinetunedNetwork, HeadModule
from headstart.training.plan import FinetunePlan


class Owner(nn.Module):
    """Two stages: `low` (frozen, stage 0) and `high` (stage 1), images (B, 3, 8, 8)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.low = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.high = nn.Sequential(nn.Conv2d(6, 10, 3, padding=1), nn.BatchNorm2d(10), nn.ReLU())
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
        self.eval()

    def state(self, pixels: Any) -> Any:
        with torch.no_grad():
            return self.low(pixels)


class FeatureTapsSuffix(nn.Module):
    """Maps the state to one pooled block, like the suffix of a backbone."""

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self.high = owner.high

    def forward(self, state: Any) -> tuple[Any]:
        return (self.high(state).mean((2, 3)),)


class MemorySource:
    """Batch source of states in memory; every view adds its own fixed noise."""

    def __init__(self, states: Any) -> None:
        self.states = states

    def announce(self, pairs: Sequence[tuple[int, int]]) -> None:
        pass

    def batch(self, samples: NDArray[np.int64], views: NDArray[np.int64]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        generator = torch.Generator().manual_seed(int(views[0]))
        noise = torch.randn(self.states.shape[1:], generator=generator) * 0.05 * float(views[0] > 0)
        return (self.states[torch.from_numpy(samples)] + noise,), {}


def make_task(num: int = 60, seed: int = 0) -> tuple[Any, NDArray[np.int64]]:
    """Return images of three classes that differ in the pattern of one channel, and their labels."""
    rng = np.random.default_rng(seed)
    ids = np.arange(num) % 3
    pixels = rng.normal(size=(num, 3, 8, 8)).astype(np.float32)
    pixels[np.arange(num), ids] += np.sin(np.arange(8.0))[None, :, None] * 1.5
    return torch.from_numpy(pixels), ids.astype(np.int64)


def make_net(
    owner: Owner, states: Any, ids: NDArray[np.int64], train: NDArray[np.int64], **head_options: Any
) -> tuple[FinetunedNetwork, LinearHead]:
    """Return the fine-tuning network on the probe of some samples."""
    suffix = FeatureTapsSuffix(owner)
    with torch.no_grad():
        features = suffix(states)[0].numpy()
    head = fit_probe({"embedding": features[train]}, ids[train], 3).head
    stage_of = {name: 0 if name.startswith("low") else 1 for name, _ in owner.named_parameters()}
    net = FinetunedNetwork(
        HeadModule(head, **head_options), suffix, ("embedding",), owner=owner, stage_of=stage_of, trainable=[1]
    )
    return net, head


PLAN = FinetunePlan(
    strategy="finetune", train_from="stage2", epochs=4, batch_size=16, lr=1e-2, head_lr=1e-2, num_views=2
)
