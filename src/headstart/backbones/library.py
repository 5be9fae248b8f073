"""Describe networks without loading them or importing torch.

A card is plain data from two tables in this package: `named.json` (curated descriptions of the listed networks) and
`library.json` (properties read from timm and torchvision by `tools/library_builder.py`). Listing, describing and
comparing networks takes milliseconds; only `load_backbone` builds one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from headstart.errors import UsageError
from headstart.preprocessing.image_spec import ImageSpec

__all__ = ["DEFAULT_BACKBONE", "Card", "Library", "library_card", "library_table", "list_cards"]

DEFAULT_BACKBONE = "efficientnet_lite0"
Library = Literal["timm", "torchvision", "headstart"]

_FIGURES = {
    "timm": "timm, results-imagenet, 2026-08",
    "torchvision": "torchvision, metadata of the weights",
}
_PREFIX: dict[str, Library] = {"timm": "timm", "tv": "torchvision", "headstart": "headstart"}


_SPDX = {
    name.lower(): name for name in ("Apache-2.0", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "MIT")
}
"""Licenses as spelled by the libraries, and as SPDX identifiers."""


@dataclass(frozen=True)
class Card:
    """One network with one set of weights.

    Attributes:
        name: Name in headstart: `resnet50`, or `timm:...`, `tv:...` outside the list.
        title: Name in the paper.
        library: Library that builds the network: timm, torchvision, or headstart.
        arch: The library's name of the architecture.
        weights_tag: Name of the weights, e.g. `resnet50.a1_in1k`; empty without weights.
        weights_reason: Why these weights are the default.
        source: Source of the weights: `package:MODULE`, `hub:REPO[#FILE]`, `torchvision:ENUM.MEMBER`,
            `url:timm` (the address given by timm), or `none`.
        license: License of the weights as stated by their source; empty if it states none.
        digest: SHA-256 of the weights file, or its leading digits; empty if the source states none
            (the hub states it at download).
        num_classes: Classes of the original classifier.
        pixels: Fields of the `ImageSpec` that the weights were evaluated with.
        min_size: Smallest supported side in pixels.
        is_fixed_size: Whether only its own size is supported.
        family, year, paper: Origin.
        num_params: At inference, with the original classifier.
        num_aux_params: Parameters of auxiliary heads, which exist in training only; not in `num_params`.
        num_macs: Multiply-adds of one image of `stages_size` pixels.
        top1, top5: ImageNet-1k validation accuracy in percent at the card's size, or None without an accessible
            source.
        figures_source: Source of `top1` and `top5`.
        stages: Rows of the stage table: `name`, `num_params`, `num_macs`, `output_shapes`.
        stages_size: Side of the images of the stage table; the card's own size for listed networks.
        no_stages: Why the network cannot be cut, or empty.
        advantages, drawbacks, choose_when: One or two sentences each; empty outside the list.
        aliases: Other spellings.
        tags: Weights available for this architecture.
        is_named: Whether the network is in headstart's list.
    """

    name: str
    title: str
    library: Library
    arch: str
    weights_tag: str = ""
    weights_reason: str = ""
    source: str = "none"
    license: str = ""
    digest: str = ""
    num_classes: int = 1000
    pixels: dict[str, Any] = field(default_factory=dict)
    min_size: int = 32
    is_fixed_size: bool = False
    family: str = ""
    year: int | None = None
    paper: str = ""
    num_params: int | None = None
    num_aux_params: int = 0
    num_macs: int | None = None
    top1: float | None = None
    top5: float | None = None
    figures_source: str = ""
    stages: tuple[dict[str, Any], ...] = ()
    stages_size: int = 224
    no_stages: str = ""
    advantages: str = ""
    drawbacks: str = ""
    choose_when: str = ""
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    is_named: bool = False

    def image_spec(self, size: int | tuple[int, int] | None = None) -> ImageSpec:
        """Return the preprocessing of this network.

        Args:
            size: Side, or (height, width), in pixels; None uses the card's own.

        Raises:
            UsageError: The network does not support this size; the error states the smallest one.
        """
        spec = ImageSpec(**self.pixels)
        if size is None:
            return spec
        size_hw = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        if self.is_fixed_size and size_hw != spec.size_hw:
            raise UsageError(
                f"{self.title} accepts images of {spec.size_hw[0]} x {spec.size_hw[1]} pixels only, "
                f"not {size_hw[0]} x {size_hw[1]}.",
                hint="remove --image-size, or use another network",
            )
        if min(size_hw) < self.min_size:
            raise UsageError(
                f"{self.title} needs images of at least {self.min_size} x {self.min_size} pixels, "
                f"not {size_hw[0]} x {size_hw[1]}.",
                hint=f"--image-size {self.min_size} or more; its weights were trained at {spec.size_hw[0]}",
            )
        return spec.with_(size_hw=size_hw)

    @property
    def has_weights(self) -> bool:
        """Return whether pretrained weights are available from any source."""
        return self.source != "none"

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Return `stem, stage1 .. stageN, neck, head`; empty if the network cannot be cut."""
        return tuple(row["name"] for row in self.stages)

    def to_json(self) -> dict[str, Any]:
        """Return the card for runs and bundles: everything but the stage table and the prose."""
        skipped = {
            "stages",
            "stages_size",
            "no_stages",
            "advantages",
            "drawbacks",
            "choose_when",
            "aliases",
            "tags",
            "is_named",
        }
        return {k: getattr(self, k) for k in self.__dataclass_fields__ if k not in skipped}


