"""Extract features with a pretrained backbone and save them as `.npz`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from headstart.config.settings import ResolvedConfig
from headstart.data.options import read_options
from headstart.data.sources import read
from headstart.errors import SettingError
from headstart.events import EventStream, FileWritten, RunFinished, Stage, StageFinished
from headstart.features.device_choice import check_device
from headstart.features.extractor import ExtractorOptions, open_embedder, report_unreadable
from headstart.quality.report_findings import report_reading
from headstart.results import Embedding
from headstart.utils.system import atomic_file

__all__ = ["extract"]

_USED = {
    *(
        "data",
        "layout",
        "label_pattern",
        "first_id",
        "table",
        "image_column",
        "label_column",
        "split_column",
        "group_column",
        "exclude",
        "name_encoding",
        "pages",
        "allow_external_paths",
        "backbone",
        "weights",
        "image_size",
        "resize_mode",
        "intensity_range",
    ),
    *("max_pixels", "device", "num_threads", "offline", "cache"),
}


def extract(resolved: ResolvedConfig, events: EventStream, out: str | os.PathLike[str] | None) -> Embedding:
    """Extract features; see `api.embed`. The `.npz` holds `features`, `paths`, `labels` and one array per block.

    Raises:
        DataError: No image can be read.
        SettingError: A setting has no effect.
    """
    started = time.monotonic()
    settings = resolved.settings
    ignored = sorted(set(resolved.sources) - _USED)
    if ignored:
        raise SettingError(
            f"`{ignored[0]}` cannot be used with embed: nothing is trained.",
            hint=f"remove `{ignored[0]}`",
        )
    if settings.resize_mode == "auto":
        raise SettingError(
            "--resize-mode auto cannot be used with embed: there is no score to compare.",
            hint="use crop, cover, squash or pad",
        )
    check_device(settings.device)
    samples = read(
        settings.data,
        read_options(settings),
        needs_labels=False,
    )
    report_reading(samples, events)
    options = ExtractorOptions.of(settings, resize_mode=settings.resize_mode, intensity_range=settings.intensity_range)
    embedder = open_embedder(options, events)
    extracted = embedder.embed(samples.paths, samples.names, events)
    features = extracted.features
    report_unreadable(features, events)
    events.emit(StageFinished(Stage.FEATURES, extracted.seconds, embedder.evidence(extracted)))
    keep = np.flatnonzero(features.is_ok)
    kept = features.take(keep)
    result = Embedding(
        features=kept.blocks["embedding"],
        blocks=kept.blocks,
        paths=tuple(samples.names[i] for i in keep),
        labels=tuple(samples[int(i)].label for i in keep),
    )
    if out is not None:
        target = Path(out)
        with atomic_file(target) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                features=result.features,
                paths=np.array(result.paths, dtype=str),
                labels=np.array([label or "" for label in result.labels], dtype=str),
                **{f"block_{name}": block for name, block in result.blocks.items()},  # type: ignore[arg-type]
            )
        evidence = {"num_images": len(keep), "num_features": result.features.shape[1]}
        events.emit(FileWritten("features", str(target), evidence))
    events.emit(RunFinished(time.monotonic() - started))
    return result
