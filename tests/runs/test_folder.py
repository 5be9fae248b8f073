"""Test run folders: locking, restart after a kill, protection of other files."""

from __future__ import annotations

import json
import os
import platform
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from headstart.errors import HeadstartError, UsageError
from headstart.runs.files import environment
from headstart.runs.folder import finish_run_folder, own_run_folder, read_marker


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def killed(folder: Path) -> Path:
    """Return a folder as left by a killed run; its process id belongs to a living process."""
    folder.mkdir()
    marker = {"pid": os.getppid(), "host": platform.node(), "command": []}
    (folder / "unfinished.json").write_text(json.dumps(marker))
    (folder / "split.csv").write_text("half")
    return folder


def test_finished_run_has_no_marker(tmp_path: Path) -> None:
    with own_run_folder(None, parent=tmp_path) as folder:
        assert folder == tmp_path / "train1"
        assert names(folder) == {"lock", "unfinished.json"}
        (folder / "metrics.json").write_text("{}")
        finish_run_folder(folder)
    assert names(folder) == {"metrics.json"}
    with own_run_folder(None, parent=tmp_path) as other:
        assert other == tmp_path / "train2"
        finish_run_folder(other)


def test_run_folder_is_locked(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    with own_run_folder(out) as folder:
        (folder / "split.csv").write_text("mine")
        with pytest.raises(UsageError, match="locked by another process"), own_run_folder(out):
            pass
        with pytest.raises(UsageError, match="another process"), own_run_folder(None, resume=folder):
            pass
        assert (folder / "split.csv").read_text() == "mine"
        finish_run_folder(folder)


def test_killed_run_is_restarted(tmp_path: Path) -> None:
    folder = killed(tmp_path / "run")
    with own_run_folder(str(folder)):
        assert names(folder) == {"lock", "unfinished.json"}
        finish_run_folder(folder)


def test_failed_run_is_deleted(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), own_run_folder(str(tmp_path / "run")) as folder:
        (folder / "split.csv").write_text("half")
        raise RuntimeError
    assert not (tmp_path / "run").exists()
    with pytest.raises(HeadstartError, match="No space left") as caught, own_run_folder(str(tmp_path / "run")):
        raise OSError(28, "No space left on device")
    assert "--out" in (caught.value.hint or "")
    assert not (tmp_path / "run").exists()


def test_resumable_run_is_kept(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    with pytest.raises(HeadstartError) as caught, own_run_folder(out) as folder:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "journal.json").write_text("{}")
        raise OSError(28, "No space left on device")
    assert f"headstart resume {folder}" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="resume"), own_run_folder(out):
        pass
    with own_run_folder(None, resume=folder):
        assert (folder / "checkpoints" / "journal.json").exists()
        finish_run_folder(folder)
    assert "lock" not in names(folder)


def test_folder_with_other_files_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("words")
    with pytest.raises(UsageError, match="never overwritten"), own_run_folder(str(tmp_path / "thesis")):
        pass
    assert names(tmp_path / "thesis") == {"chapter1.txt"}
    (killed(tmp_path / "run") / "notes.txt").write_text("words")
    with pytest.raises(UsageError, match=r"other files: notes\.txt"), own_run_folder(str(tmp_path / "run")):
        pass
    assert {"notes.txt", "split.csv"} <= names(tmp_path / "run")


def test_marker_lists_resumes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), own_run_folder(str(tmp_path / "run"), started=time.monotonic() - 60) as run:
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "journal.json").write_text("{}")
        raise KeyboardInterrupt
    first = read_marker(run)
    for count in (1, 2):
        with pytest.raises(KeyboardInterrupt), own_run_folder(None, resume=run, started=time.monotonic() - 30):
            marker = read_marker(run)
            assert (marker["started"], marker["command"]) == (first["started"], first["command"])
            assert len(marker["resumed"]) == count
            raise KeyboardInterrupt
    info = environment(0, marker)
    began, again, ended = (datetime.fromisoformat(t) for t in (info["started"], marker["resumed"][0], info["finished"]))
    assert began.tzinfo is not None
    assert timedelta(seconds=60) <= ended - began < timedelta(seconds=70)
    assert timedelta(seconds=30) <= ended - again < timedelta(seconds=40)
