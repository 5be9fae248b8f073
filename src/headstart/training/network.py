"""Define the trained network: a suffix of the backbone, and a head that starts exactly as the probe.

The probe's normalization is part of the network, so its first predictions are the probe's, and interpolating the
weights back to the start gives the probe. Frozen tensors get no gradient, batch norm keeps its statistics, and a
digest verifies both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from headstart.backbones.classifier_head import ClassifierHead, HeadSpec, pool_state
from headstart.backbones.freeze import BATCH_NORM, Freezing
from headstart.probe.linear import LinearHead

__all__ = ["FinetunedNetwork", "HeadModule", "RandomHead", "SelfContainedNetwork", "interpolate"]

_EPS = 1e-12
_DROPPING = ("Dropout", "Dropout2d", "DropPath", "_DropPath", "StochasticDepth", "DropBlock2d")


class HeadModule(nn.Module):  # type: ignore[misc]
    """A `LinearHead` in torch with its temperature folded in, and optional parallel hidden layers.

    Args:
        head: The initial head.
        hidden: Widths of hidden layers. They add to the linear map and start at zero, so the initial outputs are
            those of the probe.
        dropout: Dropout rate of the normalized features and hidden units.
        seed: Random seed of the hidden layers.
    """

    def __init__(self, head: LinearHead, *, hidden: Sequence[int] = (), dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        norm = head.normalizer
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

    def normalize(self, blocks: Mapping[str, Any]) -> Any:
        """Return (B, D) normalized features, as `Normalizer` does."""
        parts = []
        for i, (name, factor) in enumerate(zip(self.names, self.factors, strict=True)):
            z = (blocks[name] - getattr(self, f"mean{i}")) / getattr(self, f"scale{i}")
            z = z.clamp(-self.clip, self.clip)
            length = z.square().sum(1, keepdim=True).clamp_min(_EPS**2).sqrt()
            parts.append(z * (factor / length))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def forward(self, blocks: Mapping[str, Any]) -> Any:
        """Return (B, K) logits."""
        z = self.drop(self.normalize(blocks))
        logits = nn.functional.linear(z, self.weight, self.bias)
        if self.hidden is not None:
            # Unit rows have entries of about 1 / sqrt(D); scale them to about 1.
            logits = logits + self.hidden(z * float(z.shape[1]) ** 0.5)
        return logits

    def move_to(self, weight: Any, bias: Any, fraction: float) -> None:
        """Interpolate the linear map towards (K, D) weight and (K,) bias; 1 replaces it."""
        with torch.no_grad():
            for own, other in ((self.weight, weight), (self.bias, bias)):
                own.lerp_(torch.from_numpy(np.asarray(other, dtype=np.float32)).to(own.device), fraction)

    def to_linear(self, head: LinearHead) -> LinearHead:
        """Return the trained head as arrays, at temperature 1.

        Raises:
            ValueError: The head has hidden layers.
        """
        if self.hidden is not None:
            raise ValueError("a head with hidden layers is not linear")
        return LinearHead(head.normalizer, _numpy(self.weight), _numpy(self.bias), 1.0)


class _DropPath(nn.Module):  # type: ignore[misc]
    """Stochastic depth: drop the residual branch for a random subset of the images."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Any) -> Any:
        if not self.training or not self.rate:
            return x
        kept = torch.rand((len(x), *[1] * (x.dim() - 1)), device=x.device) >= self.rate
        return x * (kept / (1.0 - self.rate)).to(x.dtype)


