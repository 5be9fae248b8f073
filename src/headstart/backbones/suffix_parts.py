"""Build the trainable suffix: from the state at a cut to the pooled features behind it.

The suffix is the graph of the pooled features without the nodes of the prefix's graph, so only what the requested
features depend on is computed, never the original classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from headstart.backbones.stages import StagedNetwork
from headstart.errors import UsageError

__all__ = ["after_cut", "middle", "pooled_suffix", "split_blocks"]


def split_blocks(network: StagedNetwork, cut: str, blocks: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split pooled features into those computed before a cut and those after it.

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
    """Return a torch module from the state at a cut to a tuple with one (B, D) tensor per block.

    Shares its modules with the network.

    Args:
        network: The staged network.
        cut: Name of the first stage after the cut, or `last-k`.
        blocks: Names of at least one block after the cut (see `split_blocks`).

    Raises:
        UsageError: Unknown cut or block, a block before the cut, or a cut that cannot be trained from.
    """
    before, _ = split_blocks(network, cut, blocks)
    if before or not blocks:
        raise UsageError(f"`{', '.join(before)}` is not after the cut `{cut}`.")
    return after_cut(network, cut, network.pooled(list(blocks)))


def middle(network: StagedNetwork, begin: str, end: str) -> Any:
    """Return a torch module from the state at one cut to a tuple of the tensors that cross a later one.

    Shares its modules with the network.

    Args:
        network: The staged network.
        begin: Name of the first stage inside.
        end: Name of the first stage after the segment.

    Raises:
        UsageError: Unknown cut, an empty segment, or a cut that cannot be trained from.
    """
    if network.position(begin) >= network.position(end):
        raise UsageError(f"there are no layers between `{begin}` and `{end}`.")
    whole = network.prefix(end)
    output = next(n for n in whole.graph.nodes if n.op == "output")
    if not isinstance(output.args[0], (tuple, list)):
        output.args = ((output.args[0],),)
        whole.recompile()
    return after_cut(network, begin, whole)


def after_cut(network: StagedNetwork, cut: str, whole: Any) -> Any:
    """Return the part of a graph from images that comes after a cut; shares its modules with the network.

    Args:
        network: The staged network.
        cut: Name of the first stage after the cut, or `last-k`.
        whole: A traced module from images to anything computed after the cut.

    Raises:
        UsageError: A cut that cannot be trained from.
    """
    prefix = network.prefix(cut).graph
    state = next(n for n in prefix.nodes if n.op == "output").args[0]
    crossing = [n.name for n in (state if isinstance(state, (tuple, list)) else (state,))]
    mapping = {n.name for n in prefix.nodes if n.op != "output"}
    graph = fx.Graph()
    env: dict[str, Any] = {name: graph.placeholder(name) for name in crossing}
    for node in whole.graph.nodes:
        if node.name in mapping:
            continue
        try:
            env[node.name] = graph.node_copy(node, lambda n: env[n.name])
        except KeyError as error:
            raise UsageError(f"cannot train from `{cut}`: a list of tensors crosses it.") from error
    root = whole if isinstance(whole, nn.Module) else network.network
    suffix = fx.GraphModule(root, graph)
    suffix.train(network.network.training)
    return suffix
