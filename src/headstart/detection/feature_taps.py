"""Choose the stages whose feature maps are inputs of the feature pyramid, and build modules that output these maps.

The maps are taken from the traced graph of the pooled features, with the pooling removed. Every backbone that can be
cut therefore supports detection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from headstart.backbones.stages import StagedNetwork
from headstart.backbones.suffix_parts import after_cut
from headstart.errors import UsageError

__all__ = ["FeatureTaps", "choose_taps", "split_taps", "tap_maps", "tap_prefix", "tap_suffix"]


@dataclass(frozen=True, slots=True)
class FeatureTaps:
    """Stages whose maps are inputs of the feature pyramid, finest first.

    Attributes:
        stages: Names of the stages.
        channels: Number of channels of each map.
        strides: Stride of each map in input pixels.
        sizes_hw: Height and width of each map.
    """

    stages: tuple[str, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    sizes_hw: tuple[tuple[int, int], ...]


def choose_taps(network: StagedNetwork, finest: int) -> FeatureTaps:
    """Choose the last stage at each stride from `finest` to 32.

    Args:
        network: The backbone.
        finest: Smallest stride, 4, 8, 16 or 32.

    Raises:
        UsageError: No stage has a map at these strides.
    """
    by_stride: dict[int, tuple[str, tuple[int, ...]]] = {}
    for row in network.table:
        is_map = len(row.output_shapes) == 1 and len(row.output_shapes[0]) == 3
        if row.name.startswith("stage") and is_map and finest <= row.reduction <= 32:
            by_stride[row.reduction] = (row.name, row.output_shapes[0])
    if not by_stride:
        raise UsageError(
            "this backbone provides no feature maps usable for detection.", hint="use one listed by `headstart models`"
        )
    strides = sorted(by_stride)
    shapes = [by_stride[s][1] for s in strides]
    return FeatureTaps(
        tuple(by_stride[s][0] for s in strides),
        tuple(shape[0] for shape in shapes),
        tuple(strides),
        tuple((shape[1], shape[2]) for shape in shapes),
    )


def split_taps(network: StagedNetwork, cut: str, stages: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split stages into those before and those after a cut."""
    begin = network.position(cut)
    early = tuple(s for s in stages if network.position(s) < begin)
    return early, tuple(s for s in stages if s not in early)


def tap_maps(network: StagedNetwork, stages: Sequence[str]) -> Any:
    """Return a module from images (B, 3, H, W) to a tuple of maps (B, C, H', W'), one per stage."""
    return _unpooled(network.pooled(list(stages)), network)


def tap_prefix(network: StagedNetwork, cut: str, stages: Sequence[str]) -> Any:
    """Return a module from images to (tensors at the cut ..., maps of `stages` before the cut ...).

    A map that equals the tensor at the cut is not returned again; see `tap_suffix`.
    """
    early, late = split_taps(network, cut, stages)
    if not late:
        return tap_maps(network, early)
    prefix = network.prefix(cut)
    other = [s for s in early if not _is_at_cut(network, cut, s)]
    maps = tap_maps(network, other) if other else None

    class Prefix(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.prefix, self.maps = prefix, maps

        def forward(self, pixels: Any) -> Any:
            state = self.prefix(pixels)
            states = tuple(state) if isinstance(state, (tuple, list)) else (state,)
            return (*states, *(self.maps(pixels) if self.maps is not None else ()))

    return Prefix()


class FeatureTapsSuffix(torch.nn.Module):  # type: ignore[misc]
    """Map the outputs of `tap_prefix` to the feature maps of all stages, finest first.

    Args:
        module: Maps the tensors at the cut to the maps after it; None if all maps are before the cut.
        num_states: Number of tensors at the cut.
        num_early: Number of maps before the cut.
        state_taps: Positions of the early maps that equal the tensor at the cut.
    """

    def __init__(self, module: Any, num_states: int, num_early: int, state_taps: Sequence[int]) -> None:
        super().__init__()
        self.module = module
        self.num_states, self.num_early, self.state_taps = num_states, num_early, tuple(state_taps)

    def forward(self, *parts: Any) -> Any:
        """Return the tuple of maps from the outputs of `tap_prefix`."""
        if self.module is None:
            return parts
        states, rest = parts[: self.num_states], list(parts[self.num_states :])
        early = [states[0] if i in self.state_taps else rest.pop(0) for i in range(self.num_early)]
        # Clone: in-place layers would change a map that the pyramid uses.
        return (*early, *self.module(*(s.clone() if self.state_taps else s for s in states)))


def tap_suffix(network: StagedNetwork, cut: str, stages: Sequence[str]) -> FeatureTapsSuffix:
    """Return the trainable suffix after a cut, which shares its modules with the network.

    Raises:
        UsageError: The cut does not support training.
    """
    early, late = split_taps(network, cut, stages)
    if not late:
        return FeatureTapsSuffix(None, 0, len(early), ())
    module = _unpooled(after_cut(network, cut, network.pooled(list(late))), network)
    num_states = sum(node.op == "placeholder" for node in module.graph.nodes)
    return FeatureTapsSuffix(
        module, num_states, len(early), [i for i, s in enumerate(early) if _is_at_cut(network, cut, s)]
    )


def _is_at_cut(network: StagedNetwork, cut: str, stage: str) -> bool:
    """Return whether the map of a stage is the only tensor at the cut."""
    return network.position(stage) == network.position(cut) - 1 and len(network.state_shapes(cut)) == 1


def _unpooled(module: Any, network: StagedNetwork) -> Any:
    """Replace each pooled output of a graph by a copy of the map before pooling."""
    graph = module.graph
    output = next(n for n in graph.nodes if n.op == "output")
    for node in list(output.args[0]):
        if not (node.op == "call_function" and getattr(node.target, "__name__", "") == "_pool"):
            raise UsageError("a stage of this backbone has several outputs; it cannot be used for detection.")
        # Copy immediately: a later layer may modify the tensor in place.
        node.target = _as_map
    graph.lint()
    module.recompile()
    return module


def _as_map(x: Any, is_nhwc: bool) -> Any:
    """Return a copy of a stage's map as (B, C, H, W)."""
    return x.permute(0, 3, 1, 2).contiguous() if is_nhwc else x.clone()


fx.wrap("_as_map")
