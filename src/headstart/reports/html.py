"""Render the page, a single self-contained file, and the texts: model card, comment, summary of the network.

The content security policy of the page lists the digests of its style and script: nothing else can run or be fetched,
whatever the names of classes and files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from headstart.errors import MissingExtraError
from headstart.messages.decisions_data import grouping_message
from headstart.messages.numbers import percent, pluralize
from headstart.messages.values import interval
from headstart.reports.figures import draw_svgs
from headstart.reports.thumbs import data_uri

__all__ = ["render", "render_text"]

_HUB_LICENSES = {"Apache-2.0": "apache-2.0", "MIT": "mit", "BSD-3-Clause": "bsd-3-clause", "CC-BY-4.0": "cc-by-4.0",
                 "CC-BY-NC-4.0": "cc-by-nc-4.0", "CC-BY-SA-4.0": "cc-by-sa-4.0"}  # fmt: skip
_EPSILON = 1e-12  # smaller floats are rounding errors
_LONG_PATH = 22  # characters in one line of a caption
_FULL_MATRIX = 30  # maximum number of classes for a confusion table; above it is an image


def render(
    report: Mapping[str, Any],
    thumbs: Mapping[int, bytes | None] | None,
    maps: Mapping[int, bytes] | None = None,
) -> str:
    """Render the page.

    Args:
        report: From `summarize`.
        thumbs: JPEG bytes by position, None for unreadable images; None for a page without images.
        maps: Attribution maps over their images by position, JPEG bytes.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    page = _environment().get_template(f"{report['page']}.html")
    from markupsafe import Markup

    style, script = _read("report.css"), _read("report.js")
    rendered: str = page.render(
        r=report,
        images=report.get("images") if thumbs is not None else None,
        uris={i: data_uri(t) for i, t in (thumbs or {}).items() if t is not None},
        maps={i: data_uri(t) for i, t in (maps or {}).items()},
        figures=lambda name: [(alt, data_uri(svg, "svg+xml")) for alt, svg in draw_svgs(name, report)],
        has_matrix=len(report["class_names"]) <= _FULL_MATRIX,
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'",
    )
    return rendered


def render_text(name: str, report: Mapping[str, Any]) -> str:
    """Render `card.md`, `comment.md` or `summary.txt`.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    text: str = _environment().get_template(name).render(r=report, hub_licenses=_HUB_LICENSES)
    return text.strip("\n") + "\n"


@cache
def _environment() -> Any:
    """Return the template environment; it keeps the compiled templates."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("writing a report", "train") from error
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=lambda name: str(name).endswith(".html"),
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "quoted": shlex.quote,
        "percent": _percent,
        "share": _share,
        "number": _number,
        "count": pluralize,
        "ticks": _ticks,
        "path": _path,
        "level": _level,
        "quantity": "#{}".format,  # a column of numbers
        "sentence": _sentence,
        "grouping": grouping_message,
        "interval": lambda e: interval(e["low"], e["high"], 1),
        "json": json.dumps,
        "line": _line,
        "cell": lambda text: _line(text).replace("<", "&lt;").replace("|", "\\|"),
        "md": lambda text: re.sub(r"[|*_\[\]\\]", r"\\\g<0>", _line(text).replace("&", "&amp;").replace("<", "&lt;")),
    }
    return environment


def _read(name: str) -> str:
    return (resources.files("headstart.reports") / "templates" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else percent(value, digits)


def _share(estimate: Mapping[str, Any] | None, digits: int = 1) -> str:
    """Format an estimate with its interval in percent."""
    if not estimate or estimate.get("value") is None:
        return "not measurable"
    text = percent(estimate["value"], digits)
    if estimate.get("low") is not None and estimate.get("high") is not None:
        text += f" ({100 * estimate['low']:.0f}–{100 * estimate['high']:.0f})"
    return text


def _line(text: Any) -> str:
    return " ".join(str(text).split())


def _ticks(text: str) -> Any:
    """Escape a text and set parts in backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _sentence(text: str) -> Any:
    """Escape a text as in `_ticks` and capitalize it."""
    return _ticks(text[:1].upper() + text[1:])


def _path(name: str) -> Any:
    """Escape a path relative to the data, shortened in the middle; its title is the whole path."""
    from markupsafe import Markup

    folder, _, file = name.rpartition("/")
    short = f"{folder.split('/')[0]}/…/{file}" if len(name) > _LONG_PATH and "/" in folder else name
    if len(short) > _LONG_PATH:
        short = f"{short[: _LONG_PATH // 2]}…{short[-_LONG_PATH // 2 + 1 :]}"
    return Markup('<span class="quiet" title="{}">{}</span>').format(name, short)


def _level(rate: float) -> int:
    """Return the color level of a cell of the confusion matrix, 0-10."""
    return 0 if rate <= 0 else max(1, min(10, round(10 * rate)))


def _number(value: Any, digits: int = 4) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value if abs(value) > _EPSILON else 0.0:.{digits}g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
