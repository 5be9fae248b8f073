"""Test that assumptions and unused files are reported by every command and in Python."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import headstart
from headstart.cli.main import main
from headstart.errors import DataError
from headstart.types.codes import ReadingKind

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory, make_images: Make) -> Path:
    """Write two classes that differ in case, two loose images, an empty table and a two-page file."""
    root = make_images(tmp_path_factory.mktemp("messy"), {"stripes": 8, "discs": 8})
    make_images(root, {"Stripes": 4}, first_seed=40)
    for name in ("loose1.jpg", "loose2.jpg"):
        shutil.copy(root / "discs" / "000.jpg", root / name)
    first, second = (Image.open(root / "discs" / f"{i:03d}.jpg").convert("RGB") for i in (1, 2))
    first.transpose(Image.Transpose.ROTATE_90).save(root / "discs" / "pages.tif", save_all=True, append_images=[second])
    return root


@pytest.fixture(scope="module")
def run(messy: Path, tmp_path_factory: pytest.TempPathFactory) -> headstart.Run:
    return headstart.train(messy, out=tmp_path_factory.mktemp("runs") / "one", group_from="none")


def command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def kinds(value: dict[str, Any]) -> dict[str, set[str]]:
    return {name: {note["kind"] for note in value[name]} for name in ("assumptions", "unused_data")}


EXPECTED = {"assumptions": {ReadingKind.CLASSES_ALIKE}, "unused_data": {ReadingKind.UNLABELED_IMAGES}}


def test_train_reports_reading(run: headstart.Run) -> None:
    assert kinds(run.reading) == EXPECTED
    (unused,) = run.reading["unused_data"]
    assert (unused["count"], unused["examples"]) == (2, ["loose1.jpg", "loose2.jpg"])
    log = (run.folder / "train.log").read_text(encoding="utf-8")
    for text in (log, repr(run), run._repr_html_()):
        assert "loose1.jpg" in text
        assert "`Stripes` and `stripes`" in text
    report = json.loads((run.folder / "dataset_report.json").read_text(encoding="utf-8"))
    assert {f["kind"]: f["evidence"].get("examples") for f in report["findings"]}["pages_not_used"] == [
        "discs/pages.tif"
    ]
    assert "discs/pages.tif" in log
    assert "stack" not in {r["kind"] for r in report["handled_files"]}


def test_check_reports_reading(messy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = command(capsys, "check", messy, "--pixels-only", "--json", "-")
    value = json.loads(out)
    assert kinds(value) == EXPECTED
    assert "pages_not_used" in {f["kind"] for f in value["findings"]}
    lines = command(capsys, "check", messy, "--pixels-only")[2].splitlines()
    for name in ("loose1.jpg", "`Stripes` and `stripes`"):
        assert sum(name in line for line in lines) == 1
    checked = headstart.check(messy, use_network=False)
    assert "pages_not_used" in {f.kind for f in checked.findings}
    assert repr(checked).splitlines()[:3] == lines[:3]


def test_reading_problems_are_findings(tmp_path: Path, make_images: Make) -> None:
    root = make_images(tmp_path, {"stripes": 10, "discs": 10})
    assert "no problems" in repr(headstart.check(root, use_network=False))
    shutil.copy(root / "discs" / "000.jpg", root / "loose.jpg")
    text = repr(headstart.check(root, use_network=False))
    assert "loose.jpg" in text
    assert "no problems" not in text


def test_show_reports_reading(messy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = command(capsys, "show", messy, "--out", tmp_path / "s.png", "--per-class", "1")
    assert code == 0
    assert [line.split()[0] for line in err.splitlines()][:2] == ["Dataset", "Read"]  # classes that are alike


def test_python_reports_reading(messy: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,label\nd/1.jpg,a\nd/2.jpg,b\nd/gone.jpg,a\n")
    (tmp_path / "d").mkdir()
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        shutil.copy(messy / "discs" / "000.jpg", tmp_path / "d" / name)
    with caplog.at_level(logging.WARNING, logger="headstart"):
        headstart.show(tmp_path)
    assert any("d/3.jpg" in message for message in caplog.messages)
    assert any("d/gone.jpg" in message for message in caplog.messages)


def test_evaluate_matches_spellings(
    run: headstart.Run, tmp_path: Path, make_images: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    new = make_images(tmp_path / "new", {"striPES": 2, "DISCS": 3}, first_seed=500)  # ambiguous
    shutil.copy(new / "DISCS" / "000.jpg", new / "loose.jpg")
    (new / "DISCS" / "broken.jpg").write_bytes(b"")
    result = headstart.evaluate(run.folder, new)
    assert result.evaluation is not None
    assert result.evaluation.num_samples == 3
    assert result.new_classes == ("striPES",)
    assert {n.kind for n in result.notes} == {ReadingKind.LABELS_MATCHED, ReadingKind.UNLABELED_IMAGES}
    assert [(p.name, p.kind) for p in result.problems] == [("DISCS/broken.jpg", "empty")]
    value = result.to_json()
    assert kinds(value) == {
        "assumptions": {ReadingKind.LABELS_MATCHED},
        "unused_data": {ReadingKind.UNLABELED_IMAGES},
    }
    assert "loose.jpg" in repr(result)
    code, _, err = command(capsys, "evaluate", run.folder, new)
    assert code == 0
    assert any(line.startswith("Read") and " 4 labels " in line for line in err.splitlines())
    assert "loose.jpg" in err
    assert "broken.jpg" in err
    assert json.loads(command(capsys, "evaluate", run.folder, new, "--json")[1]) == value


def test_nothing_to_score_exits_with_3(
    run: headstart.Run, messy: Path, tmp_path: Path, make_images: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    known = tmp_path / "known"
    (known / "discs").mkdir(parents=True)
    shutil.copy(messy / "discs" / "003.jpg", known / "discs" / "renamed.jpg")
    code, out, err = command(capsys, "evaluate", run.folder, known)
    assert (code, out) == (3, "")
    code, out, err = command(capsys, "evaluate", run.folder, known, "--json")
    assert code == 3
    assert json.loads(out)["trained_on"]["num_samples"] == 1
    assert headstart.evaluate(run.folder, known).known is not None

    broken = tmp_path / "broken"
    (broken / "discs").mkdir(parents=True)
    (broken / "discs" / "half.jpg").write_bytes((messy / "discs" / "003.jpg").read_bytes()[:600])
    code, _, err = command(capsys, "evaluate", run.folder, broken)
    assert code == 3
    assert "discs/half.jpg" in err
    with pytest.raises(DataError, match=r"half\.jpg"):
        headstart.evaluate(run.folder, broken)

    other = make_images(tmp_path / "other", {"giraffe": 2})
    code, _, err = command(capsys, "evaluate", run.folder, other)
    assert code == 3
    assert "giraffe" in err


def test_reader_options_of_all_commands(
    run: headstart.Run, tmp_path: Path, make_images: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_images(tmp_path / "made", {"stripes": 3, "discs": 3}, first_seed=700)
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in made.rglob("*.jpg"):
        shutil.copy(file, flat / f"{file.parent.name}_{file.name}")
    result = headstart.evaluate(run.folder, flat, label_pattern="{label}_*")
    assert result.evaluation is not None
    assert result.evaluation.num_samples == 6
    assert command(capsys, "evaluate", run.folder, flat, "--label-pattern", "{label}_*")[0] == 0
    (made / "list.txt").write_text("\n".join(f"x{i}.jpg {1 + i % 2}" for i in range(4)))
    for i in range(4):
        shutil.copy(made / "discs" / "000.jpg", made / f"x{i}.jpg")
    (made / "classes.txt").write_text("discs\nstripes\nother\nmore\n")
    for arguments in (
        ("check", made / "list.txt", "--pixels-only"),
        ("evaluate", run.folder, made / "list.txt"),
        ("show", made / "list.txt", "--out", tmp_path / "s.png"),
    ):
        code, _, err = command(capsys, *arguments)
        assert code == 2
        assert "--first-id 0" in err
        code, _, err = command(capsys, *arguments, "--first-id", "1")
        assert code in (0, 3)
        assert "hint" not in err
