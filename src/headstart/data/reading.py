"""Define one interpretation of a dataset, and the question to the user if two fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from headstart.data.file_tree import LocatedFile, clean_label
from headstart.errors import DataError, UsageError
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingNote
from headstart.types.inventory import TableUse
from headstart.types.records import Problem, SplitName

__all__ = [
    "LabelEvidence",
    "Reading",
    "Row",
    "SplitQuestionError",
    "UnusableSplitError",
    "ask",
    "ask_between",
    "listed",
]


class UnusableSplitError(DataError):
    """A column of splits has other values."""


class SplitQuestionError(UsageError):
    """A column may be a split or not."""


class LabelEvidence(IntEnum):
    """Why the labels of a reading are labels; the strongest last."""

    NUMBERS = 0  # a column with repeated numbers
    TEXT = 1  # a column with repeated words
    NAMED = 2  # the name of a column, an option, or class folders


@dataclass(frozen=True, slots=True)
class Row:
    """One image with its label, split and group."""

    file: LocatedFile
    label: str
    split: SplitName | None = None
    group: str | None = None


@dataclass
class Reading:
    """One interpretation of a dataset.

    Attributes:
        layout: Short name, e.g. `class folders`.
        template: The `--layout` that selects it, or the name of the table.
        option: What the user passes to select it.
        evidence: Why the labels are labels.
        detail: What makes this reading and others fit, for the question.
        rows: The labeled images.
        unlabeled: Images without a label in this interpretation.
        unused: Other images that are not used, by reason code.
        notes: Assumptions, and what is not used.
        problems: Rows that cannot be used.
        columns: Other columns of a table, aligned with `rows`.
        tables: Tables and lists that were used, with their rows.
        named_split: The split that the name of the table states, which holds if other tables state others.
        roles: Columns that were used, by role (`image`, `label`, `split`, `group`).
        has_inferred_groups: Whether a folder level was used as groups without `--layout`.
    """

    layout: str
    template: str
    option: str = ""
    evidence: LabelEvidence = LabelEvidence.NAMED
    detail: str = ""
    rows: list[Row] = field(default_factory=list)
    unlabeled: list[LocatedFile] = field(default_factory=list)
    unused: dict[str, list[LocatedFile]] = field(default_factory=dict)
    notes: list[ReadingNote] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)
    tables: list[TableUse] = field(default_factory=list)
    named_split: SplitName | None = None
    roles: dict[str, str] = field(default_factory=dict)
    has_inferred_groups: bool = False

    @property
    def labels(self) -> dict[str, str]:
        """Return the label of each image path."""
        return {row.file.path: row.label for row in self.rows}

    @property
    def has_splits(self) -> bool:
        """Return whether any image has a split."""
        return any(row.split for row in self.rows)

    def describe(self) -> str:
        """Return layout, images and classes with counts, in one line."""
        counts = Counter(row.label for row in self.rows)
        shown = ", ".join(f"`{name}` {count:,}" for name, count in counts.most_common(4))
        more = " ..." if len(counts) > 4 else ""
        splits = Counter(row.split for row in self.rows if row.split)
        parts = "".join(f", {count:,} {name}" for name, count in sorted(splits.items()))
        classes = pluralize(len(counts), "class", "classes")
        title = f"{self.layout} `{clean_label(self.template)}`" if self.tables else self.layout
        return f"{title}: {pluralize(len(self.rows), 'image')}{parts}, {classes} ({shown}{more})"


def ask(readings: Sequence[Reading]) -> UsageError:
    """Return the error that shows several readings, the likelier first, with the option that selects each."""
    details = "".join(f" {detail}." for detail in dict.fromkeys(r.detail for r in readings if r.detail))
    return ask_between([(reading.describe(), reading.option) for reading in readings], details)


def ask_between(readings: Sequence[tuple[str, str]], details: str = "") -> UsageError:
    """Return the error that shows several readings, the likelier first: (description, option) of each."""
    shown = "; ".join(f"({i}) {description}" for i, (description, _) in enumerate(readings, start=1))
    options = ", ".join(f"{option} for ({i})" for i, (_, option) in enumerate(readings, start=1))
    return UsageError(f"several readings fit. {shown}.{details}", hint=f"use {options}")


def listed(names: Sequence[str] | set[str], limit: int = 4) -> str:
    """Return up to `limit` names in backticks, with the total where there are more."""
    ordered = sorted(names) if isinstance(names, set) else list(names)
    shown = ", ".join(f"`{clean_label(n)}`" for n in ordered[:limit])
    return shown if len(ordered) <= limit else f"{shown} ... ({len(ordered)})"
