"""The network that is trained: a suffix of the backbone and a head that starts exactly as the probe.

The one decision: the probe's normalisation is part of the network, so at the first step its
probabilities are the probe's, and interpolating the weights back to the start gives the probe again.
Frozen tensors get no gradient, batch norm keeps its statistics, and a digest proves both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from headstart.heads.linear import LinearHead

__all__ = ["HeadModule", "TunedNetwork", "interpolate", "tensors_digest"]

_TINY = 1e-12
_DROPPING = ("Dropout", "Dropout2d", "DropPath", "StochasticDepth", "DropBlock2d")


class HeadModule(nn.Module):  # type: ignore[misc]
    """A `LinearHead` in torch, its temperature folded in, with hidden layers beside it if asked for.

    Args:
        head: Where it starts.
        hidden: Widths of hidden layers.  They add to the linear map and start at zero, so that the start is
            still the probe.
        dropout: Share of the normalised features (and hidden units) dropped while training.
        seed: Of the hidden layers' first weights.
    """

    def __init__(self, head: LinearHead, *, hidden: Sequence[int] = (), dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        norm = head.normaliser
        self.names, self.sizes, self.factors, self.clip = norm.names, norm.sizes, norm.weights, float(norm.clip)
        for i, (mean, scale) in enumerate(zip(norm.means, norm.scales, strict=True)):
            self.register_buffer(f"mean{i}", torch.from_numpy(mean.copy()))
            self.register_buffer(f"scale{i}", torch.from_numpy(scale.copy()))
        weight, bias = head.folded()
        self.weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32)))
        self.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)))
        self.drop = nn.Dropout(dropout)
        self.hidden: nn.Module | None = None
        if hidden:
            generator = torch.Generator().manual_seed(seed)
            layers: list[nn.Module] = []
            width = norm.num_features
            for size in (*hidden, head.num_classes):
                layer = nn.Linear(width, size)
                with torch.no_grad():
                    layer.weight.normal_(0.0, (2.0 / width) ** 0.5, generator=generator)
                    layer.bias.zero_()
                layers += [layer, nn.ReLU(), nn.Dropout(dropout)]
                width = size
            layers = layers[:-2]
            with torch.no_grad():
                layers[-1].weight.zero_()
            self.hidden = nn.Sequential(*layers)

    def normalise(self, blocks: Mapping[str, Any]) -> Any:
        """(B, D) normalised features, as `Normaliser` makes them."""
        parts = []
        for i, (name, factor) in enumerate(zip(self.names, self.factors, strict=True)):
            z = (blocks[name] - getattr(self, f"mean{i}")) / getattr(self, f"scale{i}")
            z = z.clamp(-self.clip, self.clip)
            length = z.square().sum(1, keepdim=True).clamp_min(_TINY**2).sqrt()
            parts.append(z * (factor / length))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def forward(self, blocks: Mapping[str, Any]) -> Any:
        """(B, K) logits."""
        z = self.drop(self.normalise(blocks))
        logits = nn.functional.linear(z, self.weight, self.bias)
        if self.hidden is not None:
            # Unit rows have entries of 1 / sqrt(D): hidden layers want entries of about 1.
            logits = logits + self.hidden(z * float(z.shape[1]) ** 0.5)
        return logits

    def to_linear(self, head: LinearHead) -> LinearHead:
        """The trained head as numbers, at temperature 1.

        Raises:
            ValueError: There are hidden layers.
        """
        if self.hidden is not None:
            raise ValueError("a head with hidden layers is not one affine map")
        return LinearHead(head.normaliser, _numpy(self.weight), _numpy(self.bias), 1.0)


class TunedNetwork(nn.Module):  # type: ignore[misc]
    """Suffix and head.

    Args:
        head: The head.
        rear: From the states at the cut to pooled features, or None where only the head trains.
        rear_blocks: Names of what `rear` gives.
        owner: The whole backbone, whose other tensors stay frozen; None without one.
        stage_of: Stage number of each of the owner's parameters by name.
        trainable: Stage numbers that train.
        is_bn_live: Whether batch norm of trainable stages learns its statistics (from scratch only).
    """

    def __init__(
        self,
        head: HeadModule,
        rear: Any = None,
        rear_blocks: Sequence[str] = (),
        *,
        owner: Any = None,
        stage_of: Mapping[str, int] | None = None,
        trainable: Iterable[int] = (),
        is_bn_live: bool = False,
    ) -> None:
        super().__init__()
        self.head = head
        self.rear = rear
        self.rear_blocks = tuple(rear_blocks)
        self.is_bn_live = is_bn_live
        self._owner = [owner]  # in a list, so that its parameters are not ours twice
        chosen = set(trainable)
        self.stage_params: dict[int, list[tuple[str, Any]]] = {}
        if owner is not None:
            inside = {id(p) for p in rear.parameters()}
            for name, parameter in owner.named_parameters():
                stage = (stage_of or {}).get(name, -1)
                is_on = stage in chosen and id(parameter) in inside
                parameter.requires_grad_(is_on)
                parameter.grad = None
                if is_on:
                    self.stage_params.setdefault(stage, []).append((name, parameter))

    def forward(self, states: Sequence[Any], early: Mapping[str, Any]) -> Any:
        """(B, K) logits from the states at the cut and the pooled features before it."""
        blocks = dict(early)
        if self.rear is not None:
            blocks.update(zip(self.rear_blocks, self.rear(*states), strict=True))
        return self.head(blocks)

    def set_training(self, is_training: bool) -> None:
        """Dropout on or off; batch norm stays as it is frozen."""
        self.train(False)
        if not is_training:
            return
        for module in self.modules():
            kind = type(module).__name__
            if kind in _DROPPING or (self.is_bn_live and isinstance(module, nn.modules.batchnorm._BatchNorm)):
                module.training = True

    def trained(self) -> dict[str, Any]:
        """Every tensor that training changes, by name (not copies)."""
        found = {f"head.{n}": p.data for n, p in self.head.named_parameters()}
        for pairs in self.stage_params.values():
            found.update({f"backbone.{n}": p.data for n, p in pairs})
        if self.is_bn_live and self._owner[0] is not None:
            found.update({f"buffer.{n}": b for n, b in self._owner[0].named_buffers()})
        return found

    def copy_trained(self) -> dict[str, Any]:
        """A copy of what training changes."""
        return {n: t.clone() for n, t in self.trained().items()}

    def load_trained(self, tensors: Mapping[str, Any]) -> None:
        """Puts values back.

        Raises:
            ValueError: Names or shapes differ.
        """
        own = self.trained()
        if set(own) != set(tensors) or any(own[n].shape != tensors[n].shape for n in own):
            raise ValueError("the saved weights are of another network")
        for name, tensor in own.items():
            tensor.copy_(tensors[name])

    def frozen_digest(self) -> str:
        """sha256 over every tensor of the backbone that must not change, hex."""
        owner = self._owner[0]
        if owner is None:
            return ""
        on = {n for pairs in self.stage_params.values() for n, _ in pairs}
        buffers = {} if self.is_bn_live else dict(owner.named_buffers())
        frozen = {n: p.data for n, p in owner.named_parameters() if n not in on} | buffers
        return tensors_digest(frozen)


def tensors_digest(tensors: Mapping[str, Any]) -> str:
    """sha256 over names and bytes, hex."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(_numpy(tensors[name]).tobytes())
    return digest.hexdigest()


def interpolate(start: Mapping[str, Any], end: Mapping[str, Any], share: float) -> dict[str, Any]:
    """`start + share (end - start)`, exactly `start` at 0 and `end` at 1.

    Source: Wortsman et al. (2022), Robust fine-tuning of zero-shot models.
    """
    if share <= 0.0:
        return {n: t.clone() for n, t in start.items()}
    if share >= 1.0:
        return {n: t.clone() for n, t in end.items()}
    return {n: torch.lerp(start[n], end[n], share) if start[n].is_floating_point() else end[n].clone() for n in start}


def _numpy(tensor: Any) -> Any:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
