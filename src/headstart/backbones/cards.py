"""All one must know about a network before loading it, without importing torch.

The one decision: a card is plain data read from tables in this package.  Listing, explaining and
comparing networks, and deciding which pixels they want, cost milliseconds and need no torch; only
`load_backbone` builds a network.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from headstart.errors import UsageError
from headstart.pixels.spec import PixelSpec

__all__ = ["DEFAULT_BACKBONE", "Card", "find_card", "list_cards", "normalise_name"]

DEFAULT_BACKBONE = "efficientnet_lite0"
Library = Literal["timm", "torchvision", "headstart"]


@dataclass(frozen=True)
class Card:
    """One network with one set of weights.

    Attributes:
        name: The name headstart knows it by, e.g. `efficientnet_lite0`.
        title: As the paper writes it.
        library: Who builds the network: timm, torchvision, or headstart itself.
        arch: The library's own name of the architecture.
        weights_tag: Which weights, e.g. `resnet50.a1_in1k`; empty where there are none.
        weights_reason: Why these and not others.
        source: Where the weights come from: `package:MODULE`, `hub:REPO`, `torchvision:ENUM.MEMBER`, or `none`.
        licence: Licence of the weights as their source states it; empty where it states none.
        digest: SHA-256 of the weights file, or its leading digits, or empty where the source states none.
        pixels: Fields of the `PixelSpec` that the weights were evaluated with.
        min_size: Shortest side in pixels that the network can take.
        year, paper: First publication.
        num_params: At inference, with the 1,000-class head.
        num_aux_params: Parameters of auxiliary heads, which exist in training only; not in `num_params`.
        num_macs: Multiply-adds of one picture at the card's size.
        top1, top5: ImageNet-1k validation accuracy in percent, or None where no source can be opened.
        figures_source: Where `top1` and `top5` stand.
        stages: Rows of the stage table: name, channels, reduction, parameters, multiply-adds, output shape.
        family: Group in listings.
        advantages, drawbacks, choose_when: A sentence or two each; empty outside the named list.
        aliases: Other spellings.
        loads_as: Extra arguments of the library's constructor.
        is_named: Whether the network stands in headstart's own list.
    """

    name: str
    title: str
    library: Library
    arch: str
    weights_tag: str = ""
    weights_reason: str = ""
    source: str = "none"
    licence: str = ""
    digest: str = ""
    pixels: dict[str, Any] = field(default_factory=dict)
    min_size: int = 32
    year: int | None = None
    paper: str = ""
    num_params: int | None = None
    num_aux_params: int = 0
    num_macs: int | None = None
    top1: float | None = None
    top5: float | None = None
    figures_source: str = ""
    stages: tuple[dict[str, Any], ...] = ()
    family: str = ""
    advantages: str = ""
    drawbacks: str = ""
    choose_when: str = ""
    aliases: tuple[str, ...] = ()
    loads_as: dict[str, Any] = field(default_factory=dict)
    is_named: bool = False

    def pixel_spec(self, size: int | tuple[int, int] | None = None) -> PixelSpec:
        """The pixels this network wants.

        Args:
            size: Side, or (height, width), in pixels; None takes the card's own.
        """
        spec = PixelSpec(**self.pixels)
        if size is None:
            return spec
        size_hw = (size, size) if isinstance(size, int) else size
        return spec.with_(size_hw=size_hw)

    @property
    def has_weights(self) -> bool:
        """Whether pretrained weights can be had from anywhere."""
        return self.source != "none"


def normalise_name(name: str) -> str:
    """Without case, dash, underscore, space: `MobileNetV2` and `mobilenet_v2` are one name.

    A dot is kept: it parts a network from its weights tag.
    """
    return re.sub(r"[-_\s()]", "", name).lower()


@lru_cache(maxsize=1)
def _named() -> dict[str, Card]:
    text = resources.files("headstart.backbones").joinpath("tables/named.json").read_text("utf-8")
    cards = {}
    for row in json.loads(text)["cards"]:
        row["aliases"] = tuple(row.get("aliases", ()))
        row["stages"] = tuple(row.get("stages", ()))
        cards[row["name"]] = Card(**row, is_named=True)
    return cards


def list_cards() -> tuple[Card, ...]:
    """Every network of headstart's own list, in the order of the list."""
    return tuple(_named().values())


@lru_cache(maxsize=1)
def _spellings() -> dict[str, str]:
    table: dict[str, str] = {}
    for card in list_cards():
        for spelling in (card.name, card.title, *card.aliases):
            table.setdefault(normalise_name(spelling), card.name)
    return table


def find_card(name: str) -> Card:
    """The card of a network by any of its spellings.

    Raises:
        UsageError: No such network; the nearest three are named.
    """
    found = _spellings().get(normalise_name(name))
    if found is not None:
        return _named()[found]
    raise UsageError(
        f"there is no network called `{name}`.",
        hint=f"nearest: {', '.join(_nearest(name, (c.name for c in list_cards())))}; "
        "`headstart models` lists all of them",
    )


def _nearest(name: str, names: Iterable[str]) -> list[str]:
    """Three names that look most alike, best first."""
    wanted = normalise_name(name)
    return sorted(names, key=lambda n: -difflib.SequenceMatcher(None, wanted, normalise_name(n)).ratio())[:3]
