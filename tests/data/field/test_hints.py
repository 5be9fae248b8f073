"""Test that what a question or an error of the reader suggests can be pasted into every command that reads data."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_field_layouts import KINDS, put, write
from typer.testing import CliRunner

from headstart.cli.main import app
from headstart.data.sources import read
from headstart.errors import HeadstartError


def mixed_depths(root: Path) -> None:
    put(root, *(f"{f}/{i}.png" for f in ("glass", "metal", "soft/paper", "soft/cardboard") for i in range(2)))


def two_nested_levels(root: Path) -> None:
    put(root, *(f"{a}/{b}/{i}.png" for a in ("shirt", "dress") for b in ("indoor", "outdoor") for i in range(3)))


def something_beside_splits(root: Path) -> None:
    put(root, *(f"{s}/{k}/1.png" for s in ("train", "test", "misc") for k in KINDS))


def several_label_columns(root: Path) -> None:
    put(root, *(f"{i}.png" for i in range(8)))
    write(root, "t.csv", "image,color,shape", *(f"{i}.png,{'rb'[i % 2]},{'xy'[i // 4]}" for i in range(8)))


def numbered_folds(root: Path) -> None:
    put(root, *(f"{i}.png" for i in range(4)))
    write(root, "t.csv", "image,label,fold", *(f"{i}.png,{KINDS[i % 2]},{i}" for i in range(4)))


def table_against_folders(root: Path) -> None:
    put(root, *(f"{k}/{i}.png" for k in KINDS for i in range(3)))
    write(root, "my labels.csv", "image,label", *(f"{k}/{i}.png,{'xy'[i % 2]}" for k in KINDS for i in range(3)))


def two_tables(root: Path) -> None:
    put(root, *(f"{i}.png" for i in range(4)))
    for name, labels in (("one.csv", "xyxy"), ("two.csv", "xxyy")):
        write(root, name, "image,label", *(f"{i}.png,{label}" for i, label in enumerate(labels)))


def two_sets_of_tables(root: Path) -> None:
    put(root, *(f"{i}.png" for i in range(8)))
    for kind, labels in (("fine", "abcdabcd"), ("coarse", "xxyyxxyy")):
        for split, numbers in (("train", range(4)), ("test", range(4, 8))):
            write(root, f"{kind}_{split}.csv", "image,label", *(f"{i}.png,{labels[i]}" for i in numbers))


def labels_in_file_names(root: Path) -> None:
    put(root, *(f"train/{k}.{i}.png" for k in KINDS for i in range(3)), "test/1.png")


def versions_of_images(root: Path) -> None:
    put(root, *(f"{v}/{k}/{i}.png" for v in ("color", "gray") for k in KINDS for i in range(2)))


def numbers_without_a_start(root: Path) -> None:
    put(root, *(f"{i}.png" for i in range(4)))
    write(root, "train.txt", *(f"{i}.png {i % 2 + 1}" for i in range(4)))
    write(root, "classes.txt", "zebra", "gnu", "okapi")


def unknown_splits(root: Path) -> None:
    put(root, *(f"{i}.png" for i in range(4)))
    write(root, "t.csv", "image,label,split", *(f"{i}.png,{KINDS[i % 2]},part{i}" for i in range(4)))


def lists_against_folders(root: Path) -> None:
    put(root, *(f"{s}/{k}/1.png" for s in ("train", "test") for k in KINDS))
    write(root, "train.txt", *(f"test/{k}/1.png" for k in KINDS))
    write(root, "test.txt", *(f"train/{k}/1.png" for k in KINDS))


def list_of_missing_images(root: Path) -> None:
    put(root, *(f"{k}/{i}.png" for k in KINDS for i in range(3)))
    write(root, "train.txt", "cat/0.png", "cat/7.png", "dog/8.png")


ASKED = (
    *(mixed_depths, two_nested_levels, something_beside_splits, several_label_columns, numbered_folds),
    *(table_against_folders, two_tables, two_sets_of_tables, labels_in_file_names, versions_of_images),
    *(numbers_without_a_start, unknown_splits, lists_against_folders, list_of_missing_images),
)
COMMANDS = ("train", "check", "show", "embed", "evaluate MODEL", "compare RUN RUN --data")
_VALUE = r"(?:'[^']*'|(?!(?:if|for|to|or|and)\b)[^\s',;]+)"
_SUGGESTION = re.compile(rf"--[a-z][a-z-]* {_VALUE}(?: --[a-z][a-z-]* {_VALUE})*")


class _StoppedError(Exception):
    """The data were read; the rest of the command is not tested."""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop every command as soon as its data are read."""

    def stop(*args: Any, **options: Any) -> None:
        raise _StoppedError(len(read(*args, **options)))

    runtime = SimpleNamespace(bundle=SimpleNamespace(task="classify", positive=None, info={}), class_names=("a", "b"))
    for module in (
        "quality.dataset_split",
        "tasks.classify.check",
        "tasks.classify.show",
        "pipelines.embed",
        "tasks.classify.evaluate",
    ):
        monkeypatch.setattr(f"headstart.{module}.read", stop)
    monkeypatch.setattr("headstart.api.functions.load", lambda *_, **__: SimpleNamespace(runtime=runtime))
    monkeypatch.setattr("headstart.pipelines.compare.read_metrics", lambda _: {"task": "classify"})
    monkeypatch.setattr("headstart.tasks.classify.compare._read", lambda _: SimpleNamespace(class_names=("a", "b")))
    monkeypatch.setattr("headstart.tasks.classify.compare.Runtime", lambda _: runtime)


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize("build", ASKED)
def test_every_suggestion_works_in_every_command(tmp_path: Path, build: Callable[[Path], None]) -> None:
    data = tmp_path / "data"
    build(data)
    with pytest.raises(HeadstartError) as caught:
        read(data)
    suggestions = _SUGGESTION.findall(caught.value.hint or "")
    assert suggestions
    for command in COMMANDS:
        for suggestion in suggestions:
            options = shlex.split(suggestion)
            out = ["--out", str(tmp_path / "out.npz")] if command in ("train", "embed") else []
            result = CliRunner().invoke(app, [*command.split(), str(data), *options, *out], standalone_mode=False)
            assert isinstance(result.exception, _StoppedError), f"{command} {suggestion}: {result.exception}"