def list_cards() -> tuple[Card, ...]:
    """Return the listed networks, in order."""
    return tuple(named_cards().values())


@lru_cache(maxsize=1)
def named_cards() -> dict[str, Card]:
    """Return the cards of the listed networks by name."""
    table = _read_table("named.json")
    cards = {}
    for row in table["cards"]:
        family = table["families"][row["family"]]
        prefix = {"timm": "timm", "torchvision": "tv", "headstart": "headstart"}[row["library"]]
        own = {k: row[k] for k in ("name", "title", "family", "weights_reason")}
        prose = {k: row.get(k, family[k]) for k in ("year", "paper", "advantages", "drawbacks", "choose_when")}
        card = library_card(f"{prefix}:{row['arch']}", row["tag"] or None)
        fields = {k: getattr(card, k) for k in Card.__dataclass_fields__}
        fields |= own | prose | row.get("overrides", {})
        cards[row["name"]] = Card(**fields | {"aliases": tuple(row.get("aliases", ())), "is_named": True})
    return cards


def library_table() -> dict[str, dict[str, Any]]:
    """Return the library table, by `timm:ARCH`, `tv:ARCH` and `headstart:ARCH`."""
    networks: dict[str, dict[str, Any]] = _library()["networks"]
    return networks


def library_card(key: str, tag: str | None = None) -> Card:
    """Return the card of a network by its library name.

    Args:
        key: A key of `library_table`.
        tag: Name of the weights; None uses the library's default.

    Raises:
        UsageError: Unknown weights; the error lists those available.
    """
    entry = library_table()[key]
    prefix, _, arch = key.partition(":")
    tags = entry["tags"]
    chosen = entry["default"] if tag is None else tag
    if chosen not in tags and tag is not None:
        raise UsageError(
            f"{key} has no weights `{tag}`.",
            hint=f"available: {', '.join(tags)}" if tags else "this network has no public weights",
        )
    weights = tags.get(chosen, {})
    size = weights.get("pixels", {}).get("size_hw", [224, 224])[0]
    has_figures = "top1" in weights
    return Card(
        name=key if tag is None else f"{key}.{tag}",
        title=arch,
        library=_PREFIX[prefix],
        arch=arch,
        weights_tag=f"{arch}.{chosen}" if weights and chosen else (arch if weights else ""),
        weights_reason="the library's default" if tag is None and weights else "",
        source=weights.get("source", "none"),
        license=_SPDX.get(weights.get("license", ""), weights.get("license", "")),
        digest=weights.get("digest", ""),
        num_classes=weights.get("classes", 1000),
        pixels=weights.get("pixels", {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}),
        min_size=entry.get("min", size),
        is_fixed_size=entry.get("fixed", False),
        family=entry["family"],
        num_params=entry.get("params"),
        num_aux_params=entry.get("aux", 0),
        num_macs=sum(s[2] for s in entry["stages"]) if "stages" in entry else None,
        top1=weights.get("top1"),
        top5=weights.get("top5"),
        figures_source=f"{_FIGURES[_PREFIX[prefix]]}, at {size} px" if has_figures else "",
        stages=tuple(
            {"name": n, "num_params": p, "num_macs": m, "output_shapes": o} for n, p, m, o in entry.get("stages", ())
        ),
        stages_size=entry["size"],
        no_stages=entry.get("error", ""),
        tags=tuple(f"{arch}.{t}" if t else arch for t in tags),
    )


@lru_cache(maxsize=1)
def _library() -> dict[str, Any]:
    return _read_table("library.json")


def _read_table(name: str) -> dict[str, Any]:
    text = resources.files("headstart.backbones").joinpath("tables", name).read_text("utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
