"""The run folder: where one execution leaves everything it found, never overwritten.

A run is written under its final name from the start, with `unfinished.json` in it until
`metrics.json` is there, and locked while somebody writes it.  So a run that was killed is known for what it is: the
same command may be given again and begins anew in the same folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import HeadstartError, UsageError
from headstart.run_lock import LOCK, RunLock
from headstart.types import NoteKind
from headstart.workflow.run_files import clock_time, write_json

if TYPE_CHECKING:
    from headstart.events import EventStream

__all__ = ["can_go_on", "finish_run_folder", "is_unfinished", "own_run_folder", "read_marker"]

_UNFINISHED = "unfinished.json"
_NAMES = {
    LOCK,
    _UNFINISHED,
    "bundle",
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
    again: Path | None = None,
    parent: Path | None = None,
    events: EventStream | None = None,
    started: float | None = None,
) -> Iterator[Path]:
    """Return a run folder while it is written: nobody else works on it, and what came to nothing is taken back.

    Args:
        out: The folder itself; it may exist if it is empty, or if it holds nothing but a run that was killed
            and cannot be resumed.  None takes the next free `runs/trainN`.
        again: A run that can go on, to be gone on with.
        parent: Where numbered runs lie, `runs` by default.
        events: Told how to go on with what was stopped.
        started: `time.monotonic()` when the command began, by default now.

    Raises:
        UsageError: The folder is not empty, cannot be made, or another process works on it.
        HeadstartError: The disk filled up, or the folder went away.
    """
    folder, claim = _take_new(out, parent, started) if again is None else _take_again(again, started)
    try:
        yield folder
    except OSError as error:
        raise HeadstartError(
            f"the run cannot be written to `{error.filename or folder}` ({error.strerror or error}).",
            hint=f"free some space, then go on with: headstart resume {folder}"
            if can_go_on(folder)
            else "free some space, or name another folder with --out; what was computed is kept in the cache",
        ) from error
    except BaseException as error:
        if events and can_go_on(folder) and not isinstance(error, Exception):  # Ctrl-C where no training was under way
            events.warn(NoteKind.RUN_RESUMABLE, run=str(folder))
        raise
    finally:
        if is_unfinished(folder) and can_go_on(folder):
            claim.drop()
        else:
            claim.end()
            if is_unfinished(folder):
                _discard(folder)


def can_go_on(folder: Path) -> bool:
    """Return whether a run has saved enough to be resumed."""
    return (folder / "checkpoints" / "journal.json").exists()


def is_unfinished(folder: Path) -> bool:
    """Return whether a run is being written there, or was stopped on its way."""
    return (folder / _UNFINISHED).exists()


def finish_run_folder(folder: Path) -> None:
    """State that the run is whole: to be called after everything else was written."""
    (folder / _UNFINISHED).unlink(missing_ok=True)


def read_marker(folder: Path) -> dict[str, Any]:
    """Return what the marker of an unfinished run says: `started`, `resumed`, `command`, `pid`, `host`.

    Empty where there is no readable marker.
    """
    try:
        value = json.loads((folder / _UNFINISHED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _take_new(out: str | None, parent: Path | None, started: float | None) -> tuple[Path, RunLock]:
    if out is not None:
        folder = Path(out)
        is_used = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        if is_used:
            _check_killed(folder, out)
        _make(folder)
        claim = _take(folder, out)
        if is_used:
            _empty(folder)
        return _marked(folder, claim, started)
    parent = parent or Path("runs")
    for number in range(1, 1_000_000):
        folder = parent / f"train{number}"
        try:
            _make(parent)
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise _unmade(folder, error) from error
        return _marked(folder, _take(folder, str(folder)), started)
    raise UsageError(f"there are too many runs in `{parent}`.", hint="name a new folder with --out")


def _take(folder: Path, called: str) -> RunLock:
    claim = RunLock(folder)
    if not claim.take():
        raise UsageError(
            f"another process is working on `{called}` right now.",
            hint="wait for it, stop it with Ctrl-C, or begin a run in another folder",
        )
    return claim


def _take_again(folder: Path, started: float | None) -> tuple[Path, RunLock]:
    """Claim a stopped run; its marker keeps the first start and lists this one under `resumed`."""
    claim = _take(folder, str(folder))
    if not is_unfinished(folder):
        return folder, claim
    marker = read_marker(folder)
    resumed = [*marker.get("resumed", []), clock_time(started)]
    return _write_marker(folder, claim, {**marker, "pid": os.getpid(), "host": platform.node(), "resumed": resumed})


def _marked(folder: Path, claim: RunLock, started: float | None) -> tuple[Path, RunLock]:
    command = [os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]]
    marker = {"pid": os.getpid(), "host": platform.node(), "command": command, "started": clock_time(started)}
    return _write_marker(folder, claim, marker)


def _write_marker(folder: Path, claim: RunLock, marker: dict[str, Any]) -> tuple[Path, RunLock]:
    try:
        write_json(folder / _UNFINISHED, marker)
    except OSError as error:
        claim.end()
        raise _unmade(folder, error) from error
    return folder, claim


def _check_killed(folder: Path, out: str) -> None:
    """Refuse what is not the folder of a run that was killed and cannot go on: it is left as it is."""
    is_marked = is_unfinished(folder)
    if not is_marked and folder.is_dir() and all(_is_temporary(e) or e.name == LOCK for e in folder.iterdir()):
        return  # killed before it could leave its mark
    if not is_marked:
        raise UsageError(
            f"the run folder `{out}` exists and is not empty; a run never overwrites another.",
            hint="name a new folder with --out, or leave --out away",
        )
    if can_go_on(folder) and not RunLock(folder).is_taken():
        raise UsageError(
            f"`{out}` holds a run that was stopped and can go on.",
            hint=f"headstart resume {out}, or name a new folder with --out",
        )
    foreign = [entry.name for entry in folder.iterdir() if not _is_ours(entry)]
    if foreign:
        raise UsageError(
            f"`{out}` holds a run that was stopped, and files that no run wrote: {', '.join(foreign[:5])}.",
            hint="name a new folder with --out",
        )


def _discard(folder: Path) -> None:
    """Take back the folder of a run that came to nothing."""
    _empty(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _is_ours(entry: Path) -> bool:
    """Return whether a run writes something of that name, temporary files of a killed one included."""
    return entry.name in _NAMES or _is_temporary(entry)


def _is_temporary(entry: Path) -> bool:
    return entry.name.startswith(".") and entry.name.endswith(".tmp")


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if not _is_ours(entry) or entry.name == LOCK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unmade(folder, error) from error


def _unmade(folder: Path, error: OSError) -> UsageError:
    reason = error.strerror or error
    return UsageError(f"the run folder `{folder}` cannot be made ({reason}).", hint="name another folder with --out")
