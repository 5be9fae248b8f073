"""The report says of a score what the screen says: what it was measured on, and whether that also chose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headstart.reports.facts import Facts
from headstart.reports.summary import summarise
from headstart.workflow.headline import how_measured
from headstart.workflow.judgement import Judgement


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("leave-one-out", "each of 1,200 pictures was predicted by a model that had not seen it"),
        ("leave-one-group-out", "each of 1,200 pictures was predicted by a model that had seen nothing of its group"),
        ("5-fold", "each of 1,200 pictures was predicted by a model that had not seen it (5-fold)"),
        ("given", "1,200 pictures of your own test folder, used once"),
        ("val", "1,200 pictures of your validation folder, used for no choice"),
        ("given validation", "1,200 pictures of your validation folder, which also chose between the models"),
        ("held out 20%", "1,200 pictures, held out 20%, used once"),
    ],
)
def test_screen_and_report_say_what_was_scored(protocol: str, words: str, make_facts: Callable[..., Facts]) -> None:
    scored = SimpleNamespace(protocol=protocol, num_samples=1200)
    assert how_measured(cast("Judgement", SimpleNamespace(headline=scored))) == f"Measured on: {words}."
    facts = make_facts()
    metrics: dict[str, Any] = {**facts.metrics, "test": None}
    metrics["cv"] = {**facts.headline_block, "protocol": protocol, "num_samples": 1200}
    told = summarise(replace(facts, metrics=metrics))["headline"]["how"]
    assert told.startswith(f"Measured on {words}")
