"""Test that every decision reason has a message, rendered from its evidence."""

from __future__ import annotations

import json

import pytest
from decision_checks import EXAMPLES

from headstart.messages.decisions import REASONS, decision_message, reason_message
from headstart.messages.decisions_training import verdict_message
from headstart.types.codes import DecisionReason
from headstart.types.records import Decision
from headstart.utils.serialization import plain

LONG = {
    DecisionReason.NO_PILOT_GAIN, DecisionReason.PILOTS_COMPARED, DecisionReason.TUNED_COMPARED_WITH_PROBE,
    DecisionReason.PHASES_FIT_CACHE, DecisionReason.PHASES_TOO_LARGE, DecisionReason.BLOCKS_COMPARED_ON_SUBSET,
    DecisionReason.GROUPS_SUPPORTED_BY_IMAGES, DecisionReason.GROUPS_NAMED_BY_COLUMN,
}  # fmt: skip
"""Reasons that name several candidates or both scores."""


def test_every_reason_has_a_message_and_an_example() -> None:
    assert set(REASONS) == set(EXAMPLES) == set(DecisionReason)


@pytest.mark.parametrize("reason", DecisionReason)
def test_reason_is_rendered_from_evidence(reason: DecisionReason) -> None:
    text = reason_message(Decision("x", 1, reason, evidence=json.loads(json.dumps(plain(EXAMPLES[reason])))))
    assert text == text.strip()
    assert not text.endswith(".")
    assert "\n" not in text
    assert len(text) <= (150 if reason in LONG else 100)


def test_value_and_reason_share_one_line() -> None:
    penalty = Decision(
        "probe.ridge_penalty",
        1.0e-3,
        DecisionReason.PENALTIES_COMPARED,
        evidence=EXAMPLES[DecisionReason.PENALTIES_COMPARED],
    )
    assert (
        decision_message(penalty) == "probe.ridge_penalty = 0.001: leave-one-out log-loss 0.0197, "
        "lowest of 18 penalties"
    )
    mixture = Decision("probe.mixture", {"ridge": 0.25, "lda": 0.75}, DecisionReason.SET_BY_USER)
    assert decision_message(mixture) == "probe.mixture = ridge 0.25, lda 0.75: set by the user"
    for value, shown in ((None, "none"), (True, "yes"), ([0.0, 4095.0], "0, 4095"), ([], "none"), ("pad", "pad")):
        assert decision_message(Decision("x", value, DecisionReason.SET_BY_USER)) == f"x = {shown}: set by the user"


@pytest.mark.parametrize(
    ("is_better", "is_worse", "end"),
    [
        (True, False, "better with 80 % confidence"),
        (False, True, "worse with 80 % confidence"),
        (False, False, "no clear difference"),
    ],
)
def test_verdict_states_whether_finetuning_is_better(is_better: bool, is_worse: bool, end: str) -> None:
    evidence = EXAMPLES[DecisionReason.TUNED_COMPARED_WITH_PROBE]
    text = verdict_message({**evidence, "is_better": is_better, "is_worse": is_worse})
    assert text.endswith(end)
    assert "+1.5 points (SE 1.0)" in text
