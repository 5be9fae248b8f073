"""Test that report and screen state the same protocol of a score."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from headstart.messages.protocols import measured_on
from headstart.reports.record import ClassifierRecord
from headstart.reports.summary import summarize
from headstart.types.codes import (
    RESUBSTITUTION,
    USER_TEST_SPLIT,
    USER_VALIDATION_SPLIT,
    EvaluationProtocol,
    EvaluationSetup,
    SplitSource,
)


@pytest.mark.parametrize(
    ("setup", "name"),
    [
        (EvaluationSetup(EvaluationProtocol.LEAVE_ONE_OUT), "leave-one-out"),
        (EvaluationSetup(EvaluationProtocol.LEAVE_ONE_GROUP_OUT), "leave-one-group-out"),
        (EvaluationSetup(EvaluationProtocol.K_FOLD, num_folds=5), "5-fold cross-validation"),
        (EvaluationSetup(EvaluationProtocol.K_FOLD, num_folds=5, num_folds_used=2), "2 folds scored"),
        (USER_TEST_SPLIT, "test split (yours)"),
        (replace(USER_TEST_SPLIT, includes_leaks=True), "leaks included"),
        (USER_VALIDATION_SPLIT, "validation split (yours), not used for model selection"),
        (replace(USER_VALIDATION_SPLIT, is_used_for_selection=True), "also used for model selection"),
        (
            EvaluationSetup(EvaluationProtocol.TEST_SPLIT, held_out_fraction=0.2, split_source=SplitSource.MADE),
            "test split (20 % held out)",
        ),
        (RESUBSTITUTION, "resubstitution"),
    ],
)
def test_screen_and_report_state_the_protocol(
    setup: EvaluationSetup, name: str, make_facts: Callable[..., ClassifierRecord]
) -> None:
    assert EvaluationSetup.from_json(json.loads(json.dumps({"num_samples": 3, **setup.to_json()}))) == setup
    assert setup.to_json()["protocol"] == setup.protocol.value
    text = measured_on(setup, 1200)
    assert "1,200 images" in text
    assert name in text
    facts = make_facts()
    metrics: dict[str, Any] = {**facts.metrics, "test": None}
    metrics["cv"] = {**facts.headline_block, **setup.to_json(), "num_samples": 1200}
    assert summarize(replace(facts, metrics=metrics))["headline"]["protocol"] == f"Measured on {text}."


def test_only_cross_validation_is_out_of_fold() -> None:
    out_of_fold = {p for p in EvaluationProtocol if p.is_out_of_fold}
    assert {p.value for p in out_of_fold} == {"leave_one_out", "leave_one_group_out", "k_fold"}


def test_unknown_protocol_raises() -> None:
    for block in ({}, {"protocol": "held out 20%"}, {"protocol": None}):
        with pytest.raises(ValueError, match="EvaluationProtocol"):
            EvaluationSetup.from_json(block)
