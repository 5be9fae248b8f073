"""Test the command line: output, rows, exit codes, no tracebacks."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from event_text import events_of

import headstart
from headstart.utils.system import private_folder


def headstart_command(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headstart", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("cli")
    done = headstart_command("train", photos, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "train1", done


def test_train_output(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = trained
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) <= 12
    assert lines[0].split()[:2] == ["Dataset", "48"]
    assert any("95 % CI" in line for line in lines)
    assert any(line.startswith("Next") and "headstart predict" in line for line in lines)


def test_screen_has_at_most_twelve_lines(
    tmp_path: Path, make_images: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty classes of two images and twelve kinds of bad files give at most 12 lines of 100 characters."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "data")
    from bad_files import bad_files

    data = tmp_path / "d"
    for i in range(30):  # different images per class
        make_images(data, {f"class{i:02d}": 2}, first_seed=20_000 + 2 * i)
    bad: dict[str, str] = {}
    for name, (kind, make) in bad_files().items():
        if kind not in bad.values() and len(bad) < 12:
            make(data / "class00" / name)
            bad[name] = kind
    assert len(bad) == 12
    done = headstart_command("train", "d", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lines = done.stderr.splitlines()
    assert 3 <= len(lines) <= 12, done.stderr
    assert max(map(len, lines)) <= 100, done.stderr
    checked = headstart_command("check", "d", "--pixels-only", cwd=tmp_path)
    assert checked.returncode == 3
    assert checked.stdout == ""
    lines = checked.stderr.splitlines()
    assert 3 <= len(lines) <= 12, checked.stderr
    assert max(map(len, lines)) <= 100, checked.stderr
    assert sum("12 files" in line for line in lines) == sum("30 classes with" in line for line in lines) == 1
    whole = headstart_command("check", "d", "--pixels-only", "-v", cwd=tmp_path)
    assert not {name for name in bad if f"class00/{name}" not in whole.stderr}, whole.stderr
    listed = headstart_command("check", "d", "--pixels-only", "--json", "-", cwd=tmp_path)
    assert set(bad.values()) <= {row["kind"] for row in json.loads(listed.stdout)["unreadable"]}


def test_runs_are_numbered(trained: tuple[Path, subprocess.CompletedProcess[str]], photos: Path) -> None:
    done = headstart_command("train", photos, cwd=trained[0].parent.parent)
    assert done.returncode == 0
    assert (trained[0].parent / "train2" / "metrics.json").is_file()


def test_predict_writes_rows(
    trained: tuple[Path, subprocess.CompletedProcess[str]], photos: Path, tmp_path: Path
) -> None:
    done = headstart_command("predict", trained[0], photos / "discs", "--top", 2)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 16
    uncertainty = {"ood_score", "is_ood", "prediction_set"}
    assert set(rows[0]) == {"file", "label", "probability", "label2", "probability2", *uncertainty, "error"}
    (tmp_path / "broken.jpg").write_bytes(b"no")
    done = headstart_command(
        "predict", trained[0], tmp_path, photos / "discs" / "001.jpg", "--out", tmp_path / "a.jsonl"
    )
    assert done.returncode == 1
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [bool(line["error"]) for line in lines] == [True, False]


def test_evaluate_as_json(trained: tuple[Path, subprocess.CompletedProcess[str]], photos: Path) -> None:
    done = headstart_command("evaluate", trained[0], photos, "--json")
    assert done.returncode == 3, done.stderr  # every image was trained on
    result = json.loads(done.stdout)
    assert result["test"] is None
    assert result["trained_on"]["num_samples"] == 48


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train"], 2, "no data given"),
        (["trian"], 2, "No such command"),
        (["train", "{photos}", "--epochs", "3"], 2, "no effect"),
        (["train", "{photos}", "sede=3"], 2, "did you mean `seed`?"),
        (["train", "{photos}", "--resize-mode", "stretch"], 2, "stretch"),
        (["train", "{photos}", "--out", "{photos}"], 2, "never overwritten"),
        (["train", "{photos}", "--backbone", "resnet5000"], 2, "resnet50"),
        (["train", "{empty}"], 3, "empty"),
        (["train", "{photos}", "--group-from", "patient"], 2, "patient"),
        (["train", "{photos}", "--split", "none.csv"], 3, "(No such file or directory).\nhint: pass the split.csv"),
        (
            ["train", "{photos}", "--label-corrections", "none.csv"],
            2,
            "(No such file or directory).\nhint: pass the label_errors",
        ),
        (["predict", "{empty}", "x.jpg"], 1, "no"),
        (["predict", "{photos}/none", "x.jpg"], 2, "no model"),
        (["cache", "clear", "everything"], 2, "no part"),
    ],
)
def test_errors_have_message_and_exit_code(
    arguments: list[str], code: int, words: str, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    filled = [a.format(photos=photos, empty=tmp_path / "empty") for a in arguments]
    done = headstart_command(*filled, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    assert words.lower() in done.stderr.lower()


def test_version_and_module() -> None:
    assert headstart_command("--version").stdout.strip() == f"headstart {headstart.__version__}"


def test_doctor_output() -> None:
    done = headstart_command("doctor")
    assert ("No problems found." in done.stdout) == (done.returncode == 0)
    assert "cache" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("stop", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGKILL])
def test_interrupted_run_is_repeated_exactly(
    stop: signal.Signals,
    tmp_path: Path,
    make_images: Callable[..., Path],
    cache_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stop while embedding, train again, and compare with an uninterrupted run."""
    data = make_images(tmp_path / "d", {"a": 120, "b": 120}, first_seed=10_000 + stop)
    private_folder(cache_root / "graphs")
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache" / "graphs").symlink_to(cache_root / "graphs")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))  # none of its images is known
    command = [sys.executable, "-m", "headstart", "train", str(data), "--out", str(tmp_path / "one")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any((tmp_path / "cache" / "features").rglob("*.rows")):  # until the first few images are embedded
        assert process.poll() is None
        assert time.monotonic() < deadline, "no features were written"
        time.sleep(0.01)
    process.send_signal(stop)
    _, events = process.communicate(timeout=60)
    assert "Traceback" not in events
    assert process.returncode == (130 if stop == signal.SIGINT else -stop)
    assert ("stopped" in events) == (stop == signal.SIGINT)
    again = headstart_command("train", data, "--out", tmp_path / "two")
    assert again.returncode == 0
    (features,) = [e for e in events_of(tmp_path / "two", "stage_finished") if e["stage"] == "features"]
    assert 0 < features["evidence"]["num_cached"] < 240
    assert headstart_command("train", data, "--out", tmp_path / "three", "--no-cache").returncode == 0
    two, three = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("two", "three"))
    for block in ("cv", "train"):
        assert two[block] == three[block]
