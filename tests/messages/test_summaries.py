"""Test summaries: one short line per kind, most severe first, with the number of files."""

from __future__ import annotations

import pytest
from test_findings import EXAMPLES

from headstart.messages.summaries import AnyFinding, Topic, summarize_findings, topic_of
from headstart.types.codes import Evidence, Finding, FindingKind, ReadingKind, ReadingNote, Severity

WIDTH = 90
LONG = "a\n\x1b[31m" + "very long name " * 20


def lengthened(evidence: Evidence) -> Evidence:
    """Replace names in the evidence by long ones with control characters."""
    changed = dict(evidence)
    for key in ("class", "largest_class", "smallest_class", "given_class", "message"):
        if key in changed:
            changed[key] = LONG
    if "grouping" in changed:
        changed["grouping"] = {"grouped_by": "name_parts", "values": [LONG, LONG], "example": LONG}
    for key in ("examples", "pairs"):
        if key in changed:
            values = changed[key]
            assert isinstance(values, list)
            changed[key] = [LONG if isinstance(v, str) else [LONG] * len(v) for v in values]  # type: ignore[arg-type]
    return changed


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("number", [1, 40])
@pytest.mark.parametrize("is_long", [False, True])
@pytest.mark.parametrize("kind", FindingKind)
def test_each_kind_gives_one_short_line(kind: FindingKind, is_long: bool, number: int, most: int) -> None:
    evidence = lengthened(EXAMPLES[kind]) if is_long else EXAMPLES[kind]
    (line,) = summarize_findings([Finding(kind, Severity.WARNING, evidence)] * number, most=most, width=WIDTH)
    assert 0 < len(line) <= WIDTH
    assert line.isprintable()


@pytest.mark.parametrize("most", [1, 2, 3])
def test_all_kinds_fit_with_details_last(most: int) -> None:
    findings = [Finding(kind, Severity.WARNING, lengthened(EXAMPLES[kind])) for kind in FindingKind]
    lines = summarize_findings(findings, most=most, width=WIDTH, details="headstart check photos")
    assert len(lines) == most
    assert max(map(len, lines)) <= WIDTH
    assert [line.endswith("headstart check photos") for line in lines] == [False] * (most - 1) + [True]


def unreadable(kinds: int, each: int) -> list[AnyFinding]:
    return [
        Finding(
            FindingKind.UNREADABLE_FILES,
            Severity.ERROR,
            {"problem": f"kind {k}", "count": each, "examples": [LONG], "detail": "x"},
        )
        for k in range(kinds)
    ]


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("details", [None, "headstart check photos"])
def test_many_classes_and_bad_files_keep_the_number_of_files(most: int, details: str | None) -> None:
    small: list[AnyFinding] = [
        Finding(
            FindingKind.CLASS_TOO_SMALL,
            Severity.WARNING,
            {"class": f"{LONG}{i}", "count": 3, "minimum": 10, "unit": "images"},
        )
        for i in range(300)
    ]
    note = Finding(FindingKind.NARROW_CROP, Severity.INFO, {"crop": 0.4, "cover": 0.5})
    pages = Finding(FindingKind.PAGES_NOT_USED, Severity.WARNING, {"count": 7, "examples": [LONG]})
    findings = [note, pages, *small, *unreadable(40, 100)]
    lines = summarize_findings(findings, most=most, width=WIDTH, details=details)
    assert len(lines) == most
    assert max(map(len, lines)) <= WIDTH
    assert "4,000" in lines[0]  # errors come first
    assert any("300" in line for line in lines) or (most, details) == (1, "headstart check photos")


def test_kinds_without_a_line_keep_their_number_of_files() -> None:
    error = Finding(FindingKind.SINGLE_CLASS, Severity.ERROR, {"class": "a"})
    counted: Evidence = {"problem": "missing", "count": 1200, "examples": ["a"], "detail": "x"}
    findings: list[AnyFinding] = [
        Finding(FindingKind.FILES_NOT_USED, Severity.WARNING, counted),
        error,
        ReadingNote(ReadingKind.UNLABELED_IMAGES, 2345, ("u.jpg",), {"folders": {"u": 2345}}),
    ]
    first, rest = summarize_findings(findings, most=2)
    assert "`a`" in first
    assert "1,200" in rest
    assert "2,345" in rest


def test_every_finding_has_a_topic() -> None:
    topics = {kind: topic_of(Finding(kind, Severity.INFO)) for kind in FindingKind}
    assert topics[FindingKind.FILES_NOT_USED] is Topic.READING
    assert topics[FindingKind.SCORES_OUT_OF_FOLD] is Topic.EVALUATION
    assert topics[FindingKind.UNREADABLE_FILES] is Topic.DATASET
    assert topic_of(ReadingNote(ReadingKind.EMPTY_FOLDERS, 1)) is Topic.READING


@pytest.mark.parametrize("kind", FindingKind)
def test_summary_with_short_names_is_not_cut(kind: FindingKind) -> None:
    (line,) = summarize_findings([Finding(kind, Severity.WARNING, EXAMPLES[kind])], most=1, width=WIDTH)
    assert not line.endswith("...")


@pytest.mark.parametrize("details", [None, "headstart check photos", "headstart check " + "long/" * 8])
@pytest.mark.parametrize("is_long", [False, True])
@pytest.mark.parametrize("kind", FindingKind)
def test_lines_end_with_whole_words_and_closed_backticks(kind: FindingKind, is_long: bool, details: str | None) -> None:
    evidence = lengthened(EXAMPLES[kind]) if is_long else EXAMPLES[kind]
    for width in range(60, 110):
        (line,) = summarize_findings([Finding(kind, Severity.WARNING, evidence)], most=1, width=width, details=details)
        text = line.removesuffix(f"; details: {details}")
        assert line.endswith(f"; details: {details}") or details is None
        assert text.count("`") % 2 == 0, text
        assert text.endswith(" ...") or not text.endswith("..."), text


def test_examples_are_shortened_before_the_message() -> None:
    pair = ["COVID-19_Radiography_Dataset/Covid/0112.jpg", "COVID-19_Radiography_Dataset/Normal/0034.jpg"]
    leaks = {"split": "test", "other_split": "train", "count": 8, "pairs": [pair], "is_headline": True}
    finding = Finding(FindingKind.LEAKING_IMAGES, Severity.ERROR, leaks)
    texts = [summarize_findings([finding], most=1, width=width)[0] for width in (100, 80, 60, 30)]
    assert [("0112.jpg" in text, "0034.jpg" in text) for text in texts] == [
        (True, True),
        (True, False),
        *[(False,) * 2] * 2,
    ]
    assert all(text.startswith("8 test images also in train") for text in texts)
