"""Render what the report of a classifier states about the result: a title and a text for each finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstart.messages.decisions_training import verdict_message
from headstart.messages.detection_comment import DETECTION_TEXTS
from headstart.messages.numbers import percent, pluralize, pluralize_is, signed_points
from headstart.messages.sections import SECTION_TEXTS
from headstart.messages.shortcuts import shortcut_message
from headstart.report_types import ReportFinding, ReportKind

__all__ = ["empty_section", "report_finding_text", "report_finding_title", "report_finding_to_json"]

E = Mapping[str, Any]


def report_finding_title(finding: ReportFinding) -> str | None:
    """Return a few words, or None for a finding that has no title."""
    return _TEXTS[finding.kind][0](finding.evidence)


def report_finding_text(finding: ReportFinding) -> str:
    """Return one or more sentences."""
    return _TEXTS[finding.kind][1](finding.evidence)


def report_finding_to_json(finding: ReportFinding) -> dict[str, Any]:
    """Return kind, severity, evidence, title (where there is one) and text."""
    title = report_finding_title(finding)
    return {
        "kind": finding.kind.value,
        "severity": finding.severity.value,
        "evidence": dict(finding.evidence),
        **({} if title is None else {"title": title}),
        "text": report_finding_text(finding),
    }


def empty_section(kind: ReportKind, **evidence: Any) -> dict[str, Any]:
    """Return a section of a report that says why it is empty: `missing` is the text, `finding` the code behind it."""
    finding = report_finding_to_json(ReportFinding(kind, evidence=evidence))
    return {"missing": finding["text"], "finding": finding}


def _upper(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _points(share: float) -> str:
    return f"{signed_points(share)} points"


def _score(e: E) -> str:
    if e["score"] is None:
        return "a score that cannot be measured"
    if e["low"] is None or e["high"] is None:
        return percent(e["score"])
    return f"{percent(e['score'])} (95 % CI {100 * e['low']:.1f} to {100 * e['high']:.1f})"


def _unmeasured(e: E) -> str:
    return (
        "The images fall into too few independent groups, or there are too few of them, for a 95 % confidence "
        "interval. Do not rely on the score."
    )


def _leak(e: E) -> str:
    text = (
        f"{pluralize(e['num_pairs'], 'pair')} of the same or nearly the same image on both sides of the split: the "
        "model was trained on copies of scored images."
    )
    if e["score"] is None or e["score_including_leaks"] is None:
        return (
            f"{text} The score is too high by an unknown amount; `headstart check --repair` makes a split without them."
        )
    without, with_them = percent(e["score"]), percent(e["score_including_leaks"])
    if without == with_them:
        return f"{text} The score is {without} with and without the leaking images."
    return f"{text} Without the leaking images the score is {without}, with them {with_them}."


_WHY_CHANCE = (
    "Either the labels do not depend on what the images show, the difference is too small to be measured with so few "
    "images, or the images are too unlike those that the backbone was trained on. Look at the samples: can you tell "
    "the classes apart?"
)


def _chance(e: E) -> str:
    verb = "is worse than" if e["is_worse"] else "cannot be told from"
    text = f"The score, {_score(e)}, {verb} always naming the most frequent class ({percent(e['majority'])}). "
    text += _WHY_CHANCE
    if e["copies"] is not None:
        text += (
            f" Chains of near-duplicates ({pluralize(e['copies']['num_pairs'], 'pair')}) are left out whole; with "
            f"every image left out alone accuracy is {percent(e['copies']['accuracy_separate'])} (--group-from image)."
        )
    return text


def _near_chance(e: E) -> str:
    return (
        f"The score, {_score(e)}, is higher than always naming the most frequent class ({percent(e['majority'])}), but "
        f"its confidence interval begins within one point of it. {_WHY_CHANCE}"
    )


def _groups(e: E) -> str:
    parts = []
    for q in e["questions"]:
        effect = ""
        if q["accuracy_independent"] is not None and q["accuracy_grouped"] is not None:
            effect = (
                f", accuracy {percent(q['accuracy_independent'])} without them and {percent(q['accuracy_grouped'])} "
                "with whole groups left out"
            )
        parts.append(f"{pluralize(q['num_groups'], 'group')} ({q['status']}){effect}")
    return (
        f"Guessed from names, columns or capture times: {'; '.join(parts)}. If images of one group show the same "
        "object, the score is too high: apply the groups with --group-from as `headstart check` shows. If not, "
        "--group-from none."
    )


def _shortcut(e: E) -> str:
    return (
        f"{_upper(shortcut_message(e))}. The model may have learned that instead of the subject, and would then fail "
        "on images taken otherwise. Take images of all classes in the same way, or crop what gives them away."
    )


def _imbalance_title(e: E) -> str:
    return "Small classes are recognized less often" if e["is_harmful"] else "Imbalance without visible harm"


def _imbalance(e: E) -> str:
    small, large = percent(e["recall_small"]), percent(e["recall_large"])
    text = (
        f"`{e['largest_class']}` has {pluralize(e['largest_count'], 'training image')}, `{e['smallest_class']}` "
        f"{e['smallest_count']:,}. The mean recall of the small classes is {small}, of the large ones {large}."
    )
    if not e["is_harmful"]:
        return text
    return (
        f"{text} More images of the small classes would help most; `--class-weights auto` trades errors of the large "
        "classes for fewer of the small ones. Do not quote plain accuracy: the large classes dominate it."
    )


def _pair(e: E) -> str:
    if e["mostly"] is None:
        why = (
            "They are confused in both directions, as classes are that look alike or whose labels overlap: look at the "
            "images of these two cells and ask whether two people would label them alike."
        )
    else:
        source, target = e["mostly"]
        why = (
            f"Mostly `{source}` is taken for `{target}`, as happens where some of its images show both, or where "
            f"`{target}` has more variety or more images."
        )
    return (
        f"{e['count']} of the {e['num_errors']} errors are between these two, {percent(e['share'])} of their images. "
        f"{why} If the difference does not matter to you, merge the two classes."
    )


def _little(e: E) -> str:
    reasons = []
    if "median_count" in e:
        reasons.append(f"half of the classes have at most {pluralize(e['median_count'], 'training image')}")
    if "low" in e:
        reasons.append(
            f"the score is known only to lie between {percent(e['low'])} and {percent(e['high'])}, from "
            f"{pluralize(e['num_scored'], 'image')}"
        )
    if "gain_of_doubling" in e:
        reasons.append(f"twice as many images would bring about {_points(e['gain_of_doubling'])}")
    return (
        f"{_upper('; '.join(reasons))}. More labeled images help most, and comparisons of models stay uncertain until "
        "there are more."
    )


def _overfitting(e: E) -> str:
    remedy = (
        "train fewer stages, stop earlier or regularize more"
        if e["is_tuned"]
        else "add more varied images; stronger regularization would not help, since its strength was already chosen on "
        "held-out images"
    )
    gap = round(100 * e["train_score"], 1) - round(100 * e["score"], 1)
    return (
        f"On images it was trained on it scores {percent(e['train_score'])}, on others {_score(e)}: a gap of "
        f"{gap:.1f} points. Remedy: {remedy}."
    )


def _other_images(e: E) -> str:
    text = f"Training images that were left out are predicted at {percent(e['cv_score'])}, test images at {_score(e)}. "
    if e["is_harder"]:
        return text + (
            "They were taken otherwise, or images that belong together (of one person, one day, one film) help each "
            "other inside the training set. Expect the lower figure."
        )
    return text + (
        "Either they are easier or they are related to training images: look for copies (`headstart check`). Expect "
        "the lower figure."
    )


def _labels(e: E) -> str:
    parts = []
    if e["num_conflicts"]:
        parts.append(
            f"{pluralize(e['num_conflicts'], 'image')} {'occurs' if e['num_conflicts'] == 1 else 'occur'} under two "
            "labels"
        )
    if e["num_suspects"]:
        parts.append(f"{pluralize(e['num_suspects'], 'label')} {'looks' if e['num_suspects'] == 1 else 'look'} wrong")
    return f"{_upper(' and '.join(parts))} (listed below). Corrected labels often help more than a different backbone."


def _fine(e: E) -> str:
    nearest = ""
    if e["nearest_neighbor"] is not None:
        nearest = f" and the nearest neighbor (1-NN) {percent(e['nearest_neighbor'])}"
    text = (
        f"It scores {_score(e)}, where always naming the most frequent class gives {percent(e['majority'])}{nearest}."
    )
    if e["train_score"] is not None and e["score"] is not None:
        text += f" On its training images it scores {percent(e['train_score'])}."
    if e["is_checked"]:
        return f"{text} No leak, no shortcut and no class that fails was found."
    return (
        f"{text} No class fails. Copies across the split and shortcuts were not looked for in this run; "
        "`headstart check` does."
    )


def _gain(e: E) -> str:
    span = ""
    if e["low"] is not None and e["high"] is not None:
        span = f" (95 % CI {_points(e['low'])} to {_points(e['high'])})"
    return f"Twice as many images would change the accuracy by about {_points(e['gain'])}{span}."


def _commonest_confusion(e: E) -> str:
    a, b = e["classes"]
    return (
        f"The most frequent confusion is between `{a}` and `{b}` ({pluralize(e['count'], 'image')}): images that show "
        "what distinguishes them help more than images of other classes."
    )


def _fine_tuning(e: E) -> str:
    return f"{_upper(verdict_message(e))}."


def _few_scored(e: E) -> str:
    return (
        f"{pluralize_is(e['num_scored'], 'scored image')} few: a difference of a few points to another run is chance."
    )


Title = Callable[[E], str | None]
Text = Callable[[E], str]


def _titled(title: str, text: Text) -> tuple[Title, Text]:
    return lambda _: title, text


def _plain(text: Text | str) -> tuple[Title, Text]:
    return lambda _: None, (lambda _: text) if isinstance(text, str) else text


_TEXTS: Mapping[ReportKind, tuple[Title, Text]] = {
    ReportKind.CHANCE_LEVEL: _titled("Not better than guessing", _chance),
    ReportKind.FINE: _titled("Nothing stands out", _fine),
    ReportKind.GROUPS_IN_QUESTION: _titled("Groups that may belong together were not applied", _groups),
    ReportKind.IMBALANCE: (_imbalance_title, _imbalance),
    ReportKind.LABELS: _titled("Check some labels", _labels),
    ReportKind.LEAK: _titled("Test images leak from training", _leak),
    ReportKind.NEAR_CHANCE_LEVEL: _titled("Hardly better than guessing", _near_chance),
    ReportKind.OTHER_IMAGES: (
        lambda e: f"The test images are {'harder' if e['is_harder'] else 'easier'} than the training images",
        _other_images,
    ),
    ReportKind.OVERFITTING: _titled("Overfitting", _overfitting),
    ReportKind.SHORTCUT: _titled("The class can be told without looking at the subject", _shortcut),
    ReportKind.TOO_LITTLE_DATA: _titled("Too few images", _little),
    ReportKind.TWO_CONFUSED_CLASSES: (
        lambda e: f"`{e['classes'][0]}` and `{e['classes'][1]}` are confused",
        _pair,
    ),
    ReportKind.UNMEASURED: _titled("The uncertainty of the score cannot be measured", _unmeasured),
    ReportKind.BACKBONE_FROZEN: _plain(
        "The backbone was left as it was (frozen) and only a new head was computed. Whether training some of its "
        "stages would help more was not measured in this run."
    ),
    ReportKind.COMMONEST_CONFUSION: _plain(_commonest_confusion),
    ReportKind.FINE_TUNING_COMPARED: _plain(_fine_tuning),
    ReportKind.GAIN_OF_MORE_IMAGES: _plain(_gain),
    ReportKind.GAIN_NOT_MEASURED: _plain("What more images would bring was not measured in this run."),
    ReportKind.CONFIDENCE_IS_NOT_CORRECTNESS: _plain(
        "A confident prediction is not a correct one: images of none of these classes get a class too."
    ),
    ReportKind.FEW_SCORED_IMAGES: _plain(_few_scored),
    ReportKind.IMAGES_LEFT_OUT_ALONE: _plain(
        "Every image was left out alone. If several show the same thing (one patient, one film, one object), name the "
        "groups with --group-from; otherwise the score is too high."
    ),
    ReportKind.MEAN_OVER_CLASSES: _plain(
        "The score is the mean over classes; in use, where classes differ in frequency, accuracy differs."
    ),
    ReportKind.SAME_ORIGIN_ONLY: _plain(
        "The score holds for images of the same origin as these: another camera, place or season is not covered."
    ),
    ReportKind.VALIDATION_SPLIT_REUSED: _plain(
        "It was measured on your validation split: if you tune settings against it, it is too high."
    ),
    **{kind: _plain(text) for kind, text in SECTION_TEXTS.items()},
    **DETECTION_TEXTS,
}
