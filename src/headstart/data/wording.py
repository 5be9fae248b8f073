"""Tells a judgement: in plain words for the screen, the worst first, and as JSON for other programs.

The one decision: each line says how many, gives a few names, and says what to do or what was done.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from headstart.messages.findings import finding_message, finding_to_json
from headstart.messages.numbers import percent, pluralize
from headstart.messages.reading import reading_line
from headstart.messages.shortcuts import shortcut_message
from headstart.records import GroupPattern, Health, PicturePair, Problem, Shortcut
from headstart.types import Finding, GroupStatus, ReadingNote, Severity

__all__ = ["doctor_lines", "finding_lines", "health_to_json", "loss_lines", "one_line", "remark_lines"]

_SHOWN = 3
_KINDS = {
    "bytes": "the same file",
    "pixels": "the same pixels",
    "near": "nearly the same picture",
    "mirrored": "the same picture mirrored",
    "cropped": "a part of the same picture",
}


def doctor_lines(health: Health, *, is_training: bool = False, notes: Sequence[ReadingNote] = ()) -> list[str]:
    """The judgement in plain words, the worst first; a healthy data set gives one line, none while training.

    `notes` are those of the reader; where one is a warning, the data set is not called healthy.
    While training, what cannot be read, what belongs together and what was chosen is told by training itself.
    """
    lines = [
        *loss_lines(health, is_training=is_training),
        *(one_line(reading_line(n)) for n in notes if n.severity is not Severity.INFO),
        *finding_lines(health.findings),
        *remark_lines(health, is_training=is_training),
    ]
    if is_training:
        return lines
    lines = lines or ["Nothing wrong was found: every file can be read, and no picture occurs twice."]
    return [*lines, *(one_line(reading_line(n)) for n in notes if n.severity is Severity.INFO)]


def loss_lines(health: Health, *, is_training: bool = False) -> list[str]:
    """Render what distorts the score or is lost: leaks, conflicting labels, unreadable files."""
    lines = [
        *_leak_lines(health),
        *_conflict_lines(health.label_conflicts),
        *(_unreadable_lines(health.unreadable) if not is_training else ()),
    ]
    return [one_line(line) for line in lines]  # file names may contain line breaks


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """Render findings, one line each, in their order."""
    words = {Severity.ERROR: "Warning", Severity.WARNING: "Warning", Severity.INFO: "Note"}
    return [one_line(f"{words[f.severity]}: {finding_message(f)}.") for f in findings]


def remark_lines(health: Health, *, is_training: bool = False) -> list[str]:
    """Render what was found besides: groups, copies, shortcuts, odd files and decisions."""
    lines = [
        *_group_lines([p for p in health.group_patterns if not (is_training and p.is_used)]),
        *_copy_lines(health),
        *(_shortcut_line(s) for s in health.shortcuts),
        *(f"Handled: {r.count} x {r.kind} ({r.detail}), e.g. `{r.examples[0]}`." for r in health.remarks),
    ]
    if not is_training:
        chosen = [d for d in health.decisions if d.what != "copies.bar"]
        lines += [f"Chosen: {d.what} = {d.value}, because {d.reason}." for d in chosen]
    cropped = health.seen_share.get("crop", 1.0)
    if cropped < 0.55:
        lines.append(
            f"Seen: with --fit crop the network sees {percent(cropped, 0)} of an image, with cover "
            f"{percent(health.seen_share['cover'], 0)}, with squash and pad all of it."
        )
    return [one_line(line) for line in lines]


def health_to_json(health: Health) -> dict[str, Any]:
    """The judgement as a JSON-able value; `leaks` and the like name pictures relative to the data."""
    value = asdict(health)
    value["schema"] = 1
    value["findings"] = [finding_to_json(f) for f in health.findings]
    value["shortcuts"] = [{**row, "message": shortcut_message(row)} for row in value["shortcuts"]]
    value["group_patterns"] = [
        {**row, "status": p.status.value, "accepted": p.accepted, "is_used": p.is_used}
        for row, p in zip(value["group_patterns"], health.group_patterns, strict=True)
    ]
    for key in ("duplicates", "near_duplicates", "leaks", "label_conflicts"):
        value[key] = [{k: v for k, v in pair.items() if not k.startswith("index_")} for pair in value[key]]
    value["counts"] = {
        "unreadable": len(health.unreadable),
        "unreadable_by_kind": _by_kind(health.unreadable),
        "duplicates": len(health.duplicates),
        "near_duplicates": len(health.near_duplicates),
        "leaks": len(health.leaks),
        "label_conflicts": len(health.label_conflicts),
    }
    return _plain(value)  # type: ignore[no-any-return]


def _leak_lines(health: Health) -> list[str]:
    if not health.leaks:
        return []
    by_sides: dict[tuple[str, str], list[PicturePair]] = defaultdict(list)
    for pair in health.leaks:
        sides = tuple(sorted((pair.split_a or "", pair.split_b or ""), key=["train", "val", "test"].index))
        by_sides[sides[0], sides[1]].append(pair)
    lines = []
    for (first, second), pairs in by_sides.items():
        scored = {p.index_a if p.split_a == second else p.index_b for p in pairs}
        if second == "val" and any("test" in row for row in health.classes.values()):
            result = "They are left out of the validation score."
        else:
            result = (
                "A score on them flatters: training gives the score without them, and beside it the score as given."
            )
        many = _many("picture", len(scored))
        lines.append(f"Leak: {len(scored)} {second} {many} also in {first} ({_pairs(pairs)}). {result}")
    return lines


def _conflict_lines(conflicts: Sequence[PicturePair]) -> list[str]:
    if not conflicts:
        return []
    shown = "; ".join(f"`{p.a}` is `{p.label_a}`, `{p.b}` is `{p.label_b}`" for p in conflicts[:_SHOWN])
    more = f" ... ({len(conflicts)} in all)" if len(conflicts) > _SHOWN else ""
    return [f"One picture, two labels: {shown}{more}. Such pictures are not trained on; correct one of each."]


def _unreadable_lines(unreadable: Sequence[Problem]) -> list[str]:
    by_kind: dict[str, list[Problem]] = defaultdict(list)
    for problem in unreadable:
        by_kind[problem.kind].append(problem)
    lines = []
    for kind, problems in sorted(by_kind.items(), key=lambda kv: -len(kv[1])):
        names = _names([p.name for p in problems])
        many = _many("file", len(problems))
        lines.append(f"Left out: {len(problems)} {many}, {kind} ({names}): {problems[0].detail}.")
    return lines


def _group_lines(patterns: Sequence[GroupPattern]) -> list[str]:
    lines = []
    for p in patterns:
        effect = ""
        if p.accuracy_independent is not None and p.accuracy_grouped is not None:
            alone, by_group = percent(p.accuracy_independent, 0), percent(p.accuracy_grouped, 0)
            effect = f" Right on {alone} as if independent, {by_group} by group."
        where = f"{p.meaning}, {pluralize(p.num_groups, 'group')}"
        if p.is_used and p.source == "asked":
            lines.append(f"Belong together, as asked: {p.meaning}.{effect}")
        elif p.is_used and p.source != "guessed":
            lines.append(f"Belong together: {where}.{effect} They are kept together; --group-from none prevents that.")
        elif p.is_used:
            lines.append(
                f"Belong together: {where}; their pictures are nearer each other than chance "
                f"(p = {p.p_value:.3g}).{effect} They are kept together; --group-from none switches that off."
            )
        elif p.status is GroupStatus.ALTERNATIVE:
            lines.append(
                f"May belong together: {where} (p = {p.p_value:.3g}).{effect} "
                f"--group-from {shlex.quote(p.pattern)} keeps them so."
            )
        elif p.status is GroupStatus.REJECTED_COUNTER_PREFIX:
            lines.append(f"Rejected: {where}: the prefix of a camera's or program's counter.")
        elif p.status is GroupStatus.REJECTED_NO_SIMILARITY:
            lines.append(
                f"Rejected: {where}: their pictures are no nearer each other than chance (p = {p.p_value:.2g}).{effect}"
            )
    return lines


def _copy_lines(health: Health) -> list[str]:
    by_kind: dict[str, list[PicturePair]] = defaultdict(list)
    for pair in (*health.duplicates, *health.near_duplicates):
        by_kind[pair.kind].append(pair)
    return [
        f"Copies: {len(pairs)} {_many('pair', len(pairs))}, {_KINDS.get(kind, kind)} ({_pairs(pairs)}). "
        "They are kept together."
        for kind, pairs in by_kind.items()
    ]


def _shortcut_line(shortcut: Shortcut) -> str:
    examples = f" Examples: {_names(shortcut.examples)}." if shortcut.examples else ""
    return f"Shortcut? {_first_up(shortcut_message(asdict(shortcut)))}.{examples}"


def _pairs(pairs: Sequence[PicturePair]) -> str:
    shown = "; ".join(f"`{p.a}` = `{p.b}`" for p in pairs[:_SHOWN])
    return shown + (f" ... {len(pairs)} pairs" if len(pairs) > _SHOWN else "")


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{one_line(n)}`" for n in names[:_SHOWN])
    return shown + (" ..." if len(names) > _SHOWN else "")


def one_line(name: str) -> str:
    """A name with line breaks and control signs made visible."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]


def _many(word: str, count: int) -> str:
    if word == "picture":
        return "picture is" if count == 1 else "pictures are"
    return word if count == 1 else word + "s"


def _by_kind(problems: Iterable[Problem]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.kind] = counts.get(problem.kind, 0) + 1
    return counts


def _plain(value: Any) -> Any:
    """Tuples to lists, numpy numbers to Python's, so that `json` can write it."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value
