"""Test that factors which determine the class are found, and other names of the classes are not."""

from __future__ import annotations

import pytest

from headstart.quality.confounding import find_confounding
from headstart.types.records import Sample, Samples


def dataset(factor: list[str], labels: list[str], column: str = "plate") -> Samples:
    items = tuple(Sample(f"/d/{i}.png", f"{i}.png", label) for i, label in enumerate(labels))
    return Samples(items, tuple(sorted(set(labels))), columns={column: tuple(factor)})


LABELS = ["control"] * 20 + ["treated"] * 20


@pytest.mark.parametrize(
    ("factor", "num_values"),
    [
        (["p1"] * 20 + ["p2"] * 20, 2),
        (["p1"] * 10 + ["p2"] * 10 + ["p3"] * 20, 3),
    ],
)
def test_a_factor_with_one_class_per_value_is_found(factor: list[str], num_values: int) -> None:
    (finding,) = find_confounding(dataset(factor, LABELS))
    assert finding.evidence["name"] == "plate"
    assert finding.evidence["num_values"] == num_values
    assert finding.evidence["values"]["p1"] == "control"


@pytest.mark.parametrize(
    ("factor", "column"),
    [
        (["p1", "p2"] * 20, "plate"),  # both classes on each plate
        (["c"] * 20 + ["t"] * 20, "class_code"),  # another name of the classes
        (["Control"] * 20 + ["Treated"] * 20, "group_name"),
        (["0"] * 20 + ["1"] * 20, "y"),
        ([f"patient{i // 2}" for i in range(40)], "patient"),  # many items
        (["p1"] * 40, "plate"),
        ([""] * 40, "plate"),
    ],
)
def test_other_columns_are_not(factor: list[str], column: str) -> None:
    assert not find_confounding(dataset(factor, LABELS, column))


def test_a_folder_that_determines_the_label_of_a_table_is_found() -> None:
    items = tuple(
        Sample(f"/d/{i}.png", f"day{1 + (label == 'treated')}/{i}.png", label) for i, label in enumerate(LABELS)
    )
    samples = Samples(items, ("control", "treated"), used_columns={"label_column": "condition"})
    (finding,) = find_confounding(samples)
    assert finding.evidence["grouped_by"] == "folder"


@pytest.mark.parametrize("folder", ["{label}/", "", "day{day}/"])
@pytest.mark.parametrize("is_tabled", [False, True])
def test_a_requested_pattern_that_determines_the_class_is_found(folder: str, is_tabled: bool) -> None:
    """With labels from folders, tables, lists and containers."""
    names = [f"{folder.format(label=label, day=i % 2)}cam{i // 10}_{i}.png" for i, label in enumerate(LABELS)]
    items = tuple(Sample(f"/d/{name}", name, label) for name, label in zip(names, LABELS, strict=True))
    samples = Samples(items, ("control", "treated"), used_columns={"label_column": "y"} if is_tabled else {})
    found = [f for f in find_confounding(samples, "(cam[0-9])_") if f.evidence["grouped_by"] == "pattern"]
    assert [(f.evidence["num_values"], f.evidence["values"]["cam3"]) for f in found] == [(4, "treated")]
    assert not [f for f in find_confounding(samples, "_([0-9]+)") if f.evidence["grouped_by"] == "pattern"]