class RandomHead(nn.Module):  # type: ignore[misc]
    """Randomly initialized head, built from its description, on the state at the cut.

    Args:
        spec: Description of the head.
        shapes: (C, H, W) or (C,) of each tensor of that state.
        num_classes: K.
        is_nhwc: Whether maps have the layout (B, H, W, C).
        seed: Random seed of its weights.
    """

    def __init__(
        self, spec: HeadSpec, shapes: Sequence[tuple[int, ...]], num_classes: int, is_nhwc: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        self.names = tuple(f"state{i}" for i in range(len(shapes)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = ClassifierHead(spec, shapes, num_classes, is_nhwc)

    def forward(self, blocks: Mapping[str, Any]) -> Any:
        """Return (B, K) logits."""
        return self.layers(*[blocks[name] for name in self.names])


class SelfContainedNetwork(nn.Module):  # type: ignore[misc]
    """Network from images to logits and embedding, with a described head.

    Args:
        body: Maps images (B, 3, H, W) to the input of the head.
        head: The head.
        temperature: Logits are divided by it.
    """

    def __init__(self, body: Any, head: ClassifierHead, temperature: float) -> None:
        super().__init__()
        self.body, self.head, self.temperature = body, head, temperature

    def forward(self, pixels: Any) -> Any:
        """Return logits (B, K) and the globally averaged state (B, D)."""
        state = self.body(pixels)
        states = tuple(state) if isinstance(state, (tuple, list)) else (state,)
        pooled = [pool_state(s, "avg", self.head.is_nhwc) for s in states]
        return self.head(*states) / self.temperature, pooled[0] if len(pooled) == 1 else torch.cat(pooled, 1)


class FinetunedNetwork(nn.Module):  # type: ignore[misc]
    """Suffix of a backbone, with its head.

    Args:
        head: The head.
        suffix: Maps the states at the cut to pooled features; None where only the head trains.
        suffix_blocks: Names of the outputs of `suffix`.
        owner: The whole backbone, whose other tensors stay frozen; None without one.
        stage_of: Stage number of each parameter of the owner by name.
        trainable: Numbers of the trainable stages.
        is_bn_live: Whether batch norm of trainable stages learns its statistics (from scratch only).
    """

    def __init__(
        self,
        head: HeadModule | RandomHead,
        suffix: Any = None,
        suffix_blocks: Sequence[str] = (),
        *,
        owner: Any = None,
        stage_of: Mapping[str, int] | None = None,
        trainable: Iterable[int] = (),
        is_bn_live: bool = False,
    ) -> None:
        super().__init__()
        self.head = head
        self.suffix = suffix
        self.suffix_blocks = tuple(suffix_blocks)
        self.later_suffixes = nn.ModuleDict()
        self._later_blocks: dict[str, tuple[str, ...]] = {}
        self.is_bn_live = is_bn_live
        self._owner = [owner]  # in a list, so that its parameters are not registered twice
        chosen = set(trainable)
        self.stage_params: dict[int, list[tuple[str, Any]]] = {}
        if owner is not None:
            inside = {id(p) for p in suffix.parameters()}
            for name, parameter in owner.named_parameters():
                stage = (stage_of or {}).get(name, -1)
                if stage in chosen and id(parameter) in inside:
                    self.stage_params.setdefault(stage, []).append((name, parameter))
        self._freezing: Freezing | None = None
        if owner is not None:
            names = {n for pairs in self.stage_params.values() for n, _ in pairs}
            self._freezing = Freezing(owner, names, batch_norm="train" if is_bn_live else "frozen")

    def add_cut(self, cut: str, suffix: Any, suffix_blocks: Sequence[str]) -> None:
        """Add a later cut at which `forward` can start.

        Args:
            cut: Name of the cut.
            suffix: Maps the states there to pooled features, with shared weights; None where only the head follows.
            suffix_blocks: Names of the outputs of `suffix`.
        """
        self._later_blocks[cut] = tuple(suffix_blocks)
        if suffix is not None:
            self.later_suffixes[cut] = suffix

    def forward(self, states: Sequence[Any], early: Mapping[str, Any], cut: str = "") -> Any:
        """Return (B, K) logits from the states at a cut (see `add_cut`) and the pooled features before it."""
        return self.head(self.blocks(states, early, cut))

    def blocks(self, states: Sequence[Any], early: Mapping[str, Any], cut: str = "") -> dict[str, Any]:
        """Return the inputs of the head by name, from the inputs of `forward`."""
        blocks = dict(early)
        suffix, names = self.suffix, self.suffix_blocks
        if cut:
            names = self._later_blocks[cut]
            suffix = self.later_suffixes[cut] if names else None
        if suffix is not None:
            blocks.update(zip(names, suffix(*states), strict=True))
        else:
            blocks.update({f"state{i}": state for i, state in enumerate(states)})
        return blocks

    def set_training(self, is_training: bool, batch_size: int = 2) -> None:
        """Set training mode for dropout and the batch norm of a new head; frozen batch norm stays in eval mode.

        Batch norm stays in eval mode for a batch of one image, which has no variance.
        """
        self.train(False)
        if not is_training:
            return
        new = set(self.head.modules()) if isinstance(self.head, RandomHead) else set()
        for module in self.modules():
            is_live = isinstance(module, BATCH_NORM) and batch_size > 1 and (self.is_bn_live or module in new)
            if is_live or type(module).__name__ in _DROPPING:
                module.training = True

    def set_drop_path(self, rate: float) -> int:
        """Set stochastic depth of the residual blocks; return the number of such blocks.

        The last block is dropped with probability `rate`, earlier ones proportionally less.
        Source: Huang et al. (2016), Deep networks with stochastic depth.
        """
        modules = list(self.suffix.modules()) if self.suffix is not None else []
        blocks = [m for m in modules if hasattr(m, "drop_path") or type(m).__name__ == "StochasticDepth"]
        training = [m for m in blocks if hasattr(m, "drop_path") and any(p.requires_grad for p in m.parameters())]
        training = training or [m for m in blocks if not hasattr(m, "drop_path")]
        for module in blocks:
            own = rate * (training.index(module) + 1) / len(training) if module in training else 0.0
            if hasattr(module, "drop_path"):
                module.drop_path = _DropPath(own)
            else:
                module.p = own
        return len(training)

    def trained(self) -> dict[str, Any]:
        """Return all trained tensors by name, without copying."""
        tensors = {f"head.{n}": p.data for n, p in self.head.named_parameters()}
        if isinstance(self.head, RandomHead):
            tensors.update({f"head.{n}": b for n, b in self.head.named_buffers()})
        for pairs in self.stage_params.values():
            tensors.update({f"backbone.{n}": p.data for n, p in pairs})
        if self.is_bn_live and self._owner[0] is not None:
            tensors.update({f"buffer.{n}": b for n, b in self._owner[0].named_buffers()})
        return tensors

    def copy_trained(self) -> dict[str, Any]:
        """Return copies of all trained tensors."""
        return {n: t.clone() for n, t in self.trained().items()}

    def load_trained(self, tensors: Mapping[str, Any]) -> None:
        """Load trained tensors.

        Raises:
            ValueError: Names or shapes differ.
        """
        own = self.trained()
        if set(own) != set(tensors) or any(own[n].shape != tensors[n].shape for n in own):
            raise ValueError("the saved weights belong to another network")
        for name, tensor in own.items():
            tensor.copy_(tensors[name])

    def frozen_digest(self) -> str:
        """Return the SHA-256 of every frozen tensor of the backbone; empty without a backbone."""
        return "" if self._freezing is None else self._freezing.digest()


def interpolate(start: Mapping[str, Any], end: Mapping[str, Any], alpha: float) -> dict[str, Any]:
    """Return `start + alpha (end - start)`, exactly `start` at 0 and `end` at 1.

    Source: Wortsman et al. (2022), Robust fine-tuning of zero-shot models.
    """
    if alpha <= 0.0:
        return {n: t.clone() for n, t in start.items()}
    if alpha >= 1.0:
        return {n: t.clone() for n, t in end.items()}
    return {n: torch.lerp(start[n], end[n], alpha) if start[n].is_floating_point() else end[n].clone() for n in start}


def _numpy(tensor: Any) -> Any:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
