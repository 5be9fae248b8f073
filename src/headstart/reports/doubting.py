"""What a run measured about pictures it does not know and about sets of classes, as sections of the report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.messages.numbers import percent, pluralize, pluralize_is
from headstart.reports.facts import Facts

__all__ = ["coverage_section", "unknown_section"]

_STRANGEST = 12  # pictures that are shown


def unknown_section(facts: Facts, where: NDArray[np.int64]) -> dict[str, Any]:
    """How many known pictures are called unknown, how many of a new class are noticed, and the strangest pictures.

    Args:
        facts: The run; `novelty` as `metrics.json` has it.
        where: Positions of the pictures that the headline was measured on.
    """
    section, is_whole = _measured(facts, "novelty", "Whether it knows unknown pictures was")
    if is_whole:
        return section
    section["text"] = _alarms(section)
    section["noticed"] = _noticed(section, len(facts.class_names))
    novelty = facts.scored.novelty
    if novelty is not None:
        known = where[np.isfinite(novelty[where])]
        section["strangest"] = [int(i) for i in known[np.argsort(-novelty[known], kind="stable")][:_STRANGEST]]
    return section


def coverage_section(facts: Facts) -> dict[str, Any]:
    """What the sets of classes held, in words and by class."""
    section, is_whole = _measured(facts, "coverage", "Sets of classes were")
    if is_whole:
        return section
    wanted, test = 100 * section["coverage"], section.get("test")
    shown = test or section
    if section["is_guaranteed"]:
        how = (
            f"It is guaranteed for pictures drawn like those of the validation folder: {section['num_fitted']:,} of "
            "them were kept for this and used for nothing else."
        )
    else:
        how = (
            "It is what the method gives in practice, not a guarantee: the sets are made from scores of training "
            "pictures that were left out in turn. A validation folder that is kept for this alone would make it one."
        )
    section["text"] = (
        f"Beside the best class, each answer holds the set of classes that fit; in {wanted:g} of 100 pictures it shall "
        f"hold the right one. {how} Measured on {_count(shown, section)}: {_interval(shown['realised'])} of the sets "
        f"held the right class, with {shown['mean_size']:.2f} classes in a set on average; "
        f"{percent(shown['share_single'], 0)} hold a single class, {percent(shown['share_empty'])} are empty, which "
        "means that no class fits."
    )
    return section


def _measured(facts: Facts, name: str, what: str) -> tuple[dict[str, Any], bool]:
    """What the run measured, and whether nothing is to be added: it says all in words itself, or there is nothing."""
    measured = facts.extra.get(name)
    if not measured:
        return {"missing": f"{what} not measured in this run."}, True
    section = {k: v for k, v in dict(measured).items() if k != "sentence"}
    return section, "text" in section


def _alarms(section: dict[str, Any]) -> str:
    reject = f"{100 * section['reject']:g} of 100"
    if section["threshold"] is None:
        return (
            f"{pluralize_is(section['out_of_fold']['num_samples'], 'known image')} too few to say from where on a "
            f"picture counts as unknown when at most {reject} known ones may; {math.ceil(1 / section['reject']) - 1} "
            "are needed."
        )
    what = "how undecided the head is" + (
        " and how far its features lie off those of all training pictures" if section.get("has_rest") else ""
    )
    text = (
        f"A picture counts as unknown (none of these) where its novelty is above {section['threshold']:.2f}; novelty "
        f"adds up {what}. The threshold is set so that at most {reject} known pictures are refused. "
    )
    test = section.get("test")
    if test:
        text += f"Of {pluralize(test['num_samples'], 'test image')} {_interval(test['false_alarms'])} were."
    else:
        out = section["out_of_fold"]
        text += (
            f"Of {pluralize(out['num_samples'], 'training image')}, each judged by a model that had not seen it, "
            f"{percent(out['false_alarms'])} were."
        )
    if section.get("is_by_group") is True:
        text += " It holds for a picture of a new group, each group counting as one."
    elif section.get("is_by_group") is False:
        text += " The groups are too few for it to hold for a picture of a new group."
    return text


def _noticed(section: dict[str, Any], num_classes: int) -> str:
    left = section.get("left_out")
    if left is None:
        if num_classes < 3:
            return (
                "How many pictures of a new class would be noticed cannot be measured: with two classes none can be "
                "left out."
            )
        return "How many pictures of a new class would be noticed was not measured in this run."
    return (
        f"To see what happens to a class it was never shown, each class was left out in turn: "
        f"{100 * left['detected']:.0f} of 100 of its pictures were then called unknown, and one of them ranked as "
        f"stranger than a known picture {100 * left['auroc']:.0f} times in 100 (by the probability alone "
        f"{100 * left['auroc_of_probability']:.0f} times). This was done with a simpler head on "
        f"{pluralize(left['num_samples'], 'image')}, so it is a rough figure. Pictures of quite another kind are as a "
        "rule noticed much more often."
    )


def _count(shown: dict[str, Any], section: dict[str, Any]) -> str:
    if shown is not section:
        return pluralize(shown["num_samples"], "test image")
    if section["is_guaranteed"]:
        return pluralize(section["num_fitted"], "validation image")
    return pluralize(section["num_fitted"], "left-out training image")


def _interval(share: dict[str, Any]) -> str:
    if share.get("value") is None:
        return "an unknown share"
    text = percent(share["value"])
    if share.get("low") is not None and share.get("high") is not None:
        text += f" (95 %: {100 * share['low']:.1f} to {100 * share['high']:.1f})"
    return text
