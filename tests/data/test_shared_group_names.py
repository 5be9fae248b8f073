"""Test that folders of one name in several classes are a question only where the images do not tell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import encode, scene

from headstart.cli.main import main
from headstart.data.sources import read
from headstart.errors import UsageError
from headstart.quality.inspection import apply_report, inspect_dataset
from headstart.types.codes import ReadingKind

NUM_DISHES, NUM_IMAGES = 8, 4


def write(folder: Path, scene_of: Callable[[int, int, int], int], inside: str = "") -> Path:
    """Write `class/dish/image.jpg`, each image a scene of its class, dish and number."""
    for c, label in enumerate(("control", "treated")):
        for dish in range(NUM_DISHES):
            for i in range(NUM_IMAGES):
                file = folder / inside / label / f"dish{dish}" / f"{i}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                image = np.asarray(scene(scene_of(c, dish, i)), dtype=np.float64)
                noise = np.random.default_rng([c, dish, i]).normal(0, 25, image.shape)
                file.write_bytes(encode(Image.fromarray(np.clip(image + noise, 0, 255).astype(np.uint8))))
    return folder


def number_of_groups(folder: Path, group_from: str | None = None) -> int:
    samples = read(folder)
    groups = apply_report(samples, inspect_dataset(samples, group_from=group_from), group_from=group_from).groups
    assert groups is not None
    return len(np.unique(groups))


def exit_code(*arguments: str) -> object:
    try:
        return main(list(arguments))
    except SystemExit as stop:
        return stop.code or 0


@pytest.mark.parametrize("inside", ["", "images"])
def test_unclear_names_are_a_question_and_both_options_work(tmp_path: Path, inside: str) -> None:
    data = write(tmp_path / "data", lambda c, dish, i: 1000 + 100 * c + 10 * dish + i, inside)
    with pytest.raises(UsageError, match="several readings fit") as caught:
        number_of_groups(data)
    options = re.findall(r"--group-from (\S+) for \((\d)\)", str(caught.value.hint))
    assert [number for _, number in options] == ["1", "2"]
    counts = re.findall(r": (\d+) groups", str(caught.value))
    chosen = [shlex.split(option)[0] for option, _ in options]
    assert [number_of_groups(data, option) for option in chosen] == list(map(int, counts))
    assert sorted(map(int, counts)) == [NUM_DISHES, 2 * NUM_DISHES]


def test_commands_of_the_question_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data", lambda c, dish, i: 1000 + 100 * c + 10 * dish + i)
    assert exit_code("check", str(data)) == 2
    error = capsys.readouterr().err
    options = re.findall(r"--group-from \S+(?= for \()", error)
    assert len(options) == 2
    for option in options:
        assert exit_code("check", str(data), *shlex.split(option)) == 0


@pytest.mark.parametrize("is_shared", [True, False])
def test_clear_similarity_needs_no_question(tmp_path: Path, is_shared: bool) -> None:
    data = write(tmp_path / "data", lambda c, dish, _: 2000 + dish + (0 if is_shared else 50 * c))
    assert number_of_groups(data) == NUM_DISHES
    (note,) = (n for n in read(data).notes if n.kind is ReadingKind.GROUPS_SHARED)
    assert note.count == NUM_DISHES
