"""Summarize the layers of a network: name, type, output shape, parameters, trainable or frozen.

Shapes come from a pass without values, so the table of any network at any size costs neither memory nor weights. The
total counts every parameter used at inference; auxiliary heads are counted separately.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from headstart.backbones.loading import Backbone
from headstart.backbones.rules import AUXILIARY
from headstart.errors import SettingError

if TYPE_CHECKING:
    from headstart.backbones.classifier_head import HeadedBackbone

__all__ = ["Depth", "ProbeHead", "Summary", "SummaryRow", "stage_parts", "summarize"]

Depth = Literal["stage", "block", "layer"]


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One line of the table.

    Attributes:
        name: Stage, or path of the module in the library's network.
        kind: Class of the module, or the layers of a stage.
        stage: Stage of the module.
        output_shape: (C, H, W) or (C,) without the batch; empty if it never runs.
        num_params: Parameters inside.
        num_trainable: Trainable ones.
    """

    name: str
    kind: str
    stage: str
    output_shape: tuple[int, ...]
    num_params: int
    num_trainable: int

    @property
    def state(self) -> str:
        """Return `trainable`, `frozen`, `partly`, or '' without parameters."""
        if not self.num_params:
            return ""
        if self.num_trainable == self.num_params:
            return "trainable"
        return "partly" if self.num_trainable else "frozen"


@dataclass(frozen=True, slots=True)
class ProbeHead:
    """The head of a probe: one linear layer on the pooled outputs of several stages of a frozen backbone.

    Attributes:
        blocks: Width of each pooled output by stage name or `embedding`.
        num_classes: K.
        hidden: Widths of hidden layers whose output is added to that of the linear layer.
    """

    blocks: dict[str, int]
    num_classes: int
    hidden: tuple[int, ...] = ()

    @property
    def num_params(self) -> int:
        """Return the number of weights and biases of all layers."""
        return (sum(self.blocks.values()) + 1) * self.num_classes + sum(count for _, count in self.hidden_layers)

    @property
    def hidden_layers(self) -> list[tuple[int, int]]:
        """Return width and number of weights and biases of each layer besides the linear one."""
        if not self.hidden:
            return []
        widths = (sum(self.blocks.values()), *self.hidden, self.num_classes)
        return [(b, (a + 1) * b) for a, b in pairwise(widths)]


@dataclass(frozen=True)
class Summary:
    """A layer table with its totals.

    Attributes:
        title: Network and input.
        rows: In forward order.
        num_params, num_trainable: Totals at inference.
        num_aux_params: Parameters of auxiliary heads, which are in none of the rows.
    """

    title: str
    rows: tuple[SummaryRow, ...]
    num_params: int
    num_trainable: int
    num_aux_params: int = 0

    def to_text(self) -> str:
        """Return the table for a terminal."""
        head = ("name", "type", "output", "parameters", "")
        lines = [
            (r.name, r.kind, " x ".join(map(str, r.output_shape)), f"{r.num_params:,}" if r.num_params else "", r.state)
            for r in self.rows
        ]
        widths = [min(44, max(len(line[i]) for line in [head, *lines])) for i in range(5)]

        def line(cells: Sequence[str]) -> str:
            shown = [c if len(c) <= w else c[: w - 1] + "…" for c, w in zip(cells, widths, strict=True)]
            parts = [shown[0].ljust(widths[0]), shown[1].ljust(widths[1]), shown[2].rjust(widths[2])]
            return "  ".join([*parts, shown[3].rjust(widths[3]), shown[4]]).rstrip()

        rule = "-" * (sum(widths[:4]) + 8 + widths[4])
        totals = [
            f"total parameters          {self.num_params:>15,}",
            f"trainable parameters      {self.num_trainable:>15,}",
            f"non-trainable parameters  {self.num_params - self.num_trainable:>15,}",
        ]
        if self.num_aux_params:
            totals.append(f"auxiliary heads (training only, not counted)  {self.num_aux_params:,}")
        return "\n".join([self.title, rule, line(head), rule, *map(line, lines), rule, *totals])


def summarize(backbone: Backbone, head: HeadedBackbone | ProbeHead | None = None, depth: Depth = "block") -> Summary:
    """Return the layer table.

    Args:
        backbone: The network; the table shows what is frozen.
        head: The network with its new head, or a probe's, if any; it replaces the original classifier.
        depth: `stage`, `block` (direct children of a stage) or `layer` (every module without children).

    Raises:
        SettingError: Unknown depth.
    """
    if depth not in ("stage", "block", "layer"):
        raise SettingError(f"depth must be `stage`, `block` or `layer`, not `{depth}`.")
    network = backbone.network
    end = network.position("head" if isinstance(head, ProbeHead) else head.cut) if head else len(network.names)
    body = _stage_rows(backbone, end) if depth == "stage" else _module_rows(backbone, end, depth)
    if isinstance(head, ProbeHead):
        body += _probe_rows(head)
    elif head is not None:
        body += _head_rows(head, depth)
    rows = body
    aux = sum(p.numel() for n, p in backbone.module.named_parameters() if n.startswith(AUXILIARY))
    height, width = backbone.size_hw
    return Summary(
        title=f"{backbone.card.title}, input {backbone.in_channels} x {height} x {width}",
        rows=tuple(rows),
        num_params=sum(r.num_params for r in rows),
        num_trainable=sum(r.num_trainable for r in rows),
        num_aux_params=aux,
    )


