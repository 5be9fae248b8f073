"""Infer shapes and costs of a traced network without running it.

One pass with tensors that have shapes but no values gives shapes, multiply-adds, and which values later layers change
in place; it needs neither weights nor memory for feature maps.
"""

from __future__ import annotations

import contextlib
import logging
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from headstart.backbones.tracing import TracedNetwork
from headstart.errors import UsageError

__all__ = ["ShapeFlow", "find_flow", "module_shapes"]


@dataclass(frozen=True)
class ShapeFlow:
    """Result of the pass.

    Attributes:
        values: Node to a tensor without values, or a list of them.
        macs: Node to its multiply-adds for one image (convolutions and matrix products).
        last_change: Node to the index of the last node that changed its value in place, or -1.
    """

    values: dict[Any, Any]
    macs: dict[Any, int]
    last_change: dict[Any, int]


def find_flow(network: Any, traced: TracedNetwork, size_hw: tuple[int, int], in_channels: int) -> ShapeFlow:
    """Run the nodes on shapes only.

    Raises:
        UsageError: The network does not support images of this size.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    values: dict[Any, Any] = {}
    macs: dict[Any, int] = {}
    versions: dict[Any, int] = {}
    last_change: dict[Any, int] = {}
    device = next(network.parameters()).device
    counter = FlopCounterMode(display=False)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with _evaluating(network), _quiet("torch._subclasses.fake_tensor"), fake, torch.no_grad(), counter:
        values[traced.input] = torch.empty(1, in_channels, *size_hw, device=device)
        versions[traced.input], last_change[traced.input] = _version(values[traced.input]), -1
        before = 0
        for index, node in enumerate(traced.nodes):
            args = _plain(fx.node.map_arg(node.args, lambda n: values[n]))
            kwargs = _plain(fx.node.map_arg(node.kwargs, lambda n: values[n]))
            try:
                values[node] = _run(network, node, args, kwargs)
            except (RuntimeError, ValueError, AssertionError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise UsageError(
                    f"this network does not support images of {size_hw[0]} x {size_hw[1]} pixels ({reason}).",
                    hint="use larger images: --image-size",
                ) from error
            total = counter.get_total_flops() // 2
            macs[node], before = total - before, total
            for used in node.all_input_nodes:
                if _version(values[used]) != versions[used]:
                    versions[used], last_change[used] = _version(values[used]), index
            versions[node], last_change[node] = _version(values[node]), -1
    return ShapeFlow(values, macs, last_change)


def module_shapes(network: Any, run: Callable[[], Any]) -> dict[str, tuple[int, ...]]:
    """Return the output shape, without the batch, of every module that runs, by its path.

    Args:
        network: The network to observe.
        run: Runs it once.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def note(path: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, (list, tuple)) and output else output
            if torch.is_tensor(first):
                shapes[path] = tuple(first.shape[1:])

        return hook

    handles = [m.register_forward_hook(note(n)) for n, m in network.named_modules() if n]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _version(value: Any) -> int:
    """Return a number that grows with every change in place; the sum for lists."""
    if torch.is_tensor(value):
        return int(value._version)
    return sum(_version(v) for v in value) if isinstance(value, (list, tuple)) else 0


def _plain(value: Any) -> Any:
    """Return arguments with ordinary lists, which some networks write into."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return tuple(_plain(v) for v in value) if type(value) is tuple else value


def _run(network: Any, node: Any, args: Any, kwargs: Any) -> Any:
    """Compute the value of one node."""
    if node.op == "call_module":
        return network.get_submodule(node.target)(*args, **kwargs)
    if node.op == "get_attr":
        return operator.attrgetter(node.target)(network)
    if node.op == "call_method":
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    return node.target(*args, **kwargs)


@contextlib.contextmanager
def _evaluating(network: Any) -> Iterator[None]:
    """Set evaluation mode temporarily, so that no statistic moves; afterwards every module is restored."""
    training = [m for m in network.modules() if m.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Suppress a library's traceback of an error that is reported here."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
