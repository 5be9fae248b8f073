"""Render the findings of the check of a dataset: leaks, conflicts, duplicates, groups, shortcuts, odd files."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headstart.messages.numbers import percent
from headstart.messages.shortcuts import cue_name, shortcut_message
from headstart.messages.values import count, quote_path
from headstart.types import FindingKind

__all__ = ["DATASET_MESSAGES", "DATASET_SUMMARIES"]

_SHOWN = 3
_PAIR_KINDS = {
    "bytes": "identical files",
    "pixels": "identical pixels",
    "near": "near-duplicates",
    "mirrored": "mirrored copies",
    "cropped": "crops of one image",
}


def _pairs(e: Mapping[str, Any]) -> str:
    shown = "; ".join(f"`{a}` = `{b}`" for a, b in e["pairs"][:_SHOWN])
    return shown + (" ..." if e["count"] > _SHOWN else "")


def _names(names: Sequence[str], total: int) -> str:
    return ", ".join(f"`{name}`" for name in names[:_SHOWN]) + (" ..." if total > _SHOWN else "")


def _leaking_images(e: Mapping[str, Any]) -> str:
    kept = "left out of the score" if e["is_headline"] else "left out of the validation score"
    one = e["count"] == 1
    return (
        f"{count(e['count'], e['split'] + ' image')} {'is' if one else 'are'} also in {e['other_split']} ({kept}): "
        f"{_pairs(e)}"
    )


def _label_conflicts(e: Mapping[str, Any]) -> str:
    shown = "; ".join(f"`{a}` is `{x}`, `{b}` is `{y}`" for a, x, b, y in e["pairs"][:_SHOWN])
    more = " ..." if e["count"] > _SHOWN else ""
    return f"{count(e['count'], 'pair')} of copies with different labels (not trained on): {shown}{more}"


def _unreadable_files(e: Mapping[str, Any]) -> str:
    names = _names(e["examples"], e["count"])
    return f"{count(e['count'], 'file')} skipped, {e['problem']}: {names} ({e['detail']})"


def _duplicate_images(e: Mapping[str, Any]) -> str:
    what = _PAIR_KINDS.get(e["pair_kind"], e["pair_kind"])
    return f"{count(e['count'], 'pair')} of {what}, kept in one fold: {_pairs(e)}"


def _accuracies(e: Mapping[str, Any]) -> str:
    if e["accuracy_independent"] is None or e["accuracy_grouped"] is None:
        return ""
    alone, grouped = percent(e["accuracy_independent"], 0), percent(e["accuracy_grouped"], 0)
    return f"; accuracy without groups {alone}, with groups held out {grouped}"


def _groups_applied(e: Mapping[str, Any]) -> str:
    why = f", images of a group look alike (p = {e['p_value']:.3g})" if e["source"] == "guessed" else ""
    off = "" if e["source"] == "asked" else "; --group-from none to switch off"
    number = count(e["num_groups"], "group")
    return f"{number} from {e['meaning']} are kept together{why}{_accuracies(e)}{off}"


def _groups_not_applied(e: Mapping[str, Any]) -> str:
    return (
        f"candidate groups from {e['meaning']} ({count(e['num_groups'], 'group')}, p = {e['p_value']:.3g}) are not used"
        f"{_accuracies(e)}; --group-from {shlex.quote(e['pattern'])} applies them"
    )


def _groups_rejected(e: Mapping[str, Any]) -> str:
    why = {
        "rejected_counter_prefix": "the prefix of a camera's or program's counter",
        "rejected_no_similarity": f"within-group similarity at chance (p = {e['p_value']:.2g})",
    }.get(e["status"], e["status"])
    return f"candidate groups from {e['meaning']} ({count(e['num_groups'], 'group')}) rejected: {why}"


def _shortcut(e: Mapping[str, Any]) -> str:
    examples = e.get("examples") or []
    return shortcut_message(e) + (f", e.g. {_names(examples, len(examples))}" if examples else "")


def _files_handled(e: Mapping[str, Any]) -> str:
    return f"{count(e['count'], 'image')}: {e['what']} ({e['detail']}), e.g. `{e['examples'][0]}`"


def _narrow_crop(e: Mapping[str, Any]) -> str:
    return (
        f"the center crop shows {percent(e['crop'], 0)} of the median image; --fit cover shows "
        f"{percent(e['cover'], 0)}, squash and pad all of it"
    )


def _corrections_applied(e: Mapping[str, Any]) -> str:
    return (
        f"corrections: {count(e['num_relabeled'], 'image')} relabeled, {e['num_dropped']:,} left out; your files are "
        "unchanged"
    )


def _corrections(reason: str) -> Callable[[Mapping[str, Any]], str]:
    def render(e: Mapping[str, Any]) -> str:
        return f"{count(e['count'], 'correction')} {reason} not applied: {_names(e['examples'], e['count'])}"

    return render


DATASET_MESSAGES: dict[FindingKind, Callable[[Mapping[str, Any]], str]] = {
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


def _many_duplicates(es: Sequence[Mapping[str, Any]]) -> str:
    kinds = ", ".join(f"{e['count']:,} {_PAIR_KINDS.get(e['pair_kind'], e['pair_kind'])}" for e in es)
    return f"{count(_sum(es), 'pair')} of duplicates, kept in one fold ({kinds}){_example_pair(es)}"


def _many_leaks(es: Sequence[Mapping[str, Any]]) -> str:
    if len(es) == 1:
        where = f"{count(es[0]['count'], es[0]['split'] + ' image')} also in {es[0]['other_split']}"
        return f"{where} (left out of the score){_example_pair(es)}"
    sides = ", ".join(f"{e['count']:,} {e['split']} in {e['other_split']}" for e in es)
    return f"{count(_sum(es), 'leaking image')}, left out of the score ({sides}){_example_pair(es)}"


def _example_pair(es: Sequence[Mapping[str, Any]]) -> str:
    """Return one pair of images as an example; shortened names, since both are on one line."""
    a, b = es[0]["pairs"][0]
    return f", e.g. {quote_path(a, 18)} = {quote_path(b, 18)}"


def _many_shortcuts(es: Sequence[Mapping[str, Any]]) -> str:
    cues = ", ".join(cue_name(str(e["what"])) for e in es[:2]) + (" ..." if len(es) > 2 else "")
    return f"{count(len(es), 'shortcut')}: the class is predictable from {cues}"


def _num_problems(es: Sequence[Mapping[str, Any]]) -> str:
    return f" ({count(len(es), 'problem')})" if len(es) > 1 else ""


DATASET_SUMMARIES: dict[FindingKind, Callable[[Sequence[Mapping[str, Any]]], str]] = {
    FindingKind.CORRECTIONS_OF_UNKNOWN_IMAGES: lambda es: (
        f"{count(_sum(es), 'correction')} of images outside the data not applied, e.g. "
        f"{quote_path(es[0]['examples'][0])}"
    ),
    FindingKind.CORRECTIONS_OF_SCORED_IMAGES: lambda es: (
        f"{count(_sum(es), 'correction')} of scored images not applied, e.g. {quote_path(es[0]['examples'][0])}"
    ),
    FindingKind.DUPLICATE_IMAGES: _many_duplicates,
    FindingKind.FILES_HANDLED: lambda es: (
        f"{count(_sum(es), 'image')} with oddities handled ({', '.join(str(e['what']) for e in es[:4])}"
        f"{' ...' if len(es) > 4 else ''}), e.g. {quote_path(es[0]['examples'][0])}"
    ),
    FindingKind.GROUPS_REJECTED: lambda es: f"{count(len(es), 'candidate grouping')} rejected",
    FindingKind.LABEL_CONFLICTS: lambda es: (
        f"{count(_sum(es), 'pair')} of copies with different labels, not trained on, e.g. "
        f"{quote_path(es[0]['pairs'][0][0])}"
    ),
    FindingKind.LEAKING_IMAGES: _many_leaks,
    FindingKind.NARROW_CROP: lambda es: f"the center crop shows {percent(es[0]['crop'], 0)} of the median image",
    FindingKind.SHORTCUT: _many_shortcuts,
    FindingKind.UNREADABLE_FILES: lambda es: (
        f"{count(_sum(es), 'file')} skipped{_num_problems(es)}, e.g. {quote_path(es[0]['examples'][0])}: "
        f"{es[0]['problem']}"
    ),
}
