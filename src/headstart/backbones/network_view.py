"""Show a network, or the network of a run, as layer table and diagram.

Nothing here needs weights. Networks are built without parameter values, so ResNet-152 needs no download and no memory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from headstart.backbones.build import build_empty
from headstart.backbones.cards import Card, find_card
from headstart.backbones.loading import Backbone
from headstart.errors import BundleError, UsageError

__all__ = ["NetworkView", "show_network", "show_run"]


@dataclass(frozen=True, slots=True)
class NetworkView:
    """Layer table and diagram of a network.

    Attributes:
        text: The layer table, or empty.
        diagram: The diagram file, or None.
    """

    text: str = ""
    diagram: Path | None = None


def show_network(
    card: Card,
    *,
    size: int | None = None,
    depth: str | None = "block",
    diagram: str | Path | None = None,
    freeze: str | None = None,
    head: str | None = None,
    num_classes: int | None = None,
) -> NetworkView:
    """Return the layer table and the diagram of a network.

    Args:
        card: The card of the network.
        size: Side of the images; None uses the card's own.
        depth: `stage`, `block` or `layer`; None omits the table.
        diagram: A `.svg` or `.png` file to draw.
        freeze: Frozen stages, as in `freeze.read_freeze`.
        head: A new head, as in `classifier_head.read_head`.
        num_classes: Classes of the new head.

    Raises:
        UsageError: A head without classes, an unsupported size, unknown stage, or unsupported file type.
    """
    from headstart.backbones.classifier_head import attach_head

    if head is not None and num_classes is None:
        raise UsageError("a new head needs its number of classes.", hint="--head ... --classes 10")
    backbone = Backbone(build_empty(card.library, card.arch), card, size_hw=card.image_spec(size).size_hw)
    if freeze is not None:
        backbone.freeze(freeze)
    headed = attach_head(backbone, num_classes, head) if num_classes is not None else None
    return _shown(backbone, headed, depth, diagram)


def show_run(run: str | Path, *, depth: str | None = "block", diagram: str | Path | None = None) -> NetworkView:
    """Return the network of a run with its head, as described by its bundle.

    Args:
        run: A run folder, or a bundle folder.
        depth: As in `show_network`.
        diagram: As in `show_network`.

    Raises:
        BundleError: The run is missing, or its network is unknown.
    """
    from headstart.backbones.classifier_head import attach_head
    from headstart.backbones.summary import ProbeHead

    folder = Path(run)
    info = next((p for p in (folder / "bundle" / "bundle.json", folder / "bundle.json") if p.is_file()), None)
    if info is None:
        raise BundleError(
            f"`{folder}` is not a run folder: it has no bundle.", hint="pass a folder created by `headstart train`"
        )
    try:
        meta: dict[str, Any] = json.loads(info.read_text("utf-8"))
        card = find_card(str(meta["backbone"]["name"]))
        height, width = (int(v) for v in meta["pixels"]["size_hw"])
        spec, num_classes = meta.get("head_spec"), len(meta["class_names"])
        made_of = {"names": (), "sizes": ()} if spec else meta.get("head_beside") or meta["head"]
        blocks = dict(zip(made_of["names"], made_of["sizes"], strict=True))
        probe = ProbeHead(blocks, num_classes, tuple(int(w) for w in made_of.get("hidden") or ()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"`{info}` does not state its network ({error}).", hint="train again") from error
    backbone = Backbone(build_empty(card.library, card.arch), card, size_hw=(height, width))
    backbone.freeze(str(meta.get("freeze") or "all"))
    if isinstance(spec, str):
        return _shown(backbone, attach_head(backbone, num_classes, spec), depth, diagram)
    return _shown(backbone, probe, depth, diagram)


def _shown(backbone: Backbone, head: Any, depth: str | None, diagram: str | Path | None) -> NetworkView:
    from headstart.backbones.summary import Depth, summarize

    text, drawn = "", None
    if depth is not None:
        text = summarize(backbone, head, cast("Depth", depth)).to_text()
        if backbone.frozen_stages:
            text += "\n\nfrozen: " + ", ".join(backbone.frozen_stages)
    if diagram is not None:
        from headstart.backbones.diagram import draw_diagram

        drawn = draw_diagram(backbone, diagram, head)
    return NetworkView(text, drawn)
