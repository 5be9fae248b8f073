"""One set of stage names for every network, and a cut between any two of them.

The one decision: a network is traced once with torch.fx, its modules kept whole wherever they lie
inside one stage, and the traced graph is cut by the order of execution.  A prefix is the nodes before
a cut, a suffix the nodes after it, and the state is whatever tensors cross it: so
`suffix(prefix(x)) == network(x)` holds by construction, for branching networks as for chains.
Prefix and suffix share their modules with the network; nothing is copied.
"""

from __future__ import annotations

import contextlib
import logging
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import fx, nn

from headstart.backbones.rules import NoStagesError, StageMap
from headstart.errors import UsageError

__all__ = ["StageInfo", "StagedNetwork", "Suffix"]

_FLATTENING_FUNCTIONS = {"adaptive_avg_pool2d", "adaptive_max_pool2d", "flatten", "mean", "dropout", "view", "reshape"}
_FLATTENING_MODULES = {
    "AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "SelectAdaptivePool2d", "FastAdaptiveAvgPool", "Flatten", "Dropout",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StageInfo:
    """One row of the stage table.

    Attributes:
        name: `stem`, `stage1` .. `stageN`, `neck` or `head`.
        out_channels: Width of the pooled output; the sum over the tensors that the stage makes.
        reduction: Input side over output side, for the smallest map of the stage; 0 for a vector.
        output_shapes: (C, H, W) or (C,) of each tensor that the stage hands on.
        num_params: Parameters inside the stage.
        num_macs: Multiply-adds of one picture inside the stage.
    """

    name: str
    out_channels: int
    reduction: int
    output_shapes: tuple[tuple[int, ...], ...]
    num_params: int
    num_macs: int

    @property
    def is_empty(self) -> bool:
        """Whether nothing happens here."""
        return self.num_params == 0 and not self.output_shapes


class Suffix(nn.Module):  # type: ignore[misc]
    """A network from a cut to its logits; takes the state as the prefix gave it."""

    def __init__(self, graph: Any) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, *state: Any) -> Any:
        """Logits (B, K) from one tensor, several, or a tuple of them."""
        if len(state) == 1 and isinstance(state[0], (tuple, list)):
            state = tuple(state[0])
        return self.graph(*state)


class _StageTracer(fx.Tracer):  # type: ignore[misc]
    """Goes into a module only if it spans more than one stage, or holds the classifier and more."""

    def __init__(self, stages: StageMap) -> None:
        super().__init__()
        self._stages = stages

    def is_leaf_module(self, m: Any, module_qualified_name: str) -> bool:
        inside = module_qualified_name + "."
        if any(c.startswith(inside) for c in self._stages.classifiers):
            return False
        return len({s for n, s in self._stages.stage_of.items() if n.startswith(inside)}) <= 1


