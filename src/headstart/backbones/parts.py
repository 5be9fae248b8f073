"""What training a suffix needs of a network: from the state at a cut to the pooled features behind it.

The one decision: only nodes that the asked-for features depend on are built, so a step never computes the
network's old classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headstart.backbones.stages import StagedNetwork
from headstart.errors import UsageError

__all__ = ["pooled_suffix", "split_blocks"]


def split_blocks(network: StagedNetwork, cut: str, blocks: Sequence[str]) -> tuple[list[str], list[str]]:
    """Pooled features that are made before a cut, and those that are made after it.

    Args:
        network: The staged network.
        cut: Name of the first stage after the cut, or `last-k`.
        blocks: Names of stages, or `embedding`.
    """
    begin = network.position(cut)
    last = len(network.names) - 1  # the embedding is what enters the head, so it is made before the head
    before = [b for b in blocks if (begin == last if b == "embedding" else network.position(b) < begin)]
    return before, [b for b in blocks if b not in before]


def pooled_suffix(network: StagedNetwork, cut: str, blocks: Sequence[str]) -> Any:
    """A torch module from the state at a cut to a tuple with one (B, D) tensor a block.

    Shares its modules with the network.

    Args:
        network: The staged network.
        cut: Name of the first stage after the cut, or `last-k`.
        blocks: Names of blocks that are made after the cut (see `split_blocks`), at least one.

    Raises:
        UsageError: No such cut or block, or a block that is made before the cut.
    """
    before, _ = split_blocks(network, cut, blocks)
    if before or not blocks:
        raise UsageError(f"`{', '.join(before)}` does not come after the cut `{cut}`.")
    begin = network._starts[network.position(cut)]
    groups = [
        [network._classifier_input] if b == "embedding" else network._made_in(network.position(b)) for b in blocks
    ]
    nodes = [item[0] if isinstance(item, tuple) else item for group in groups for item in group]
    last = max(network._nodes.index(node) for node in nodes)
    return network.build(network._live(begin), network._nodes[begin : last + 1], groups, pool=True)
