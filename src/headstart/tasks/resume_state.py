"""Persist and verify the settings and the dataset fingerprint needed to resume a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from headstart.config.settings import ResolvedConfig
from headstart.errors import DataError, HeadstartError
from headstart.training.checkpoint import Checkpoints

if TYPE_CHECKING:
    from headstart.quality.dataset_split import SplitDataset

__all__ = [
    "Fingerprint",
    "clear_partial_output",
    "dataset_fingerprint",
    "fingerprint",
    "installed_versions",
    "save_resume_state",
    "verify_resume_state",
]


Fingerprint: TypeAlias = Mapping[str, tuple[str, str | None, str]]
"""Digest of the file, label (or digest of the annotations) and split of each image by name."""


def save_resume_state(checkpoints: Checkpoints, resolved: ResolvedConfig, images: Fingerprint) -> None:
    """Write the settings and the fingerprint of the dataset into the journal, atomically."""
    settings = resolved.settings.model_dump(mode="json")
    checkpoints.write_all(
        {
            "settings": settings,
            "sources": resolved.sources,
            "versions": installed_versions(),
            "place": str(Path.cwd()),
            "images": images,
        }
    )


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


def verify_resume_state(checkpoints: Checkpoints, images: Fingerprint) -> None:
    """Check that images, labels and split are the same as before.

    Raises:
        DataError: They differ; the message lists the first ten differences.
    """
    before: Mapping[str, Any] = checkpoints.read("images")
    now = json.loads(json.dumps(images))
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


def fingerprint(
    names: Iterable[str], digests: Iterable[str], labels: Iterable[str | None], assignment: Iterable[str]
) -> Fingerprint:
    """Return the fingerprint of a dataset, each argument one value per image."""
    rows = zip(names, digests, labels, assignment, strict=True)
    return {
        name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"): (digest[:32], label, str(split))
        for name, digest, label, split in rows
    }


def dataset_fingerprint(data: SplitDataset) -> Fingerprint:
    """Return the fingerprint of images with features."""
    samples = data.samples
    return fingerprint(samples.names, data.features.digests, (s.label for s in samples), data.split.assignment)


def installed_versions() -> dict[str, str]:
    """Return the versions on which the result of a training depends."""
    from importlib.metadata import version

    return {name: version(name) for name in ("headstart", "torch", "numpy", "onnxruntime", "Pillow")}