class StagedNetwork:
    """A network with its stages.

    Args:
        network: A network in eval mode.
        stages: Which stage each parameter belongs to.
        size_hw: Input size in pixels that shapes are told for.
        in_channels: Channels of the input.

    Raises:
        NoStagesError: The network cannot be traced, or does not run its stages one after another.
    """

    def __init__(self, network: Any, stages: StageMap, size_hw: tuple[int, int], in_channels: int = 3) -> None:
        self.network = network
        self.map = stages
        self.size_hw = size_hw
        self.in_channels = in_channels
        tracer = _StageTracer(stages)
        try:
            graph = tracer.trace(network)
        except Exception as error:  # whatever a foreign forward does under tracing ends here
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise NoStagesError(f"its forward pass cannot be traced ({reason})") from error
        self._root = tracer.root
        self._nodes = _needed(graph)
        self._input = next(n for n in graph.nodes if n.op == "placeholder")
        self._result = next(n for n in graph.nodes if n.op == "output").args[0]
        if not isinstance(self._result, fx.Node):
            raise NoStagesError("it returns more than logits")
        self._starts = self._partition()

    @property
    def names(self) -> tuple[str, ...]:
        """`stem, stage1 .. stageN, neck, head`."""
        return self.map.names

    def position(self, cut: str) -> int:
        """Position of the first stage after a cut; `last-2` is the last two stages with neck and head.

        Raises:
            UsageError: No such stage; the stages are listed.
        """
        cut = cut.strip().lower()
        if cut.startswith("last-") and cut[5:].isdigit() and 1 <= int(cut[5:]) <= self.map.num_stages:
            return self.map.num_stages + 1 - int(cut[5:])
        if cut in self.names:
            return self.names.index(cut)
        raise UsageError(
            f"there is no cut `{cut}` in this network.",
            hint=f"a cut is the first stage after it: {', '.join(self.names)}, or last-1 .. last-{self.map.num_stages}",
        )

    def prefix(self, cut: str) -> Any:
        """The network up to a cut: pictures (B, C, H, W) to the state, a tensor or a tuple of tensors."""
        end = self._starts[self.position(cut)]
        return self.build([self._input], self._nodes[:end], self._state_values(end))

    def suffix(self, cut: str) -> Suffix:
        """The network from a cut to its logits."""
        begin = self._starts[self.position(cut)]
        return Suffix(self.build(self._live(begin), self._nodes[begin:], [self._result]))

    def build(self, inputs: list[Any], nodes: list[Any], outputs: list[Any], pool: bool = False) -> Any:
        """A module of some of the nodes.

        Args:
            inputs: Nodes whose values come from outside, in order.
            nodes: Nodes that are computed, in order.
            outputs: Values to return; one is returned bare, several as a tuple. An entry that is a list is
                pooled and concatenated.
            pool: Whether each output is pooled over its places to (B, D).
        """
        graph = fx.Graph()
        env: dict[Any, Any] = {}
        for node in inputs:
            count = self._num_parts(node)
            if count is None:
                env[node] = graph.placeholder(node.name)
            else:
                env[node] = [graph.placeholder(f"{node.name}_{i}") for i in range(count)]
        for node in nodes:
            args = fx.node.map_arg(node.args, lambda n: env[n])
            kwargs = fx.node.map_arg(node.kwargs, lambda n: env[n])
            env[node] = graph.create_node(node.op, node.target, args, kwargs, node.name)

        def value(item: Any) -> Any:
            node, part = item if isinstance(item, tuple) else (item, None)
            made = env[node]
            if part is None:
                return made
            return made[part] if isinstance(made, list) else graph.call_function(operator.getitem, (made, part))

        if pool:
            results = []
            for group in outputs:
                pooled = [graph.call_function(_pool, (value(i), self.is_nhwc)) for i in group]
                results.append(pooled[0] if len(pooled) == 1 else graph.call_function(torch.cat, (pooled, 1)))
            graph.output(tuple(results))
        else:
            results = [value(i) for i in outputs]
            graph.output(results[0] if len(results) == 1 else tuple(results))
        built = fx.GraphModule(self._root, graph)
        built.train(self.network.training)
        return built

    def pooled(self, blocks: list[str]) -> Any:
        """A module from pictures to a tuple with one (B, D) tensor for each name.

        Args:
            blocks: Stage names, `embedding` (what enters the classifier) or `logits`.

        Raises:
            UsageError: An unknown name.
        """
        groups: list[list[Any]] = []
        for block in blocks:
            if block == "logits":
                groups.append([self._result])
            elif block == "embedding":
                groups.append([self._classifier_input])
            else:
                groups.append(self._made_in(self.position(block)))
        last = max(self._nodes.index(_node(i)) for group in groups for i in group)
        return self.build([self._input], self._nodes[: last + 1], groups, pool=True)

    @cached_property
    def table(self) -> tuple[StageInfo, ...]:
        """The stage table at `size_hw`, in forward order, computed without running the network."""
        rows = []
        for k, name in enumerate(self.names):
            nodes = self._nodes[self._starts[k] : self._starts[k + 1]]
            made = self._made_in(k) if nodes else []
            shapes = tuple(tuple(self._value(i).shape[1:]) for i in made)
            if self.is_nhwc:
                shapes = tuple((s[2], s[0], s[1]) if len(s) == 3 else s for s in shapes)
            sides = [s[1] for s in shapes if len(s) == 3]
            rows.append(
                StageInfo(
                    name=name,
                    out_channels=sum(s[0] for s in shapes),
                    reduction=round(self.size_hw[0] / min(sides)) if sides else 0,
                    output_shapes=shapes,
                    num_params=sum(
                        p.numel() for n, p in self.network.named_parameters() if self.map.stage_of.get(n) == k
                    ),
                    num_macs=sum(self._values[1].get(n, 0) for n in nodes),
                )
            )
        return tuple(rows)

    @cached_property
    def num_features(self) -> int:
        """Width D of the embedding."""
        shape = self._value(self._classifier_input).shape
        return int(shape[-1] if len(shape) == 4 and self.is_nhwc else shape[1])

    def state_shapes(self, cut: str) -> tuple[tuple[int, ...], ...]:
        """(C, H, W) or (C,) of each tensor that crosses a cut, at `size_hw`."""
        values = [self._value(i) for i in self._state_values(self._starts[self.position(cut)])]
        shapes = tuple(tuple(v.shape[1:]) for v in values)
        if self.is_nhwc:
            return tuple((s[2], s[0], s[1]) if len(s) == 3 else s for s in shapes)
        return shapes

    def stages_of_module(self, path: str) -> set[int]:
        """Positions of the stages that a module of the network lies in; empty where it never runs."""
        inside = path + "."
        found = {s for n, s in self.map.stage_of.items() if n.startswith(inside)}
        return (
            found
            or {s for target, s in self._placed.items() if (target + ".").startswith(inside)}
            or ({s for target, s in self._placed.items() if inside.startswith(target + ".")})
        )

    def blocks_of_stage(self, stage: int) -> list[str]:
        """Paths of the modules that a stage is made of: the parts of a sequence, else what is called."""
        paths: list[str] = []
        for node in self._nodes[self._starts[stage] : self._starts[stage + 1]]:
            if node.op == "call_module" and node.target not in paths:
                paths += _blocks(node.target, self.network.get_submodule(node.target))
        return paths

    def loose_parameters(self, stage: int) -> list[str]:
        """Names of a stage's parameters that lie in none of its blocks."""
        blocks = tuple(b + "." for b in self.blocks_of_stage(stage))
        own = {n for n, _ in self.network.named_parameters()}
        return [n for n, s in self.map.stage_of.items() if s == stage and n in own and not n.startswith(blocks)]

    # -- how the graph is cut

    def _partition(self) -> list[int]:
        """Index of the first node of each stage, and the number of nodes at the end."""
        ids = [self._own_stage(n) for n in self._nodes]
        known = [(i, s) for i, s in enumerate(ids) if s is not None]
        if any(b[1] < a[1] for a, b in pairwise(known)):
            raise NoStagesError("it does not run its stages one after another")
        num = len(self.names)
        starts = [0] * num + [len(self._nodes)]
        last_stage, neck, head = num - 3, num - 2, num - 1
        for k in range(1, num):
            starts[k] = next((i for i, s in known if s >= k), len(self._nodes))
        if not any(s == head for _, s in known):
            raise NoStagesError("its classifier was not found")
        for boundary, below in ((neck, last_stage), (head, neck)):
            first = max((i + 1 for i, s in known if s <= below), default=0)
            moved = next((i for i in range(first, starts[boundary]) if self._is_flattening(i)), starts[boundary])
            starts[boundary] = moved
        for k in range(1, num):  # taking an entry of a list belongs to who uses it, so that the list crosses whole
            while starts[k] > starts[k - 1] and self._nodes[starts[k] - 1].target is operator.getitem:
                starts[k] -= 1
        if not any(s == neck for _, s in known):  # an empty neck: pooling belongs to the head
            starts[head] = starts[neck]
        return starts

    def _own_stage(self, node: Any) -> int | None:
        if node.op == "get_attr":
            return self.map.stage_of.get(node.target)
        if node.op == "call_module":
            inside = node.target + "."
            return next((s for n, s in self.map.stage_of.items() if n.startswith(inside)), None)
        return None

    def _is_flattening(self, index: int) -> bool:
        """Whether a node without parameters begins what turns maps into vectors."""
        node = self._nodes[index]
        if node.op == "call_module":
            kind = type(self.network.get_submodule(node.target)).__name__
            return kind in _FLATTENING_MODULES or ("Adaptive" in kind and "pool" in node.target.split(".")[-1])
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        return name in _FLATTENING_FUNCTIONS

    def _live(self, index: int) -> list[Any]:
        """Nodes computed before an index and used at or after it, in order."""
        later = set(self._nodes[index:])
        before = [self._input, *self._nodes[:index]]
        return [n for n in before if n is self._result or any(u in later for u in n.users)]

    def _state_values(self, index: int) -> list[Any]:
        return [part for node in self._live(index) for part in self._parts(node)]

    def _made_in(self, stage: int) -> list[Any]:
        """What a stage hands on; for the head, the logits."""
        begin, end = self._starts[stage], self._starts[stage + 1]
        if end == len(self._nodes):
            return [self._result]
        own = set(self._nodes[begin:end])
        made = [v for v in self._state_values(end) if _node(v) in own]
        return made or self._state_values(end)

    @cached_property
    def _placed(self) -> dict[str, int]:
        """Stage of every module that is called on its own."""
        return {
            node.target: k
            for k in range(len(self.names))
            for node in self._nodes[self._starts[k] : self._starts[k + 1]]
            if node.op == "call_module"
        }

    def _parts(self, node: Any) -> list[Any]:
        count = self._num_parts(node)
        return [node] if count is None else [(node, i) for i in range(count)]

    def _num_parts(self, node: Any) -> int | None:
        """Number of tensors in the value of a node, or None where it is a tensor itself."""
        value = self._values[0][node]
        if torch.is_tensor(value):
            return None
        if isinstance(value, (list, tuple)) and all(torch.is_tensor(v) for v in value):
            return len(value)
        raise NoStagesError(f"a value that is no tensor crosses a cut ({node.name})")

    def _value(self, item: Any) -> Any:
        node, part = item if isinstance(item, tuple) else (item, None)
        value = self._values[0][node]
        return value if part is None else value[part]

    @property
    def is_nhwc(self) -> bool:
        """Whether its maps are (B, H, W, C) inside."""
        return str(getattr(self.network, "output_fmt", "NCHW")).upper().endswith("NHWC")

    @cached_property
    def _classifier_input(self) -> Any:
        for node in self._nodes:
            if node.op == "call_module" and node.target in self.map.classifiers:
                return node.args[0]
        raise NoStagesError("its classifier is not called on its own")

    @cached_property
    def module_shapes(self) -> dict[str, tuple[int, ...]]:
        """Output shape without the batch of every module that runs, by its path."""
        shapes: dict[str, tuple[int, ...]] = {}

        def note(path: str) -> Any:
            def hook(module: Any, inputs: Any, output: Any) -> None:
                first = output[0] if isinstance(output, (list, tuple)) and output else output
                if torch.is_tensor(first):
                    shapes[path] = tuple(first.shape[1:])

            return hook

        handles = [m.register_forward_hook(note(n)) for n, m in self.network.named_modules() if n]
        try:
            self._propagate()
        finally:
            for handle in handles:
                handle.remove()
        return shapes

    @cached_property
    def _values(self) -> tuple[dict[Any, Any], dict[Any, int]]:
        """Shapes and multiply-adds of every node."""
        return self._propagate()

    def _propagate(self) -> tuple[dict[Any, Any], dict[Any, int]]:
        """A pass that computes shapes alone.

        Raises:
            UsageError: The network cannot take pictures of this size.
        """
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.utils.flop_counter import FlopCounterMode

        values: dict[Any, Any] = {}
        macs: dict[Any, int] = {}
        device = next(self.network.parameters()).device
        counter = FlopCounterMode(display=False)
        with (
            _quiet("torch._subclasses.fake_tensor"),
            FakeTensorMode(allow_non_fake_inputs=True),
            torch.no_grad(),
            counter,
        ):
            values[self._input] = torch.empty(1, self.in_channels, *self.size_hw, device=device)
            before = 0
            for node in self._nodes:
                args = _plain(fx.node.map_arg(node.args, lambda n: values[n]))
                kwargs = _plain(fx.node.map_arg(node.kwargs, lambda n: values[n]))
                try:
                    values[node] = _run(self.network, node, args, kwargs)
                except (RuntimeError, ValueError, AssertionError) as error:
                    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                    size = f"{self.size_hw[0]} x {self.size_hw[1]}"
                    raise UsageError(
                        f"this network cannot take pictures of {size} pixels ({reason}).",
                        hint="take larger pictures: --size",
                    ) from error
                total = counter.get_total_flops() // 2
                macs[node], before = total - before, total
        return values, macs


