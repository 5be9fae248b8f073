"""Draw the architecture: stages as blocks, the cut, frozen stages, and the new head.

Every network has the same few stage blocks, so VGG16 and ResNet-101 are equally legible. Height shows the resolution,
width the channels (both on a logarithmic scale), color whether a stage trains; labels below state the layers.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.backbones.loading import Backbone
from headstart.errors import UsageError
from headstart.utils.dependencies import prepare_matplotlib

if TYPE_CHECKING:
    from headstart.backbones.classifier_head import HeadedBackbone
    from headstart.backbones.summary import ProbeHead

__all__ = ["Block", "diagram_blocks", "draw_diagram"]

_COLORS = {
    "input": ("#ffffff", "#888888"),
    "frozen": ("#c9d8e8", "#44648c"),
    "trainable": ("#f6c48b", "#a4600f"),
    "partly": ("#e4dcc0", "#77703c"),
    "plain": ("#dfe3e6", "#5b6770"),
    "new": ("#b7dfb0", "#2f7a2b"),
}
_LABELS = {
    "frozen": "frozen",
    "trainable": "trains",
    "partly": "partly trained",
    "new": "new head",
    "plain": "stage",
}


@dataclass(frozen=True, slots=True)
class Block:
    """One block of the diagram.

    Attributes:
        name: Stage.
        shapes: (C, H, W) or (C,) of each output tensor.
        parts: Its layers, one entry per line.
        num_params: Parameters inside.
        state: `input`, `plain`, `frozen`, `trainable`, `partly` or `new`.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    parts: tuple[str, ...]
    num_params: int
    state: str


def diagram_blocks(backbone: Backbone, head: HeadedBackbone | ProbeHead | None = None) -> list[Block]:
    """Return the blocks to draw, from left to right.

    Args:
        backbone: If something is frozen, color shows which stages train; otherwise all look alike.
        head: The network with its new head, if any.
    """
    from headstart.backbones.summary import ProbeHead, stage_parts, summarize

    network = backbone.network
    is_marked = bool(backbone.frozen_stages) or head is not None
    end = network.position("head" if isinstance(head, ProbeHead) else head.cut) if head else len(network.names)
    rows = {r.stage: r for r in summarize(backbone, depth="stage").rows}  # the last of several lines has the counts
    height, width = backbone.size_hw
    blocks = [Block("images", ((backbone.in_channels, height, width),), (), 0, "input")]
    for k, info in enumerate(network.table[:end]):
        row = rows.get(info.name)
        if row is None or (not info.num_params and not row.kind):
            continue
        state = (row.state or "plain") if is_marked else "plain"
        blocks.append(Block(info.name, info.output_shapes, stage_parts(backbone, k), info.num_params, state))
    if isinstance(head, ProbeHead):
        first, *rest = head.blocks
        blocks.append(Block("probe", ((head.num_classes,),), (f"linear on {first}", *rest), head.num_params, "new"))
    elif head is not None:
        out = int(head.head.output.weight.shape[0])
        count = sum(p.numel() for p in head.head.parameters())
        hidden = (f"{w} units" for w in head.head.spec.hidden)
        parts = (f"{head.head.pool} pool", *hidden, f"{head.head.spec.output} output")
        blocks.append(Block("new head", ((out,),), parts, count, "new"))
    return blocks


def draw_diagram(backbone: Backbone, file: str | Path, head: HeadedBackbone | ProbeHead | None = None) -> Path:
    """Draw the architecture to a file.

    Args:
        backbone: Network, frozen or not.
        file: A `.svg` or `.png` path.
        head: The network with its new head, if any.

    Raises:
        UsageError: Unsupported file type.
    """
    target = Path(file)
    if target.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"diagrams are written as .svg or .png, not `{target.name}`.", hint="--diagram network.svg")
    prepare_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    blocks = diagram_blocks(backbone, head)
    spots = _layout(blocks)
    total = spots[-1][0] + spots[-1][1]
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "headstart", "font.size": 9}):
        figure = Figure(figsize=(max(8.0, total + 0.6), 5.0))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_xlim(-0.3, max(total + 0.3, 7.7))
        axes.set_ylim(-2.35, 2.65)
        axes.set_axis_off()
        params = sum(b.num_params for b in blocks)
        title = f"{backbone.card.title}: {params / 1e6:,.1f} million parameters"
        axes.text(0.0, 2.4, title, fontsize=13, weight="bold", va="center")
        for block, (left, width, height) in zip(blocks, spots, strict=True):
            _draw_block(axes, block, left, width, height)
        for (left, width, _), (following, *_) in pairwise(spots):
            axes.annotate(
                "",
                (following, 0.0),
                (left + width, 0.0),
                arrowprops={"arrowstyle": "-|>", "color": "#555555", "shrinkA": 1, "shrinkB": 1},
            )
        _draw_cut(axes, blocks, spots)
        _draw_legend(axes, blocks)
        kwargs: dict[str, Any] = {"metadata": {"Date": None}} if target.suffix.lower() == ".svg" else {"dpi": 150}
        figure.savefig(target, facecolor="white", **kwargs)
    return target


