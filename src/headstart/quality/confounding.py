"""Find columns, folders and groups whose values determine the class, such as a plate per condition."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from headstart.data.capture_groups import TIMES
from headstart.data.grouping import group_keys
from headstart.data.name_matching import fold_name
from headstart.types.codes import Evidence, Finding, FindingKind, Severity
from headstart.types.records import Samples

__all__ = ["find_confounding"]

_MAX_VALUES_PER_CLASS = 3  # a factor with more values is one of many items, such as patients
_MIN_IMAGES = 5  # per value, on average
_LABEL_WORDS = frozenset(
    ("label", "labels", "class", "classes", "category", "target", "name", "names", "kind", "species", "type", "code")
)


def find_confounding(samples: Samples, group_from: str | None = None) -> list[Finding]:
    """Return a finding for each factor with few values, each of which has images of one class only.

    A model may learn the factor instead of the class, and no split of these images can tell. Other spellings of the
    classes (names, codes, counted numbers) are no factors. `group_from` is a grouping that the user requests.
    """
    labels = [s.label for s in samples]
    classes = {label for label in labels if label}
    findings = []
    for name, grouped_by, values in _factors(samples, group_from):
        inside: dict[str, Counter[str]] = defaultdict(Counter)
        for value, label in zip(values, labels, strict=True):
            if value and label:
                inside[value][label] += 1
        num_images = sum(counts.total() for counts in inside.values())
        is_few = 1 < len(inside) <= _MAX_VALUES_PER_CLASS * len(classes) and num_images >= _MIN_IMAGES * len(inside)
        if not is_few or 10 * num_images < 9 * len(labels) or any(len(counts) > 1 for counts in inside.values()):
            continue
        pairs = {value: next(iter(counts)) for value, counts in sorted(inside.items())}
        if len(set(pairs.values())) > 1 and not _spell_classes(pairs):
            first = dict([*pairs.items()][:5])
            evidence: Evidence = {"name": name, "grouped_by": grouped_by, "num_values": len(pairs), "values": first}
            findings.append(Finding(FindingKind.CONFOUNDED, Severity.WARNING, evidence))
    return findings


def _factors(samples: Samples, group_from: str | None) -> Iterator[tuple[str, str, Sequence[str | None]]]:
    """Yield name, kind and values of each factor; folders count if they do not give the labels."""
    for column, cells in samples.columns.items():
        if not set(re.split(r"[\W_]+", column.lower())) & _LABEL_WORDS:
            yield column, "column", [cell.strip() for cell in cells]
    if any(s.group for s in samples):
        yield "group", "group", [s.group for s in samples]
    if group_from not in (None, "none", "image", "folder", "group", *TIMES, *samples.columns):
        yield str(group_from), "pattern", group_keys(samples, str(group_from))[0]
    if samples.used_columns or group_from == "folder":
        yield "folder", "folder", [s.name.rpartition("/")[0] for s in samples]


def _spell_classes(pairs: dict[str, str]) -> bool:
    """Return whether the values are other names of the classes, or count them."""
    if len(set(pairs.values())) < len(pairs):
        return False
    folded = [(fold_name(value), fold_name(label)) for value, label in pairs.items()]
    if all(label in value or value in label for value, label in folded):
        return True
    return sorted(pairs) in ([str(i) for i in range(len(pairs))], [str(i) for i in range(1, len(pairs) + 1)])
