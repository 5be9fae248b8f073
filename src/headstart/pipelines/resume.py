"""Resume a stopped run: find it, read its settings, and repeat its steps, of which finished ones are read back."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from headstart.config.settings import ResolvedConfig, TrainSettings
from headstart.errors import UsageError
from headstart.events import EventStream
from headstart.pipelines.train import train
from headstart.runs.folder import is_unfinished
from headstart.tasks.registry import find_task
from headstart.tasks.resume_state import installed_versions
from headstart.training.checkpoint import Checkpoints
from headstart.utils.locks import FolderLock

__all__ = ["find_resumable", "load_resume_settings", "resume_run"]

_WITHOUT_NAME = "`headstart resume` without a name resumes the newest stopped run in `runs`"


def resume_run(folder: Path | None, events: EventStream, *, started: float) -> Path:
    """Resume a run, by default the newest resumable one; return its folder.

    Raises:
        UsageError: There is no resumable run.
        DataError: The images have changed.
    """
    folder = find_resumable() if folder is None else folder
    resolved = load_resume_settings(folder)
    return train(resolved, find_task(resolved.settings.task), events, started=started, folder=folder)


def find_resumable(parent: Path | None = None) -> Path:
    """Return the newest run that can be resumed.

    Raises:
        UsageError: There is none.
    """
    parent = parent or Path("runs")
    if not parent.is_dir():
        raise UsageError(f"folder `{parent}` does not exist.", hint="pass the run folder: headstart resume RUN")
    journals = [
        p
        for p in parent.glob("*/checkpoints/journal.json")
        if is_unfinished(p.parent.parent) and not FolderLock(p.parent.parent).is_locked()
    ]
    if not journals:
        raise UsageError(f"no run in `{parent}` can be resumed.", hint="pass the run folder: headstart resume RUN")
    return max(journals, key=lambda p: p.stat().st_mtime).parent.parent


def load_resume_settings(folder: Path) -> ResolvedConfig:
    """Read the settings of a stopped run.

    Raises:
        UsageError: The run cannot be resumed.
    """
    if not folder.is_dir():
        raise UsageError(f"run folder `{folder}` does not exist.", hint=_WITHOUT_NAME)
    is_finished = (folder / "metrics.json").exists() and not is_unfinished(folder)
    if is_finished:
        raise UsageError(
            f"`{folder}` is finished; there is nothing to resume.",
            hint=f"use it with headstart predict {shlex.quote(str(folder))} IMAGES, or start a new run",
        )
    checkpoints = Checkpoints(folder / "checkpoints")
    values = checkpoints.read("settings")
    if values is None and not is_unfinished(folder):
        raise UsageError(f"`{folder}` is not a run folder of `headstart train`.", hint=_WITHOUT_NAME)
    if values is None:
        raise UsageError(
            f"`{folder}` was stopped before its training began; nothing was saved.",
            hint="start it again with headstart train; computed features are cached",
        )
    now = installed_versions()
    changed = {n: (old, now.get(n)) for n, old in checkpoints.read("versions").items() if now.get(n) != old}
    if changed:
        name, (old, new) = next(iter(changed.items()))
        raise UsageError(
            f"`{folder}` was started with {name} {old}, but {new} is installed; the result would differ.",
            hint=f"install {name} {old}, or start a new run",
        )
    settings = _resolve_paths(TrainSettings.model_validate(values), Path(checkpoints.read("place") or "."))
    return ResolvedConfig(settings, dict(checkpoints.read("sources")))


def _resolve_paths(settings: TrainSettings, directory: Path) -> TrainSettings:
    """Return the settings with relative paths resolved against the working directory of the original run."""
    if directory == Path.cwd():
        return settings
    changes: dict[str, Any] = {
        name: str(directory / value)
        for name in ("data", "split", "label_corrections", "weights")
        if (value := getattr(settings, name)) and (directory / value).exists()
    }
    probe = settings.probe
    if not probe.class_weights.startswith("{") and (directory / probe.class_weights).is_file():
        changes["probe"] = probe.model_copy(update={"class_weights": str(directory / probe.class_weights)})
    return settings.model_copy(update=changes)