def _layout(blocks: list[Block]) -> list[tuple[float, float, float]]:
    """Return left, width and height of each block in inches."""
    side = max(s[1] for s in blocks[0].shapes)
    spots, left = [], 0.0
    for block in blocks:
        maps = [s for s in block.shapes if len(s) == 3]
        largest = max((s[1] for s in maps), default=1)
        channels = sum(s[0] for s in block.shapes) or 1
        height = 0.5 + 1.9 * math.log2(1 + largest) / math.log2(1 + side)
        width = 0.62 + 0.09 * math.log2(1 + channels)
        spots.append((left, width, height))
        left += max(width + 0.34, 1.42)
    return spots


def _draw_block(axes: Any, block: Block, left: float, width: float, height: float) -> None:
    prepare_matplotlib()
    from matplotlib.patches import FancyBboxPatch

    fill, edge = _COLORS[block.state]
    box = FancyBboxPatch(
        (left, -height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.06", facecolor=fill, edgecolor=edge
    )
    axes.add_patch(box)
    center = left + width / 2
    axes.text(center, height / 2 + 0.17, block.name, ha="center", va="center", fontsize=9.5, weight="bold", color=edge)
    shapes = [_shape(s, is_single=len(block.shapes) == 1) for s in block.shapes]
    shown = shapes if len(shapes) <= 4 else [*shapes[:3], f"+ {len(shapes) - 3} more"]
    axes.text(center, 0.0, "\n".join(shown), ha="center", va="center", fontsize=8, linespacing=1.35)
    beneath = [_params(block.num_params)] if block.num_params else []
    for part in block.parts:
        beneath += textwrap.wrap(part, 24, break_long_words=False)
    beneath = beneath if len(beneath) <= 6 else [*beneath[:5], "..."]
    axes.text(center, -height / 2 - 0.12, "\n".join(beneath), ha="center", va="top", fontsize=7.2, linespacing=1.3)


def _draw_cut(axes: Any, blocks: list[Block], spots: list[tuple[float, float, float]]) -> None:
    """Draw a dashed line between the last frozen stage and the first trained one."""
    frozen = [i for i, b in enumerate(blocks) if b.state == "frozen"]
    if not frozen or frozen[-1] + 1 >= len(blocks):
        return
    left, width, _ = spots[frozen[-1]]
    x = (left + width + spots[frozen[-1] + 1][0]) / 2
    axes.plot([x, x], [-1.45, 1.75], linestyle=(0, (4, 3)), color="#b03030", linewidth=1.4)
    axes.text(x, 1.85, "cut", ha="center", va="bottom", color="#b03030", fontsize=9, weight="bold")


def _draw_legend(axes: Any, blocks: list[Block]) -> None:
    prepare_matplotlib()
    from matplotlib.patches import Rectangle

    x = 0.0
    for state in dict.fromkeys(b.state for b in blocks if b.state in _LABELS):
        fill, edge = _COLORS[state]
        axes.add_patch(Rectangle((x, -2.22), 0.2, 0.15, facecolor=fill, edgecolor=edge))
        axes.text(x + 0.27, -2.145, _LABELS[state], va="center", fontsize=8)
        x += 0.55 + 0.085 * len(_LABELS[state])
    axes.text(
        x + 0.1, -2.145, "height: resolution, width: channels (log scale)", va="center", fontsize=8, color="#666666"
    )


def _shape(shape: tuple[int, ...], is_single: bool) -> str:
    if len(shape) != 3:
        return f"{shape[0]:,}"
    return f"{shape[0]:,}{chr(10) if is_single else ' · '}{shape[1]}×{shape[2]}"


def _params(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count:,}"
