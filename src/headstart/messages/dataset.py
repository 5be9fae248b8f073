"""Render dataset findings: leaks, label conflicts, duplicates, groups, shortcuts, unusual files."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headstart.messages.decisions_data import grouping_message
from headstart.messages.numbers import percent
from headstart.messages.shortcuts import cue_name, shortcut_message
from headstart.messages.values import count, with_example
from headstart.types.codes import FindingKind

__all__ = ["DATASET_MESSAGES", "DATASET_SUMMARIES"]

_SHOWN = 3
_PAIR_KINDS = {
    "bytes": "identical files",
    "pixels": "identical pixels",
    "near": "near-duplicates",
    "flipped": "flipped duplicates",
    "cropped": "crops of one image",
}


def _pairs(e: Mapping[str, Any]) -> str:
    shown = "; ".join(f"`{a}` = `{b}`" for a, b in e["pairs"][:_SHOWN])
    return shown + (" ..." if e["count"] > _SHOWN else "")


def _names(names: Sequence[str], total: int) -> str:
    return ", ".join(f"`{name}`" for name in names[:_SHOWN]) + (" ..." if total > _SHOWN else "")


def _leaking_images(e: Mapping[str, Any]) -> str:
    kept = "excluded from the score" if e["is_headline"] else "excluded from the validation score"
    one = e["count"] == 1
    return (
        f"{count(e['count'], e['split'] + ' image')} {'is' if one else 'are'} also in {e['other_split']} ({kept}): "
        f"{_pairs(e)}"
    )


def _label_conflicts(e: Mapping[str, Any]) -> str:
    shown = "; ".join(f"`{a}` is `{x}`, `{b}` is `{y}`" for a, x, b, y in e["pairs"][:_SHOWN])
    more = " ..." if e["count"] > _SHOWN else ""
    return f"{count(e['count'], 'pair')} of duplicates with different labels (not trained on): {shown}{more}"


def _unreadable_files(e: Mapping[str, Any]) -> str:
    names = _names(e["examples"], e["count"])
    return f"{count(e['count'], 'file')} skipped, {e['problem']}: {names} ({e['detail']})"


def _duplicate_images(e: Mapping[str, Any]) -> str:
    kind = _PAIR_KINDS.get(e["pair_kind"], e["pair_kind"])
    return f"{count(e['count'], 'pair')} of {kind}, kept in one fold: {_pairs(e)}"


def _accuracies(e: Mapping[str, Any]) -> str:
    if e["accuracy_independent"] is None or e["accuracy_grouped"] is None:
        return ""
    alone, grouped = percent(e["accuracy_independent"], 0), percent(e["accuracy_grouped"], 0)
    return f"; accuracy without groups {alone}, with groups held out {grouped}"


def _groups_applied(e: Mapping[str, Any]) -> str:
    why = {
        "guessed": f", within-group similarity above chance (p = {e['p_value']:.3g})",
        "named": ", as its name states a subject or capture unit",
    }.get(e["source"], "")
    off = "" if e["source"] == "requested" else "; --group-from none disables them"
    number = count(e["num_groups"], "group")
    return f"{number} from {grouping_message(e['grouping'])} are kept together{why}{_accuracies(e)}{off}"


def _groups_not_applied(e: Mapping[str, Any]) -> str:
    return (
        f"candidate groups from {grouping_message(e['grouping'])} ({count(e['num_groups'], 'group')}, "
        f"p = {e['p_value']:.3g}) are not used{_accuracies(e)}; --group-from {shlex.quote(e['pattern'])} applies them"
    )


def _groups_rejected(e: Mapping[str, Any]) -> str:
    why = {
        "rejected_counter_prefix": "the prefix of a camera's or program's counter",
        "rejected_no_similarity": f"within-group similarity at chance (p = {e['p_value']:.2g})",
    }.get(e["status"], e["status"])
    return (
        f"candidate groups from {grouping_message(e['grouping'])} ({count(e['num_groups'], 'group')}) rejected: {why}"
    )


def _shortcut(e: Mapping[str, Any]) -> str:
    examples = e.get("examples") or []
    return shortcut_message(e) + (f", e.g. {_names(examples, len(examples))}" if examples else "")


def _files_handled(e: Mapping[str, Any]) -> str:
    return f"{count(e['count'], 'image')}: {e['what']} ({e['detail']}), e.g. `{e['examples'][0]}`"


def _narrow_crop(e: Mapping[str, Any]) -> str:
    return (
        f"the center crop shows {percent(e['crop'], 0)} of the median image; --resize-mode cover shows "
        f"{percent(e['cover'], 0)}, squash and pad all of it"
    )


def _confounded(e: Mapping[str, Any]) -> str:
    name = f"`{e['name']}`"
    kinds = {
        "column": f"column {name}",
        "folder": "the folder",
        "group": "the group",
        "pattern": f"the group by {name}",
    }
    what = kinds[e["grouped_by"]]
    value, label = next(iter(e["values"].items()))
    return f"confounded: {what} determines the class (`{value}`: `{label}` only)"


def _corrections_applied(e: Mapping[str, Any]) -> str:
    return (
        f"corrections: {count(e['num_relabeled'], 'image')} relabeled, {e['num_dropped']:,} dropped; your files are "
        "unchanged"
    )


def _corrections(reason: str) -> Callable[[Mapping[str, Any]], str]:
    def render(e: Mapping[str, Any]) -> str:
        return f"{count(e['count'], 'correction')} {reason} not applied: {_names(e['examples'], e['count'])}"

    return render


DATASET_MESSAGES: dict[FindingKind, Callable[[Mapping[str, Any]], str]] = {
    FindingKind.CONFOUNDED: _confounded,
    FindingKind.CORRECTIONS_APPLIED: _corrections_applied,
    FindingKind.CORRECTIONS_OF_SCORED_IMAGES: _corrections("of scored images"),
    FindingKind.CORRECTIONS_OF_UNKNOWN_IMAGES: _corrections("of images outside the data"),
    FindingKind.DUPLICATE_IMAGES: _duplicate_images,
    FindingKind.FILES_HANDLED: _files_handled,
    FindingKind.GROUPS_APPLIED: _groups_applied,
    FindingKind.GROUPS_NOT_APPLIED: _groups_not_applied,
    FindingKind.GROUPS_REJECTED: _groups_rejected,
    FindingKind.LABEL_CONFLICTS: _label_conflicts,
    FindingKind.LEAKING_IMAGES: _leaking_images,
    FindingKind.NARROW_CROP: _narrow_crop,
    FindingKind.SHORTCUT: _shortcut,
    FindingKind.UNREADABLE_FILES: _unreadable_files,
}


def _sum(es: Sequence[Mapping[str, Any]]) -> int:
    return sum(int(e["count"]) for e in es)


def _many_duplicates(es: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    kinds = ", ".join(f"{e['count']:,} {_PAIR_KINDS.get(e['pair_kind'], e['pair_kind'])}" for e in es)
    pairs = f"{count(_sum(es), 'pair')} of duplicates"
    return (
        *with_example(f"{pairs}, kept in one fold ({kinds})", *es[0]["pairs"][0]),
        f"{pairs}, kept in one fold",
        pairs,
    )


def _many_leaks(es: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    pair = es[0]["pairs"][0]
    if len(es) == 1:
        images = f"{count(es[0]['count'], es[0]['split'] + ' image')} also in {es[0]['other_split']}"
        return *with_example(f"{images} (excluded from the score)", *pair), images
    images = f"{count(_sum(es), 'leaking image')}, excluded from the score"
    sides = ", ".join(f"{e['count']:,} {e['split']} in {e['other_split']}" for e in es)
    return *with_example(f"{images} ({sides})", *pair), images


def _many_shortcuts(es: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    cues = ", ".join(cue_name(str(e["what"])) for e in es[:2]) + (" ..." if len(es) > 2 else "")
    text = f"{count(len(es), 'shortcut')}: the class is predictable from"
    return f"{text} {cues}", f"{text} {cue_name(str(es[0]['what']))}{' ...' if len(es) > 1 else ''}"


def _problem_name(problem: str) -> str:
    """Return the name of a problem, with the option that solves it."""
    return {"too-large": "more pixels than --max-pixels"}.get(problem, problem)


def _num_problems(es: Sequence[Mapping[str, Any]]) -> str:
    return f" ({count(len(es), 'problem')})" if len(es) > 1 else ""


DATASET_SUMMARIES: dict[FindingKind, Callable[[Sequence[Mapping[str, Any]]], str | tuple[str, ...]]] = {
    FindingKind.CORRECTIONS_OF_UNKNOWN_IMAGES: lambda es: with_example(
        f"{count(_sum(es), 'correction')} of images outside the data not applied", es[0]["examples"][0]
    ),
    FindingKind.CORRECTIONS_OF_SCORED_IMAGES: lambda es: with_example(
        f"{count(_sum(es), 'correction')} of scored images not applied", es[0]["examples"][0]
    ),
    FindingKind.DUPLICATE_IMAGES: _many_duplicates,
    FindingKind.FILES_HANDLED: lambda es: (
        *with_example(
            f"{count(_sum(es), 'unusual image')} handled ({', '.join(str(e['what']) for e in es[:4])}"
            f"{' ...' if len(es) > 4 else ''})",
            es[0]["examples"][0],
        ),
        f"{count(_sum(es), 'unusual image')} handled",
    ),
    FindingKind.GROUPS_REJECTED: lambda es: f"{count(len(es), 'candidate grouping')} rejected",
    FindingKind.LABEL_CONFLICTS: lambda es: (
        *with_example(
            f"{count(_sum(es), 'pair')} of duplicates with different labels, not trained on", es[0]["pairs"][0][0]
        ),
        f"{count(_sum(es), 'pair')} of duplicates with different labels",
    ),
    FindingKind.LEAKING_IMAGES: _many_leaks,
    FindingKind.NARROW_CROP: lambda es: f"the center crop shows {percent(es[0]['crop'], 0)} of the median image",
    FindingKind.SHORTCUT: _many_shortcuts,
    FindingKind.UNREADABLE_FILES: lambda es: (
        *with_example(
            f"{count(_sum(es), 'file')} skipped{_num_problems(es)}",
            es[0]["examples"][0],
            after=f": {_problem_name(es[0]['problem'])}",
        ),
        f"{count(_sum(es), 'file')} skipped",
    ),
}