def _blocks(path: str, module: Any) -> list[str]:
    """The parts of a list of blocks, or the module itself."""
    children = list(module.named_children())
    is_list = isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
    is_list = is_list or (len(children) > 1 and len({type(c) for _, c in children}) == 1)
    if not is_list and not any(n == "blocks" for n, _ in children):
        return [path]
    found = []
    for name, child in children:
        found += _blocks(f"{path}.{name}", child) if name == "blocks" else [f"{path}.{name}"]
    return found


@contextlib.contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Keeps a library from writing a traceback about an error that we report ourselves."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _node(item: Any) -> Any:
    return item[0] if isinstance(item, tuple) else item


def _needed(graph: Any) -> list[Any]:
    """Nodes that the result depends on, in order of execution."""
    wanted: set[Any] = set()
    for node in reversed(list(graph.nodes)):
        if node.op == "output" or node in wanted:
            wanted.update(node.all_input_nodes)
    return [n for n in graph.nodes if n in wanted and n.op != "placeholder"]


def _plain(value: Any) -> Any:
    """Arguments with ordinary lists, which some networks write into."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return tuple(_plain(v) for v in value) if type(value) is tuple else value


def _run(network: Any, node: Any, args: Any, kwargs: Any) -> Any:
    """The value of one node."""
    if node.op == "call_module":
        return network.get_submodule(node.target)(*args, **kwargs)
    if node.op == "get_attr":
        return operator.attrgetter(node.target)(network)
    if node.op == "call_method":
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    return node.target(*args, **kwargs)


def _pool(x: Any, is_nhwc: bool) -> Any:
    """Mean over places: (B, C, H, W) to (B, C); a vector stays."""
    if x.dim() == 4:
        return x.mean((1, 2)) if is_nhwc else x.mean((2, 3))
    return x.flatten(1)


fx.wrap("_pool")
