"""Persist and verify the settings and the dataset fingerprint needed to resume a run."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.config.settings import ResolvedConfig, TrainSettings
from headstart.errors import DataError, HeadstartError, UsageError
from headstart.runs.folder import is_unfinished
from headstart.training.checkpoint import Checkpoints
from headstart.utils.locks import FolderLock

if TYPE_CHECKING:
    from headstart.quality.dataset_split import SplitDataset

__all__ = ["clear_partial_output", "find_resumable", "load_resume_settings", "save_resume_state", "verify_resume_state"]

_WITHOUT_NAME = "`headstart resume` without a name resumes the newest stopped run in `runs`"


def save_resume_state(checkpoints: Checkpoints, resolved: ResolvedConfig, data: SplitDataset) -> None:
    """Write the settings and the digests of all images into the journal, atomically."""
    settings = resolved.settings.model_dump(mode="json")
    checkpoints.write_all(
        {
            "settings": settings,
            "sources": resolved.sources,
            "versions": _versions(),
            "place": str(Path.cwd()),
            "images": _images(data),
        }
    )


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
    changed = {
        n: (old, _versions().get(n)) for n, old in checkpoints.read("versions").items() if _versions().get(n) != old
    }
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


def clear_partial_output(folder: Path) -> None:
    """Delete partial output of a run that was stopped while its results were written.

    Raises:
        HeadstartError: The files cannot be deleted.
    """
    try:
        for name in ("bundle", "probe"):
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
        (folder / "metrics.json").unlink(missing_ok=True)
        for left in [*folder.glob(".*.tmp"), *folder.glob("checkpoints/.*.tmp")]:
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()
    except OSError as error:
        raise HeadstartError(
            f"cannot delete partial output in `{folder}` ({error.strerror or error}).",
            hint="make the folder writable, then resume",
        ) from error


def verify_resume_state(checkpoints: Checkpoints, data: SplitDataset) -> None:
    """Check that images, labels and split are the same as before.

    Raises:
        DataError: They differ; the message lists the first ten differences.
    """
    before: Mapping[str, Any] = checkpoints.read("images")
    now = json.loads(json.dumps(_images(data)))
    lines = [f"  {n}: missing" for n in before if n not in now]
    lines += [f"  {n}: new" for n in now if n not in before]
    for name, (digest, label, part) in now.items():
        old = before.get(name)
        if old is None:
            continue
        if old[0] != digest:
            lines.append(f"  {name}: content changed")
        elif old[1] != label:
            lines.append(f"  {name}: label changed from `{old[1]}` to `{label}`")
        elif old[2] != part:
            lines.append(f"  {name}: split changed from `{old[2]}` to `{part}`")
    if lines:
        more = [f"  ... and {len(lines) - 10:,} more"] if len(lines) > 10 else []
        raise DataError(
            "the images have changed since this run was started:\n" + "\n".join(lines[:10] + more),
            hint="restore them, or start a new run",
        )


def _images(data: SplitDataset) -> dict[str, tuple[str, str | None, str]]:
    rows = zip(data.samples, data.features.digests, data.split.assignment, strict=True)
    return {
        s.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"): (d[:32], s.label, str(a))
        for s, d, a in rows
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("headstart", "torch", "numpy", "onnxruntime", "Pillow")}
