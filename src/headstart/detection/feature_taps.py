"""The maps that the pyramid stands on: taken from the stages of a backbone, whole or from a cut on.

Taps are found in the same traced graph that gives pooled features, with the pooling left
out, so every network that can be cut can carry a detector.
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
    """Which stages carry the pyramid, the finest first.

    Attributes:
        stages: Their names.
        channels: Channels of each map.
        strides: Input pixels between neighboring places of each map.
        sizes_hw: Height and width of each map.
    """

    stages: tuple[str, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    sizes_hw: tuple[tuple[int, int], ...]


def choose_taps(network: StagedNetwork, finest: int) -> FeatureTaps:
    """Return the last stage at each stride from `finest` to 32.

    Args:
        network: The backbone.
        finest: Smallest stride, 4, 8, 16 or 32.

    Raises:
        UsageError: No stage has a map at such strides.
    """
    found: dict[int, tuple[str, tuple[int, ...]]] = {}
    for row in network.table:
        is_map = len(row.output_shapes) == 1 and len(row.output_shapes[0]) == 3
        if row.name.startswith("stage") and is_map and finest <= row.reduction <= 32:
            found[row.reduction] = (row.name, row.output_shapes[0])
    if not found:
        raise UsageError(
            "this network has no maps that a detector can stand on.", hint="take one that `headstart models` lists"
        )
    strides = sorted(found)
    shapes = [found[s][1] for s in strides]
    return FeatureTaps(
        tuple(found[s][0] for s in strides),
        tuple(shape[0] for shape in shapes),
        tuple(strides),
        tuple((shape[1], shape[2]) for shape in shapes),
    )


def split_taps(network: StagedNetwork, cut: str, stages: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Taps that are made before a cut, and those that are made after it."""
    begin = network.position(cut)
    early = tuple(s for s in stages if network.position(s) < begin)
    return early, tuple(s for s in stages if s not in early)


def tap_maps(network: StagedNetwork, stages: Sequence[str]) -> Any:
    """Return a module from images (B, 3, H, W) to a tuple of maps (B, C, H', W'), one a stage."""
    return _unpooled(network.pooled(list(stages)), network)


def tap_prefix(network: StagedNetwork, cut: str, stages: Sequence[str]) -> Any:
    """Return a module from images to (state tensors at the cut ..., maps of `stages` that are made before it ...).

    A map that is the state itself is not given twice; see `tap_suffix`.
    """
    early, late = split_taps(network, cut, stages)
    if not late:
        return tap_maps(network, early)
    prefix = network.prefix(cut)
    own = [s for s in early if not _is_state(network, cut, s)]
    maps = tap_maps(network, own) if own else None

    class Front(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.prefix, self.maps = prefix, maps

        def forward(self, pixels: Any) -> Any:
            state = self.prefix(pixels)
            states = tuple(state) if isinstance(state, (tuple, list)) else (state,)
            return (*states, *(self.maps(pixels) if self.maps is not None else ()))

    return Front()


class FeatureTapsSuffix(torch.nn.Module):  # type: ignore[misc]
    """From what `tap_prefix` gives to the maps of all stages, the finest first.

    Args:
        module: From the state to the late maps, or None where every map is made before the cut.
        num_states: How many of the inputs are state.
        num_early: How many maps are made before the cut.
        state_taps: Positions, among the early maps, of those that are the state.
    """

    def __init__(self, module: Any, num_states: int, num_early: int, state_taps: Sequence[int]) -> None:
        super().__init__()
        self.module = module
        self.num_states, self.num_early, self.state_taps = num_states, num_early, tuple(state_taps)

    def forward(self, *parts: Any) -> Any:
        """Parts of a row to the tuple of maps."""
        if self.module is None:
            return parts
        states, rest = parts[: self.num_states], list(parts[self.num_states :])
        early = [states[0] if i in self.state_taps else rest.pop(0) for i in range(self.num_early)]
        # A layer that works in place must not change a map that the pyramid reads.
        return (*early, *self.module(*(s.clone() if self.state_taps else s for s in states)))


def tap_suffix(network: StagedNetwork, cut: str, stages: Sequence[str]) -> FeatureTapsSuffix:
    """Return what trains behind a cut; shares its modules with the network.

    Raises:
        UsageError: A cut that cannot be trained from.
    """
    early, late = split_taps(network, cut, stages)
    if not late:
        return FeatureTapsSuffix(None, 0, len(early), ())
    module = _unpooled(after_cut(network, cut, network.pooled(list(late))), network)
    num_states = sum(node.op == "placeholder" for node in module.graph.nodes)
    return FeatureTapsSuffix(
        module, num_states, len(early), [i for i, s in enumerate(early) if _is_state(network, cut, s)]
    )


def _is_state(network: StagedNetwork, cut: str, stage: str) -> bool:
    """Return whether the map of a stage is all that crosses the cut: the stage is the last before it."""
    return network.position(stage) == network.position(cut) - 1 and len(network.state_shapes(cut)) == 1


def _unpooled(module: Any, network: StagedNetwork) -> Any:
    """Return the same graph with every pooled output replaced by a copy of the map that was pooled."""
    graph = module.graph
    output = next(n for n in graph.nodes if n.op == "output")
    for node in list(output.args[0]):
        if not (node.op == "call_function" and getattr(node.target, "__name__", "") == "_pool"):
            raise UsageError("a stage of this network has several outputs; no detector can stand on it.")
        # A copy, and made at once: a later layer may write into the value.
        node.target = _as_map
    graph.lint()
    module.recompile()
    return module


def _as_map(x: Any, is_nhwc: bool) -> Any:
    """Return (B, C, H, W) map of a stage, apart from what later layers may change."""
    return x.permute(0, 3, 1, 2).contiguous() if is_nhwc else x.clone()


fx.wrap("_as_map")
