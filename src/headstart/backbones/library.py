"""All one must know about a network before loading it, without importing torch.

A card is plain data read from two tables in this package, `named.json` (what a person
wrote about the networks of headstart's own list) and `library.json` (what `harvest` read from timm and
torchvision).  Listing, explaining and comparing networks costs milliseconds; only `load_backbone` builds
one.
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
"""Licenses as the libraries spell them, and as the SPDX list does."""


@dataclass(frozen=True)
class Card:
    """One network with one set of weights.

    Attributes:
        name: The name headstart knows it by: `resnet50`, or `timm:...`, `tv:...` outside the list.
        title: As the paper writes it.
        library: Who builds the network: timm, torchvision, or headstart itself.
        arch: The library's own name of the architecture.
        weights_tag: Which weights, e.g. `resnet50.a1_in1k`; empty where there are none.
        weights_reason: Why these and not others.
        source: Where the weights come from: `package:MODULE`, `hub:REPO[#FILE]`, `torchvision:ENUM.MEMBER`,
            `url:timm` (the address that timm states), or `none`.
        license: License of the weights as their source states it; empty where it states none.
        digest: SHA-256 of the weights file, or its leading digits, or empty where the source states none
            (the hub states it when the file is fetched).
        num_classes: Classes of the original classifier.
        pixels: Fields of the `ImageSpec` that the weights were evaluated with.
        min_size: Shortest side in pixels that the network can take.
        is_fixed_size: Whether it takes its own size only.
        family, year, paper: Where it comes from.
        num_params: At inference, with the original classifier.
        num_aux_params: Parameters of auxiliary heads, which exist in training only; not in `num_params`.
        num_macs: Multiply-adds of one image of `stages_size` pixels.
        top1, top5: ImageNet-1k validation accuracy in percent at the card's size, or None where no source
            can be opened.
        figures_source: Where `top1` and `top5` stand.
        stages: Rows of the stage table: `name`, `num_params`, `num_macs`, `output_shapes`.
        stages_size: Side of the images that the stage table is told for; the card's own in headstart's list.
        no_stages: Why the network cannot be cut, or empty.
        advantages, drawbacks, choose_when: A sentence or two each; empty outside the named list.
        aliases: Other spellings.
        tags: Weights that can be had for this architecture.
        is_named: Whether the network stands in headstart's own list.
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
        """Return the pixels this network wants.

        Args:
            size: Side, or (height, width), in pixels; None takes the card's own.

        Raises:
            UsageError: The network cannot take this size; the smallest is named.
        """
        spec = ImageSpec(**self.pixels)
        if size is None:
            return spec
        size_hw = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        if self.is_fixed_size and size_hw != spec.size_hw:
            raise UsageError(
                f"{self.title} takes images of {spec.size_hw[0]} x {spec.size_hw[1]} pixels only, "
                f"not {size_hw[0]} x {size_hw[1]}.",
                hint="leave --size out, or take another network",
            )
        if min(size_hw) < self.min_size:
            raise UsageError(
                f"{self.title} needs images of at least {self.min_size} x {self.min_size} pixels, "
                f"not {size_hw[0]} x {size_hw[1]}.",
                hint=f"--size {self.min_size} or more; its weights were trained at {spec.size_hw[0]}",
            )
        return spec.with_(size_hw=size_hw)

    @property
    def has_weights(self) -> bool:
        """Whether pretrained weights can be had from anywhere."""
        return self.source != "none"

    @property
    def stage_names(self) -> tuple[str, ...]:
        """`stem, stage1 .. stageN, neck, head`, as harvested; empty where the network cannot be cut."""
        return tuple(row["name"] for row in self.stages)

    def to_json(self) -> dict[str, Any]:
        """Return what travels with a run or a bundle: everything but the stage table and the prose."""
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
    """Return every network of headstart's own list, in the order of the list."""
    return tuple(named_cards().values())


@lru_cache(maxsize=1)
def named_cards() -> dict[str, Card]:
    """Return the cards of headstart's own list by name."""
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
    """Return what was harvested, by `timm:ARCH`, `tv:ARCH` and `headstart:ARCH`."""
    networks: dict[str, dict[str, Any]] = _library()["networks"]
    return networks


def library_card(key: str, tag: str | None = None) -> Card:
    """Return the card of a network by its library's own name.

    Args:
        key: A key of `library_table`.
        tag: Which weights; None takes the library's default.

    Raises:
        UsageError: There are no such weights; those that exist are named.
    """
    entry = library_table()[key]
    prefix, _, arch = key.partition(":")
    tags = entry["tags"]
    chosen = entry["default"] if tag is None else tag
    if chosen not in tags and tag is not None:
        raise UsageError(
            f"there are no weights `{tag}` for {key}.",
            hint=f"there are: {', '.join(tags)}" if tags else "no public weights of this network exist",
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
