"""Trace a network as a list of nodes in order of execution, split into stages.

Modules inside a single stage are kept whole, so the code inside a block (branches, training modes) is unchanged; only
containers that span stages are traced into. A network that does not run its stages in order raises an error.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import fx

from headstart.backbones.rules import NoStagesError, StageMap

__all__ = ["TracedNetwork", "trace_stages"]

_FLATTENING_FUNCTIONS = {"adaptive_avg_pool2d", "adaptive_max_pool2d", "flatten", "mean", "dropout", "view", "reshape"}
_FLATTENING_MODULES = {
    "AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "SelectAdaptivePool2d", "FastAdaptiveAvgPool", "Flatten", "Dropout",
}  # fmt: skip


@dataclass(frozen=True)
class TracedNetwork:
    """A traced network.

    Attributes:
        root: Module that the nodes' module names are relative to.
        nodes: Nodes that the result depends on, in order of execution, without the input.
        input: The node of the images.
        result: The node of the logits.
        starts: Index of the first node of each stage, and the number of nodes at the end.
    """

    root: Any
    nodes: list[Any]
    input: Any
    result: Any
    starts: list[int]


def trace_stages(network: Any, stages: StageMap) -> TracedNetwork:
    """Trace a network and locate its stages.

    Raises:
        NoStagesError: The network cannot be traced, or does not run its stages in order.
    """
    tracer = _StageTracer(stages)
    try:
        graph = tracer.trace(network)
    except Exception as error:  # a library's forward can fail in any way under tracing
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NoStagesError(f"its forward pass cannot be traced ({reason})") from error
    nodes = _needed(graph)
    result = next(n for n in graph.nodes if n.op == "output").args[0]
    if not isinstance(result, fx.Node):
        raise NoStagesError("it returns more than logits")
    images = next(n for n in graph.nodes if n.op == "placeholder")
    return TracedNetwork(tracer.root, nodes, images, result, _partition(network, nodes, stages))


class _StageTracer(fx.Tracer):  # type: ignore[misc]
    """Trace into a module only if it spans several stages, or contains the classifier and more."""

    def __init__(self, stages: StageMap) -> None:
        super().__init__()
        self._stages = stages

    def is_leaf_module(self, m: Any, module_qualified_name: str) -> bool:
        inside = module_qualified_name + "."
        if any(c.startswith(inside) for c in self._stages.classifiers):
            return False
        return len({s for n, s in self._stages.stage_of.items() if n.startswith(inside)}) <= 1


def _needed(graph: Any) -> list[Any]:
    """Return the nodes that the result depends on, in order of execution."""
    wanted: set[Any] = set()
    for node in reversed(list(graph.nodes)):
        if node.op == "output" or node in wanted:
            wanted.update(node.all_input_nodes)
    return [n for n in graph.nodes if n in wanted and n.op != "placeholder"]


def _partition(network: Any, nodes: Sequence[Any], stages: StageMap) -> list[int]:
    """Return the index of the first node of each stage, and the number of nodes at the end.

    Parameters decide; a node without any (an activation, a pooling) belongs to the stage of the layer before it, except
    that nodes that turn maps into vectors after the last stage begin the neck or the head.
    """
    ids = [_own_stage(n, stages) for n in nodes]
    known = [(i, s) for i, s in enumerate(ids) if s is not None]
    if any(b[1] < a[1] for a, b in pairwise(known)):
        raise NoStagesError("it does not run its stages in order")
    num = len(stages.names)
    starts = [0] * num + [len(nodes)]
    last_stage, neck, head = num - 3, num - 2, num - 1
    for k in range(1, num):
        starts[k] = next((i for i, s in known if s >= k), len(nodes))
    if not any(s == head for _, s in known):
        raise NoStagesError("its classifier was not found")
    for boundary, below in ((neck, last_stage), (head, neck)):
        first = max((i + 1 for i, s in known if s <= below), default=0)
        flattening = (i for i in range(first, starts[boundary]) if _is_flattening(network, nodes[i]))
        starts[boundary] = next(flattening, starts[boundary])
    for k in range(1, num):  # indexing a list belongs to the stage that uses it, so the list crosses whole
        while starts[k] > starts[k - 1] and nodes[starts[k] - 1].target is operator.getitem:
            starts[k] -= 1
    if not any(s == neck for _, s in known):  # an empty neck: pooling belongs to the head
        starts[head] = starts[neck]
    return starts


def _own_stage(node: Any, stages: StageMap) -> int | None:
    if node.op == "get_attr":
        return stages.stage_of.get(node.target)
    if node.op == "call_module":
        inside = node.target + "."
        return next((s for n, s in stages.stage_of.items() if n.startswith(inside)), None)
    return None


def _is_flattening(network: Any, node: Any) -> bool:
    """Return whether a node without parameters begins the conversion of maps into vectors."""
    if node.op == "call_module":
        kind = type(network.get_submodule(node.target)).__name__
        return kind in _FLATTENING_MODULES or ("Adaptive" in kind and "pool" in node.target.split(".")[-1])
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name in _FLATTENING_FUNCTIONS
