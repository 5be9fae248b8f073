"""Test the numbers of rendered scores."""

from __future__ import annotations

import re

from headstart.messages.scores import binary_message, score_lines, score_message

PLAIN = {
    "metric": "accuracy",
    "value": 0.9261,
    "low": 0.912,
    "high": 0.938,
    "protocol": "leave_one_out",
    "correct": 1278,
    "total": 1380,
    "accuracy": {"value": 0.9261, "low": 0.912, "high": 0.938},
    "balanced_accuracy": {"value": 0.91, "low": 0.89, "high": 0.93},
    "majority": 0.356,
    "nearest_neighbor": 0.83,
    "hardest_class": {"name": "skirt", "recall": 0.5},
}


def numbers(text: str) -> list[str]:
    return re.findall(r"\d[\d,.]*\d|\d", text)


def test_accuracy_states_fraction_interval_and_counts() -> None:
    assert numbers(score_message(PLAIN)) == ["92.6", "95", "91", "94", "1,278", "1,380"]


def test_skewed_classes_state_both_accuracies() -> None:
    skewed = {**PLAIN, "metric": "balanced_accuracy", "value": 0.886, "low": 0.85, "high": 0.92,
              "protocol": "test_split", "is_users_split": True}  # fmt: skip
    text = score_message(skewed)
    assert text.index("balanced accuracy 88.6 %") < text.index("accuracy 92.6 %")
    assert "1,278/1,380" in text
    assert score_lines(skewed)[0][0] == "Test"


def test_baselines_and_hardest_class_share_one_line() -> None:
    lines = score_lines(PLAIN)
    assert len(lines) == 2
    assert numbers(lines[1][1]) == ["35.6", "1", "83.0", "50.0"]


def test_binary_score_has_auc_sensitivity_and_specificity() -> None:
    two = {
        **PLAIN,
        "positive": "defect",
        "roc_auc": {"value": 0.953, "low": 0.93, "high": 0.97},
        "sensitivity": {"value": 0.9, "low": 0.78, "high": 0.97},
        "specificity": {"value": 0.95, "low": None, "high": None},
    }
    lines = score_lines(two)
    assert numbers(lines[1][1]) == ["0.953", "95", "0.93", "0.97"]
    assert "`defect`" in lines[1][1]
    assert numbers(lines[2][1]) == ["90.0", "78", "97", "95.0"]
    assert numbers(lines[3][1]) == ["35.6", "1", "83.0"]


def test_undefined_binary_scores_have_no_numbers() -> None:
    none = {"value": None, "low": None, "high": None}
    text = binary_message({"roc_auc": none, "sensitivity": none, "specificity": {**none, "value": 0.5}})
    assert numbers(text) == ["50.0"]


def test_unmeasurable_score_has_no_numbers() -> None:
    assert not re.search(r"nan|None", score_message({**PLAIN, "value": None}))
    assert numbers(score_message({**PLAIN, "low": None, "high": None}))[1:] == ["1,278", "1,380"]


def test_every_line_fits_the_screen() -> None:
    long = {**PLAIN, "hardest_class": {"name": "x" * 80, "recall": 0.1}, "leaky": {"value": 0.97, "num_leaks": 9},
            "correct": 99999, "total": 100000}  # fmt: skip
    assert all(len(text) <= 90 for _, text in score_lines(long))
    best, share = {"value": 1.0, "low": 0.994, "high": 1.0}, {"value": 1.0, "low": 0.95, "high": 1.0}
    two = {**long, "positive": "x" * 80, "roc_auc": best, "sensitivity": share, "specificity": share}
    assert all(len(text) <= 90 for _, text in score_lines(two))


def test_fully_leaking_split_is_reported() -> None:
    boxes = {"metric": "map50", "value": 0.7, "protocol": "test_split", "num_images": 5, "num_boxes": 9}
    assert len(score_lines(boxes)) == 1
    assert len(score_lines({**boxes, "is_leaky": True})) == 2


def test_detector_score_including_leaks_is_shown() -> None:
    boxes = {"metric": "map50", "value": 0.5, "low": 0.4, "high": 0.6, "protocol": "test_split", "num_boxes": 9,
             "num_images": 40, "leaky": {"value": 0.7, "low": None, "high": None, "num_leaks": 3}}  # fmt: skip
    assert numbers(score_lines(boxes)[-1][1]) == ["70.0", "3"]


def test_score_of_another_task_keeps_its_unit() -> None:
    score = {"metric": "mae", "value": 3.21, "low": 2.9, "high": 3.5, "protocol": "leave_one_out", "num_images": 40}
    assert score_lines(score) == [("Score", "mae 3.21 (95 % CI 2.9 to 3.5), leave-one-out: 40 images")]
