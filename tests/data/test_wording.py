"""A judgement in words: the worst first, a line for every kind of finding, no harm from odd names."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from headstart.data.wording import doctor_lines, health_to_json, one_line
from headstart.records import Decision, GroupPattern, Health, PicturePair, Problem, Remark, Shortcut
from headstart.types import Finding, FindingKind, GroupStatus, Severity

ODD = "a/\n\x1b[31m<script>\u202e`'\" \\xff.jpg"


def pair(
    a: str,
    b: str,
    kind: str = "near",
    splits: tuple[str, str] | None = None,
    labels: tuple[str, str] = ("x", "x"),
    k: int = 0,
) -> PicturePair:
    split_a, split_b = splits or (None, None)
    return PicturePair(a, b, kind, 0.99, split_a, split_b, *labels, 2 * k, 2 * k + 1)


def pattern(**more: object) -> GroupPattern:
    values: dict[str, object] = {
        "pattern": "^(.*?)_", "meaning": "part 1 of the name (`7` in `7_1.jpg`)", "num_groups": 28,
        "p_value": 0.001, "nearness": 0.2, "accuracy_independent": 0.91, "accuracy_grouped": 0.78,
        "status": GroupStatus.APPLIED,
    }  # fmt: skip
    return GroupPattern(**(values | more))  # type: ignore[arg-type]


HEALTHY = Health(10, "class folders", {"x": {"none": 10}}, {"JPEG": 10})
ILL = replace(
    HEALTHY,
    classes={"x": {"train": 6, "val": 2, "test": 2}},
    unreadable=(
        *(Problem(f"x/{i}.jpg", "empty", "the file is empty") for i in range(5)),
        Problem("y", "text", "words"),
    ),
    remarks=(Remark("rotated", 4, "turned upright", ("x/r.jpg",)),),
    duplicates=(pair("d1", "d2", "bytes"), pair("d3", "d4", "pixels")),
    near_duplicates=(pair("n1", "n2"), pair("m1", "m2", "mirrored"), pair("c1", "c2", "cropped")),
    leaks=(pair("l1", "l2", splits=("train", "test")), pair("v1", "v2", splits=("train", "val"), k=1)),
    label_conflicts=(pair("k1", "k2", labels=("cat", "dog")),),
    group_patterns=(
        pattern(),
        pattern(pattern="visit", status=GroupStatus.ALTERNATIVE, num_groups=60),
        pattern(pattern="^(.)", status=GroupStatus.REJECTED_NO_SIMILARITY, p_value=0.6, meaning="part 2"),
    ),
    shortcuts=(Shortcut("camera", 0.9, 0.33, "x", 0.6, ("x",), ("s1", "s2")),),
    seen_share={"crop": 0.4, "cover": 0.5, "squash": 1.0, "pad": 1.0},
    value_range=(0, 4095),
    decisions=(Decision("pixels.value_range", [0, 4095], "12 bits"), Decision("copies.bar", 2.1, "details")),
    findings=(
        Finding(
            FindingKind.CLASS_TOO_SMALL, Severity.WARNING, {"class": "y", "count": 2, "minimum": 10, "unit": "images"}
        ),
    ),
    is_dishonest=True,
)
ORDER = (
    "Leak:", "Leak:", "One picture, two labels:", "Left out:", "Left out:", "Warning:", "Belong together:",
    "May belong together:", "Rejected:", "Copies:", "Copies:", "Copies:", "Copies:", "Copies:", "Shortcut?", "Handled:",
    "Chosen:", "Seen:",
)  # fmt: skip


def test_the_worst_comes_first_and_everything_has_a_line() -> None:
    lines = doctor_lines(ILL)
    assert [next((o for o in ORDER if line.startswith(o)), line) for line in lines] == list(ORDER)


def test_a_healthy_set_gets_one_line_and_none_while_training() -> None:
    (line,) = doctor_lines(HEALTHY)
    assert "Nothing wrong" in line
    assert doctor_lines(HEALTHY, is_training=True) == []


def test_while_training_only_what_training_does_not_say_itself() -> None:
    lines = doctor_lines(ILL, is_training=True)
    starts = [line.split(":")[0] for line in lines]
    assert "Left out" not in starts
    assert "Chosen" not in starts
    assert not any("Belong together" in s and "28 groups" in s for s in lines)
    assert any(line.startswith("Leak:") for line in lines)
    assert any(line.startswith("May belong together:") for line in lines)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("Leak: 1 test", "also in train (`l1` = `l2`)"),
        ("Leak: 1 test", "without them, and beside it the score as given"),
        ("Leak: 1 val", "also in train (`v1` = `v2`). They are left out of the validation score."),
        ("One picture", "`k1` is `cat`, `k2` is `dog`"),
        ("Left out: 5 files, empty", "`x/0.jpg`, `x/1.jpg`, `x/2.jpg` ..."),
        ("Left out: 1 file, text", "words"),
        (
            "Belong together",
            "Right on 91 % as if independent, 78 % by group. They are kept together; --group-from none",
        ),
        ("May belong together", "--group-from visit"),
        ("Rejected", "no nearer each other than chance (p = 0.6)"),
        ("Copies: 1 pair, the same file", "`d1` = `d2`"),
        ("Copies: 1 pair, the same pixels", "`d3` = `d4`"),
        ("Copies: 1 pair, nearly", "`n1` = `n2`"),
        ("Copies: 1 pair, the same picture mirrored", "`m1` = `m2`"),
        ("Copies: 1 pair, a part", "`c1` = `c2`"),
        ("Shortcut?", "(chance: 33.0 %); this gives away 60.0 % of the images of `x`. Examples: `s1`, `s2`."),
        ("Handled: 4 x rotated", "e.g. `x/r.jpg`"),
        ("Chosen: pixels.value_range", "because 12 bits"),
        ("Seen:", "40 % of an image, with cover 50 %"),
    ],
)
def test_a_line_says_how_many_names_some_and_what_to_do(start: str, words: str) -> None:
    (line,) = [line for line in doctor_lines(ILL) if line.startswith(start)]
    assert words in line


def test_one_leaking_picture_with_two_copies_counts_once() -> None:
    a, b = pair("t1", "x", splits=("train", "test")), pair("t2", "x", splits=("train", "test"))
    health = replace(HEALTHY, leaks=(replace(a, index_a=0, index_b=9), replace(b, index_a=1, index_b=9)))
    (line,) = doctor_lines(health)
    assert line.startswith("Leak: 1 test picture is also in train")


def test_val_pictures_that_are_the_ones_scored_are_told_as_such() -> None:
    health = replace(HEALTHY, classes={"x": {"train": 6, "val": 2}}, leaks=(pair("v1", "v2", splits=("train", "val")),))
    (line,) = doctor_lines(health)
    assert "beside it the score as given" in line


def test_many_are_counted_and_few_are_named() -> None:
    pairs = tuple(pair(f"a{k}", f"b{k}", "bytes", ("train", "test"), ("u", "v"), k) for k in range(500))
    health = replace(HEALTHY, duplicates=pairs, leaks=pairs, label_conflicts=pairs)
    lines = doctor_lines(health)
    assert len(lines) == 3
    assert all("500" in line and len(line) < 400 for line in lines)
    assert lines[0].startswith("Leak: 500 test pictures are also in train")
    assert all("a3" not in line for line in lines)


def test_odd_names_do_no_harm() -> None:
    odd = pair(ODD, ODD, "bytes", ("train", "test"), ("one", "two"))
    health = replace(
        HEALTHY,
        unreadable=(Problem(ODD, "empty", "nothing"),),
        remarks=(Remark("rotated", 1, "turned", (ODD,)),),
        duplicates=(odd,),
        leaks=(odd,),
        label_conflicts=(odd,),
        group_patterns=(pattern(meaning=f"part 1 of the name `{ODD}`", pattern="^\n(.)"),),
        shortcuts=(Shortcut("camera", 1.0, 0.5, ODD, 0.6, (ODD,), (ODD,)),),
        findings=(Finding(FindingKind.SINGLE_CLASS, Severity.WARNING, {"class": ODD}),),
    )
    for is_training in (False, True):
        lines = doctor_lines(health, is_training=is_training)
        assert len(lines) >= 6
        for line in lines:
            assert line.isprintable(), line
            line.encode("utf-8")
    assert one_line("a\nb\tc") == "a\\nb\\tc"
    assert one_line("Ω 漢字 é") == "Ω 漢字 é"


def test_json_is_plain_and_complete() -> None:
    health = replace(
        ILL,
        value_range=(np.float64(1.5), np.float32(2)),  # type: ignore[arg-type]
        decisions=(Decision("n", np.int64(3), "because"), Decision("f", np.bool_(True), "so")),
    )
    value = health_to_json(health)
    again = json.loads(json.dumps(value, allow_nan=False))
    assert again == value
    assert value["schema"] == 1
    assert value["counts"] == {
        "unreadable": 6, "unreadable_by_kind": {"empty": 5, "text": 1}, "duplicates": 2, "near_duplicates": 3,
        "leaks": 2, "label_conflicts": 1,
    }  # fmt: skip
    assert value["value_range"] == [1.5, 2.0]
    assert set(value["leaks"][0]) == {"a", "b", "kind", "similarity", "split_a", "split_b", "label_a", "label_b"}
    assert set(value["group_patterns"][0]) >= {
        "pattern", "num_groups", "accepted", "p_value", "accuracy_independent", "accuracy_grouped",
    }  # fmt: skip
    assert {
        "unreadable",
        "duplicates",
        "near_duplicates",
        "leaks",
        "label_conflicts",
        "group_patterns",
        "layout",
    } <= set(value)
    assert {"formats", "classes"} <= set(value)


def test_percentages_and_counts_are_whole_words() -> None:
    for line in doctor_lines(ILL):
        assert not re.search(r"\b1 (pictures|files|pairs)\b", line), line
        assert not re.search(r"\b[02-9]\d* (picture|file|pair)\b", line), line
        assert "None" not in line
        assert "nan" not in line
