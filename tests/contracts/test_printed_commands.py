"""Commands that headstart prints for `train` repeat the options given, and `train` accepts them."""

from __future__ import annotations

import shlex
from typing import Any

import typer

from headstart.cli._options import given_settings
from headstart.cli.main import app
from headstart.config.settings import resolve
from headstart.messages.files import train_command
from headstart.tasks.options import REPEATED, given_options

_GIVEN: dict[str, Any] = {
    "layout": "{group}/{label}/*",
    "label_pattern": "{label}_*",
    "first_id": 1,
    "table": "a table.csv",
    "image_column": "path",
    "label_column": "my label",
    "split_column": "none",
    "group_column": "patient",
    "exclude": ("masks", "a b/*.png"),
    "pages": "R=1,G=3",
    "name_encoding": "cp437",
    "allow_external_paths": True,
    "group_from": "image",
    "intensity_range": (0.0, 4095.0),
    "max_pixels": 200_000_000,
    "task": "classify",
    "split": "runs/train1/split.csv",
    "test_size": 0.25,
    "exclude_classes": ("cat", "dog"),
    "positive": "cat",
    "label_corrections": "label_errors.csv",
    "backbone": "lite1",
    "image_size": 240,
    "resize_mode": "pad",
    "seed": 7,
}


def _accept(values: object) -> None: ...


def _parsed(command: str) -> dict[str, Any]:
    train = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    words = shlex.split(command)
    assert words[:2] == ["headstart", "train"]
    context = train.make_context("train", words[2:])
    return {k: v for k, v in context.params.items() if v not in (None, [], ())}


def test_next_training_repeats_every_option() -> None:
    assert set(_GIVEN) == set(REPEATED)
    options = given_options(resolve({"data": "photos", **_GIVEN}, validate=_accept))
    assert options == _GIVEN
    parsed = _parsed(train_command("photos", {**options, "budget": "5m"}))
    assert set(_GIVEN) - set(parsed) == set()
    again = resolve(given_settings({"data": "photos", **{name: parsed[name] for name in _GIVEN}}), validate=_accept)
    assert {name: getattr(again.settings, name) for name in _GIVEN} == _GIVEN


def test_defaults_are_not_repeated() -> None:
    assert given_options(resolve({"data": "photos"}, validate=_accept)) == {}
