"""Test that the laboratory notebook runs; cells are executed without a kernel."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "lab.ipynb"


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Execute a cell and return the value of its last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_notebook_runs(
    tmp_path: Path,
    make_images: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("torch")
    photos = make_images(tmp_path / "photos", {"stripes": 12, "discs": 12})
    monkeypatch.setenv("LAB_DATA", str(photos))
    monkeypatch.setenv("LAB_EPOCHS", "2")
    monkeypatch.setenv("LAB_OUT", str(tmp_path / "runs"))
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in notebook["cells"]), "outputs are not kept: they hold images"
    names: dict[str, Any] = {}
    shown = [run_cell("".join(c["source"]), names) for c in notebook["cells"] if c["cell_type"] == "code"]
    figures = [value for value in shown if type(value).__name__ == "Figure"]
    assert len(figures) >= 4
    assert all(figure.get_axes() for figure in figures)
    printed = capsys.readouterr().out
    for words in ("precision", "head: linear", "pretraining data", "log-loss"):
        assert words in printed
    assert "<iframe" in shown[-1]._repr_html_()
    assert (tmp_path / "runs" / "second" / "figures" / "curves.png").is_file()
