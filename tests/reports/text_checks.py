"""Find faults in rendered text, whatever the numbers."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping

_NOUNS = "image|image|photograph|file|group|pair|label|error|prediction|row|object|epoch|setting|thread|fold|epoch"
_PLURALS = "|".join(f"{noun}s" for noun in _NOUNS.split("|")) + "|classes|boxes"
_SINGULARS = f"{_NOUNS}|class|box"

BAD = {
    "a missing value": re.compile(r"\b(None|nan|NaN|inf|-inf|null|undefined)\b"),
    "an empty list": re.compile(r"(: \.|: ,|\( *\)|, ,|; ;|: ;|: *\n|Examples: *$)"),
    "space before a stop": re.compile(r"[^.\s] [.,;:](?!\d)(?![.])"),
    "a double stop": re.compile(r"(?<!\.)\.\.(?!\.)|[,;]\.|\.[,;]"),
    "two spaces": re.compile(r"\S  +\S"),
    "0 of 0": re.compile(r"(?<![\d.,])0 of 0\b"),
    "a negative zero": re.compile(r"(?<![\w.])-0(\.0+)?(?![\d.]|-)"),
    "one with a plural": re.compile(rf"(?<![\d.,-])1 (?:[a-z]+ )?({_PLURALS})\b"),
    "many with a singular": re.compile(rf"(?<![\d.,-])(?:0|[2-9]|[1-9][\d,]*\d) ({_SINGULARS})\b(?![-\w])"),
    "one that are": re.compile(rf"(?<![\d.,-])1 ({_SINGULARS}) (are|were|have|lie|occur|belong|fall)\b"),
    "many that is": re.compile(rf"(?<![\d.,-])(?:0|[2-9]|[1-9][\d,]*\d) ({_PLURALS}) (is|was|has|lies|occurs)\b"),
    "a percent sign without its space": re.compile(r"\d%(?! *[a-z]*`)"),
}


def faults(text: str) -> list[str]:
    """Return every fault of a text with its surroundings."""
    return [
        f"{name}: ...{text[max(0, m.start() - 40) : m.end() + 40]}..."
        for name, rule in BAD.items()
        for m in rule.finditer(text)
    ]


def texts_of(value: object, ignored: Iterable[str] = ()) -> Iterator[str]:
    """Yield every string of nested data, except below ignored keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in ignored:
                yield from texts_of(inner, ignored)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_of(inner, ignored)


def page_texts(page: str) -> list[str]:
    """Return the visible text of each block of a page, except charts."""
    body = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", page, flags=re.DOTALL)
    blocks = re.split(
        r"</?(?:p|li|h\d|td|th|tr|caption|figcaption|div|ul|table|summary|section|header|br)\b[^>]*>", body
    )
    plain = (html.unescape(re.sub(r"<[^>]*>", "", block)) for block in blocks)
    return [" ".join(text.split()) for text in plain if text.strip()]
