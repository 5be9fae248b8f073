"""A record survives renames that the map lists, and nothing else: a change, a loss and an addition are all seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_compare import EXACT, Tolerance, compare, flatten, match_place, read_rules, translate, unflatten
from golden_record import clean, collect, to_text

RECORD: dict[str, Any] = {
    "run": {
        "metrics.json": {
            "novelty": {"threshold": 3.7, "ood_fpr": 0.05},
            "cv": {"protocol": "leave-one-out", "log_loss": 0.5, "confusion": [[3, 1], [0, 4]]},
            "test": {"protocol": "given", "log_loss": 0.7},
        },
        "predictions.csv": {"novelty": {"decimals": 3, "column0": [0.25, 1.125]}, "how": {"values": ["leave-one-out"]}},
        "bundle/bundle.json": {"temperature": 1.25},
    }
}


def changed(old: str, new: str) -> dict[str, Any]:
    """Return the record with a text of its JSON replaced."""
    text = json.dumps(RECORD)
    assert old in text
    return dict(json.loads(text.replace(old, new)))


def kinds(now: dict[str, Any], *rules: dict[str, str], tolerance: Tolerance | None = None) -> list[tuple[str, str]]:
    return sorted((d.kind, d.place) for d in compare(RECORD, now, rules, tolerance))


def test_equal_records_do_not_differ() -> None:
    assert kinds(RECORD) == []
    assert kinds(RECORD, tolerance=EXACT) == []


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ('"novelty"', '"ood_score"', {"key": "novelty", "to": "ood_score"}),
        ('"log_loss"', '"nll"', {"key": "log_loss", "to": "nll", "at": "**/metrics.json"}),
        ("predictions.csv", "answers.csv", {"key": "predictions.csv", "to": "answers.csv"}),
        ("bundle/bundle.json", "model/card.json", {"key": "bundle/bundle.json", "to": "model/card.json"}),
        ("leave-one-out", "leave_one_out", {"value": "leave-one-out", "to": "leave_one_out"}),
        ('"threshold"', '"limit"', {"path": "**/novelty/threshold", "to": "**/novelty/limit"}),
        ('"protocol": "given"', '"split": "given"', {"path": "run/*/test/protocol", "to": "run/*/test/split"}),
    ],
)  # fmt: skip
def test_a_rename_needs_its_rule(old: str, new: str, rule: dict[str, str]) -> None:
    now = changed(old, new)
    assert kinds(now)
    assert kinds(now, rule) == []
    assert kinds(RECORD, rule)  # a rule for what was not renamed fails too


def test_a_changed_number_is_seen_through_a_rename() -> None:
    now = changed('"threshold": 3.7', '"limit": 3.71')
    assert kinds(now, {"key": "threshold", "to": "limit"}) == [("changed", "run/metrics.json/novelty/limit")]


def test_a_value_is_renamed_only_where_the_rule_says() -> None:
    rule = {"value": "leave-one-out", "to": "leave_one_out", "at": "**/metrics.json"}
    assert kinds(changed("leave-one-out", "leave_one_out"), rule) == [("changed", "run/predictions.csv/how/values")]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("0.7}", "0.7003}", "run/metrics.json/test/log_loss"),
        ("[3, 1]", "[2, 2]", "run/metrics.json/cv/confusion"),
        ("[3, 1]", "[3.0, 1]", None),
        ("1.125]", "1.1257]", None),  # within the last digit of the column
        ("1.125]", "1.128]", "run/predictions.csv/novelty/column0"),
        ('"given"', '"3-fold"', "run/metrics.json/test/protocol"),
    ],
)
def test_what_counts_as_changed(old: str, new: str, place: str | None) -> None:
    assert kinds(changed(old, new)) == ([("changed", place)] if place else [])


def test_to_the_last_bit() -> None:
    now = changed("0.7}", "0.7000000000000001}")
    assert kinds(now) == []
    assert kinds(now, tolerance=EXACT) == [("changed", "run/metrics.json/test/log_loss")]


def test_a_lost_number_needs_a_reason() -> None:
    now = changed('"log_loss": 0.5, ', "")
    assert kinds(now) == [("missing", "run/metrics.json/cv/log_loss")]
    assert kinds(now, {"removed": "run/*/cv/log_loss", "reason": "test"}) == []


def test_an_addition_needs_to_be_listed() -> None:
    now = changed('"threshold": 3.7', '"threshold": 3.7, "curve": {"x": 1, "y": 2}')
    assert [kind for kind, _ in kinds(now)] == ["new", "new"]
    assert kinds(now, {"added": "**/novelty/curve", "reason": "test"}) == []
    assert len(kinds(now, {"added": "**/curve/x", "reason": "test"})) == 1


def test_rules_apply_in_order_and_names_may_be_exchanged() -> None:
    leaves = flatten({"a": {"x": 1}, "b": {"x": 2}})
    rules = [{"key": "a", "to": "t"}, {"key": "b", "to": "a"}, {"key": "t", "to": "b"}]
    assert unflatten(translate(leaves, rules)) == {"b": {"x": 1}, "a": {"x": 2}}
    with pytest.raises(ValueError, match="one"):
        translate(leaves, [{"key": "a", "to": "b"}])


@pytest.mark.parametrize(
    ("pattern", "place", "found"),
    [
        ("run/*/cv", "run/metrics.json/cv/f1", (["metrics.json"], 3)),
        ("**/cv", "run/metrics.json/cv/f1", (["run/metrics.json"], 3)),
        ("**/cv", "cv", ([""], 1)),
        ("**/f1_*", "a/f1_low", (["a", "low"], 2)),
        ("cv", "run/cv", None),
        ("run/*", "run", None),
    ],
)
def test_places(pattern: str, place: str, found: tuple[list[str], int] | None) -> None:
    assert match_place(pattern.split("/"), place.split("/")) == found


def test_a_rule_of_no_known_form_is_refused(tmp_path: Path) -> None:
    for rule in (
        {"key": "a"},
        {"removed": "a"},
        {"key": "a", "path": "b", "to": "c"},
        {"key": "a", "to": "b", "x": ""},
    ):
        (tmp_path / "map.json").write_text(json.dumps([rule]), encoding="utf-8")
        with pytest.raises(ValueError, match="not a rule"):
            read_rules(tmp_path / "map.json")


def test_what_is_recorded_of_a_json_value() -> None:
    value = {
        "duration_s": 3.0,
        "sentence": "short text",
        "comment": "a text of several words is no value",
        "parity": {"label_agreement": 1.0, "max_difference": 1e-8},
        "nothing": [],
        "value": 0.123456789,
        "per_class": [{"name": "a", "low": None}, {"name": "b"}],
        "is_better": True,
    }
    assert clean(value) == {
        "parity": {"label_agreement": 1.0},
        "value": 0.12346,
        "per_class": {"0": {"name": "a"}, "1": {"name": "b"}},
        "is_better": True,
    }


def test_what_is_recorded_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("file,label,p,n,text\nb.png,x,0.25,3,one two three four\na.png,y,,4,\n", "utf-8")
    np.savez(tmp_path / "b.npz", logits=np.array([[1.5, np.nan], [2.5, 0.0]], np.float32), label=np.array([1, 0]))
    (tmp_path / "environment.json").write_text('{"a": 1}', encoding="utf-8")
    found = collect(tmp_path)
    assert set(found) == {"a.csv", "b.npz"}
    table = found["a.csv"]
    assert set(table) == {"num_rows", "file", "label", "p", "n"}
    assert table["label"] == {"count": 2, "names": table["label"]["names"]}  # all differ: a name, not a value
    assert table["n"] == [4, 3]
    assert (table["p"]["column0"], table["p"]["nan"], table["p"]["decimals"]) == ([0.0, 0.25], 1, 2)
    assert found["b.npz"]["label"] == [1, 0]
    assert found["b.npz"]["logits"]["column1"] == [0.0, 0.0]
    assert json.loads(to_text(found)) == json.loads(json.dumps(found))


def test_long_arrays_are_summarized_and_still_compared(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 1000)
    records = []
    for factor in (1.0, 1.01):
        np.savez(tmp_path / "a.npz", x=values * factor, k=(values * 1000 * factor).astype(int))
        records.append(json.loads(to_text(collect(tmp_path))))
    assert {d.place.split("/")[-1] for d in compare(*records)} == {"mean", "rms", "entries", "sum", "bytes"}
