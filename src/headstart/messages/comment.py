"""Render the findings of a classifier report: a title and a text each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstart.messages.decisions_training import verdict_message
from headstart.messages.detection_comment import DETECTION_TEXTS
from headstart.messages.numbers import percent, pluralize, pluralize_is, signed_points
from headstart.messages.sections import SECTION_TEXTS
from headstart.messages.shortcuts import shortcut_message
from headstart.messages.values import interval
from headstart.types.codes import GroupStatus
from headstart.types.report import ReportFinding, ReportKind

__all__ = ["empty_section", "report_finding_text", "report_finding_title", "report_finding_to_json"]

E = Mapping[str, Any]


def report_finding_title(finding: ReportFinding) -> str | None:
    """Return the title of a finding, or None."""
    return _TEXTS[finding.kind][0](finding.evidence)


def report_finding_text(finding: ReportFinding) -> str:
    """Return the text of a finding: one or more sentences."""
    return _TEXTS[finding.kind][1](finding.evidence)


def report_finding_to_json(finding: ReportFinding) -> dict[str, Any]:
    """Return kind, severity, evidence, title (if any) and text."""
    title = report_finding_title(finding)
    return {
        "kind": finding.kind.value,
        "severity": finding.severity.value,
        "evidence": dict(finding.evidence),
        **({} if title is None else {"title": title}),
        "text": report_finding_text(finding),
    }


def empty_section(reason: ReportFinding | ReportKind) -> dict[str, Any]:
    """Return an empty report section with its reason: `missing` is the text, `finding` has the code."""
    finding = report_finding_to_json(reason if isinstance(reason, ReportFinding) else ReportFinding(reason))
    return {"missing": finding["text"], "finding": finding}


def _upper(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _points(difference: float) -> str:
    return f"{signed_points(difference)} points"


def _score(e: E) -> str:
    if e["score"] is None:
        return "a score that cannot be measured"
    if e["low"] is None or e["high"] is None:
        return percent(e["score"])
    return f"{percent(e['score'])} ({interval(e['low'], e['high'], 1)})"


def _unmeasured(e: E) -> str:
    return "There are too few images or independent groups for a 95 % confidence interval. Do not rely on the score."


def _leak(e: E) -> str:
    text = (
        f"{pluralize(e['num_pairs'], 'pair')} of near-duplicates across the split: the model was trained on duplicates "
        "of scored images."
    )
    if e["score"] is None or e["score_including_leaks"] is None:
        return f"{text} The score is biased upwards; `headstart check --repair` writes a split without leaks."
    without, with_them = percent(e["score"]), percent(e["score_including_leaks"])
    if without == with_them:
        return f"{text} The score is {without} with and without the leaking images."
    return f"{text} Without the leaking images the score is {without}, with them {with_them}."


_WHY_CHANCE = (
    "Possible causes: the labels do not depend on the image content, there are too few images to measure the "
    "difference, or the images differ too much from the pretraining data. Check the samples: can you distinguish the "
    "classes?"
)


def _chance(e: E) -> str:
    verb = "is below" if e["is_worse"] else "does not differ significantly from"
    text = f"The score, {_score(e)}, {verb} the majority-class baseline ({percent(e['majority'])}). "
    text += _WHY_CHANCE
    if duplicates := e["duplicates"]:
        text += (
            f" Chains of near-duplicates ({pluralize(duplicates['num_pairs'], 'pair')}) are held out together; with "
            f"each image held out alone accuracy is {percent(duplicates['accuracy_separate'])} (--group-from image)."
        )
    return text


def _near_chance(e: E) -> str:
    return (
        f"The score, {_score(e)}, is above the majority-class baseline ({percent(e['majority'])}), but the lower end "
        f"of its confidence interval is within one point of it. {_WHY_CHANCE}"
    )


_GROUP_DOUBTS: Mapping[GroupStatus, str] = {
    GroupStatus.QUESTION_CONTRADICTED_BY_DUPLICATES: "near-duplicates lie in different groups",
    GroupStatus.QUESTION_CONFOUNDED_WITH_CLASS: "nearly the same as the classes",
    GroupStatus.QUESTION_CONFOUNDED_WITH_SPLIT: "nearly the same as the split",
    GroupStatus.QUESTION_CONFOUNDED_WITH_CAMERA: "nearly the same as the camera",
    GroupStatus.QUESTION_CONFOUNDED_WITH_EXPOSURE: "they differ in exposure, focus or compression only",
    GroupStatus.QUESTION_TOO_FEW_GROUPS: "too few for an evaluation",
    GroupStatus.QUESTION_SCORE_AT_BASELINE: "with them the score falls to the baseline",
}
"""Why inferred groups are not applied, in a few words."""


def _groups(e: E) -> str:
    parts = []
    for q in e["questions"]:
        effect = ""
        if q["accuracy_independent"] is not None and q["accuracy_grouped"] is not None:
            effect = (
                f", accuracy {percent(q['accuracy_independent'])} without them and {percent(q['accuracy_grouped'])} "
                "with leave-one-group-out"
            )
        parts.append(f"{pluralize(q['num_groups'], 'group')} ({_GROUP_DOUBTS[GroupStatus(q['status'])]}){effect}")
    return (
        f"Inferred from names, columns or capture times: {'; '.join(parts)}. If images of one group show the same "
        "object, the score is biased upwards: apply the groups with --group-from (see `headstart check`). If not, use "
        "--group-from none."
    )


def _shortcut(e: E) -> str:
    return (
        f"{_upper(shortcut_message(e))}. The model may use this cue instead of the subject and then fail on other "
        "images. Record all classes under the same conditions, or crop the cue."
    )


def _imbalance_title(e: E) -> str:
    return "Small classes have low recall" if e["is_harmful"] else "Class imbalance without effect"


def _imbalance(e: E) -> str:
    small, large = percent(e["recall_small"]), percent(e["recall_large"])
    text = (
        f"`{e['largest_class']}` has {pluralize(e['largest_count'], 'training image')}, `{e['smallest_class']}` "
        f"{e['smallest_count']:,}. The mean recall of the small classes is {small}, of the large ones {large}."
    )
    if not e["is_harmful"]:
        return text
    return (
        f"{text} More images of the small classes help most; `--class-weights auto` trades errors of small classes for "
        "errors of large ones. Do not report plain accuracy: the large classes dominate it."
    )


def _pair(e: E) -> str:
    if e["mostly"] is None:
        why = (
            "They are confused in both directions, typical of similar classes or inconsistent labels: check the images "
            "of these two cells."
        )
    else:
        source, target = e["mostly"]
        why = (
            f"Mostly `{source}` is predicted as `{target}`, typical if some images show both, or if `{target}` has "
            "more variety or more images."
        )
    return (
        f"{e['count']} of the {e['num_errors']} errors are between these two, {percent(e['fraction'])} of their "
        f"images. {why} If the distinction is not needed, merge the classes."
    )


def _little(e: E) -> str:
    reasons = []
    if "median_count" in e:
        reasons.append(f"half of the classes have at most {pluralize(e['median_count'], 'training image')}")
    if "low" in e:
        reasons.append(
            f"the 95 % CI of the score is {percent(e['low'])} to {percent(e['high'])}, from "
            f"{pluralize(e['num_scored'], 'image')}"
        )
    if "gain_of_doubling" in e:
        reasons.append(f"twice as many images would change the accuracy by about {_points(e['gain_of_doubling'])}")
    return f"{_upper('; '.join(reasons))}. More labeled images help most; until then, model comparisons are uncertain."


def _overfitting(e: E) -> str:
    remedy = (
        "train fewer stages, stop earlier or regularize more"
        if e["is_tuned"]
        else "add more varied images; stronger regularization does not help, since its strength was selected on "
        "held-out images"
    )
    gap = round(100 * e["train_score"], 1) - round(100 * e["score"], 1)
    return (
        f"The training score is {percent(e['train_score'])}, the held-out score {_score(e)}: a gap of {gap:.1f} "
        f"points. Remedy: {remedy}."
    )


def _other_images(e: E) -> str:
    text = f"Cross-validated score on training images {percent(e['cv_score'])}, score on test images {_score(e)}. "
    if e["is_harder"]:
        return text + (
            "Either the test images come from another distribution, or related training images (one patient, day or "
            "video) inflate the cross-validated score. Expect the lower score."
        )
    return text + (
        "Either they are easier or related to training images: check for near-duplicates (`headstart check`). Expect "
        "the lower score."
    )


def _labels(e: E) -> str:
    parts = []
    if e["num_conflicts"]:
        parts.append(f"{pluralize(e['num_conflicts'], 'image')} with two labels")
    if e["num_label_errors"]:
        parts.append(pluralize(e["num_label_errors"], "suspected label error"))
    return f"{_upper(' and '.join(parts))} (listed below). Corrected labels often help more than a different backbone."


def _fine(e: E) -> str:
    nearest = ""
    if e["nearest_neighbor"] is not None:
        nearest = f" and the nearest neighbor (1-NN) {percent(e['nearest_neighbor'])}"
    text = f"The score is {_score(e)}; the majority-class baseline is {percent(e['majority'])}{nearest}."
    if e["train_score"] is not None and e["score"] is not None:
        text += f" The training score is {percent(e['train_score'])}."
    if e["is_checked"]:
        return f"{text} No leaks, shortcuts or failing classes."
    return f"{text} No class fails. This run did not check for leaks and shortcuts; `headstart check` does."


def _gain(e: E) -> str:
    span = ""
    if e["low"] is not None and e["high"] is not None:
        span = f" (95 % CI {_points(e['low'])} to {_points(e['high'])})"
    return f"Twice as many images would change the accuracy by about {_points(e['gain'])}{span}."


def _most_frequent_confusion(e: E) -> str:
    a, b = e["classes"]
    return (
        f"The most frequent confusion is between `{a}` and `{b}` ({pluralize(e['count'], 'image')}): images that show "
        "their difference help more than images of other classes."
    )


def _fine_tuning(e: E) -> str:
    return f"{_upper(verdict_message(e))}."


def _few_scored(e: E) -> str:
    return (
        f"{pluralize_is(e['num_scored'], 'scored image')} few: a difference of a few points between runs may be chance."
    )


Title = Callable[[E], str | None]
Text = Callable[[E], str]


def _titled(title: str, text: Text) -> tuple[Title, Text]:
    return lambda _: title, text


def _plain(text: Text | str) -> tuple[Title, Text]:
    return lambda _: None, (lambda _: text) if isinstance(text, str) else text


_TEXTS: Mapping[ReportKind, tuple[Title, Text]] = {
    ReportKind.CHANCE_LEVEL: _titled("Not better than chance", _chance),
    ReportKind.FINE: _titled("No problems found", _fine),
    ReportKind.GROUPS_IN_QUESTION: _titled("Inferred groups were not applied", _groups),
    ReportKind.IMBALANCE: (_imbalance_title, _imbalance),
    ReportKind.LABELS: _titled("Check some labels", _labels),
    ReportKind.LEAK: _titled("Test images leak from training", _leak),
    ReportKind.NEAR_CHANCE_LEVEL: _titled("Hardly better than chance", _near_chance),
    ReportKind.OTHER_IMAGES: (
        lambda e: f"The test images are {'harder' if e['is_harder'] else 'easier'} than the training images",
        _other_images,
    ),
    ReportKind.OVERFITTING: _titled("Overfitting", _overfitting),
    ReportKind.SHORTCUT: _titled("The class is predictable from a shortcut", _shortcut),
    ReportKind.TOO_LITTLE_DATA: _titled("Too few images", _little),
    ReportKind.TWO_CONFUSED_CLASSES: (
        lambda e: f"`{e['classes'][0]}` and `{e['classes'][1]}` are confused",
        _pair,
    ),
    ReportKind.UNMEASURED: _titled("The uncertainty of the score cannot be measured", _unmeasured),
    ReportKind.BACKBONE_FROZEN: _plain(
        "The backbone was frozen; only a new head was fitted. This run did not measure whether fine-tuning helps."
    ),
    ReportKind.MOST_FREQUENT_CONFUSION: _plain(_most_frequent_confusion),
    ReportKind.FINE_TUNING_COMPARED: _plain(_fine_tuning),
    ReportKind.GAIN_OF_MORE_IMAGES: _plain(_gain),
    ReportKind.GAIN_NOT_MEASURED: _plain("The gain from more images was not measured in this run."),
    ReportKind.CONFIDENCE_IS_NOT_CORRECTNESS: _plain(
        "Confident predictions can be wrong: images of other classes also get one of these classes."
    ),
    ReportKind.FEW_SCORED_IMAGES: _plain(_few_scored),
    ReportKind.IMAGES_LEFT_OUT_ALONE: _plain(
        "Every image was held out alone. If several show the same patient, video or object, set the groups with "
        "--group-from; otherwise the score is biased upwards."
    ),
    ReportKind.MEAN_OVER_CLASSES: _plain(
        "The score is the mean over classes; with other class frequencies, accuracy differs."
    ),
    ReportKind.SAME_ORIGIN_ONLY: _plain(
        "The score applies to images of the same origin: another camera, place or season is not covered."
    ),
    ReportKind.VALIDATION_SPLIT_REUSED: _plain(
        "It was measured on your validation split: tuning settings on it biases it upwards."
    ),
    **{kind: _plain(text) for kind, text in SECTION_TEXTS.items()},
    **DETECTION_TEXTS,
}
