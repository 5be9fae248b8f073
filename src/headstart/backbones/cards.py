"""Find the card of a network by any spelling of its name.

Each listed network has one default set of weights; a name outside the list that two libraries share raises an error
with both options.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache

from headstart.backbones.library import (
    DEFAULT_BACKBONE,
    Card,
    library_card,
    library_table,
    list_cards,
    named_cards,
)
from headstart.errors import UsageError

__all__ = ["DEFAULT_BACKBONE", "Card", "find_card", "list_cards", "nearest_names", "normalize_name"]

_LIBRARIES = {"timm": "timm", "tv": "tv", "torchvision": "tv", "headstart": "headstart"}


def normalize_name(name: str) -> str:
    """Normalize case, dashes, underscores and spaces: `MobileNetV2` and `mobilenet_v2` are the same name."""
    return re.sub(r"[-_\s()]", "", name).lower()


def find_card(name: str, tag: str | None = None) -> Card:
    """Return the card of a network by any of its names.

    Args:
        name: A listed name (`ResNet50`), a library name (`timm:resnet50d`, `tv:vgg11`), either
            with a weights tag after a dot (`resnet50.a1_in1k`, `tv:resnet50.IMAGENET1K_V2`).
        tag: The weights tag, if it is not part of the name.

    Raises:
        UsageError: Unknown network (the error lists the nearest three), an ambiguous name (it lists both), or unknown
            weights (it lists those available).
    """
    prefix, colon, rest = name.strip().partition(":")
    if colon:
        if prefix.lower() not in _LIBRARIES:
            raise UsageError(
                f"`{prefix}:` is not a library of networks.", hint="use `timm:NAME` or `tv:NAME` (torchvision)"
            )
        return _in_library(_LIBRARIES[prefix.lower()], rest, tag)
    if tag is None:
        candidates = _spellings().get(normalize_name(name))
        if candidates is not None:
            return named_cards()[candidates]
    return _outside_list(name.strip(), tag)


def _outside_list(name: str, tag: str | None) -> Card:
    """Return a listed network with other weights, or a network outside the list."""
    base, dot, own_tag = name.partition(".")
    tag = own_tag if dot else tag
    listed = _spellings().get(normalize_name(base))
    if listed is not None and tag is not None:
        card = named_cards()[listed]
        if normalize_name(card.weights_tag.partition(".")[2]) == normalize_name(tag):
            return card
        return _with_tag(card, tag)
    readings = _readings().get(normalize_name(base), [])
    key = _only(base, readings)
    if key is not None:
        return _library_card_by_tag(key, tag)
    raise UsageError(
        f"unknown network `{name}`.",
        hint=f"nearest: {', '.join(nearest_names(name))}; `headstart models` lists all networks",
    )


def _with_tag(card: Card, tag: str) -> Card:
    """Return a listed network with weights other than its default, from any library that has them."""
    keys = dict.fromkeys([f"{'tv' if card.library == 'torchvision' else card.library}:{card.arch}"])
    for spelling in (card.name, *card.aliases):
        keys |= dict.fromkeys(_readings().get(normalize_name(spelling), []))
    available: list[str] = []
    for key in keys:
        for available_tag in library_table()[key]["tags"]:
            if normalize_name(available_tag) == normalize_name(tag):
                return library_card(key, available_tag)
            available.append(available_tag)
    raise UsageError(
        f"{card.title} has no weights `{tag}`.",
        hint=f"available: {', '.join(available)}" if available else "this network has no public weights",
    )


def _in_library(prefix: str, rest: str, tag: str | None) -> Card:
    base, dot, own_tag = rest.partition(".")
    readings = [k for k in _readings().get(normalize_name(base), []) if k.startswith(prefix + ":")]
    key = _only(base, readings)
    if key is not None:
        return _library_card_by_tag(key, own_tag if dot else tag)
    library = {"timm": "timm", "tv": "torchvision"}.get(prefix, "headstart")
    others = [k for k in library_table() if k.startswith(prefix + ":")]
    raise UsageError(
        f"`{prefix}:{base}` is not a known convolutional network of {library}.",
        hint=f"nearest: {', '.join(_alike(f'{prefix}:{base}', others))}; transformers and hybrids are not supported",
    )


def _only(name: str, readings: list[str]) -> str | None:
    """Return the only network that a name matches, or None; a library's exact spelling comes first.

    Raises:
        UsageError: Several networks match.
    """
    exact = [r for r in readings if r.partition(":")[2] == name]
    candidates = exact or readings
    if len(candidates) > 1:
        both = " or ".join(f"`{r}`" for r in candidates)
        where = "is in more than one library" if len({r.partition(":")[0] for r in candidates}) > 1 else "is ambiguous"
        raise UsageError(f"`{name}` {where}.", hint=f"use one of: {both}")
    return candidates[0] if candidates else None


def _library_card_by_tag(key: str, tag: str | None) -> Card:
    if tag is None:
        return library_card(key)
    tags = library_table()[key]["tags"]
    return library_card(key, next((t for t in tags if normalize_name(t) == normalize_name(tag)), tag))


def nearest_names(name: str) -> list[str]:
    """Return the three most similar names, best first; listed networks precede others on ties."""
    listed = list(named_cards())
    aliases = {a: c.name for c in named_cards().values() for a in (c.title, *c.aliases)}
    best = [aliases.get(n, n) for n in _alike(name, [*listed, *aliases], 6)]
    candidates = list(dict.fromkeys(best))[:3]
    similar = _name_similarity(name, candidates[0]) if candidates else 0.0
    closer = [k for k in _alike(name, [k.partition(":")[2] for k in library_table()], 1) if similar < 0.75]
    if closer and _name_similarity(name, closer[0]) > similar:
        candidates = [_readings()[normalize_name(closer[0])][0], *candidates]
    return candidates[:3]


def _alike(name: str, names: list[str], count: int = 3) -> list[str]:
    return sorted(names, key=lambda n: -_name_similarity(name, n))[:count]


def _name_similarity(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, normalize_name(a), normalize_name(b)).ratio()


@lru_cache(maxsize=1)
def _spellings() -> dict[str, str]:
    """Map normalized spellings to listed names, including the weights tag of the default."""
    table: dict[str, str] = {}
    for card in named_cards().values():
        for spelling in (card.name, card.title, *card.aliases, card.weights_tag):
            if spelling:
                table.setdefault(normalize_name(spelling), card.name)
    return table


@lru_cache(maxsize=1)
def _readings() -> dict[str, list[str]]:
    """Map normalized architecture names to the libraries' keys."""
    table: dict[str, list[str]] = {}
    for key in library_table():
        table.setdefault(normalize_name(key.partition(":")[2]), []).append(key)
    return table
