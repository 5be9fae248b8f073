"""Compares a record with what a run gives now, through the map of renamed keys.

A rule of `keymap.json` is one of

    {"key": "novelty", "to": "ood_score", "at": "**/metrics.json"}
        a key, column, array or file name, wherever it stands below `at` (everywhere without it)
    {"value": "leave-one-out", "to": "leave_one_out", "at": "**/protocol"}
        an enumerated text, also within a list
    {"path": "**/metrics.json/*/old/value", "to": "**/metrics.json/*/new"}
        a place; what the wildcards stand for is carried over in order
    {"removed": "**/ece_plain", "reason": "..."}
        recorded, deliberately gone
    {"added": "**/log_loss_ci", "reason": "..."}
        new, deliberately not recorded yet

A place is the run's part (`run`, `predict`, ...), the file and the keys, joined by `/`; `*` is one name, `**` any
number of names. A rule for a place holds for everything below it. Rules apply in order; each record says how many of
them it has behind it already.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rule = Mapping[str, str]
Leaves = dict[tuple[str, ...], Any]

_KINDS = ("key", "value", "path", "removed", "added")


@dataclass(frozen=True)
class Tolerance:
    """How far floats may lie from the record: `absolute + relative * max(|a|, |b|)`."""

    relative: float = 2e-4
    absolute: float = 2e-6


EXACT = Tolerance(0.0, 0.0)


@dataclass(frozen=True)
class Difference:
    """One place where a run differs from its record.

    Attributes:
        kind: `changed`, `missing` (recorded, not there now) or `new`.
        place: Names joined by `/`.
        recorded, now: The values.
    """

    kind: str
    place: str
    recorded: Any = None
    now: Any = None

    def __str__(self) -> str:
        if self.kind == "changed":
            return f"changed  {self.place}: {_short(self.recorded)} -> {_short(self.now)}"
        return f"{self.kind:<8} {self.place}: {_short(self.now if self.kind == 'new' else self.recorded)}"


def read_rules(path: Path) -> list[Rule]:
    """Read and check the map of renamed keys.

    Raises:
        ValueError: A rule is of no known form.
    """
    rules = json.loads(path.read_text(encoding="utf-8"))
    for rule in rules:
        kinds = [kind for kind in _KINDS if kind in rule]
        needed = {"reason"} if kinds in (["removed"], ["added"]) else {"to"}
        if len(kinds) != 1 or not needed <= set(rule) or set(rule) - {*kinds, *needed, "at", "reason"}:
            raise ValueError(f"{path}: not a rule: {rule}")
    return rules


def compare(
    recorded: Mapping[str, Any], now: Mapping[str, Any], rules: Sequence[Rule] = (), tolerance: Tolerance | None = None
) -> list[Difference]:
    """List the differences between a record, translated by rules, and the present one."""
    tolerance = tolerance or Tolerance()
    then, there = translate(flatten(recorded), rules), flatten(now)
    added = [rule["added"] for rule in rules if "added" in rule]
    found = []
    for place, value in then.items():
        name = "/".join(place)
        if place not in there:
            found.append(Difference("missing", name, recorded=value))
        elif not _is_same(value, there[place], tolerance, _step(place, then)):
            found.append(Difference("changed", name, recorded=value, now=there[place]))
    for place, value in there.items():
        name = "/".join(place)
        if place not in then and not any(_is_at(pattern, place) for pattern in added):
            found.append(Difference("new", name, now=value))
    return found


def translate(leaves: Leaves, rules: Sequence[Rule]) -> Leaves:
    """Apply rules of names, values and places, and drop what was removed.

    Raises:
        ValueError: Two places would become one.
    """
    for rule in rules:
        renamed: Leaves = {}
        for place, value in leaves.items():
            target, changed = _apply(rule, place, value)
            if target is None:
                continue
            if target in renamed:
                raise ValueError(f"the rule {dict(rule)} makes two places one: {'/'.join(target)}")
            renamed[target] = changed
        leaves = renamed
    return leaves


def _apply(rule: Rule, place: tuple[str, ...], value: Any) -> tuple[tuple[str, ...] | None, Any]:
    if "removed" in rule:
        return (None if _is_at(rule["removed"], place) else place), value
    if "key" in rule:
        return _rename_key(rule, place), value
    if "value" in rule and _is_at(rule.get("at", "**"), place):
        if isinstance(value, list):
            return place, [rule["to"] if v == rule["value"] else v for v in value]
        return place, rule["to"] if value == rule["value"] else value
    if "path" in rule:
        found = match_place(rule["path"].split("/"), place)
        if found:
            return (*_fill(rule["to"], found[0]), *place[found[1] :]), value
    return place, value


def _rename_key(rule: Rule, place: tuple[str, ...]) -> tuple[str, ...]:
    start = 0
    if "at" in rule:
        found = match_place(rule["at"].split("/"), place)
        if found is None:
            return place
        start = found[1]
    old, new = rule["key"].split("/"), rule["to"].split("/")
    parts, i = list(place[:start]), start
    while i < len(place):
        is_old = list(place[i : i + len(old)]) == old
        parts += new if is_old else [place[i]]
        i += len(old) if is_old else 1
    return tuple(parts)


def match_place(pattern: Sequence[str], place: Sequence[str]) -> tuple[list[str], int] | None:
    """Match a pattern with the beginning of a place.

    Returns:
        What each wildcard stands for, and how many names the pattern covers; None where it does not match.
    """
    if not pattern:
        return [], 0
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        for count in range(len(place) + 1):
            found = match_place(rest, place[count:])
            if found:
                return ["/".join(place[:count]), *found[0]], count + found[1]
        return None
    own = re.fullmatch(re.escape(first).replace(r"\*", "(.*)"), place[0]) if place else None
    found = match_place(rest, place[1:]) if own else None
    return ([*own.groups(), *found[0]], 1 + found[1]) if own and found else None


def _is_at(pattern: str, place: Sequence[str]) -> bool:
    return match_place(pattern.split("/"), place) is not None


def _fill(pattern: str, texts: list[str]) -> tuple[str, ...]:
    rest = iter(texts)
    filled = re.sub(r"\*\*|\*", lambda match: next(rest, match.group()), pattern)
    return tuple(part for part in filled.split("/") if part)


def flatten(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Leaves:
    """Leave by their place; names are split at `/`, so that files and folders can be matched."""
    leaves: Leaves = {}
    for key, value in tree.items():
        place = (*above, *key.split("/"))
        if isinstance(value, Mapping):
            leaves |= flatten(value, place)
        else:
            leaves[place] = value
    return leaves


def unflatten(leaves: Leaves) -> dict[str, Any]:
    """Inverse of `flatten`, but for the slashes within names."""
    tree: dict[str, Any] = {}
    for place, value in leaves.items():
        inner = tree
        for part in place[:-1]:
            inner = inner.setdefault(part, {})
        inner[place[-1]] = value
    return tree


def _step(place: tuple[str, ...], leaves: Leaves) -> float:
    """Return one unit of the last digit of a table's column, by which a value near the middle may jump."""
    decimals = leaves.get((*place[:-1], "decimals"))
    return 1.01 * 10.0**-decimals if isinstance(decimals, int) and place[-1] != "decimals" else 0.0


def _is_same(a: Any, b: Any, tolerance: Tolerance, step: float) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_is_same(x, y, tolerance, step) for x, y in zip(a, b, strict=True))
    is_float = isinstance(a, float) or isinstance(b, float)
    if is_float and all(isinstance(v, int | float) and not isinstance(v, bool) for v in (a, b)):
        if tolerance == EXACT:
            return bool(a == b)
        allowed = tolerance.absolute + tolerance.relative * max(abs(a), abs(b))
        if min(abs(a), abs(b)) >= 0.01 and round(a, 4) == a and round(b, 4) == b:
            step = max(step, 1.01e-4)  # rounded to four decimals where it was written: one unit of the last
        return a == b or (math.isfinite(a - b) and abs(a - b) <= allowed + step)
    return type(a) is type(b) and bool(a == b)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."
