"""Test resuming a run wherever it was stopped, and the errors where that is not possible."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_text import decisions_of, events_of, notes_of

import headstart
from headstart.api.functions import resume
from headstart.errors import DataError, HeadstartError, UsageError
from headstart.events import EventStream, Note
from headstart.messages.screen import LINE_WIDTH, Screen
from headstart.pipelines.resume import find_resumable, load_resume_settings
from headstart.runs.folder import own_run_folder
from headstart.training.checkpoint import Checkpoints, load_snapshot
from headstart.types.codes import NoteKind, Severity
from headstart.utils.locks import FolderLock

pytest.importorskip("torch")

from headstart.tasks.classify import finetune as finetune_pipeline
from headstart.training import log as finetune_log
from headstart.training.jobs import InterruptHandler

HEAD: dict[str, Any] = {"strategy": "head", "epochs": 1, "num_views": 1, "num_threads": 1, "batch": 1000}


class Killed(BaseException):
    """Simulates SIGKILL; no code catches it."""


def die(*arguments: Any, **options: Any) -> Any:
    raise Killed


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., Path]) -> Path:
    return make_images(tmp_path_factory.mktemp("few"), {"stripes": 10, "discs": 10})


@pytest.fixture(scope="module")
def whole(few: Path, tmp_path_factory: pytest.TempPathFactory) -> headstart.Run:
    return headstart.train(few, out=tmp_path_factory.mktemp("runs") / "whole", **HEAD)


@pytest.fixture(scope="module")
def stopped(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed before its first training; tests copy it."""
    folder = tmp_path_factory.mktemp("runs") / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune_pipeline, "_train", die)
        with pytest.raises(Killed):
            headstart.train(few, out=folder, **HEAD)
    return folder


def same(a: headstart.Run, b: headstart.Run) -> bool:
    one, two = (load_snapshot(f / "checkpoints" / "head-head-final.done.safetensors") for f in (a.folder, b.folder))
    return a.score == b.score and all(
        np.array_equal(one.tensors[n].numpy(), two.tensors[n].numpy()) for n in one.tensors
    )


def dying_at(name: str) -> Callable[..., None]:
    """Return a rename that kills the process where a file of the given name is created."""
    rename = os.replace

    def call(source: Any, target: Any) -> None:
        rename(source, target)
        if Path(target).name == name:
            raise Killed

    return call


def test_environment_has_times(whole: headstart.Run, check_times: Callable[[Path], None]) -> None:
    check_times(whole.folder)


LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("bundle.json", "predictions.csv", "report.html")]


@pytest.mark.parametrize("name", ["metrics.json", *LONG])
def test_run_killed_while_writing_resumes(
    name: str, few: Path, whole: headstart.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # commands on the screen name the run by its relative path
    out = tmp_path / "runs" / "train1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", dying_at(name))
        with pytest.raises(Killed):
            headstart.train(few, out=out, **HEAD)
    left = out / ".bundle.0123abcd.tmp"
    left.mkdir()
    assert find_resumable(tmp_path / "runs") == out
    first = json.loads((out / "unfinished.json").read_text())
    screen = io.StringIO()
    assert same(resume(out, events=EventStream([Screen(screen)])), whole)
    lines = screen.getvalue().splitlines()
    assert len(lines) <= 12
    assert max(map(len, lines)) <= LINE_WIDTH
    assert {"Dataset", "Training", "Saved", "Next"} <= {line[:10].strip() for line in lines}
    epochs = [(e["phase"], e["epoch"]) for e in events_of(out, "epoch")]
    assert sorted(epochs) == sorted(set(epochs))
    environment = json.loads((out / "environment.json").read_text())
    assert (environment["started"], environment["command"]) == (first["started"], first["command"])
    assert len(environment["resumed"]) == 1
    assert environment["started"] < environment["resumed"][0] < environment["finished"]
    assert not left.exists()
    with pytest.raises(UsageError, match="finished"):
        resume(out)


