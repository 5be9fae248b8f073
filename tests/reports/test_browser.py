"""Test the report in a browser: no errors, no requests, no overflow, keyboard use, accessibility."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Browser, open_browser
from PIL import Image

from headstart.preprocessing.image_spec import ImageSpec
from headstart.reports.html import render
from headstart.reports.record import ClassifierRecord
from headstart.reports.slow_sections import SlowSections
from headstart.reports.summary import summarize
from headstart.reports.thumbs import make_thumbs

pytestmark = pytest.mark.long

EVIL = ("<script>alert(1)</script>", "=1+1", "\"'><img src=x onerror=alert(2)>", "ÄÖ 猫 {{ 7*7 }}", "cat")
VIEWS = [((1280, 900), "light"), ((390, 800), "dark"), ((1280, 900), "dark"), ((390, 800), "light")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = open_browser()
    yield executable
    executable.close()


@pytest.fixture(scope="module")
def page(
    make_facts: Callable[..., ClassifierRecord],
    make_curve: Callable[..., SlowSections],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Write a report with every section and image, and hostile class names."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    plain = make_facts(EVIL, 30)
    paths = {}
    for i, name in enumerate(plain.scored.names):
        paths[name] = str(folder / f"{i}.jpg")
        Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(paths[name])
    new = {"ood_recall": 0.2, "auroc": 0.8, "auroc_of_probability": 0.75, "false_positive_rate": 0.05,
           "num_samples": 100, "per_class": [{"name": n, "ood_recall": 0.2, "auroc": 0.8} for n in EVIL]}  # fmt: skip
    share = {"value": 0.9, "low": 0.8, "high": 0.95}
    sections: dict[str, Any] = {
        "ood": {"ood_fpr": 0.05, "threshold": 2.0, "has_residual_norm": True, "test": None, "held_out_classes": new,
                    "out_of_fold": {"false_positive_rate": 0.05, "num_samples": 75},
                    "histogram": {"edges": [-1.0, 0.0, 1.0, 2.0, 3.0], "known": [10, 30, 20, 5]}},
        "coverage": {"coverage": 0.9, "is_guaranteed": False, "num_fitted": 75, "empirical": share, "mean_size": 1.2,
                     "single_fraction": 0.8, "empty_fraction": 0.01, "test": None,
                     "per_class": [{"name": n, "empirical": 0.9, "is_own": True} for n in EVIL]},
    }  # fmt: skip
    epochs = tuple({"epoch": str(i), "train_loss": str(1 / i), "val_loss": str(1.2 / i)} for i in range(1, 6))
    facts = make_facts(EVIL, 30, paths=paths, sections=sections, epochs=epochs, slow=make_curve(len(EVIL)))
    report = summarize(facts)
    thumbs = make_thumbs({int(i): facts.path(int(i)) for i in report["images"]}, ImageSpec())
    target = folder / "report.html"
    target.write_text(render(report, thumbs), encoding="utf-8")
    return target


@pytest.mark.parametrize(("size", "scheme"), VIEWS, ids=lambda v: str(v))
def test_report_opens_without_errors_and_fits(browser: Browser, page: Path, size: tuple[int, int], scheme: str) -> None:
    browser.open(page, size=size, scheme=scheme)
    assert browser.run("document.querySelectorAll('section').length") == 13
    assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert browser.run("[...document.images].filter(i => !i.complete || !i.naturalWidth).length") == 0
    ground = browser.run("getComputedStyle(document.documentElement).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    assert browser.complaints == []
    assert browser.requests == []


def test_browser_collects_errors(browser: Browser, tmp_path: Path) -> None:
    """The browser records an error, a request and overflow."""
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='file:///nowhere/x.png'><div style='width:9000px'>x</div><script>nothing()</script>")
    browser.open(bad)
    assert any("x.png" in r for r in browser.requests)
    assert browser.complaints
    assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") > 0


def test_content_security_policy_blocks_injection(browser: Browser, page: Path, tmp_path: Path) -> None:
    changed = tmp_path / "report.html"
    changed.write_text(page.read_text(encoding="utf-8").replace(
        "</main>", "<script>document.title='taken over'</script><img src='file:///x.png'></main>"
    ), encoding="utf-8")  # fmt: skip
    browser.open(changed)
    assert browser.run("document.title") != "taken over"
    assert any("Content Security Policy" in c for c in browser.complaints)


def test_keyboard_opens_cell(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.className") == "skip", "the first stop skips the list of sections"
    for _ in range(400):
        browser.press("Tab", 9)
        if browser.run("document.activeElement.hasAttribute('data-cell')"):
            break
    else:
        pytest.fail("no cell of the matrix can be reached by the Tab key")
    outline = browser.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "where the focus is can be seen"
    browser.press("Enter", 13)
    assert browser.run("document.querySelectorAll('.cells:not([hidden])').length") == 1
    assert browser.run("document.activeElement.classList.contains('cells')")
    assert browser.run("document.querySelectorAll('[data-cell][aria-expanded=true]').length") >= 1
    browser.run("document.querySelector('button[data-show=rates]').focus()")
    browser.press("Enter", 13)
    assert browser.run("document.getElementById('matrix').classList.contains('rates')")
    assert browser.complaints == []


@pytest.mark.parametrize(("size", "scheme"), VIEWS, ids=lambda v: str(v))
def test_axe_reports_no_violation(browser: Browser, page: Path, size: tuple[int, int], scheme: str) -> None:
    """Check contrast, names, roles and heading order by axe-core, if available."""
    axe = os.environ.get("HEADSTART_AXE")
    if not axe:
        pytest.skip("HEADSTART_AXE names no axe.min.js (npm install axe-core)")
    browser.open(page, size=size, scheme=scheme)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true })")
    browser.run("document.querySelectorAll('.cells').forEach(c => { c.hidden = false })")
    browser.run(Path(axe).read_text(encoding="utf-8") + "; 0")
    result = browser.run(
        "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.html.slice(0, 120))))"
    )
    assert result == []
