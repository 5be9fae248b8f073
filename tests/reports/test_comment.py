"""Eight constructed results, each of which must name its cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headstart.reports.comment import comment_on, confused_pair, next_steps, not_to_conclude
from headstart.reports.facts import Facts
from headstart.reports.situation import Curve, GroupQuestion, Situation, take_situation
from headstart.reports.squares import find_square
from headstart.types import EvaluationProtocol, EvaluationSetup, GroupStatus


def situation(counts: list[int] | None = None, confusion: Any = None, **changes: Any) -> Situation:
    """A sound result of four classes with 300 training pictures each, changed as asked."""
    matrix = np.full((4, 4), 1) + 93 * np.eye(4, dtype=int) if confusion is None else np.array(confusion)
    values: dict[str, Any] = {
        "score": 0.94,
        "low": 0.91,
        "high": 0.96,
        "train_score": 0.97,
        "majority": 0.25,
        "nearest": 0.85,
        "setup": EvaluationSetup(EvaluationProtocol.LEAVE_ONE_OUT),
        "num_scored": 400,
        "class_names": tuple(f"class {i}" for i in range(len(matrix))),
        "train_counts": tuple(counts or [300] * len(matrix)),
        "confusion": matrix.astype(np.int64),
        "curve": Curve(0.004, 0.0, 0.008),
    }
    return Situation(**(values | changes))


PAIR = [[60, 35, 1, 1], [30, 65, 1, 1], [1, 1, 97, 1], [1, 0, 1, 98]]
SMALL_LOST = [[97, 1, 1, 1], [1, 97, 1, 1], [5, 5, 9, 1], [6, 5, 1, 8]]

SHORTCUT = {"what": "file size", "accuracy": 0.93, "chance": 0.25, "given_class": "class 1", "given_share": 0.8}

CASES = {
    "overfitting": situation(score=0.80, low=0.77, high=0.83, train_score=1.0),
    "too_little_data": situation(counts=[9, 8, 9, 8], score=0.8, low=0.62, high=0.91, train_score=0.95, num_scored=34),
    "imbalance": situation(counts=[900, 800, 90, 80], confusion=SMALL_LOST, score=0.71, low=0.66, high=0.75,
                           train_score=0.75, metric="balanced_accuracy"),
    "leak": situation(num_leaks=8, score=0.90, low=0.84, high=0.94, score_as_given=0.95),
    "shortcut": situation(shortcuts=(SHORTCUT,)),
    "two_confused_classes": situation(confusion=PAIR, score=0.81, low=0.77, high=0.85, train_score=0.86),
    "chance_level": situation(score=0.26, low=0.22, high=0.31, train_score=0.33),
    "groups_in_question": situation(
        group_questions=(GroupQuestion(GroupStatus.QUESTION_SCORE_AT_BASELINE, 8, 0.97, 0.11),)
    ),
    "fine": situation(),
}  # fmt: skip


@pytest.mark.parametrize("cause", CASES)
def test_a_constructed_result_names_its_cause_first(cause: str) -> None:
    remarks = comment_on(CASES[cause])
    assert remarks[0].cause == cause
    assert remarks[0].is_problem == (cause != "fine")
    assert (cause == "fine") == (not any(r.is_problem for r in remarks))


def test_no_other_cause_is_blamed_in_the_plain_cases() -> None:
    for cause in ("overfitting", "leak", "shortcut", "two_confused_classes", "fine"):
        assert [r.cause for r in comment_on(CASES[cause])] == [cause]


def test_chance_level_by_chains_of_copies_names_the_other_score() -> None:
    evidence = {"num_pairs": 87, "accuracy_separate": 1.0, "accuracy_joined": 0.26, "accuracy_baseline": 0.25}
    plain = CASES["chance_level"]
    first = comment_on(replace(plain, copies_at_baseline=evidence))[0]
    assert first.cause == "chance_level"
    assert "87 pairs" in first.text
    assert "87 pairs" not in comment_on(plain)[0].text


def test_numbers_stand_in_the_words() -> None:
    leak = comment_on(CASES["leak"])[0].text
    assert "8 pairs" in leak
    assert "95.0 %" in leak
    shortcut = comment_on(CASES["shortcut"])[0].text
    assert "93.0 %" in shortcut
    assert "80.0 %" in shortcut
    pair = comment_on(CASES["two_confused_classes"])[0]
    assert "class 0" in pair.title
    assert "class 1" in pair.title
    assert "65 of the 74 errors" in pair.text


def test_fine_claims_only_what_was_looked_for() -> None:
    assert "No leak" in comment_on(CASES["fine"])[0].text
    unseen = comment_on(situation(has_health=False))[0]
    assert unseen.cause == "fine"
    assert "not looked for" in unseen.text


def test_pairs_confused_one_way_are_told_apart_from_both_ways() -> None:
    one_way = [[60, 38, 1, 1], [1, 97, 1, 1], [1, 1, 97, 1], [1, 0, 1, 98]]
    assert "Mostly `class 0` is taken for `class 1`" in comment_on(situation(confusion=one_way))[0].text
    assert "both directions" in comment_on(CASES["two_confused_classes"])[0].text


def test_harder_test_pictures_are_named() -> None:
    s = situation(score=0.7, low=0.66, high=0.74, train_score=0.75, cv_score=0.9, cv_low=0.88, cv_high=0.92)
    assert "other_images" in [r.cause for r in comment_on(s)]


def test_what_cannot_be_measured_is_said() -> None:
    s = situation(low=None, high=None, curve=None)
    assert comment_on(s)[0].cause == "unmeasured"
    assert "not measured" in next_steps(s)[0]
    assert find_square(s)["similarity"] is None
    assert find_square(s)["advice"] is None


def test_gravest_first_where_several_apply() -> None:
    s = situation(num_leaks=2, score=0.26, low=0.22, high=0.31, train_score=0.9)
    assert [r.cause for r in comment_on(s)] == ["leak", "chance_level", "overfitting"]


def test_unequal_classes_without_harm_are_no_problem() -> None:
    s = situation(counts=[900, 800, 90, 80])
    assert [(r.cause, r.is_problem) for r in comment_on(s)] == [("fine", False), ("imbalance", False)]


@pytest.mark.parametrize(
    ("losses", "counts", "size", "similarity"),
    [
        ((0.40, 0.38), [100] * 4, "small", "similar"),
        ((0.40, 0.20), [100] * 4, "small", "different"),
        ((0.40, 0.38), [900] * 4, "large", "similar"),
        ((0.40, 0.20), [900] * 4, "large", "different"),
    ],
)
def test_the_four_squares_by_measurement(
    losses: tuple[float, float], counts: list[int], size: str, similarity: str
) -> None:
    square = find_square(situation(counts=counts, block_losses=losses, curve=None))
    assert (square["size"], square["similarity"]) == (size, similarity)
    assert square["advice"]


def test_a_flat_learning_curve_says_large_whatever_the_count() -> None:
    assert find_square(situation(counts=[50] * 4, curve=Curve(0.002, -0.002, 0.006)))["size"] == "large"
    assert find_square(situation(counts=[5000] * 4, curve=Curve(0.03, 0.02, 0.04)))["size"] == "small"


def test_leave_one_out_without_groups_warns_of_related_pictures() -> None:
    assert any("--group-from" in t for t in not_to_conclude(situation()))
    assert not any("--group-from" in t for t in not_to_conclude(situation(has_groups=True)))


def test_the_most_confused_pair_counts_both_directions() -> None:
    assert confused_pair(CASES["two_confused_classes"])[:3] == (0, 1, 65)  # type: ignore[index]
    assert confused_pair(situation(confusion=np.diag([5, 5, 5]))) is None


def test_the_losses_of_block_sets_are_read_from_the_evidence_not_from_the_reason(
    make_facts: Callable[..., Facts],
) -> None:
    evidence = {
        "log_loss": {"all_stages": 0.31, "all_stages_earlier_half": 0.29, "last_stage": 0.4},
        "num_compared": 60,
    }
    row = {"value": "all stages", "source": "auto", "reason": "blocks_compared", "evidence": evidence}
    facts = replace(make_facts(), settings={"head.blocks": row})
    assert take_situation(facts).block_losses == (0.4, 0.29)
    without = {**row, "text": "embedding only 0.4000, all stages 0.2000", "evidence": {}}
    assert take_situation(replace(facts, settings={"head.blocks": without})).block_losses is None
