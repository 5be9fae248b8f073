"""Create, lock and finish run folders. A finished run is never overwritten.

A run is written to its final folder, which contains `unfinished.json` until the run is complete and is locked while a
process writes to it. A killed run is detected by this marker, and its command can be repeated in the same folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import HeadstartError, UsageError
from headstart.runs.files import clock_time, write_json
from headstart.types.codes import NoteKind
from headstart.utils.locks import LOCK, FolderLock

if TYPE_CHECKING:
    from headstart.events import EventStream

__all__ = ["finish_run_folder", "is_resumable", "is_unfinished", "own_run_folder", "read_marker"]

_UNFINISHED = "unfinished.json"
_NAMES = {
    LOCK,
    _UNFINISHED,
    "bundle",
    "attribution_maps.npz",
    "checkpoints",
    "classification_report.csv",
    "classification_report.txt",
    "comment.md",
    "config.resolved.yaml",
    "environment.json",
    "figures",
    "dataset_report.json",
    "journal.json",
    "metrics.json",
    "oof.npz",
    "predictions.csv",
    "report.html",
    "report.json",
    "report_sections.json",
    "results.csv",
    "scores.npz",
    "split.csv",
    "summary.txt",
    "label_errors.csv",
    "train.log",
    "events.jsonl",
}


@contextlib.contextmanager
def own_run_folder(
    out: str | None,
    *,
    resume: Path | None = None,
    parent: Path | None = None,
    events: EventStream | None = None,
    started: float | None = None,
) -> Iterator[Path]:
    """Create and lock a run folder for the block; delete it afterwards if the run cannot be resumed.

    Args:
        out: Run folder: new, empty, or with only a killed run that cannot be resumed. None uses the next free
            `runs/trainN`.
        resume: Run folder to resume.
        parent: Folder of numbered runs; `runs` by default.
        events: Receives a note if a stopped run can be resumed.
        started: `time.monotonic()` at the start of the command; now by default.

    Raises:
        UsageError: The folder is not empty, cannot be created, or is locked by another process.
        HeadstartError: The disk is full, or the folder was deleted.
    """
    if resume is None:
        folder, lock = _acquire_new(out, parent)
        command = [os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]]
        _write_marker(folder, lock, {"command": command, "started": clock_time(started)})
    else:
        folder, lock = resume, _acquire(resume, str(resume))
        if is_unfinished(folder):
            marker = read_marker(folder)
            _write_marker(folder, lock, {**marker, "resumed": [*marker.get("resumed", []), clock_time(started)]})
    try:
        yield folder
    except OSError as error:
        raise HeadstartError(
            f"cannot write the run to `{error.filename or folder}` ({error.strerror or error}).",
            hint=f"free some disk space, then: headstart resume {shlex.quote(str(folder))}"
            if is_resumable(folder)
            else "free some disk space, or use another folder with --out; computed features are cached",
        ) from error
    except BaseException as error:
        if events and is_resumable(folder) and not isinstance(error, Exception):  # Ctrl-C outside a training
            events.warn(NoteKind.RUN_RESUMABLE, run=str(folder))
        raise
    finally:
        if is_unfinished(folder) and is_resumable(folder):
            lock.release()
        else:
            lock.remove()
            if is_unfinished(folder):
                _discard(folder)


def is_resumable(folder: Path) -> bool:
    """Return whether a run has saved a checkpoint to resume from."""
    return (folder / "checkpoints" / "journal.json").exists()


def is_unfinished(folder: Path) -> bool:
    """Return whether the folder contains a run that is being written or was stopped."""
    return (folder / _UNFINISHED).exists()


def finish_run_folder(folder: Path) -> None:
    """Mark a run as complete; call after all files are written."""
    (folder / _UNFINISHED).unlink(missing_ok=True)


def read_marker(folder: Path) -> dict[str, Any]:
    """Read the marker of an unfinished run: `started`, `resumed`, `command`, `pid`, `host`; empty without one."""
    try:
        value = json.loads((folder / _UNFINISHED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _acquire_new(out: str | None, parent: Path | None) -> tuple[Path, FolderLock]:
    if out is not None:
        folder = Path(out)
        is_used = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        if is_used:
            _check_killed(folder, out)
        _make(folder)
        lock = _acquire(folder, out)
        if is_used:
            _empty(folder)
        return folder, lock
    parent = parent or Path("runs")
    for number in range(1, 1_000_000):
        folder = parent / f"train{number}"
        try:
            _make(parent)
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise _cannot_create(folder, error) from error
        return folder, _acquire(folder, str(folder))
    raise UsageError(f"too many runs in `{parent}`.", hint="use a new folder with --out")


def _acquire(folder: Path, name: str) -> FolderLock:
    lock = FolderLock(folder)
    if not lock.acquire():
        raise UsageError(
            f"`{name}` is locked by another process.",
            hint="wait for it, stop it with Ctrl-C, or use another folder",
        )
    return lock


def _write_marker(folder: Path, lock: FolderLock, marker: dict[str, Any]) -> None:
    """Write the marker of an unfinished run with this process as its writer."""
    try:
        write_json(folder / _UNFINISHED, {**marker, "pid": os.getpid(), "host": platform.node()})
    except OSError as error:
        lock.remove()
        raise _cannot_create(folder, error) from error


def _check_killed(folder: Path, out: str) -> None:
    """Raise an error unless the folder contains only a killed run that cannot be resumed."""
    has_marker = is_unfinished(folder)
    if not has_marker and folder.is_dir() and all(_is_temporary(e) or e.name == LOCK for e in folder.iterdir()):
        return  # killed before it wrote its marker
    if not has_marker:
        raise UsageError(
            f"the run folder `{out}` is not empty, and runs are never overwritten.",
            hint="use a new folder with --out, or remove --out",
        )
    if is_resumable(folder) and not FolderLock(folder).is_locked():
        raise UsageError(
            f"`{out}` contains a stopped run that can be resumed.",
            hint=f"headstart resume {shlex.quote(str(out))}, or use a new folder with --out",
        )
    foreign = [entry.name for entry in folder.iterdir() if not _is_run_file(entry)]
    if foreign:
        raise UsageError(
            f"`{out}` contains a stopped run and other files: {', '.join(foreign[:5])}.",
            hint="use a new folder with --out",
        )


def _discard(folder: Path) -> None:
    """Delete the files of a run, and its folder if it is then empty."""
    _empty(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _is_run_file(entry: Path) -> bool:
    """Return whether the entry is a file of a run or a temporary file."""
    return entry.name in _NAMES or _is_temporary(entry)


def _is_temporary(entry: Path) -> bool:
    return entry.name.startswith(".") and entry.name.endswith(".tmp")


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if not _is_run_file(entry) or entry.name == LOCK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_create(folder, error) from error


def _cannot_create(folder: Path, error: OSError) -> UsageError:
    reason = error.strerror or error
    return UsageError(f"cannot create the run folder `{folder}` ({reason}).", hint="use another folder with --out")
