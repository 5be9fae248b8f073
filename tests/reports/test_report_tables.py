"""Test text tables: classification report as in scikit-learn, escaped cells, network table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest

from headstart.reports.html import render_text
from headstart.reports.record import ClassifierRecord
from headstart.reports.summary import summarize
from headstart.reports.tables import classification_csv, classification_text


@pytest.mark.parametrize("names", [("cat", "dog", "owl"), ("a", "b"), ("a very long class name indeed", "b", "c", "d")])
def test_classification_report_matches_scikit_learn(
    make_facts: Callable[..., ClassifierRecord], names: tuple[str, ...]
) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    facts = make_facts(names)
    at = facts.scored.split == "test"
    expected = metrics.classification_report(
        facts.scored.class_ids[at], facts.scored.predicted[at], target_names=list(names), zero_division=0
    )
    assert classification_text(summarize(facts)) == expected


def test_formula_cells_are_escaped(make_facts: Callable[..., ClassifierRecord]) -> None:
    rows = list(csv.reader(io.StringIO(classification_csv(summarize(make_facts(("=1+1", "@x", "plain")))))))
    assert [row[0] for row in rows[1:4]] == ["'=1+1", "'@x", "plain"]
    assert all(len(row) == len(rows[0]) for row in rows)
    low, value, high = float(rows[1][2]), float(rows[1][1]), float(rows[1][3])
    assert low <= value <= high


def test_comment_escapes_names(make_facts: Callable[..., ClassifierRecord]) -> None:
    text = render_text("comment.md", summarize(make_facts(("<script>", "a|b", "c"), skill=0.5)))
    assert "<script>" not in text
    assert "pretraining data" in text


def test_network_table_totals(make_facts: Callable[..., ClassifierRecord]) -> None:
    report = summarize(make_facts())
    model = report["model"]
    assert model["num_params"] == 8 * 3 * 9 + 64 + 3 * 8 + 3
    assert model["num_trained"] == 27
    text = render_text("summary.txt", report)
    assert "stage1" in text
    assert f"{model['num_params']:,} in total" in text