def _stage_rows(backbone: Backbone, end: int) -> list[SummaryRow]:
    rows = []
    trainable = _trainable_by_stage(backbone)
    for k, info in enumerate(backbone.network.table[:end]):
        if info.num_params or info.output_shapes:
            kind = ", ".join(stage_parts(backbone, k))
            for shape in info.output_shapes[:-1]:  # one line per tensor of the state
                rows.append(SummaryRow(info.name, kind, info.name, shape, 0, 0))
            last = info.output_shapes[-1] if info.output_shapes else ()
            rows.append(SummaryRow(info.name, kind, info.name, last, info.num_params, trainable[k]))
    return rows


def _trainable_by_stage(backbone: Backbone) -> list[int]:
    counts = [0] * len(backbone.network.names)
    for name, parameter in backbone.module.named_parameters():
        stage = backbone.network.map.stage_of.get(name)
        if stage is not None and parameter.requires_grad:
            counts[stage] += parameter.numel()
    return counts


def stage_parts(backbone: Backbone, stage: int) -> tuple[str, ...]:
    """Return the kinds of modules in a stage with their counts, e.g. `("2 Conv2d", "2 ReLU", "1 MaxPool2d")`."""
    counts: dict[str, int] = {}
    for path in backbone.network.blocks_of_stage(stage):
        kind = type(backbone.module.get_submodule(path)).__name__
        if kind not in ("Identity", "Dropout"):
            counts[kind] = counts.get(kind, 0) + 1
    return tuple(f"{n} {k}" for k, n in counts.items())


def _module_rows(backbone: Backbone, end: int, depth: Depth) -> list[SummaryRow]:
    network = backbone.network
    shapes = network.module_shapes
    rows = []
    for k in range(end):
        for block in network.blocks_of_stage(k):
            module = backbone.module.get_submodule(block)
            paths = [block] if depth == "block" else _layers(block, module)
            for path in paths:
                part = backbone.module.get_submodule(path)
                own = (
                    list(part.parameters()) if depth == "block" else list(part.parameters(recurse=not _has_parts(part)))
                )
                count = sum(p.numel() for p in own)
                if depth == "layer" and _has_parts(part) and not count:
                    continue
                kind = type(part).__name__ if not (depth == "layer" and _has_parts(part)) else "own parameters"
                shape = shapes.get(path, ())
                if type(part).__name__ == "Identity":
                    continue
                trains = sum(p.numel() for p in own if p.requires_grad)
                rows.append(SummaryRow(path, kind, network.names[k], shape, count, trains))
        for name in network.loose_parameters(k):
            parameter = backbone.module.get_parameter(name)
            count = parameter.numel()
            trains = count if parameter.requires_grad else 0
            rows.append(SummaryRow(name, "parameter", network.names[k], tuple(parameter.shape), count, trains))
    return rows


def _layers(path: str, module: Any) -> list[str]:
    """Return every module without children, and those with parameters besides their children's."""
    return [f"{path}.{n}" if n else path for n, m in module.named_modules() if not _has_parts(m) or m._parameters]


def _has_parts(module: Any) -> bool:
    return next(iter(module.children()), None) is not None


def _probe_rows(head: ProbeHead) -> list[SummaryRow]:
    pools = [SummaryRow(f"head.{n}", "global average pooling", "head", (w,), 0, 0) for n, w in head.blocks.items()]
    normalizer = SummaryRow("head.normalizer", "standardize, clip", "head", (sum(head.blocks.values()),), 0, 0)
    count = (sum(head.blocks.values()) + 1) * head.num_classes
    hidden = [
        SummaryRow(f"head.hidden.{i}", "Linear", "head", (w,), n, n) for i, (w, n) in enumerate(head.hidden_layers)
    ]
    linear = SummaryRow("head.linear", "Linear", "head", (head.num_classes,), count, count)
    return [*pools, normalizer, *hidden, linear]


def _head_rows(headed: HeadedBackbone, depth: Depth) -> list[SummaryRow]:
    """Return the rows of the new head."""
    head = headed.head
    count = sum(p.numel() for p in head.parameters())
    trains = sum(p.numel() for p in head.parameters() if p.requires_grad)
    out = getattr(head.output, "out_features", None) or int(head.output.weight.shape[0])
    if depth == "stage":
        return [
            SummaryRow("head (new)", f"pool, {len(head.spec.hidden)} hidden, output", "head", (out,), count, trains)
        ]
    width = head.hidden[0] if len(head.hidden) else head.output
    first = next((m for m in (*head.hidden, head.output) if hasattr(m, "weight")), width)
    current = int(first.weight.shape[1])
    rows = [SummaryRow("head.pool", head.pool, "head", (current,), 0, 0)]
    if head.exponent is not None:
        rows = [SummaryRow("head.pool", "gem", "head", (current,), 1, int(head.exponent.requires_grad))]
    for i, layer in enumerate(head.hidden):
        current = int(layer.weight.shape[0]) if type(layer).__name__ == "Linear" else current
        own = list(layer.parameters())
        row = SummaryRow(
            f"head.hidden.{i}",
            type(layer).__name__,
            "head",
            (current,),
            sum(p.numel() for p in own),
            sum(p.numel() for p in own if p.requires_grad),
        )
        rows.append(row)
    own = list(head.output.parameters())
    total = sum(p.numel() for p in own)
    kind = type(head.output).__name__.strip("_")
    trains = sum(p.numel() for p in own if p.requires_grad)
    return [*rows, SummaryRow("head.output", kind, "head", (out,), total, trains)]
