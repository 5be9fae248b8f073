"""Test published datasets by name: `check` reads them right, or asks and its first suggestion does."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import competition_datasets
import everyday_datasets
import exported_datasets
import medical_datasets
import object_datasets
import pytest
import stray_datasets
from dataset_files import DATASETS, Counts, Files, NamedDataset
from typer.testing import CliRunner

from headstart.cli.main import app
from headstart.errors import HeadstartError

assert competition_datasets
assert everyday_datasets
assert exported_datasets
assert medical_datasets
assert object_datasets
assert stray_datasets

_VALUE = r"(?:'[^']*'|(?!(?:if|for|to|or|and)\b)[^\s',;]+)"
_SUGGESTION = re.compile(rf"--[a-z][a-z-]* {_VALUE}(?: --[a-z][a-z-]* {_VALUE})*")
_IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".tif")


def is_image(name: str) -> bool:
    """Return whether a path is that of an image, and not of a file of an operating system."""
    return name.lower().endswith(_IMAGES) and not Path(name).name.startswith("._")


def check(data: Path, *options: str, never: Sequence[str] = ()) -> Counts | HeadstartError:
    """Return the classes and splits that `headstart check --json` reports, or its error."""
    result = CliRunner().invoke(
        app, ["check", str(data), "--pixels-only", "--json", "-", *options], standalone_mode=False
    )
    if isinstance(result.exception, HeadstartError):
        return result.exception
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    value = json.loads(result.stdout)
    if data.is_dir():  # no image is lost without a reason
        unused = [u["path"] for u in value["unused"]]
        closed = tuple(name for name in unused if name.endswith("/"))
        listed = [name for name in (str(p.relative_to(data)) for p in data.rglob("*") if p.is_file()) if is_image(name)]
        num_labeled = sum(n for splits in value["classes"].values() for n in splits.values())
        num_open = sum(not name.startswith(closed or "\0") for name in listed)
        assert not listed or num_open == num_labeled + sum(map(is_image, unused))  # containers hold them otherwise
        used = {name for name in listed if not name.startswith(closed or "\0")} - set(unused)
        assert not [name for name in used if any(fnmatch(name, pattern) for pattern in never)]
    return dict(value["classes"])


def first_suggestion(error: HeadstartError, data: Path) -> tuple[Path, list[str]]:
    """Return what the user pastes: the path and options of the first suggestion of an error."""
    hint = error.hint or ""
    for word in re.findall(r"'[^']*'|[^\s,;]+", hint):
        path = Path(word.strip("'()"))
        if path.is_absolute() and path.exists():
            return path, []
    found = _SUGGESTION.search(hint)
    assert found, f"no suggestion in: {error}"
    return data, shlex.split(found.group())


@pytest.mark.parametrize("named", DATASETS.values(), ids=DATASETS)
def test_published_datasets_are_read(named: NamedDataset, tmp_path: Path) -> None:
    named.build(Files(tmp_path))
    data = tmp_path / named.path
    found = check(data, *named.options, never=named.never)
    if isinstance(found, HeadstartError) and named.refused and all(text in str(found) for text in named.refused):
        return
    if isinstance(found, HeadstartError):
        question = found
        place, options = first_suggestion(found, data)
        found = check(place, *named.options, *options, never=named.never)
        assert not isinstance(found, HeadstartError), f"{question}\nthen {options}: {found}"
    assert found in named.expected
