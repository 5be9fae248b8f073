"""Render the comparison of two runs.

A comparison is a mapping with these keys (fractions in [0, 1]; differences are B minus A):

- `runs` (names of A and B), `verdict` (`better`, `worse`, `undecided`: of B), `metric`, `num_samples`, `protocol`
  (an `EvaluationProtocol` value), `is_new_data` (whether both were scored on new data)
- `accuracy`, `balanced_accuracy`, `log_loss`: each `a`, `b`, `value`, `low`, `high`, `p_value`, `num_needed`
- `only_a`, `only_b`, `mcnemar_p`: images that only one of them predicts correctly
- `per_class`: `name`, `num_samples`, `recall_a`, `recall_b`, `p_value` of each class
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.messages.numbers import percent, pluralize, signed, signed_points
from headstart.messages.scores import metric_name
from headstart.messages.values import quote

__all__ = ["comparison_lines", "comparison_table", "comparison_verdict", "measured_on_text"]

_WIDTH = 18


def comparison_lines(c: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (label, text) rows, the verdict first."""
    a, b = (quote(name, _WIDTH) for name in c["runs"])
    other = "accuracy" if c["metric"] == "balanced_accuracy" else "balanced_accuracy"
    lines = [
        ("Verdict", comparison_verdict(c)),
        ("", _difference(c, c["metric"])),
        ("", _difference(c, other)),
        ("", _difference(c, "log_loss")),
        (
            "",
            f"correct only in {a}: {c['only_a']:,}, only in {b}: {c['only_b']:,} (McNemar p = {c['mcnemar_p']:.2g})",
        ),
    ]
    row = _largest_change(c)
    if row is not None:
        lines.append(("", row))
    return lines


def comparison_verdict(c: Mapping[str, Any]) -> str:
    """Return one line: the result, the difference and the images."""
    a, b = (quote(name, _WIDTH) for name in c["runs"])
    d = c[c["metric"]]
    where = measured_on_text(c)
    if c["verdict"] != "undecided":
        return f"{b} is {c['verdict']} than {a} ({signed_points(d['value'])} points, p = {d['p_value']:.2g}); {where}"
    text = f"no significant difference between {b} and {a}; {where}"
    if d["num_needed"] is not None and round(100 * d["value"], 1):
        text += f", about {_rounded(d['num_needed']):,} needed"
    return text


def measured_on_text(c: Mapping[str, Any]) -> str:
    """Return e.g. `431 test images`."""
    if c["is_new_data"]:
        return pluralize(c["num_samples"], "new image")
    if c["protocol"] == "test_split":
        return pluralize(c["num_samples"], "test image")
    return f"{pluralize(c['num_samples'], 'training image')}, out of fold"


def comparison_table(c: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return (metric or class, A, B, B minus A with its interval or p-value), the classes last."""
    rows = []
    for key in ("accuracy", "balanced_accuracy", "log_loss"):
        rows.append((metric_name(key), *_cells(c[key], key)))
    for row in c["per_class"]:
        if row["recall_a"] is not None and row["recall_b"] is not None:
            difference = f"{signed_points(row['recall_b'] - row['recall_a'])} (p = {row['p_value']:.2g})"
            rows.append((f"recall of {row['name']}", percent(row["recall_a"]), percent(row["recall_b"]), difference))
    return rows


def _cells(d: Mapping[str, Any], key: str) -> tuple[str, str, str]:
    """Return A, B, and the difference with its interval; log-losses unchanged, fractions in percent."""
    if key == "log_loss":
        change = f"{signed(d['value'])} (95 % CI {signed(d['low'])} to {signed(d['high'])})"
        return f"{d['a']:.3f}", f"{d['b']:.3f}", change
    change = f"{signed_points(d['value'])} (95 % CI {signed_points(d['low'])} to {signed_points(d['high'])})"
    return percent(d["a"]), percent(d["b"]), change


def _difference(c: Mapping[str, Any], key: str) -> str:
    first, second, change = _cells(c[key], key)
    return f"{metric_name(key)} {first} to {second}, {change}"


def _largest_change(c: Mapping[str, Any]) -> str | None:
    rows = [r for r in c["per_class"] if r["recall_a"] is not None and r["recall_b"] is not None]
    if len(rows) < 3:
        return None
    row = max(rows, key=lambda r: abs(r["recall_b"] - r["recall_a"]))
    if row["recall_b"] == row["recall_a"]:
        return None
    return (
        f"largest change: recall of {quote(row['name'], 24)} {percent(row['recall_a'])} to "
        f"{percent(row['recall_b'])} (p = {row['p_value']:.2g})"
    )


def _rounded(number: int) -> int:
    """Keep two significant digits, rounded up."""
    unit: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // unit) * unit
