"""Test the model card: hub metadata, score with interval, escaped names, no file names."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from headstart.reports.html import render_text
from headstart.reports.record import ClassifierRecord
from headstart.reports.summary import summarize


def test_card_has_metadata_score_and_limits(make_facts: Callable[..., ClassifierRecord]) -> None:
    facts = make_facts()
    text = render_text("card.md", summarize(facts))
    _, metadata, body = text.split("---\n", 2)
    read = yaml.safe_load(metadata)
    assert read["license"] == "apache-2.0"
    assert read["pipeline_tag"] == "image-classification"
    value = read["model-index"][0]["results"][0]["metrics"][0]["value"]
    score = facts.metrics["headline"]
    assert abs(value - score["value"]) < 1e-4
    assert f"{100 * score['low']:.1f}-{100 * score['high']:.1f}" in body
    for heading in ("## Intended use", "## Data", "## Score", "## Limitations", "## License"):
        assert heading in body
    assert ".jpg" not in text


def test_card_escapes_names(make_facts: Callable[..., ClassifierRecord]) -> None:
    facts = make_facts(("<script>alert(1)</script>", "a|b\n---", "`c`: [x](http://y)"), skill=0.3)
    text = render_text("card.md", summarize(facts))
    assert "<script>" not in text.replace("`<script>alert(1)</script>`", "")
    yaml.safe_load(text.split("---\n", 2)[1])
    rows = [line for line in text.splitlines() if line.startswith("| ") and "support" not in line]
    assert all(line.replace("\\|", "").count("|") == 6 for line in rows)


def test_unknown_license_is_other(make_facts: Callable[..., ClassifierRecord]) -> None:
    facts = make_facts()
    report = summarize(facts)
    report["model"]["weights_license"] = None
    read = yaml.safe_load(render_text("card.md", report).split("---\n", 2)[1])
    assert (read["license"], read["license_name"]) == ("other", "not stated")
