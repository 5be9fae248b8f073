"""Test numbers in texts: no rounded certainty, negative zero or wrong plural."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import pytest

from headstart.messages.numbers import percent, pluralize, signed_points


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0 %"),
        (1.0, "100.0 %"),
        (0.815, "81.5 %"),
        (0.0004, "<0.1 %"),
        (0.9996, ">99.9 %"),
        (0.999, "99.9 %"),
        (None, "not measured"),
        (math.nan, "not measured"),
        (math.inf, "not measured"),
    ],
)
def test_percent(share: float | None, text: str) -> None:
    assert percent(share) == text


def test_whole_percent() -> None:
    assert [percent(s, 0) for s in (0.0, 0.004, 0.126, 0.996, 1.0)] == ["0 %", "<1 %", "13 %", ">99 %", "100 %"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.0"), (-1e-9, "0.0"), (0.0149, "+1.5"), (-0.2, "-20.0"), (0.0004, "0.0")]
)
def test_differences(value: float, text: str) -> None:
    assert signed_points(value) == text


def test_counts_are_pluralized() -> None:
    assert [pluralize(n, "image") for n in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
    assert pluralize(2, "box", "boxes") == "2 boxes"


SOURCE = Path(__file__).parents[2] / "src" / "headstart"
PLURAL = re.compile(
    r"^ (?:[a-z-]+ )?(images|images|photographs|files|groups|pairs|labels|errors|predictions|rows|objects|epochs|"
    r"settings|threads|folds|classes|boxes|corrections|problems|runs|views|samples|annotations)\b"
)
NEVER_ONE = {
    ("cli/cache.py", "part.num_files"): "a column of a table",
    ("messages/comment.py", "e['num_errors']"): "a confused pair has at least five",
    ("messages/reading.py", "count"): "the plural of a distinguished pair",
    ("reports/figures.py", "kind"): "no number",
    ("messages/decisions_data.py", "e['num_threads']"): "one thread is not compared with itself",
    ("messages/findings.py", "e['count']"): "one file has its own wording",
    ("messages/summaries.py", "len(es)"): "one class has its own wording",
    ("messages/findings.py", "len(pairs)"): "more than are shown",
    ("detection/matching.py", "len(ground_truth)"): "an error of the caller",
}
"""Numbers before a plural noun that cannot be one, each with the reason."""


def test_every_number_before_a_noun_is_pluralized() -> None:
    packages = "advice cli data detection evaluation export features inference messages pipelines quality reports runs"
    files = [SOURCE / "results.py", *(p for name in packages.split() for p in (SOURCE / name).rglob("*.py"))]
    texts = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.JoinedStr):
                continue
            for number, after in zip(node.values, node.values[1:], strict=False):
                if not isinstance(number, ast.FormattedValue) or not isinstance(after, ast.Constant):
                    continue
                value, text = ast.unparse(number.value), ast.unparse(number)
                is_text = (
                    "pluralize" in value
                    or value.startswith(("count(", "_some("))
                    or value == "images"
                    or re.search(r"\.[12]f", text)
                )
                if PLURAL.match(str(after.value)) and not is_text:
                    texts.add((str(path.relative_to(SOURCE)), value))
    assert texts == set(NEVER_ONE)
