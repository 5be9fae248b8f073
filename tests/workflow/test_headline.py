"""Words on the screen: plain, glossed in their line, at most twelve lines at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headstart.records import Decision, Estimate, Evaluation, Problem
from headstart.trust.metrics import evaluate
from headstart.types import EvaluationProtocol, EvaluationSetup
from headstart.workflow.headline import closing_lines, decision_line, headline, name_files
from headstart.workflow.judgement import Judgement


def judgement(*, is_imbalanced: bool = False, groups: np.ndarray | None = None, signal: float = 3.0) -> Judgement:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 40)
    logits = rng.normal(size=(120, 3))
    logits[np.arange(120), truth] += signal
    scored: Evaluation = evaluate(
        logits,
        truth,
        ["a", "b", "c"],
        setup=EvaluationSetup(EvaluationProtocol.LEAVE_ONE_OUT),
        is_logits=True,
        groups=groups,
    )
    shares = {"accuracy": 0.4, "balanced_accuracy": 0.33}
    baselines = {"majority": {"class_name": "a", **shares}, "nearest_neighbour": shares}
    return Judgement(scored, scored, None, None, baselines, logits.astype(np.float32), is_imbalanced)


def test_the_headline_says_what_a_layperson_asks() -> None:
    text = headline(judgement())
    assert text.startswith("Right on ")
    assert "of 100 new pictures (95 %: " in text
    assert "always guessing the commonest class: 40" in text
    uneven = headline(judgement(is_imbalanced=True))
    assert "averaged over the classes" in uneven
    assert "commonest class: 33" in uneven


def test_a_hardest_class_is_named_only_where_one_is_hard() -> None:
    lines = closing_lines(judgement(), Path("run"), 1.0)
    assert sum(line.startswith("Hardest class: ") for line in lines) == 1
    assert not any("Hardest" in line for line in closing_lines(judgement(signal=30.0), Path("run"), 1.0))


def test_what_cannot_be_measured_is_said() -> None:
    assert "cannot be measured" in headline(judgement(groups=np.repeat([0, 1, 2], 40)))


def test_at_most_twelve_lines_and_the_next_command() -> None:
    lines = closing_lines(judgement(groups=np.repeat([0, 1, 2], 40)), Path("runs") / "my run", 12.3)
    assert len(lines) <= 12
    assert lines[-1].startswith('Next: headstart predict "')


def test_decisions_in_plain_words() -> None:
    line = decision_line(Decision("head.mixture", {"ridge": 0.5, "lda": 0.5}, "log-loss 0.3"))
    assert "how the ways are mixed (head.mixture): ridge" in line
    assert "{" not in line
    assert decision_line(Decision("group_from", None, "nothing says so")).endswith(": none - nothing says so")


def test_the_first_ten_files_by_name_then_a_count() -> None:
    lines = name_files([Problem(f"{i}.jpg", "empty", "the file is empty") for i in range(1234)])
    assert len(lines) == 11
    assert lines[-1].strip() == "... and 1,224 more"


def test_an_estimate_without_a_value() -> None:
    empty = judgement()
    nothing = Estimate(None, None, None, None, None)
    object.__setattr__(empty.cv, "accuracy", nothing)
    assert "cannot be said" in headline(empty)
