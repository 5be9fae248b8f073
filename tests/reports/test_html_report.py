"""Test the HTML report: all sections, escaped names, self-contained, written for incomplete runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.preprocessing.image_spec import ImageSpec
from headstart.reports import html
from headstart.reports.html import render
from headstart.reports.record import ClassifierRecord
from headstart.reports.slow_sections import SlowSections
from headstart.reports.summary import summarize
from headstart.reports.thumbs import make_thumbs
from headstart.reports.writer import without_images

EVIL = ("<script>alert(1)</script>", "=1+1", "\"'><img src=x onerror=alert(2)>", "ÄÖ 猫 {{ 7*7 }}")
SECTIONS = ("comment", "data", "model", "learning", "classes", "confusion", "errors", "calibration", "operating",
            "ood", "label-errors", "settings", "versions")  # fmt: skip


class Page(HTMLParser):
    """Tags, ids and attributes of a page; raises for unclosed tags."""

    VOID = frozenset(("meta", "img", "br", "input", "link"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open and self.open[-1] != tag:
                assert self.open[-1] in ("p", "li", "td", "th", "tr"), f"{self.open[-1]} is open at </{tag}>"
                self.open.pop()
            self.open.pop()

    def ids(self) -> list[str]:
        return [str(a["id"]) for _, a in self.tags if "id" in a]


def page_of(facts: ClassifierRecord) -> tuple[dict[str, Any], str]:
    report = json.loads(json.dumps(summarize(facts), allow_nan=False))
    thumbs = make_thumbs({int(i): facts.path(int(i)) for i in report["images"]}, ImageSpec())
    return report, render(report, thumbs)


def test_page_has_all_sections_in_order(make_facts: Callable[..., ClassifierRecord]) -> None:
    _, text = page_of(make_facts())
    page = Page(text)
    ids = page.ids()
    assert [i for i in ids if i in SECTIONS] == list(SECTIONS)
    assert len(ids) == len(set(ids))
    links = {str(a["href"]).removeprefix("#") for tag, a in page.tags if tag == "a"}
    assert links <= set(ids)


def test_page_is_self_contained_and_runs_only_its_script(make_facts: Callable[..., ClassifierRecord]) -> None:
    _, text = page_of(make_facts(EVIL))
    page = Page(text)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in str(policy)
    assert [tag for tag, _ in page.tags].count("script") == 1
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on"), f"an event handler in <{tag}>"
            assert name != "style", "the policy refuses styles in attributes"
            if name in ("src", "href"):
                assert str(value).startswith(("data:", "#"))
    assert "url(" not in text
    assert "@import" not in text


def test_class_names_are_text_everywhere(make_facts: Callable[..., ClassifierRecord]) -> None:
    facts = make_facts(EVIL, dataset_report={"unreadable": [{"name": EVIL[0], "kind": "empty", "detail": EVIL[2]}]})
    _, text = page_of(facts)
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7*7 }}" in text, "a name is no template"


@pytest.mark.parametrize(
    ("names", "per_class", "has_test"),
    [
        (("a", "b"), 20, True),
        (("a", "b", "c"), 20, False),
        (("a", "b", "c"), 3, False),
        (tuple(f"class {i}" for i in range(200)), 4, True),
    ],
    ids=["two classes", "no test split", "three images a class", "200 classes"],
)
def test_page_of_incomplete_runs(
    make_facts: Callable[..., ClassifierRecord], names: tuple[str, ...], per_class: int, has_test: bool
) -> None:
    report, text = page_of(make_facts(names, per_class, has_test))
    Page(text)
    assert len(text) < 4_000_000
    for name in names:
        assert name in text
    assert "this image is missing" in text, "no image of a constructed run exists"
    assert "not measured in this run" in text
    assert report["headline"]["sentence"] in text.replace("&#39;", "'")


def test_perfect_and_failing_models_are_reported(make_facts: Callable[..., ClassifierRecord]) -> None:
    _, text = page_of(make_facts(skill=50.0))
    assert "There are no errors" in text
    assert "There are no confusions" in text
    report, text = page_of(make_facts(skill=-50.0))
    assert report["comment"]["findings"][0]["kind"] == "chance_level"
    Page(text)


def test_images_are_embedded_once_as_thumbnails(make_facts: Callable[..., ClassifierRecord], tmp_path: Path) -> None:
    facts = make_facts()
    rng = np.random.default_rng(0)
    paths = {}
    for i, name in enumerate(facts.scored.names):
        path = tmp_path / f"{i}.jpg"
        Image.fromarray(rng.integers(0, 255, (600, 800, 3), dtype=np.uint8)).save(path)
        paths[name] = str(path)
    report, text = page_of(make_facts(paths=paths))
    assert "cannot be opened" not in text
    assert len(re.findall(r"<img id=", text)) == len(report["images"]), "each image is in the page once"
    assert len(re.findall("data:image/jpeg", text)) == len(report["images"])
    assert "data-copy" in text


def test_page_without_images_has_no_file_names(make_facts: Callable[..., ClassifierRecord]) -> None:
    unreadable = [{"name": "secret-file.jpg", "kind": "empty", "detail": "0 bytes"}]
    leaks = [{"a": "cat/000.jpg", "b": "cat/001.jpg", "kind": "bytes"}]
    facts = make_facts(dataset_report={"unreadable": unreadable, "leaks": leaks})
    report = without_images(summarize(facts))
    text = render(report, None)
    Page(text)
    for written in (text, json.dumps(report)):
        assert ".jpg" not in written
        assert "data:image/jpeg" not in written
    assert "cat" in text
    assert "omits images" in text


def test_sections_appear_when_a_run_has_their_data(
    make_facts: Callable[..., ClassifierRecord], make_curve: Callable[..., SlowSections]
) -> None:
    neighbors = {"neighbor1": "dog/020.jpg", "neighbor2": "dog/021.jpg", "neighbor3": "dog/022.jpg"}
    label_error = {"image": "cat/001.jpg", "label": "cat", "suggested": "dog", "error_probability": "0.97",
               "is_label_error": "true", **neighbors}  # fmt: skip
    facts = make_facts(
        sections={
            "ood": {"ood_fpr": 0.05, "threshold": 2.5, "out_of_fold": {"num_samples": 30, "false_positive_rate": 0.04},
                    "test": None, "held_out_classes": None},
            "coverage": {"coverage": 0.9, "is_guaranteed": False, "num_fitted": 30, "test": None, "mean_size": 1.25,
                         "empirical": {"value": 0.88}, "single_fraction": 0.7, "empty_fraction": 0.05},
        },
        label_errors=[label_error] * 3,
        slow=make_curve(),
        epochs=tuple({"epoch": str(i), "train_loss": str(1 / i), "val_loss": str(1.2 / i)} for i in range(1, 6)),
    )  # fmt: skip
    report, text = page_of(facts)
    Page(text)
    for words in (
        "Accuracy with 80 training images: 80.0 %",
        "false-positive rate of at most 5 %",
        "coverage 88.0 %",
        "3 suspected label errors",
        "suggested: dog",
    ):
        assert words in text
    assert text.count('class="chart"') == 4, "losses, learning curve, reliability before and after"
    assert "too_little_data" in [r["kind"] for r in report["comment"]["findings"]]
    assert "labels" in [r["kind"] for r in report["comment"]["findings"]]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat/1.jpg", "cat/1.jpg"),
        ("train/a/very/long/row/of/folders/cat/IMG_0001.jpg", "train/…/IMG_0001.jpg"),
        ("x" * 30 + "/" + "y" * 30, "x" * 11 + "…" + "y" * 10),
    ],
)
def test_long_paths_are_shortened_in_the_middle(name: str, shown: str) -> None:
    assert str(html._path(name)) == f'<span class="quiet" title="{name}">{shown}</span>'
    assert len(shown) <= 22


def test_non_image_has_no_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    Image.new("RGBA", (30, 4000)).save(tmp_path / "b.png")
    paths = {0: str(tmp_path / "a.jpg"), 1: None, 2: str(tmp_path / "gone.jpg"), 3: str(tmp_path / "b.png")}
    thumbs = make_thumbs(paths, ImageSpec())
    assert [thumbs[i] is None for i in range(4)] == [True, True, True, False]
    assert make_thumbs({3: str(tmp_path / "b.png")}, ImageSpec(), max_bytes=10) == {3: None}


def test_curves_average_folds_only(make_facts: Callable[..., ClassifierRecord]) -> None:
    rows = [
        {"epoch": str(e), "train_loss": str(v), "val_loss": str(v + 1), "phase": phase}
        for phase, v in (("fold1", 1.0), ("fold2", 3.0))
        for e in (1, 2)
    ]
    rows.append({"epoch": "1", "train_loss": "9", "val_loss": "", "phase": "final"})
    epochs = summarize(make_facts(epochs=tuple(rows)))["learning"]["epochs"]
    assert epochs == {"epoch": [1.0, 2.0], "train_loss": [2.0, 2.0], "val_loss": [3.0, 3.0]}
    only = summarize(make_facts(epochs=tuple(rows[-1:])))["learning"]["epochs"]
    assert only == {"epoch": [1.0], "train_loss": [9.0]}


def test_trained_stages_have_learning_rates(make_facts: Callable[..., ClassifierRecord]) -> None:
    plan = {"train_from": "stage1", "lr": 0.001, "layer_decay": 0.5}
    verdict = {"num_samples": 15, "accuracy_gain": 0.1, "accuracy_error": 0.05, "gain": 0.1, "is_better": True}
    facts = make_facts(sections={"finetune": {"plan": plan, "verdict": verdict}})
    report, text = page_of(facts)
    assert {p["name"]: (p["state"], p["rate"]) for p in report["model"]["parts"]} == {
        "stem": ("frozen", None),
        "stage1": ("trained", 0.001),
    }
    assert "log-loss -0.1000; better with 80 % confidence." in text
