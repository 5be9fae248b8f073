"""What a stopped run remembers about its settings and images, so that going on is going on with the same.

A difference is refused and named; nothing is ever continued on other data.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.config import ResolvedConfig, TrainSettings
from headstart.errors import DataError, HeadstartError, UsageError
from headstart.run_lock import RunLock
from headstart.training.checkpoint import Checkpoints
from headstart.workflow.run_folder import is_unfinished

if TYPE_CHECKING:
    from headstart.workflow.probe_types import FittedProbe

__all__ = ["clear_ending", "find_stopped", "load_resume_settings", "save_resume_state", "verify_resume_state"]

_WITHOUT_NAME = "headstart resume, without a name, goes on with the newest run in `runs` that was stopped"


def save_resume_state(checkpoints: Checkpoints, resolved: ResolvedConfig, found: FittedProbe) -> None:
    """Write settings and the content of all images into the journal, in one step."""
    settings = resolved.settings.model_dump(mode="json")
    checkpoints.write_all(
        {
            "settings": settings,
            "sources": resolved.sources,
            "versions": _versions(),
            "place": str(Path.cwd()),
            "images": _images(found),
        }
    )


def load_resume_settings(folder: Path) -> ResolvedConfig:
    """Return the settings of a stopped run.

    Raises:
        UsageError: There is no run that can go on.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no run folder `{folder}`.", hint=_WITHOUT_NAME)
    is_finished = (folder / "metrics.json").exists() and not is_unfinished(folder)
    if is_finished:
        raise UsageError(
            f"`{folder}` is finished, so there is nothing to go on with.",
            hint=f"headstart predict {folder} IMAGES uses it; headstart train DATA starts a new run",
        )
    checkpoints = Checkpoints(folder / "checkpoints")
    values = checkpoints.read("settings")
    if values is None and not is_unfinished(folder):
        raise UsageError(
            f"`{folder}` is no run folder: nothing in it was left by `headstart train`.", hint=_WITHOUT_NAME
        )
    if values is None:
        raise UsageError(
            f"`{folder}` was stopped before its training began: nothing of it was saved yet.",
            hint="start it again with headstart train; what was computed is in the cache",
        )
    changed = {
        n: (old, _versions().get(n)) for n, old in checkpoints.read("versions").items() if _versions().get(n) != old
    }
    if changed:
        name, (old, new) = next(iter(changed.items()))
        raise UsageError(
            f"`{folder}` was begun with {name} {old}; {new} is installed now, and the result would not be the same.",
            hint=f"install {name} {old}, or start a new run",
        )
    settings = _found_again(TrainSettings.model_validate(values), Path(checkpoints.read("place") or "."))
    return ResolvedConfig(settings, dict(checkpoints.read("sources")))


def _found_again(settings: TrainSettings, place: Path) -> TrainSettings:
    """Return the settings with paths that still lead to where they led from the folder that the run was begun in."""
    if place == Path.cwd():
        return settings
    changes: dict[str, Any] = {
        name: str(place / value)
        for name in ("data", "split", "corrections", "weights")
        if (value := getattr(settings, name)) and (place / value).exists()
    }
    probe = settings.probe
    if (place / probe.class_weights).is_file():
        changes["probe"] = probe.model_copy(update={"class_weights": str(place / probe.class_weights)})
    return settings.model_copy(update=changes)


def find_stopped(parent: Path | None = None) -> Path:
    """Return the newest run that can go on.

    Raises:
        UsageError: There is none.
    """
    parent = parent or Path("runs")
    if not parent.is_dir():
        raise UsageError(f"there is no folder `{parent}` here.", hint="headstart resume RUN names a run")
    journals = [
        p
        for p in parent.glob("*/checkpoints/journal.json")
        if is_unfinished(p.parent.parent) and not RunLock(p.parent.parent).is_taken()
    ]
    if not journals:
        raise UsageError(
            f"no run in `{parent}` was stopped on its way.", hint="headstart resume RUN names one elsewhere"
        )
    return max(journals, key=lambda p: p.stat().st_mtime).parent.parent


def clear_ending(folder: Path) -> None:
    """Take away what a run that was stopped while it was written down had written; it is written anew.

    Raises:
        HeadstartError: It cannot be taken away.
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
            f"what this run had begun to write in `{folder}` cannot be taken away ({error.strerror or error}).",
            hint="make the folder writable, then go on",
        ) from error


def verify_resume_state(checkpoints: Checkpoints, found: FittedProbe) -> None:
    """Refuse to go on with other images or labels.

    Raises:
        DataError: Something differs; the first ten are named.
    """
    before: Mapping[str, Any] = checkpoints.read("images")
    now = json.loads(json.dumps(_images(found)))
    lines = [f"  {n}: is gone" for n in before if n not in now]
    lines += [f"  {n}: is new" for n in now if n not in before]
    for name, (digest, label, part) in now.items():
        old = before.get(name)
        if old is None:
            continue
        if old[0] != digest:
            lines.append(f"  {name}: its content has changed")
        elif old[1] != label:
            lines.append(f"  {name}: its label was `{old[1]}` and is `{label}`")
        elif old[2] != part:
            lines.append(f"  {name}: it was in `{old[2]}` and is in `{part}`")
    if lines:
        more = [f"  ... and {len(lines) - 10:,} more"] if len(lines) > 10 else []
        raise DataError(
            "the images have changed since this run was begun:\n" + "\n".join(lines[:10] + more),
            hint="put them back, or start a new run",
        )


def _images(found: FittedProbe) -> dict[str, tuple[str, str | None, str]]:
    rows = zip(found.samples, found.features.digests, found.split.assignment, strict=True)
    return {
        s.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"): (d[:32], s.label, str(a))
        for s, d, a in rows
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("headstart", "torch", "numpy", "onnxruntime", "Pillow")}
