"""The comment on the result, in words made from its numbers.

The one decision: every remark names one cause and the numbers that speak for it, the gravest first; what
was not measured is said to be so, never guessed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from headstart.messages.numbers import percent, pluralize, pluralize_is, signed_points
from headstart.messages.shortcuts import shortcut_message
from headstart.reports.situation import Situation
from headstart.types import EvaluationProtocol, GroupStatus, SplitSource

__all__ = ["Cause", "Remark", "comment_on", "comment_to_json", "confused_pair", "next_steps", "not_to_conclude"]

Cause = Literal[
    "leak",
    "chance_level",
    "groups_in_question",
    "shortcut",
    "imbalance",
    "two_confused_classes",
    "too_little_data",
    "overfitting",
    "other_images",
    "labels",
    "unmeasured",
    "fine",
]

_GAP = 0.08  # training score above the upper end of the held-out interval by so much is called overfitting
_FEW = 25  # pictures a class (median) under which a class is too small to be learnt and measured well
_WIDE = 0.20  # an interval wider than this hardly tells a good model from a poor one
_STEEP = 0.015  # points a doubling of the pictures must bring at its lower end to be worth collecting
_SKEW = 3.0  # largest class over smallest
_LOST = 0.15  # how much lower the small classes' recall lies before the imbalance is blamed
_PAIR = 0.12  # share of two classes' pictures that are taken for one another
_PAIR_SHARE = 0.35  # ... and of all errors that this pair makes


_OPEN_QUESTIONS = (GroupStatus.QUESTION_TOO_FEW_GROUPS, GroupStatus.QUESTION_SCORE_AT_BASELINE)


@dataclass(frozen=True)
class Remark:
    """One thing to know about a result.

    Attributes:
        cause: What it is about; stable, tests and programs may rely on it.
        is_problem: Whether something stands in the way, or merely should be known.
        title: A few words.
        text: The numbers and what they mean.
    """

    cause: Cause
    is_problem: bool
    title: str
    text: str


def comment_on(s: Situation) -> list[Remark]:
    """Remarks on a result, the gravest first; exactly one, `fine`, where nothing stands in the way."""
    found = [
        remark
        for remark in (
            _unmeasured(s),
            _leak(s),
            _chance(s),
            _groups(s),
            _shortcut(s),
            _imbalance(s),
            _pair(s),
            _little(s),
            _overfit(s),
            _shift(s),
            _labels(s),
        )
        if remark is not None
    ]
    found.sort(key=lambda r: not r.is_problem)  # stable: the order above is that of gravity
    if found and found[0].is_problem:
        return found
    return [_fine(s), *found]


def _unmeasured(s: Situation) -> Remark | None:
    if s.score is not None and s.low is not None:
        return None
    return Remark(
        "unmeasured",
        True,
        "How sure the score is cannot be measured",
        "The pictures fall into too few independent groups, or there are too few of them, for an interval to be "
        "given. Treat the score as an anecdote.",
    )


def _leak(s: Situation) -> Remark | None:
    if not s.num_leaks:
        return None
    text = (
        f"{pluralize(s.num_leaks, 'pair')} of the same or nearly the same image on both sides of the split: the model "
        "has seen what the test asks for."
    )
    if s.score is not None and s.score_as_given is not None:
        without, with_them = percent(s.score), percent(s.score_as_given)
        if without == with_them:
            text += f" The score is {without} with and without the leaking images."
        else:
            text += f" Without the leaking images the score is {without}, with them {with_them}."
    else:
        text += " The score is too good by an unknown amount; `headstart check --repair` makes a split without them."
    return Remark("leak", True, "Test pictures leaked from training", text)


def _chance(s: Situation) -> Remark | None:
    if s.score is None or s.low is None or s.low > s.majority + 0.01:
        return None
    return Remark(
        "chance_level",
        True,
        "Not better than guessing",
        f"The score, {_interval(s)}, cannot be told from always naming the commonest class ({percent(s.majority)}). "
        "Either the labels do not depend on what the pictures show, the difference is too small to be seen at this "
        "size, or the pictures are too unlike the photographs that the network learnt from. Look at the samples: "
        "could you tell the classes apart?" + _chains(s),
    )


def _chains(s: Situation) -> str:
    """What chains of copies have to do with it, or nothing."""
    if s.copies_at_baseline is None:
        return ""
    return (
        f" Chains of near-duplicates ({pluralize(s.copies_at_baseline['num_pairs'], 'pair')}) are left out whole; with "
        f"every image left out alone accuracy is {percent(s.copies_at_baseline['accuracy_separate'])} "
        "(--group-from image)."
    )


def _groups(s: Situation) -> Remark | None:
    """Ask about guessed groups that were not applied; a problem where they look real and change the score."""
    if not s.group_questions:
        return None
    open_ones = [q for q in s.group_questions if q.status in _OPEN_QUESTIONS]
    parts = []
    for q in open_ones or s.group_questions:
        effect = ""
        if q.accuracy_independent is not None and q.accuracy_grouped is not None:
            effect = (
                f", accuracy {percent(q.accuracy_independent)} without them and {percent(q.accuracy_grouped)} with "
                "whole groups left out"
            )
        parts.append(f"{pluralize(q.num_groups, 'group')} ({q.status.value}){effect}")
    return Remark(
        "groups_in_question",
        bool(open_ones),
        "Groups that may belong together were not applied",
        f"Guessed from names, columns or capture times: {'; '.join(parts)}. If images of one group show the same "
        "object, the score is too high: apply the groups with --group-from as `headstart check` shows. If not, "
        "--group-from none.",
    )


def _shortcut(s: Situation) -> Remark | None:
    if not s.shortcuts:
        return None
    text = shortcut_message(max(s.shortcuts, key=lambda row: float(row["accuracy"])))
    return Remark(
        "shortcut",
        True,
        "The class can be told without looking at the subject",
        f"{text[0].upper()}{text[1:]}. The model may have learned that instead of the subject, and would then fail on "
        "images taken otherwise. Take images of all classes in the same way, or crop what gives them away.",
    )


def _imbalance(s: Situation) -> Remark | None:
    counts = np.array(s.train_counts)
    support = s.confusion.sum(axis=1)
    if len(counts) < 2 or counts.min() == 0 or counts.max() <= _SKEW * counts.min():
        return None
    recall = np.divide(np.diag(s.confusion), support, where=support > 0, out=np.full(len(counts), np.nan))
    is_small = counts <= counts.max() / _SKEW
    small, large = recall[is_small & (support > 0)], recall[~is_small & (support > 0)]
    biggest, smallest = int(counts.argmax()), int(counts.argmin())
    facts = (
        f"`{s.class_names[biggest]}` has {pluralize(int(counts[biggest]), 'training image')}, "
        f"`{s.class_names[smallest]}` {counts[smallest]:,}."
    )
    if not len(small) or not len(large):
        return None
    of_small, of_large = percent(float(small.mean())), percent(float(large.mean()))
    if large.mean() - small.mean() < _LOST:
        how = (
            "as often as"
            if of_small == of_large
            else "more often than"
            if small.mean() > large.mean()
            else "nearly as often as"
        )
        return Remark(
            "imbalance",
            False,
            "Unequal classes, without visible harm",
            f"{facts} The small classes are found {how} the large ones ({of_small} against {of_large}).",
        )
    return Remark(
        "imbalance",
        True,
        "Small classes suffer",
        f"{facts} Of the small classes {of_small} of the images are found, of the large ones {of_large}. More images "
        "of the small classes would help most; `--class-weights auto` trades errors of the large classes for fewer of "
        "the small ones. Do not quote plain accuracy: it is carried by "
        "the large classes.",
    )


def confused_pair(s: Situation) -> tuple[int, int, int, float] | None:
    """The two classes taken for one another most often: (class, class, pictures, share of their pictures)."""
    both = s.confusion + s.confusion.T
    both[np.diag_indices_from(both)] = 0
    if both.size == 0 or both.max() == 0:
        return None
    a, b = (int(i) for i in np.unravel_index(both.argmax(), both.shape))
    support = s.confusion.sum(axis=1)
    return min(a, b), max(a, b), int(both[a, b]), float(both[a, b] / max(1, support[a] + support[b]))


def _pair(s: Situation) -> Remark | None:
    pair = confused_pair(s)
    if pair is None or len(s.class_names) < 3:
        return None
    a, b, num_pair, share = pair
    errors = int(s.confusion.sum() - np.trace(s.confusion))
    name_a, name_b = s.class_names[a], s.class_names[b]
    there, back = int(s.confusion[a, b]), int(s.confusion[b, a])
    if num_pair < 5 or share < _PAIR or num_pair < _PAIR_SHARE * errors:
        return None
    if min(there, back) >= 0.3 * max(there, back):
        why = (
            "They are confused in both directions, as classes are that look alike or whose labels overlap: "
            "look at the pictures of these two cells and ask whether two people would label them alike."
        )
    else:
        source, target = (name_a, name_b) if there > back else (name_b, name_a)
        why = (
            f"Mostly `{source}` is taken for `{target}`, as happens where some of its pictures show both, or "
            f"where `{target}` has more variety or more pictures."
        )
    return Remark(
        "two_confused_classes",
        True,
        f"`{name_a}` and `{name_b}` are confused",
        f"{num_pair} of the {errors} errors are between these two, {percent(share)} of their images. {why} "
        "If the difference does not matter to you, joining them is the cheapest gain.",
    )


def _little(s: Situation) -> Remark | None:
    counts = [n for n in s.train_counts if n]
    median = float(np.median(counts)) if counts else 0.0
    reasons = []
    if median < _FEW:
        reasons.append(f"half of the classes have at most {pluralize(int(median), 'training image')}")
    if s.low is not None and s.high is not None and s.high - s.low > _WIDE:
        reasons.append(
            f"the score is known only to lie between {percent(s.low)} and {percent(s.high)}, from "
            f"{pluralize(s.num_scored, 'image')}"
        )
    if s.curve is not None and s.curve.low is not None and s.curve.low >= _STEEP:
        reasons.append(f"twice as many pictures would bring about {_points(s.curve.gain)}")
    if not reasons:
        return None
    text = "; ".join(reasons)
    return Remark(
        "too_little_data",
        True,
        "Too few pictures",
        f"{text[0].upper()}{text[1:]}. More labelled pictures are the surest way on, and every other comparison is "
        "blurred until there are more.",
    )


def _overfit(s: Situation) -> Remark | None:
    if s.train_score is None or s.score is None or s.high is None or s.train_score - s.high < _GAP:
        return None
    remedy = (
        "train fewer stages, stop earlier or regularise more"
        if s.is_tuned
        else "more variety in the pictures would close the gap; more regularisation would not, since its strength was "
        "already chosen where pictures left out of training fare best"
    )
    return Remark(
        "overfitting",
        True,
        "It knows its training pictures better than new ones",
        f"On pictures it was trained on it scores {percent(s.train_score)}, on others {_interval(s)}: a gap of "
        f"{round(100 * s.train_score, 1) - round(100 * s.score, 1):.1f} points, called overfitting. Remedy: {remedy}.",
    )


def _shift(s: Situation) -> Remark | None:
    if s.cv_low is None or s.cv_score is None or s.high is None or s.score is None or s.low is None:
        return None
    if s.high < s.cv_low:
        return Remark(
            "other_images",
            True,
            "The test pictures are harder than the training pictures",
            f"Left out of training one at a time, training pictures are predicted at {percent(s.cv_score)}; the test "
            f"pictures at {_interval(s)}. They were taken otherwise, or pictures that belong together (of one person, "
            "one day, one film) help each other inside the training set. Expect the lower figure.",
        )
    if s.cv_high is not None and s.low > s.cv_high:
        return Remark(
            "other_images",
            True,
            "The test pictures are easier than the training pictures",
            f"Training pictures that were left out are predicted at {percent(s.cv_score)}, the test pictures at "
            f"{_interval(s)}. Either they are easier or they are related to training pictures: look for copies "
            "(`headstart check`). Expect the lower figure.",
        )
    return None


def _labels(s: Situation) -> Remark | None:
    if not s.num_conflicts and not s.num_suspects:
        return None
    parts = []
    if s.num_conflicts:
        parts.append(
            f"{pluralize(s.num_conflicts, 'image')} {'occurs' if s.num_conflicts == 1 else 'occur'} under two labels"
        )
    if s.num_suspects:
        parts.append(f"{pluralize(s.num_suspects, 'label')} {'looks' if s.num_suspects == 1 else 'look'} wrong")
    text = " and ".join(parts)
    return Remark(
        "labels",
        False,
        "Some labels deserve a look",
        f"{text[0].upper()}{text[1:]} (listed below). Labels set right often help more than another network.",
    )


def _fine(s: Situation) -> Remark:
    nearest = f" and copying the most similar known picture {percent(s.nearest)}" if s.nearest is not None else ""
    gap = ""
    if s.train_score is not None and s.score is not None:
        gap = (
            f" On its training pictures it scores {percent(s.train_score)}, so what it learnt carries over to "
            "pictures it has not seen."
        )
    return Remark(
        "fine",
        False,
        "Nothing stands out",
        f"It scores {_interval(s)}, where guessing the commonest class gives {percent(s.majority)}{nearest}.{gap} "
        + (
            "No leak, no shortcut and no class that fails was found."
            if s.has_health
            else "No class fails. Copies across the split and shortcuts were not looked for in this run; "
            "`headstart check` does."
        ),
    )


def next_steps(s: Situation) -> list[str]:
    """What would help more, as far as it was measured."""
    steps = []
    if s.curve is None:
        steps.append("What more pictures would bring was not measured in this run.")
    else:
        span = "" if s.curve.low is None or s.curve.high is None else (
            f" (95 %: {_points(s.curve.low)} to {_points(s.curve.high)})"
        )  # fmt: skip
        steps.append(f"Twice as many pictures would change the accuracy by about {_points(s.curve.gain)}{span}.")
    pair = confused_pair(s)
    if pair is not None and pair[2] >= 3:
        a, b, num_pair, _ = pair
        steps.append(
            f"The commonest confusion is between `{s.class_names[a]}` and `{s.class_names[b]}` "
            f"({pluralize(num_pair, 'image')}): images that show what parts them help more than images of other "
            "classes."
        )
    if s.tuning_sentence:
        steps.append(f"{s.tuning_sentence[0].upper()}{s.tuning_sentence[1:]}.")
    elif not s.is_tuned:
        steps.append(
            "The network itself was left as it was (frozen) and only a new head was computed. Whether training some of "
            "its stages would help more was not measured in this run."
        )
    return steps


def not_to_conclude(s: Situation) -> list[str]:
    """What the numbers do not say."""
    say = ["The score holds for pictures of the same origin as these: another camera, place or season is not covered."]
    if s.setup.protocol is EvaluationProtocol.LEAVE_ONE_OUT and not s.has_groups:
        say.append(
            "Every picture was left out alone. If several show the same thing (one patient, one film, one object), "
            "name what belongs together with --group-from; else the score is too good."
        )
    if s.setup.protocol is EvaluationProtocol.VALIDATION_SPLIT and s.setup.split_source is SplitSource.USER:
        say.append("It was measured on your validation folder: if you tune settings against it, it flatters.")
    if 0 < s.num_scored < 100:
        say.append(
            f"{pluralize_is(s.num_scored, 'scored image')} few: a difference of a few points to another run is chance."
        )
    if s.metric == "balanced_accuracy":
        say.append(
            "The score is the mean over classes; in use, where classes come in their own shares, the share of right "
            "answers differs."
        )
    say.append("A confident answer is not a right one: pictures of none of these classes get a class too.")
    return say


def comment_to_json(s: Situation) -> dict[str, Any]:
    """The `comment` section of `report.json`."""
    return {
        "remarks": [asdict(r) for r in comment_on(s)],
        "next": next_steps(s),
        "not_to_conclude": not_to_conclude(s),
    }


def _points(share: float) -> str:
    return f"{signed_points(share)} points"


def _interval(s: Situation) -> str:
    if s.score is None:
        return "a score that cannot be measured"
    if s.low is None or s.high is None:
        return percent(s.score)
    return f"{percent(s.score)} (95 %: {100 * s.low:.1f} to {100 * s.high:.1f})"