@pytest.mark.long
def test_run_that_keeps_probe_resumes(few: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", dying_at("metrics.json"))
        with pytest.raises(Killed):
            headstart.train(few, out=tmp_path / "run", strategy="head", budget="1s", num_threads=1)
    assert (tmp_path / "run" / "bundle").exists()
    assert resume(tmp_path / "run").metrics["strategy"] == "probe"


def dying_after(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        function(*arguments, **options)
        raise Killed

    return call


def test_resume_state_is_written_atomically(few: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "write_all", dying_after(Checkpoints.write_all))
        with pytest.raises(Killed):
            headstart.train(few, out=tmp_path / "run", **HEAD)
    assert load_resume_settings(tmp_path / "run").settings.epochs == 1
    assert len(Checkpoints(tmp_path / "run" / "checkpoints").read("images")) == 20


def test_locked_run_is_not_resumed(stopped: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "train1"
    shutil.copytree(stopped, run)
    lock = FolderLock(run)
    assert lock.acquire()
    with pytest.raises(UsageError, match="another process"):
        resume(run)
    with pytest.raises(UsageError, match="no run in"):
        find_resumable(tmp_path / "runs")
    lock.release()
    assert find_resumable(tmp_path / "runs") == run


def test_second_ctrl_c_uses_previous_handler() -> None:
    events, signals = EventStream(), []
    interrupt_handler = InterruptHandler(events)
    before = signal.signal(signal.SIGINT, lambda number, frame: signals.append(number))
    try:
        with interrupt_handler.listening():
            signal.raise_signal(signal.SIGINT)
            assert (interrupt_handler.is_requested, signals) == (True, [])
            for thread in [t for t in threading.enumerate() if t.name == "stopping"]:
                thread.join()
            assert [note.kind for note in notes_of(events)] == [NoteKind.STOP_REQUESTED]
            signal.raise_signal(signal.SIGINT)
            assert signals == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.long
def test_relative_paths_resolve_from_another_folder(
    few: Path, whole: headstart.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(few.parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune_pipeline, "_train", die)
        with pytest.raises(Killed):
            headstart.train(few.name, out=tmp_path / "run", **HEAD)
    monkeypatch.chdir(tmp_path)
    assert same(resume("run"), whole)


def test_folder_without_run_is_refused(few: Path, tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "none", "run folder"),
        (next(few.rglob("*.jpg")), "run folder"),
        (few, "is not a run folder"),
    ):
        with pytest.raises(UsageError, match=message):
            resume(path)
    with pytest.raises(UsageError, match="does not exist"):
        find_resumable(tmp_path / "runs")
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "unfinished.json").write_text("{}")
    with pytest.raises(UsageError, match="before its training began"):
        resume(tmp_path / "early")


def test_uncreatable_run_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot create") as caught, own_run_folder(str(tmp_path / "file" / "run")):
        pass
    assert "--out" in (caught.value.hint or "")


def test_missing_images_are_refused(stopped: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    journal = run / "checkpoints" / "journal.json"
    values = json.loads(journal.read_text())
    values["settings"]["data"] = str(tmp_path / "photos")
    journal.write_text(json.dumps(values))
    with pytest.raises(DataError, match="does not exist") as caught:
        resume(run)
    assert "restore" in (caught.value.hint or "")


def test_full_disk_error_names_resume(stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    shutil.copytree(stopped, run)

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(finetune_log, "write_csv", full)
        with pytest.raises(HeadstartError, match="No space left") as caught:
            resume(run)
    assert f"headstart resume {run}" in (caught.value.hint or "")
    assert find_resumable(tmp_path) == run


def test_stop_between_trainings_names_resume(stopped: Path, tmp_path: Path) -> None:
    run, events = tmp_path / "run", EventStream()
    shutil.copytree(stopped, run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune_pipeline, "_train", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            resume(run, events=events)
    assert events.history[-1] == Note(NoteKind.RUN_RESUMABLE, Severity.WARNING, {"run": str(run)})


def test_batch_larger_than_data_is_reported(whole: headstart.Run) -> None:
    assert decisions_of(whole.folder)["batch_size"]["value"] == 20
