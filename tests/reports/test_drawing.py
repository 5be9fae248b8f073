"""Test that figures show names in every script, or number and list them, and that their labels are legible."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart.reports import drawing
from headstart.reports.drawing import draw_lines, draw_row, numbered_names
from headstart.reports.figures import draw_figure, draw_svgs, figure_png
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
    monkeypatch.setattr(drawing, "_other_fonts", lambda: ())
    report = summarize(make_facts(NAMES))
    assert numbered_names(NAMES) == {"猫": "class 2", "犬 dog": "class 3"}
    figure = draw_figure("confusion", report)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["Käse Ω", "class 2", "class 3"]
    assert len(figure.texts) == 1, "a note explains the numbers"
    assert not draw_figure("ood", report)
    assert png_without_a_warning(figure)[:4] == figure_png(figure)[:4] == b"\x89PNG"
    write_figures(tmp_path, report, {})
    assert (tmp_path / "class_names.txt").read_text(encoding="utf-8").splitlines()[0] == "class 2\t猫"


def test_fallback_fonts_are_used(
    make_facts: Callable[..., ClassifierRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import font_manager

    path = make_font(tmp_path / "test.ttf", "猫犬")
    before = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.addfont(str(path))
    try:
        monkeypatch.setattr(drawing, "_other_fonts", lambda: (("Headstart Test", str(path)),))
        report = summarize(make_facts(NAMES))
        assert not numbered_names(NAMES)
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
    monkeypatch.setattr(drawing, "_other_fonts", lambda: pytest.fail("other fonts were looked for"))
    report = summarize(make_facts(("cat", "Öl", "<b>&", "$x$")))
    assert not numbered_names(report["class_names"])
    png_without_a_warning(draw_figure("classes", report))


def test_mark_labels_do_not_overlap() -> None:
    series = [{"name": "a", "x": [1, 10], "y": [0.1, 0.9]}]
    for epochs, names in (((3, 6), ["stage6", "stage5"]), ((3, 3.2), ["stage6"])):
        marks = [{"stage": s, "epoch": e} for s, e in zip(("stage6", "stage5"), epochs, strict=True)]
        axis = draw_row([drawing.Panel("x", draw_lines(series, "x", "y", marks=marks))]).axes[0]
        assert [t.get_text() for t in axis.texts] == names
        assert len(axis.lines) == 3


def test_images_of_the_page_are_the_same_bytes_with_any_matplotlib_settings(
    make_facts: Callable[..., ClassifierRecord],
) -> None:
    import matplotlib as mpl

    report = summarize(make_facts(("a", "<b>&"), skill=1.0, per_class=40))
    first = draw_svgs("reliability", report)
    with mpl.rc_context({"axes.facecolor": "black", "text.usetex": True, "font.size": 30}):
        assert draw_svgs("reliability", report) == first
    assert first
    assert all(data.startswith(b"<?xml") and b"<script" not in data for _, data in first)
