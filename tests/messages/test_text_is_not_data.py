"""Test that code outside `messages` does not compare, search or sort rendered text, and that events carry codes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "headstart"
CODE = sorted(p for p in SOURCE.rglob("*.py") if "messages" not in p.relative_to(SOURCE).parts)

TEXTS = frozenset({"message", "reason", "sentence", "text", "title"})
"""Attributes and keys that hold rendered text; `Decision.reason` is an enum and may be compared with its codes."""

SEARCHES = frozenset(
    {"startswith", "endswith", "find", "index", "count", "split", "partition", "removeprefix", "removesuffix"}
)
PATTERNS = frozenset({"match", "search", "fullmatch", "findall", "finditer", "sub", "split"})
SORTS = frozenset({"sorted", "max", "min"})
EMITS = frozenset({"note", "warn"})


def is_text(node: ast.AST) -> bool:
    """Return whether an expression is rendered text: `x.reason`, `x["text"]`, `str(x.message)` or a method of one."""
    if isinstance(node, ast.Attribute):
        return node.attr in TEXTS
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value in TEXTS
    if isinstance(node, ast.Call):
        function = node.func
        if isinstance(function, ast.Attribute):
            is_get = function.attr == "get" and bool(node.args) and isinstance(node.args[0], ast.Constant)
            return is_text(function.value) or (is_get and node.args[0].value in TEXTS)  # type: ignore[attr-defined]
        return isinstance(function, ast.Name) and function.id == "str" and any(map(is_text, node.args))
    return False


def is_code(node: ast.AST) -> bool:
    """Return whether an expression is None or a member of an enum, e.g. `DecisionReason.NO_BUDGET`."""
    if isinstance(node, (ast.Tuple, ast.Set, ast.List)):
        return all(map(is_code, node.elts))
    return (isinstance(node, ast.Constant) and node.value is None) or (
        isinstance(node, ast.Attribute) and node.attr.isupper()
    )


def parsed_text(source: str) -> list[int]:
    """Return the lines on which code compares, searches or sorts rendered text."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(map(is_text, sides)) and not any(map(is_code, sides)):
                lines.append(node.lineno)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            is_searched = node.func.attr in SEARCHES and is_text(node.func.value)
            is_module = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
            is_matched = is_module and node.func.attr in PATTERNS and any(map(is_text, node.args))
            if is_searched or is_matched:
                lines.append(node.lineno)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SORTS:
            keys = [k.value for k in node.keywords if k.arg == "key"]
            if any(isinstance(key, ast.Lambda) and is_text(key.body) for key in keys):
                lines.append(node.lineno)
    return lines


def is_rendered(node: ast.AST) -> bool:
    """Return whether an expression builds text: a string constant, an f-string, or a sum of such."""
    if isinstance(node, ast.BinOp):
        return is_rendered(node.left) or is_rendered(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def plain_notes(source: str) -> list[int]:
    """Return the lines that emit text instead of a code: as a note, a warning, a decision or a finding."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
        if name in EMITS and owner.rpartition(".")[2].lstrip("_") == "events" and is_rendered(node.args[0]):
            lines.append(node.lineno)
        place = {"Note": 0, "Finding": 0, "ReportFinding": 0, "Decision": 2}.get(name)
        if place is not None and len(node.args) > place and is_rendered(node.args[place]):
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "line",
    [
        "if decision.reason == 'no budget': pass",
        "if 'leak' in finding.message: pass",
        "decision.reason.startswith('log-loss')",
        "row['text'].split(';')",
        "row.get('sentence').lower().removesuffix('.')",
        "re.search(r'[0-9]+', str(error.message))",
        "sorted(rows, key=lambda row: row.text)",
    ],
)
def test_planted_text_parser_is_detected(line: str) -> None:
    assert parsed_text(line) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "if decision.reason is DecisionReason.NO_BUDGET: pass",
        "if decision.reason in (DecisionReason.NO_BUDGET, DecisionReason.BUDGET_SPENT): pass",
        "if finding.kind == 'leak': pass",
        "if row['text'] is None: pass",
        "path.name.startswith('a')",
        "print(finding.message)",
    ],
)
def test_codes_and_other_strings_may_be_compared(line: str) -> None:
    assert parsed_text(line) == []


@pytest.mark.parametrize(
    "line",
    [
        "events.note(f'{count} images')",
        "self.road.events.warn('the disk is full')",
        "self._events.note('a' + name)",
        "Decision('strategy', 'probe', f'no budget for {name}')",
        "Finding('leak', Severity.ERROR)",
    ],
)
def test_planted_text_in_event_is_detected(line: str) -> None:
    assert plain_notes(line) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "events.note(NoteKind.REPORT_WRITTEN, path=str(path))",
        "Decision('strategy', 'probe', DecisionReason.NO_BUDGET)",
        "Finding(FindingKind.SHORTCUT, Severity.ERROR, {'what': 'size'})",
        "samples.note('a')",
    ],
)
def test_codes_in_events_are_fine(line: str) -> None:
    assert plain_notes(line) == []


def test_no_code_outside_messages_parses_text() -> None:
    matches = {str(p.relative_to(SOURCE)): lines for p in CODE if (lines := parsed_text(p.read_text(encoding="utf-8")))}
    assert matches == {}


def test_events_carry_codes() -> None:
    matches = {str(p.relative_to(SOURCE)): lines for p in CODE if (lines := plain_notes(p.read_text(encoding="utf-8")))}
    assert matches == {}
