"""Cut networks between stages with uniform names.

A prefix is the traced nodes before a cut, a suffix the nodes after it, and the state is the tensors that cross it: so
`suffix(prefix(x)) == network(x)` holds by construction, for branching networks as for chains. Prefix and suffix share
their modules with the network; nothing is copied.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn

from headstart.backbones.rules import NoStagesError, StageMap, cut_position
from headstart.backbones.shapes import ShapeFlow, find_flow, module_shapes
from headstart.backbones.tracing import trace_stages

__all__ = ["StageInfo", "StagedNetwork", "Suffix"]

_Part = tuple[Any, int | None]
"""A node, and the index into its value if that is a list."""


@dataclass(frozen=True, slots=True)
class StageInfo:
    """One row of the stage table.

    Attributes:
        name: `stem`, `stage1` .. `stageN`, `neck` or `head`.
        out_channels: Width of the pooled output; the sum over the output tensors of the stage.
        reduction: Input side over output side, for the smallest map of the stage; 0 for a vector.
        output_shapes: (C, H, W) or (C,) of each output tensor.
        num_params: Parameters inside the stage.
        num_macs: Multiply-adds of one image inside the stage.
    """

    name: str
    out_channels: int
    reduction: int
    output_shapes: tuple[tuple[int, ...], ...]
    num_params: int
    num_macs: int

    @property
    def is_empty(self) -> bool:
        """Return whether the stage has no layers."""
        return self.num_params == 0 and not self.output_shapes


class Suffix(nn.Module):  # type: ignore[misc]
    """A network from a cut to its logits; takes the state of the prefix and leaves it unchanged.

    Args:
        graph: The nodes after the cut.
        is_copied: For each tensor of the state, whether a layer would write into it.
    """

    def __init__(self, graph: Any, is_copied: tuple[bool, ...]) -> None:
        super().__init__()
        self.graph = graph
        self.is_copied = is_copied

    def forward(self, *state: Any) -> Any:
        """Return logits (B, K) from one or several tensors, or a tuple of them."""
        if len(state) == 1 and isinstance(state[0], (tuple, list)):
            state = tuple(state[0])
        return self.graph(*[t.clone() if c else t for t, c in zip(state, self.is_copied, strict=True)])


class StagedNetwork:
    """A network with its stages.

    Args:
        network: A network of one of the libraries.
        stages: Stage of each parameter.
        size_hw: Input size in pixels for reported shapes.
        in_channels: Channels of the input.

    Raises:
        NoStagesError: The network cannot be traced, or does not run its stages in order.
    """

    def __init__(self, network: Any, stages: StageMap, size_hw: tuple[int, int], in_channels: int = 3) -> None:
        self.network = network
        self.map = stages
        self.size_hw = size_hw
        self.in_channels = in_channels
        self._traced = trace_stages(network, stages)
        self._nodes = self._traced.nodes
        self._starts = self._traced.starts

    @property
    def names(self) -> tuple[str, ...]:
        """Return `stem, stage1 .. stageN, neck, head`."""
        return self.map.names

    @property
    def is_nhwc(self) -> bool:
        """Return whether its maps are (B, H, W, C) internally."""
        return str(getattr(self.network, "output_fmt", "NCHW")).upper().endswith("NHWC")

    def position(self, cut: str) -> int:
        """Return the position of the first stage after a cut, as in `cut_position`.

        Raises:
            SettingError: Unknown stage; the error lists the stages.
        """
        return cut_position(cut, self.names)

    # -- modules

    def prefix(self, cut: str) -> Any:
        """Return the network up to a cut: images (B, C, H, W) to the state, a tensor or a tuple of tensors."""
        end = self._starts[self.position(cut)]
        graph, env = self._new_graph([self._traced.input])
        self._copy_nodes(graph, env, self._nodes[:end])
        state = [_take(graph, env, part) for part in self._state(end)]
        return self._module(graph, state[0] if len(state) == 1 else tuple(state))

    def suffix(self, cut: str) -> Suffix:
        """Return the network from a cut to its logits."""
        begin = self._starts[self.position(cut)]
        graph, env = self._new_graph(self._live(begin))
        self._copy_nodes(graph, env, self._nodes[begin:])
        is_copied = tuple(self._flow.last_change[node] >= begin for node, _ in self._state(begin))
        return Suffix(self._module(graph, env[self._traced.result]), is_copied)

    def pooled(self, blocks: list[str]) -> Any:
        """Return a module from images to a tuple with one (B, D) tensor for each name.

        Args:
            blocks: Stage names, `embedding` (input of the classifier) or `logits`.

        Raises:
            UsageError: Unknown name.
        """
        groups = [self._parts_of_block(b) for b in blocks]
        wanted = {part for group in groups for part in group}
        graph, env = self._new_graph([self._traced.input])
        done: dict[_Part, Any] = {}

        def pool(node: Any) -> None:
            # Pool immediately, because a later layer may write into the value.
            for part in wanted:
                if part[0] is node:
                    done[part] = graph.call_function(_pool, (_take(graph, env, part), self.is_nhwc))

        pool(self._traced.input)
        for node in self._nodes:
            if len(done) == len(wanted):
                break
            self._copy_nodes(graph, env, [node])
            pool(node)
        outputs = []
        for group in groups:
            pooled = [done[part] for part in group]
            outputs.append(pooled[0] if len(pooled) == 1 else graph.call_function(torch.cat, (pooled, 1)))
        return self._module(graph, tuple(outputs))

    # -- tables

    @cached_property
    def table(self) -> tuple[StageInfo, ...]:
        """Return the stage table at `size_hw`, in forward order, without running the network."""
        counts = [0] * len(self.names)
        for name, parameter in self.network.named_parameters():
            if name in self.map.stage_of:
                counts[self.map.stage_of[name]] += parameter.numel()
        rows = []
        for k, name in enumerate(self.names):
            nodes = self._nodes[self._starts[k] : self._starts[k + 1]]
            shapes = tuple(self._shape(part) for part in self._made_in(k)) if nodes else ()
            sides = [s[1] for s in shapes if len(s) == 3]
            rows.append(
                StageInfo(
                    name=name,
                    out_channels=sum(s[0] for s in shapes),
                    reduction=round(self.size_hw[0] / min(sides)) if sides else 0,
                    output_shapes=shapes,
                    num_params=counts[k],
                    num_macs=sum(self._flow.macs[n] for n in nodes),
                )
            )
        return tuple(rows)

    @cached_property
    def num_features(self) -> int:
        """Return the width D of the embedding."""
        return sum(self._shape(part)[0] for part in self._parts_of_block("embedding"))

    def state_shapes(self, cut: str) -> tuple[tuple[int, ...], ...]:
        """Return (C, H, W) or (C,) of each tensor that crosses a cut, at `size_hw`."""
        return tuple(self._shape(part) for part in self._state(self._starts[self.position(cut)]))

    @cached_property
    def module_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the output shape, without the batch, of every module that runs, by its path."""
        return module_shapes(self.network, self._find_flow)

    def stages_of_module(self, path: str) -> set[int]:
        """Return the positions of the stages that contain a module of the network; empty if it never runs."""
        inside = path + "."
        positions = {s for n, s in self.map.stage_of.items() if n.startswith(inside)}
        if positions:
            return positions
        return {s for t, s in self._placed.items() if (t + ".").startswith(inside) or inside.startswith(t + ".")}

    def blocks_of_stage(self, stage: int) -> list[str]:
        """Return the paths of a stage's modules: the items of a sequence, else the called modules."""
        paths: list[str] = []
        for node in self._nodes[self._starts[stage] : self._starts[stage + 1]]:
            if node.op == "call_module" and node.target not in paths:
                paths += _blocks(node.target, self.network.get_submodule(node.target))
        return paths

    def loose_parameters(self, stage: int) -> list[str]:
        """Return the names of a stage's parameters that are in none of its blocks."""
        blocks = tuple(b + "." for b in self.blocks_of_stage(stage))
        own = {n for n, _ in self.network.named_parameters()}
        return [n for n, s in self.map.stage_of.items() if s == stage and n in own and not n.startswith(blocks)]

    # -- tensors that cross a cut

    def _live(self, index: int) -> list[Any]:
        """Return the nodes computed before an index and used at or after it, in order."""
        later = set(self._nodes[index:])
        before = [self._traced.input, *self._nodes[:index]]
        return [n for n in before if n is self._traced.result or any(u in later for u in n.users)]

    def _state(self, index: int) -> list[_Part]:
        return [part for node in self._live(index) for part in self._parts(node)]

    def _made_in(self, stage: int) -> list[_Part]:
        """Return the outputs of a stage; for the head, the logits."""
        begin, end = self._starts[stage], self._starts[stage + 1]
        if end == len(self._nodes):
            return [(self._traced.result, None)]
        own = set(self._nodes[begin:end])
        state = self._state(end)
        return [part for part in state if part[0] in own] or state

    def _parts_of_block(self, block: str) -> list[_Part]:
        if block == "logits":
            return [(self._traced.result, None)]
        if block != "embedding":
            return self._made_in(self.position(block))
        for node in self._nodes:
            if node.op == "call_module" and node.target in self.map.classifiers:
                return [(node.args[0], None)]
        raise NoStagesError("its classifier is not called separately")

    def _parts(self, node: Any) -> list[_Part]:
        """Return a tensor, or all tensors of a list."""
        value = self._flow.values[node]
        if torch.is_tensor(value):
            return [(node, None)]
        if isinstance(value, (list, tuple)) and all(torch.is_tensor(v) for v in value):
            return [(node, i) for i in range(len(value))]
        raise NoStagesError(f"a value that is not a tensor crosses a cut ({node.name})")

    def _shape(self, part: _Part) -> tuple[int, ...]:
        value = self._flow.values[part[0]]
        shape = tuple(int(n) for n in (value if part[1] is None else value[part[1]]).shape[1:])
        return (shape[2], shape[0], shape[1]) if self.is_nhwc and len(shape) == 3 else shape

    @cached_property
    def _placed(self) -> dict[str, int]:
        """Return the stage of every module that is called separately."""
        bounds = list(zip(self._starts, self._starts[1:], strict=False))
        return {n.target: k for k, (a, b) in enumerate(bounds) for n in self._nodes[a:b] if n.op == "call_module"}

    @cached_property
    def _flow(self) -> ShapeFlow:
        return self._find_flow()

    def _find_flow(self) -> ShapeFlow:
        return find_flow(self.network, self._traced, self.size_hw, self.in_channels)

    # -- building graphs

    def _new_graph(self, inputs: list[Any]) -> tuple[Any, dict[Any, Any]]:
        """Return a graph with a placeholder for every external tensor."""
        graph = fx.Graph()
        env: dict[Any, Any] = {}
        for node in inputs:
            if node is self._traced.input:
                env[node] = graph.placeholder(node.name)
                continue
            parts = self._parts(node)
            places = [graph.placeholder(node.name if i is None else f"{node.name}_{i}") for _, i in parts]
            env[node] = places[0] if parts[0][1] is None else places
        return graph, env

    def _copy_nodes(self, graph: Any, env: dict[Any, Any], nodes: list[Any]) -> None:
        for node in nodes:
            args = fx.node.map_arg(node.args, lambda n: env[n])
            kwargs = fx.node.map_arg(node.kwargs, lambda n: env[n])
            env[node] = graph.create_node(node.op, node.target, args, kwargs, node.name)

    def _module(self, graph: Any, output: Any) -> Any:
        graph.output(output)
        built = fx.GraphModule(self._traced.root, graph)
        built.training = self.network.training
        return built


def _take(graph: Any, env: dict[Any, Any], part: _Part) -> Any:
    node, index = part
    made = env[node]
    if index is None:
        return made
    return made[index] if isinstance(made, list) else graph.call_function(operator.getitem, (made, index))


def _blocks(path: str, module: Any) -> list[str]:
    """Return the items of a list of blocks, or the module itself."""
    children = list(module.named_children())
    is_list = isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
    is_list = is_list or (len(children) > 1 and len({type(c) for _, c in children}) == 1)
    if not is_list and not any(n == "blocks" for n, _ in children):
        return [path]
    paths = []
    for name, child in children:
        paths += _blocks(f"{path}.{name}", child) if name == "blocks" else [f"{path}.{name}"]
    return paths


def _pool(x: Any, is_nhwc: bool) -> Any:
    """Average over positions: (B, C, H, W) to (B, C); vectors stay unchanged."""
    if x.dim() == 4:
        return x.mean((1, 2)) if is_nhwc else x.mean((2, 3))
    return x.flatten(1)


fx.wrap("_pool")
