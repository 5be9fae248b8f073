"""A comparison of two runs in words: better, worse or cannot be told, and how many pictures would tell."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headstart.messages.numbers import percent, pluralize, signed, signed_points
from headstart.trust.paired import ComparisonVerdict, Difference, PairedComparison

__all__ = ["Comparison", "describe"]


@dataclass(frozen=True)
class Comparison:
    """B against A on the same pictures.

    Attributes:
        names: Of the two runs.
        sentence: The verdict in words.
        caveats: What weakens it.
        how: What it was measured on.
        numbers: All figures, JSON-able (see `trust.paired.PairedComparison`).
        reports: `report.json` of both.
    """

    names: tuple[str, str]
    sentence: str
    caveats: tuple[str, ...]
    how: str
    numbers: dict[str, Any]
    reports: tuple[Mapping[str, Any], Mapping[str, Any]]

    @property
    def verdict(self) -> ComparisonVerdict:
        """Whether B is better or worse than A, or undecided."""
        return ComparisonVerdict(self.numbers["verdict"])

    def to_json(self) -> dict[str, Any]:
        """Everything but the reports."""
        return {
            "runs": list(self.names),
            "sentence": self.sentence,
            "caveats": list(self.caveats),
            "how": self.how,
            **self.numbers,
        }

    def plot(self) -> Any:
        """The curves of both in one picture, as a matplotlib figure."""
        from headstart.reports.figures import draw_compare

        return draw_compare(self.names, self.reports)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """(what, A, B, B minus A with its interval), the classes last."""
        rows = []
        titles = {"accuracy": "accuracy", "balanced_accuracy": "mean over classes", "log_loss": "log-loss"}
        for key, title in titles.items():
            d = self.numbers[key]
            if key == "log_loss":
                between = f"{signed(d['low'])} to {signed(d['high'])}"
                cells = (f"{d['a']:.3f}", f"{d['b']:.3f}", f"{signed(d['value'])} ({between})")
            else:
                between = f"{signed_points(d['low'])} to {signed_points(d['high'])}"
                cells = (percent(d["a"]), percent(d["b"]), f"{signed_points(d['value'])} ({between})")
            rows.append((title, *cells))
        for c in self.numbers["per_class"]:
            if c["recall_a"] is not None and c["recall_b"] is not None:
                difference = f"{signed_points(c['recall_b'] - c['recall_a'])} (p = {c['p_value']:.2g})"
                recalls = [percent(c[key]) for key in ("recall_a", "recall_b")]
                rows.append((f"recall of {c['name']}", recalls[0], recalls[1], difference))
        return rows

    def lines(self) -> list[str]:
        """For a console."""
        head = ("", *self.names, "difference (95 %)")
        table = [head, *self.rows()]
        widths = [max(len(row[i]) for row in table) for i in range(4)]
        lines = [self.sentence, f"Measured on {self.how}.", *(f"note: {c}" for c in self.caveats), ""]
        for row in table:
            cells = [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2)), row[3]]
            lines.append("  ".join(cells).rstrip())
        n = self.numbers
        lines += [
            "",
            f"Only {self.names[0]} is right on {pluralize(n['only_a'], 'image')}, only {self.names[1]} on "
            f"{pluralize(n['only_b'], 'image')} (McNemar p = {n['mcnemar_p']:.2g}).",
        ]
        return lines

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        def cells(row: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in row) + "</tr>"

        body = "".join(cells(row, "td") for row in self.rows())
        notes = "".join(f"<p>{html.escape(c)}</p>" for c in (f"Measured on {self.how}.", *self.caveats))
        head = cells(("", *self.names, "difference (95 %)"), "th")
        table = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
        return f"<p><b>{html.escape(self.sentence)}</b></p>{notes}{table}"


def describe(found: PairedComparison, names: tuple[str, str]) -> tuple[str, list[str]]:
    """The verdict in a sentence, and what weakens it."""
    d: Difference = getattr(found, found.metric)
    what = "accuracy" if found.metric == "accuracy" else "accuracy averaged over the classes"
    between = f"{signed_points(d.low)} to {signed_points(d.high)}"
    points = f"{signed_points(d.value)} points of {what} (95 %: {between})"
    if found.verdict is ComparisonVerdict.UNDECIDED:
        if round(100 * d.value, 1) == 0 or d.num_needed is None:
            sentence = f"{names[1]} and {names[0]} score the same; which is better cannot be told."
        else:
            sentence = (
                f"Whether {names[1]} is better than {names[0]} cannot be told: {points}. To tell a difference of this "
                f"size, about {pluralize(_rounded(d.num_needed), 'scored image')} would be needed, instead of "
                f"{found.num_samples:,}."
            )
    else:
        sentence = f"{names[1]} is {found.verdict.value} than {names[0]}: {points}."
    caveats = []
    if found.is_out_of_fold:
        caveats.append(
            "These are cross-validated predictions: pictures trained one another's models, and settings were chosen "
            "on them. The verdict is a weaker one than on test pictures that neither has seen."
        )
    if found.num_groups is not None and found.num_groups < 6:
        caveats.append(
            f"The images fall into {pluralize(found.num_groups, 'group')}; with so few, hardly anything can be told."
        )
    caveats.append(
        f"With {pluralize(found.num_samples, 'image')} like these, a difference of {100 * d.detectable:.1f} points or "
        "more is told in 80 of 100 cases."
    )
    losses = found.log_loss
    if found.verdict is ComparisonVerdict.UNDECIDED and losses.p_value < 0.05 and round(losses.value, 3):
        direction = "lower" if losses.value < 0 else "higher"
        caveats.append(
            f"Its log-loss is {direction} beyond chance ({signed(losses.value)}; less is better): its probabilities "
            "differ, though which class comes out on top hardly does."
        )
    return sentence, caveats


def _rounded(number: int) -> int:
    """Two digits are all that such a forecast is worth."""
    unit: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // unit) * unit
