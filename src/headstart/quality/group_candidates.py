"""Propose groups from file names, folders and table columns.

Each proposal is a regular expression or a column name that `--group-from` accepts. Proposals are tested in
`group_evaluation` before they are used.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from headstart.data.capture_groups import TIMES, keys_by_time
from headstart.data.image_scan import ScanResult
from headstart.data.unit_names import is_placeholder, names_unit
from headstart.types.codes import Evidence, GroupSource
from headstart.types.records import Samples

__all__ = [
    "GroupCandidate",
    "inside_class_folders",
    "is_plausible_grouping",
    "propose_capture_groups",
    "propose_groups",
]

_DELIMITERS = re.compile(r"[_\-.,; ~()\[\]@#+=]+")
_TOKENS = re.compile(r"\d+|[^\W\d_]+|[\W_]+")
_MIN_FRACTION = 0.5  # of the file names that must have the same form; 0.9 if letters and digits are split too
_MAX_PROPOSALS = 12

_CAMERAS = (
    "cimg dcp dji dsc dscf dscn dscs fuji g gh gopr gp gx hpim imag img imgp kif mah mg mov mvi p pano pict psx pxl "
    "sam sdc sn win"
)
_PROGRAMS = (
    "burst capture download fb received scan screen screenshot signal snap snapshot telegram unnamed untitled wa "
    "whatsapp"
)
_WORDS = (
    "bild clip copy file foto frame frames im image images original photo photos pic pics picture sample thumb "
    "thumbnail vid video"
)
_COUNTER_PREFIXES = frozenset((*_CAMERAS.split(), *_PROGRAMS.split(), *_WORDS.split()))
"""Prefixes of file counters, lower case; they do not identify a group."""


@dataclass(frozen=True, slots=True)
class GroupCandidate:
    """A proposed grouping of the images.

    Attributes:
        pattern: Value for `--group-from`.
        grouping: Evidence: `grouped_by` (`column`, `layout`, `name_part`, `name_parts`, `capture_time`, `folder`,
            `template` or `expression`) and its arguments; `in_class_folders` is true for keys that restart in each
            class folder, `evidence` is `column_name` where the name of a column states a subject or capture unit.
        keys: (N,) group key of each sample, None without one.
        source: `name`, `column`, `time`, `named` (by the name of a column), `inferred` (from nested folders), `given`
            (by a table or `--layout`) or `requested` (by `--group-from`).
        is_counter: Whether the key is only the prefix of a file counter, e.g. `IMG`.
    """

    pattern: str
    grouping: Evidence
    keys: tuple[str | None, ...]
    source: str
    is_counter: bool = False

    @property
    def origin(self) -> GroupSource:
        """Origin of the grouping: guessed from names, columns or times, or defined by the data or the user."""
        origins: dict[str, GroupSource] = {
            "named": "named",
            "inferred": "inferred",
            "given": "given",
            "requested": "requested",
        }
        return origins.get(self.source, "guessed")


def propose_groups(samples: Samples) -> list[GroupCandidate]:
    """Propose the groupings defined by the data, and all plausible ones by columns and file names.

    Returns:
        At most 12 distinct partitions.
    """
    proposals = [*_given_groups(samples), *_columns(samples), *_names(samples)]
    candidates: list[GroupCandidate] = []
    partitions: set[tuple[int, ...]] = set()
    for proposal in proposals:
        if proposal.origin == "guessed" and not is_plausible_grouping(proposal.keys):
            continue
        if proposal.origin == "named" and not _has_groups(proposal.keys):
            continue
        partition = _partition(proposal.keys)
        if partition not in partitions:
            partitions.add(partition)
            candidates.append(proposal)
    return candidates[:_MAX_PROPOSALS]


def inside_class_folders(samples: Samples, proposal: GroupCandidate) -> GroupCandidate | None:
    """Combine a proposal with the class folder, for numbers that restart in each folder.

    Returns:
        None if the proposal is not from file names, or a folder contains several classes.
    """
    if proposal.source != "name":
        return None
    parents = [s.name.split("/")[-2] if "/" in s.name else None for s in samples]
    labels: dict[str | None, set[str | None]] = defaultdict(set)
    for sample, parent in zip(samples, parents, strict=True):
        labels[parent].add(sample.label)
    if None in parents or len(labels) < 2 or any(len(in_folder) > 1 for in_folder in labels.values()):
        return None
    body = re.sub(r"\[\^(\\?.)\]\*", r"[^\1/]*", proposal.pattern.removeprefix("^"))
    keys = tuple(None if k is None else f"{p}\0{k}" for p, k in zip(parents, proposal.keys, strict=True))
    return GroupCandidate(f"([^/]*)/{body}[^/]*$", {**proposal.grouping, "in_class_folders": True}, keys, "name")


def _given_groups(samples: Samples) -> list[GroupCandidate]:
    keys = tuple(s.group for s in samples)
    if not any(keys):
        return []
    source = "inferred" if samples.has_inferred_groups else "given"
    return [GroupCandidate("group", {"grouped_by": "layout", "name": samples.layout}, keys, source)]


def _columns(samples: Samples) -> list[GroupCandidate]:
    candidates = []
    for column, cells in samples.columns.items():
        keys = tuple(None if is_placeholder(c) else c.strip() for c in cells)
        # Decimal fractions are measurements, not identifiers.
        if any(k and re.fullmatch(r"[+-]?\d+\.\d+(e[+-]?\d+)?", k, re.IGNORECASE) for k in keys):
            continue
        grouping: Evidence = {"grouped_by": "column", "name": column}
        if None in keys:
            grouping = {**grouping, "num_alone": keys.count(None)}
        if names_unit(column):
            candidates.append(GroupCandidate(column, {**grouping, "evidence": "column_name"}, keys, "named"))
        else:
            candidates.append(GroupCandidate(column, grouping, keys, "column"))
    return sorted(candidates, key=lambda candidate: candidate.source != "named")


def _names(samples: Samples) -> list[GroupCandidate]:
    """Propose each part of the file name, and all varying parts up to each part."""
    stems = [_stem(s.name) for s in samples]
    labels = {re.sub(r"\W+", "", (s.label or "").casefold()) for s in samples}
    candidates = []
    for split, min_fraction in ((_by_delimiters, _MIN_FRACTION), (_by_tokens, 0.9)):
        forms = Counter(form for form, _ in map(split, stems))
        if not forms:
            continue
        form, count = forms.most_common(1)[0]
        if count < min_fraction * len(stems):
            continue
        fields = [f if g == form else None for g, f in map(split, stems)]
        width = next(len(f) for f in fields if f is not None)
        if not 1 < width <= 12:
            continue
        example = next(s.name.rpartition("/")[2] for s, f in zip(samples, fields, strict=True) if f is not None)
        candidates += _fields(form, fields, width, labels, example)
    return candidates


def _fields(
    form: str, fields: Sequence[tuple[str, ...] | None], width: int, labels: set[str], example: str
) -> list[GroupCandidate]:
    parts = form.split("\0")  # text before each field, and after the last one
    is_delimited = parts[0] != "tokens"
    texts = parts if is_delimited else parts[1:]
    candidates = []
    shown = next(f for f in fields if f is not None)
    values = [{f[k] for f in fields if f is not None} for k in range(width)]
    # A part that is constant or equals the class does not define groups.
    is_varying = [len(v) > 1 and not {re.sub(r"\W+", "", x.casefold()) for x in v} <= labels for v in values]
    for k in range(width):
        if not is_varying[k]:
            continue
        keys = tuple(None if f is None else f[k] for f in fields)
        pattern = (
            "^"
            + "".join(_part(texts, t, is_delimited, shown) for t in range(k))
            + _part(texts, k, is_delimited, shown, True)
        )
        pattern += _end(texts, k, width)
        grouping: Evidence = {"grouped_by": "name_part", "position": k + 1, "value": shown[k], "example": example}
        candidates.append(GroupCandidate(pattern, grouping, keys, "name", _is_counter(keys)))
        earlier = [t for t in range(k) if is_varying[t]]
        if earlier and k < width - 1:
            keys = tuple(None if f is None else "\0".join(f[t] for t in (*earlier, k)) for f in fields)
            pattern = "^" + "".join(_part(texts, t, is_delimited, shown, t in earlier) for t in range(k))
            pattern += _part(texts, k, is_delimited, shown, True) + _end(texts, k, width)
            values_of = [shown[t] for t in (*earlier, k)]
            grouping = {"grouped_by": "name_parts", "values": values_of, "example": example}
            candidates.append(GroupCandidate(pattern, grouping, keys, "name"))
    return candidates


def _is_counter(keys: Sequence[str | None]) -> bool:
    """Return whether at least half of the keys are prefixes of file counters."""
    known = [k.casefold() for k in keys if k is not None]
    return sum(k in _COUNTER_PREFIXES for k in known) >= 0.5 * max(1, len(known))


def _part(texts: Sequence[str], k: int, is_delimited: bool, shown: tuple[str, ...], captured: bool = False) -> str:
    """Return the regular expression of a field and the delimiter before it."""
    if is_delimited:
        stop = (texts[k + 1] or ".")[0]
        body = f"[^{stop}]*" if stop not in "]^-" else f"[^{re.escape(stop)}]*"
    else:
        body = r"\d+" if shown[k].isdigit() else r"[^\W\d_]+"
    return re.escape(texts[k]).replace(r"\-", "-") + (f"({body})" if captured else body)


def _end(texts: Sequence[str], k: int, width: int) -> str:
    """Return the regular expression after a field: the next delimiter, or the start of the suffix."""
    if texts[k + 1]:
        return re.escape(texts[k + 1]).replace(r"\-", "-")
    return r"(?:\.|$)" if k == width - 1 else ""


def _by_delimiters(stem: str) -> tuple[str, tuple[str, ...]]:
    """Split a file name at delimiters; return its form (the delimiters) and the fields between them."""
    fields, before, position = [], [], 0
    pending = ""
    for match in _DELIMITERS.finditer(stem):
        if match.start() > position:
            before.append(pending)
            fields.append(stem[position : match.start()])
            pending = ""
        pending += match.group()
        position = match.end()
    if position < len(stem):
        before.append(pending)
        fields.append(stem[position:])
        pending = ""
    return "\0".join([*before, pending]), tuple(fields)


def _by_tokens(stem: str) -> tuple[str, tuple[str, ...]]:
    """Split a file name at delimiters and between letters and digits (`p012v2`); return its form and fields."""
    fields, before = [], []
    pending = ""
    for match in _TOKENS.finditer(stem):
        token = match.group()
        if token[0].isalnum():
            before.append(pending)
            fields.append(token)
            pending = ""
        else:
            pending += token
    kinds = "".join("d" if f.isdigit() else "a" for f in fields)
    return "\0".join(["tokens", *before, pending]) + ("" if not kinds else f"\0{kinds}"), tuple(fields)


def _stem(name: str) -> str:
    return os.path.splitext(name.rpartition("/")[2])[0]


def is_plausible_grouping(keys: Sequence[str | None]) -> bool:
    """Return whether at least 5 % of the images share a group, and no group has more than 90 % of them."""
    sizes = Counter(k for k in keys if k is not None)
    num_grouped = sum(n for n in sizes.values() if n > 1)
    return (
        2 <= len(sizes) <= 0.6 * len(keys)
        and num_grouped >= max(4, 0.05 * len(keys))
        and max(sizes.values()) <= 0.9 * len(keys)
    )


def _has_groups(keys: Sequence[str | None]) -> bool:
    """Return whether there are several groups, one of them with several images."""
    sizes = Counter(k for k in keys if k is not None)
    return 1 < len(sizes) < sizes.total()


def _partition(keys: Sequence[str | None]) -> tuple[int, ...]:
    known: dict[str, int] = defaultdict(lambda: len(known))
    return tuple(-1 if k is None else known[k] for k in keys)


def propose_capture_groups(scan: ScanResult) -> list[GroupCandidate]:
    """Propose bursts (10 seconds) and sessions (10 minutes) where at least half of the images have a capture time.

    Times are compared within one camera, because clocks differ.
    """
    times_taken = [None if f is None else f.exif.taken for f in scan.info]
    if sum(t is not None for t in times_taken) < 0.5 * len(times_taken):
        return []
    cameras = ["" if f is None else f.exif.camera or "" for f in scan.info]
    candidates = []
    for pattern, pause in TIMES.items():
        keys = tuple(keys_by_time(times_taken, cameras, pause))
        if is_plausible_grouping(keys):
            candidates.append(GroupCandidate(pattern, {"grouped_by": "capture_time", "seconds": pause}, keys, "time"))
    return candidates
