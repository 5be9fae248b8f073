"""What a stopped run remembers about its settings and pictures, so that going on is going on with the same.

The one decision: a difference is refused and named; nothing is ever continued on other data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.config import Resolved, TrainSettings
from headstart.errors import DataError, UsageError
from headstart.tuning.checkpoint import Checkpoints

if TYPE_CHECKING:
    from headstart.workflow.probe_road import FoundProbe

__all__ = ["compare_memory", "find_stopped", "recall_settings", "remember"]


def remember(checkpoints: Checkpoints, resolved: Resolved, found: FoundProbe) -> None:
    """Writes settings and the content of all pictures into the journal."""
    checkpoints.write("settings", resolved.settings.model_dump(mode="json"))
    checkpoints.write("sources", resolved.sources)
    checkpoints.write("versions", _versions())
    checkpoints.write("pictures", _pictures(found))


def recall_settings(folder: Path) -> Resolved:
    """The settings of a stopped run.

    Raises:
        UsageError: There is no run that can go on.
    """
    is_finished = (folder / "metrics.json").exists() and not (folder / "unfinished.json").exists()
    if is_finished or not (folder / "checkpoints").is_dir():
        what = "is finished" if is_finished else "cannot be resumed: nothing was saved in it"
        raise UsageError(f"`{folder}` {what}.", hint="headstart train DATA starts a new run")
    checkpoints = Checkpoints(folder / "checkpoints")
    values = checkpoints.read("settings")
    if values is None:
        raise UsageError(
            f"`{folder}` was stopped before its training began.", hint="start it again with headstart train"
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
    return Resolved(TrainSettings.model_validate(values), dict(checkpoints.read("sources")))


def find_stopped(parent: Path | None = None) -> Path:
    """The newest run that can go on.

    Raises:
        UsageError: There is none.
    """
    parent = parent or Path("runs")
    journals = [p for p in parent.glob("*/checkpoints/journal.json") if not (p.parent.parent / "metrics.json").exists()]
    if not journals:
        raise UsageError(f"no run in `{parent}` was stopped on its way.", hint="headstart resume RUN names one")
    return max(journals, key=lambda p: p.stat().st_mtime).parent.parent


def compare_memory(checkpoints: Checkpoints, found: FoundProbe) -> None:
    """Refuses to go on with other pictures or labels.

    Raises:
        DataError: Something differs; the first ten are named.
    """
    before: Mapping[str, Any] = checkpoints.read("pictures")
    now = json.loads(json.dumps(_pictures(found)))
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
            "the pictures have changed since this run was begun:\n" + "\n".join(lines[:10] + more),
            hint="put them back, or start a new run",
        )


def _pictures(found: FoundProbe) -> dict[str, tuple[str, str | None, str]]:
    rows = zip(found.samples, found.features.digests, found.split.assignment, strict=True)
    return {
        s.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"): (d[:32], s.label, str(a))
        for s, d, a in rows
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("headstart", "torch", "numpy", "onnxruntime", "Pillow")}
