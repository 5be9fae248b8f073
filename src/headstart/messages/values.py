"""Format numbers, names, paths and durations."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "count",
    "duration",
    "fit",
    "interval",
    "joined",
    "names",
    "one_line",
    "plural",
    "quote",
    "quote_path",
    "shorten",
    "shorten_end",
    "shorten_path",
    "with_example",
]

_PLURALS = {"box": "boxes", "class": "classes", "copy": "copies", "pass": "passes", "index": "indices"}


def plural(singular: str) -> str:
    """Return the plural of a unit, e.g. `boxes`."""
    return _PLURALS.get(singular, singular + "s")


def count(number: int, singular: str) -> str:
    """Return e.g. `1 image`, `2,527 images`."""
    return f"1 {singular}" if number == 1 else f"{number:,} {plural(singular)}"


def interval(low: float | None, high: float | None, digits: int = 0) -> str:
    """Return e.g. `95 % CI 85-92` for limits in [0, 1]."""
    if low is None or high is None:
        return "no interval: too few independent groups"
    return f"95 % CI {100 * low:.{digits}f}-{100 * high:.{digits}f}"


def duration(seconds: float) -> str:
    """Return e.g. `0.8 s`, `45 s`, `12 min`, `1.5 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def one_line(name: str) -> str:
    """Escape line breaks and control characters of a name."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def shorten(text: str, width: int) -> str:
    """Cut the middle out of a text that is longer than `width` characters."""
    if len(text) <= width:
        return text
    keep = max(width - 3, 2)
    return text[: keep - keep // 2] + "..." + text[len(text) - keep // 2 :]


def shorten_end(text: str, width: int) -> str:
    """Cut a text that is longer than `width` characters after a whole word and outside backticks."""
    if len(text) <= width:
        return text
    words = text[: max(width - 3, 1)].rpartition(" ")[0]
    if words.count("`") % 2:
        words = words[: words.rindex("`")]
    return f"{words.rstrip(' ,;:=(')} ..." if words else f"{text[: max(width - 3, 1)]}..."


def fit(variants: Sequence[str], width: int) -> str:
    """Return the first of several texts, longest first, that has at most `width` characters; else cut the last."""
    return next((text for text in variants if len(text) <= width), shorten_end(variants[-1], width))


def with_example(text: str, path: str, other: str | None = None, after: str = "") -> tuple[str, ...]:
    """Return the text with an example, longest variant first: both paths, the first path, no example.

    Args:
        text: Without a full stop.
        path: Example file.
        other: Second file of a pair.
        after: Text after the example, e.g. its problem.
    """
    first = quote_path(path, 18 if other is not None else 24)
    pair = () if other is None else (f"{text}, e.g. {first} = {quote_path(other, 18)}{after}",)
    return (*pair, f"{text}, e.g. {first}{after}", text)


def quote(name: str, width: int = 40) -> str:
    """Return a name in backticks, on one line, at most `width` characters long."""
    return f"`{shorten(one_line(name), width)}`"


def quote_path(path: str, width: int = 24) -> str:
    """Return a path in backticks, shortened as in `shorten_path`."""
    return f"`{shorten_path(path, width)}`"


def shorten_path(path: str, width: int) -> str:
    """Return a path on one line; of a long path the end, from a folder boundary if possible."""
    text = one_line(path).replace("\\", "/")
    if len(text) <= width:
        return text
    parts = text.split("/")
    for start in range(1, len(parts)):
        end = "/".join(parts[start:])
        if len(end) + 4 <= width:
            return f".../{end}"
    return f"...{text[-(width - 3) :]}"


def joined(texts: Sequence[str], width: int) -> list[str]:
    """Join texts with commas into lines of at most `width` characters."""
    lines: list[str] = []
    for text in texts:
        if lines and len(lines[-1]) + 2 + len(text) <= width:
            lines[-1] += f", {text}"
        else:
            lines.append(text)
    return lines


def names(values: Sequence[str], shown: int = 3, width: int = 24) -> str:
    """Return the first names in backticks and the number of others."""
    text = ", ".join(quote(v, width) for v in values[:shown])
    return text + (f" and {len(values) - shown:,} more" if len(values) > shown else "")
