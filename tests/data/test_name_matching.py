"""Test class names that differ only in case, spaces or Unicode form."""

from __future__ import annotations

import pytest

from headstart.data.name_matching import find_alike, fold_name, match_names


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Cat", "CAT"),
        ("cats and dogs", "cats_and-dogs"),
        ("caf\u00e9", "cafe\u0301"),
        ("metal", "me\u200btal"),
        ("metal", "metal\u00a0"),
        ("Stra\u00dfe", "STRASSE"),
        ("\uff21", "a"),
    ],
)
def test_equivalent_names(a: str, b: str) -> None:
    assert fold_name(a) == fold_name(b)
    assert find_alike(["other", b, a]) == [tuple(sorted((a, b)))]


@pytest.mark.parametrize(("a", "b"), [("C", "C++"), ("1+", "1-"), ("-1", "1"), ("a.b", "ab"), ("cat", "cats")])
def test_different_names(a: str, b: str) -> None:
    assert fold_name(a) != fold_name(b)
    assert find_alike([a, b]) == []


def test_name_matches_single_equivalent_name() -> None:
    assert match_names(["Glass", "glass", "metal ", "paper"], ["glass", "metal"]) == {
        "Glass": "glass",
        "glass": "glass",
        "metal ": "metal",
    }
    assert match_names(["cat", "Cat"], ["Cat", "CAT"]) == {"Cat": "Cat"}
