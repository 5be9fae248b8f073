"""Test that every option of the command line exists in Python, declared by name and type."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
import typer

import headstart
from headstart.api import keywords
from headstart.cli.main import app
from headstart.config.aliases import ALIASES
from headstart.config.settings import known_names
from headstart.data.options import ReadOptions
from headstart.errors import SettingError
from headstart.reports.writer import ReportOptions
from headstart.tasks.options import CheckOptions, EvaluateOptions, ShowOptions

_OF_SCREEN = {"progress", "quiet", "verbose"}  # `verbose`, `on_progress` and `events` in Python
_AS_JSON = {"as_json"}  # the returned value has `to_json`
# Options under another name in Python, or of the output on the command line only.
_RENAMED = {
    "train": {
        "no_images": "include_images",
        "no_cache": "cache",
        "finetune__head": "head",
        "probe__class_weights": "class_weights",
        "help_all": None,
    },
    "check": {"no_network": "use_network"},
    "compare": {"out": None},  # `Comparison.plot` and `to_json`
    "report": {},
    "show": {},
    "evaluate": {},
    "embed": {"no_cache": "cache"},
    "convert": {},
    # Files of predictions are written by `to_csv`; links and downloads are options of `check` and `load`.
    "predict": {
        "iou": "nms_iou",
        **dict.fromkeys(("out", "to", "like", "draw", "allow_external_paths", "offline")),
    },
}


@pytest.mark.parametrize(
    ("declared", "options"),
    [
        (keywords.ReadKeywords, ReadOptions),
        (keywords.CheckKeywords, CheckOptions),
        (keywords.ShowKeywords, ShowOptions),
        (keywords.EvaluateKeywords, EvaluateOptions),
        (keywords.CompareKeywords, ReadOptions),
        (keywords.ReportKeywords, ReportOptions),
    ],
)
def test_keywords_are_the_fields_of_the_options(declared: type, options: type) -> None:
    assert get_type_hints(declared) == {f.name: get_type_hints(options)[f.name] for f in fields(options)}


def test_train_keywords_are_the_settings() -> None:
    declared = set(keywords.TrainKeywords.__annotations__)
    top = {name.partition(".")[0] for name in known_names()} - {"data"}
    assert top <= declared
    assert {ALIASES.get(name, name) for name in declared - top} <= set(known_names())


@pytest.mark.parametrize("verb", sorted(_RENAMED))
def test_every_option_of_the_command_line_is_a_keyword(verb: str) -> None:
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    declared = getattr(keywords, f"{verb.capitalize()}Keywords").__annotations__
    known = {*getattr(headstart, verb).__annotations__, *declared}
    for parameter in command.params:
        if parameter.param_type_name == "argument" or parameter.name in _OF_SCREEN | _AS_JSON | {"help"}:
            continue
        name = _RENAMED[verb].get(parameter.name, parameter.name)
        assert name is None or name in known or ALIASES.get(name) in known_names(), f"{verb}: {parameter.name}"


@pytest.mark.parametrize(
    ("verb", "arguments", "typo", "meant"),
    [
        ("check", ("d",), "group_form", "group_from"),
        ("show", ("d",), "image_sise", "image_size"),
        ("report", ("r",), "figure", "figures"),
        ("compare", ("a", "b"), "layuot", "layout"),
        ("train", ("d",), "epoch", "epochs"),
    ],
)
def test_unknown_options_name_the_closest(
    verb: str, arguments: tuple[str, ...], typo: str, meant: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingError) as caught:
        getattr(headstart, verb)(*(tmp_path if a == "d" else a for a in arguments), **{typo: 1})
    assert f"`{meant}`" in (caught.value.hint or "")


def test_reading_options_of_compare_need_data() -> None:
    with pytest.raises(SettingError, match="layout"):
        headstart.compare("a", "b", layout="{label}/*")


def test_options_without_effect_on_the_model(photos: Path, tmp_path: Path) -> None:
    run = headstart.train(photos, out=tmp_path / "run", num_threads=1)
    with pytest.raises(SettingError, match="min_score"):
        headstart.predict(run.folder, photos, min_score=0.5)


def test_every_public_name_is_found() -> None:
    assert all(getattr(headstart, name) is not None for name in headstart.__all__)
    assert headstart.load_backbone("timm:resnet10t", weights="none").freeze(below="stage2")[0] == "stem"
