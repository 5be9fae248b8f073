"""Render findings as sentences and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from headstart.messages.box_problems import BOX_PROBLEM_MESSAGES
from headstart.messages.dataset import DATASET_MESSAGES
from headstart.messages.decisions_data import grouping_message
from headstart.messages.evaluation import EVALUATION_MESSAGES
from headstart.messages.numbers import percent, pluralize
from headstart.types.codes import Finding, FindingKind, GroupStatus

__all__ = ["finding_message", "finding_to_json"]

_PAIRS_SHOWN = 3


def finding_message(finding: Finding) -> str:
    """Return one lower-case sentence without a full stop."""
    return _MESSAGES[finding.kind](finding.evidence)


def finding_to_json(finding: Finding) -> dict[str, Any]:
    """Return kind, severity, evidence and the rendered message."""
    return {
        "kind": finding.kind.value,
        "severity": finding.severity.value,
        "evidence": dict(finding.evidence),
        "message": finding_message(finding),
    }


def _all_scored_images_leak(e: Mapping[str, Any]) -> str:
    return (
        f"every {e['split']} image has a near-duplicate in training ({_count(e['num_images'], 'images')}): the score "
        "is measured on the split as given and is not valid for new images"
    )


def _class_imbalance(e: Mapping[str, Any]) -> str:
    metric = {"map": "mAP", "balanced_accuracy": "balanced accuracy"}[e["metric"]]
    return (
        f"class imbalance: {e['largest_count']:,} {e['unit']} of `{e['largest_class']}`, {e['smallest_count']:,} of "
        f"`{e['smallest_class']}`; the headline is a mean over the classes ({metric})"
    )


def _class_not_in_train(e: Mapping[str, Any]) -> str:
    where = " and ".join(e["splits"]) or "no split"
    text = f"class `{e['class']}` is only in {where} and cannot be learned: move some of its images to train"
    return f"{text}, or train with --exclude-classes {shlex.quote(str(e['class']))}" if e.get("can_exclude") else text


def _class_too_small(e: Mapping[str, Any]) -> str:
    count = _count(e["count"], e["unit"])
    return f"class `{e['class']}` has {count}: at least {e['minimum']} are needed for a reliable score"


def _class_with_one_image(e: Mapping[str, Any]) -> str:
    return (
        f"class `{e['class']}` has 1 training image and cannot be learned: "
        f"add images, or train with --exclude-classes {shlex.quote(str(e['class']))}"
    )


def _duplicates_at_baseline(e: Mapping[str, Any]) -> str:
    joined = e["accuracy_joined"]
    effect = "accuracy cannot be measured" if joined is None else f"accuracy is {percent(joined)}"
    return (
        f"near-duplicates ({pluralize(e['num_pairs'], 'pair')}) form chains, as video frames do. With whole chains "
        f"held out {effect} (most frequent class: {percent(e['accuracy_baseline'])}), with each image held out alone "
        f"{percent(e['accuracy_separate'])}. If they show the same scenes, add other scenes; if not, use "
        "--group-from image"
    )


def _duplicates_with_other_boxes(e: Mapping[str, Any]) -> str:
    pairs = [f"`{a}` and `{b}`" for a, b in e["pairs"]]
    more = f" ... ({len(pairs)} pairs)" if len(pairs) > _PAIRS_SHOWN else ""
    return f"identical images have different boxes: {', '.join(pairs[:_PAIRS_SHOWN])}{more}; correct one of each pair"


def _files_not_used(e: Mapping[str, Any]) -> str:
    names = ", ".join(f"`{name}`" for name in e["examples"][:_PAIRS_SHOWN]) + (
        " ..." if e["count"] > _PAIRS_SHOWN else ""
    )
    subject = "1 file or row is" if e["count"] == 1 else f"{e['count']:,} files or rows are"
    return f"{subject} not used, {e['problem']}: {names} ({e['detail']})"


def _groups_across_splits(e: Mapping[str, Any]) -> str:
    return (
        f"{pluralize(e['num_groups'], 'group')} ({grouping_message(e['grouping'])}) in several splits, with "
        f"{percent(e['scored_fraction'], 0)} of the scored images: the score is not valid for new groups"
    )


def _groups_in_question(e: Mapping[str, Any]) -> str:
    reason = _QUESTIONS[GroupStatus(e["status"])](e)
    scores = ""
    if e["accuracy_independent"] is not None and e["accuracy_grouped"] is not None:
        scores = (
            f"; accuracy {percent(e['accuracy_independent'], 0)} without these groups, "
            f"{percent(e['accuracy_grouped'], 0)} with leave-one-group-out"
        )
    return (
        f"images with the same {grouping_message(e['grouping'])} ({pluralize(e['num_groups'], 'group')}) are similar, "
        f"but these groups are not applied: {reason}{scores}. If they show the same object, use --group-from "
        f"{shlex.quote(e['pattern'])}; if not, --group-from none"
    )


_QUESTIONS: Mapping[GroupStatus, Callable[[Mapping[str, Any]], str]] = {
    GroupStatus.QUESTION_CONTRADICTED_BY_DUPLICATES: lambda e: (
        f"of {pluralize(e['duplicates_across'] + e['duplicates_within'], 'pair')} of near-identical images, "
        f"{e['duplicates_across']:,} lie in different groups, so a group is probably a recording condition"
    ),
    GroupStatus.QUESTION_CONFOUNDED_WITH_CLASS: lambda e: (
        f"the class nearly determines the group ({e['groups_per_level']['class']:.1f} effective groups per class)"
    ),
    GroupStatus.QUESTION_CONFOUNDED_WITH_SPLIT: lambda e: (
        f"the split nearly determines the group ({e['groups_per_level']['split']:.1f} effective groups per split)"
    ),
    GroupStatus.QUESTION_CONFOUNDED_WITH_CAMERA: lambda e: (
        "camera, or image size and mode, nearly determine the group "
        f"({e['groups_per_level']['camera']:.1f} effective groups per camera)"
    ),
    GroupStatus.QUESTION_CONFOUNDED_WITH_EXPOSURE: lambda e: (
        f"they differ in one direction only ({percent(max(0, e['off_axis_fraction']), 0)} of the similarity is "
        "outside it), as with exposure, focus or compression"
    ),
    GroupStatus.QUESTION_TOO_FEW_GROUPS: lambda e: (
        "too few groups: "
        f"{pluralize(e['num_independent'], 'independent group')} ({e['effective_groups']:.1f} of equal size), and "
        f"{percent(e['unscorable_fraction'], 0)} of the data in single-group classes"
    ),
    GroupStatus.QUESTION_SCORE_AT_BASELINE: lambda e: (
        "with leave-one-group-out the score falls to the majority-class baseline "
        f"({percent(e['accuracy_baseline'], 0)}), so one of the two scores is misleading"
    ),
}


def _mixed_pixel_types(e: Mapping[str, Any]) -> str:
    return (
        f"{pluralize(e['num_float'], 'floating-point image')} and {pluralize(e['num_integer'], '16-bit image')} share "
        "one value range, which fits only one type: the others become black or white; save all images in one type"
    )


def _pages_not_used(e: Mapping[str, Any]) -> str:
    one = e["count"] == 1
    return (
        f"{_count(e['count'], 'images')} {'has' if one else 'have'} several pages or frames; only the first is used, "
        f"e.g. `{e['examples'][0]}`: --pages selects or combines them"
    )


def _small_boxes(e: Mapping[str, Any]) -> str:
    text = f"{percent(e['tiny_fraction'], 0)} of the boxes are under 8 px at {e['size']} px"
    if e["better_size"] is None:
        return f"{text}; no --image-size suffices, cut the images into tiles"
    return f"{text}; use --image-size {e['better_size']} (epochs take {e['time_factor']:.1f}x)"


def _count(number: int, unit: str) -> str:
    singular = {"boxes": "box", "images": "image"}[unit]
    return f"{number:,} {singular if number == 1 else unit}"


_MESSAGES: Mapping[FindingKind, Callable[[Mapping[str, Any]], str]] = {
    **BOX_PROBLEM_MESSAGES,
    **DATASET_MESSAGES,
    **EVALUATION_MESSAGES,
    FindingKind.ALL_SCORED_IMAGES_LEAK: _all_scored_images_leak,
    FindingKind.CLASS_IMBALANCE: _class_imbalance,
    FindingKind.CLASS_IN_ONE_GROUP: lambda e: (
        f"class `{e['class']}` is a single group: with this group held out, the class has no training images"
    ),
    FindingKind.CLASS_NOT_IN_TEST: lambda e: f"class `{e['class']}` is not in test and has no score",
    FindingKind.CLASS_NOT_IN_TRAIN: _class_not_in_train,
    FindingKind.CLASS_TOO_SMALL: _class_too_small,
    FindingKind.CLASS_WITH_ONE_IMAGE: _class_with_one_image,
    FindingKind.CLASS_WITHOUT_IMAGES: lambda e: f"class `{e['class']}` has no usable image",
    FindingKind.DUPLICATES_AT_BASELINE: _duplicates_at_baseline,
    FindingKind.DUPLICATES_WITH_OTHER_BOXES: _duplicates_with_other_boxes,
    FindingKind.FILES_NOT_USED: _files_not_used,
    FindingKind.GROUPS_ACROSS_SPLITS: _groups_across_splits,
    FindingKind.GROUPS_IN_QUESTION: _groups_in_question,
    FindingKind.MIXED_PIXEL_TYPES: _mixed_pixel_types,
    FindingKind.PAGES_NOT_USED: _pages_not_used,
    FindingKind.SMALL_BOXES: _small_boxes,
    FindingKind.SINGLE_CLASS: lambda e: f"all images have the class `{e['class']}`: at least two classes are needed",
}
