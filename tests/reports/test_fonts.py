"""Test that figures show names in every script, or number and list them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart.reports import fonts
from headstart.reports.figures import draw_figure, figure_png
from headstart.reports.record import ClassifierRecord
from headstart.reports.summary import summarize
from headstart.reports.writer import write_figures

NAMES = ("Käse Ω", "猫", "犬 dog")


def make_font(path: Path, text: str) -> Path:
    """Return a font with square glyphs for these letters only."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    glyphs = {f"g{ord(c):x}": ord(c) for c in text}
    pen = TTGlyphPen(None)
    pen.moveTo((50, 0))
    for point in ((50, 700), (650, 700), (650, 0)):
        pen.lineTo(point)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    order = [".notdef", *glyphs]
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap({point: name for name, point in glyphs.items()})
    builder.setupGlyf(dict.fromkeys(order, square))
    builder.setupHorizontalMetrics(dict.fromkeys(order, (700, 50)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Headstart Test", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def png_without_a_warning(figure: object) -> bytes:
    """Return `figure_png`; a missing glyph raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        import io

        out = io.BytesIO()
        figure.savefig(out, format="png")  # type: ignore[attr-defined]
    return out.getvalue()


def test_missing_glyphs_are_numbered_and_listed(
    make_facts: Callable[..., ClassifierRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "_others", lambda: ())
    report = summarize(make_facts(NAMES))
    shown, is_numbered = fonts.drawable(report)
    assert is_numbered
    assert shown["class_names"] == ["Käse Ω", "class 2", "class 3"]
    assert [row["name"] for row in shown["per_class"]] == ["Käse Ω", "class 2", "class 3"]
    figure = draw_figure("confusion", report)
    assert fonts.NOTE in [t.get_text() for t in figure.texts]
    assert png_without_a_warning(figure)[:4] == figure_png(figure)[:4] == b"\x89PNG"
    write_figures(tmp_path, report, {})
    assert (tmp_path / "class_names.txt").read_text(encoding="utf-8").splitlines()[1] == "class 2\t猫"


def test_fallback_fonts_are_used(
    make_facts: Callable[..., ClassifierRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import font_manager

    path = make_font(tmp_path / "test.ttf", "猫犬")
    before = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.addfont(str(path))
    try:
        monkeypatch.setattr(fonts, "_others", lambda: (("Headstart Test", str(path)),))
        report = summarize(make_facts(NAMES))
        assert fonts.drawable(report)[1] is False
        figure = draw_figure("confusion", report)
        labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
        assert labels == list(NAMES)
        png_without_a_warning(figure)
        write_figures(tmp_path, report, {})
        assert not (tmp_path / "class_names.txt").exists()
    finally:
        font_manager.fontManager.ttflist[:] = before


def test_ascii_names_open_no_fallback_font(
    make_facts: Callable[..., ClassifierRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "_others", lambda: pytest.fail("other fonts were looked for"))
    report = summarize(make_facts(("cat", "Öl", "<b>&", "$x$")))
    assert fonts.drawable(report) == (dict(report), False)
    png_without_a_warning(draw_figure("classes", report))
