"""Write the files of a run atomically: JSON, CSV tables that survive any file name, arrays without pickle."""

from __future__ import annotations

import csv
import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.metrics import softmax
from headstart.runs.scores import ScoredImages, stored_name
from headstart.types.codes import EvaluationProtocol
from headstart.types.records import Features, Samples, Split
from headstart.utils.csv_cells import escape_formula, unescape_formula
from headstart.utils.serialization import plain
from headstart.utils.system import atomic_file, available_cores

if TYPE_CHECKING:
    from headstart.evaluation.head_evaluation import HeadEvaluation
    from headstart.evaluation.uncertainty import UncertaintyModel

__all__ = [
    "clock_time",
    "environment",
    "write_csv",
    "write_json",
    "write_oof",
    "write_predictions",
    "write_scores",
]

_PREDICTION_COLUMNS = ("file", "split", "label", "prediction", "probability", "is_correct", "protocol", "ood_score",
                       "is_ood", "prediction_set")  # fmt: skip


def write_json(path: Path, value: Any) -> Any:
    """Write indented JSON atomically; NaN becomes null. Return the value as a reader gets it."""
    written = plain(value)
    with atomic_file(path) as temporary:
        text = json.dumps(written, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8", errors="surrogateescape")
    return written


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[dict[str, str]]:
    """Write a CSV file atomically: None is an empty cell, floats have six digits, names may hold any bytes.

    Return the rows as a reader gets them.

    Pass text from users through `escape_formula` first.
    """
    texts = [[_cell(cell) for cell in row] for row in rows]
    with (
        atomic_file(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="", errors="surrogateescape") as file,
    ):
        csv.writer(file, lineterminator="\n").writerows([columns, *texts])
    return [dict(zip(columns, map(unescape_formula, row), strict=True)) for row in texts]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


def write_oof(path: Path, samples: Samples, split: Split, evaluation: HeadEvaluation) -> None:
    """Write `oof.npz`: out-of-fold logits of every sample that has them; no pickle.

    Keys: `paths` (M,) str, `group` (M,) int64 (-1 without groups), `label` (M,) int64 class ids,
    `logits` (M, K) float32 with the temperature applied, `protocol` str (`EvaluationProtocol`).
    """
    scored = evaluation.logits.scored
    groups = split.groups_of(scored)
    _write_arrays(
        path,
        paths=_texts([samples.names[i] for i in scored]),
        group=np.full(len(scored), -1, dtype=np.int64) if groups is None else groups,
        label=samples.class_ids[scored],
        logits=evaluation.logits.out_of_fold,
        protocol=np.array(evaluation.cv.setup.protocol.value),
    )


def write_predictions(
    path: Path, samples: Samples, split: Split, evaluation: HeadEvaluation, uncertainty: UncertaintyModel
) -> None:
    """Write `predictions.csv`: the prediction for every held-out image, out-of-fold for training images.

    Columns: `file, split, label, prediction, probability, is_correct, protocol, ood_score, is_ood, prediction_set`; the
    last three as in the predictions of a bundle.
    """
    probabilities = softmax(evaluation.logits.held_out(split).astype(np.float64))
    best = probabilities.argmax(axis=1)
    cells = uncertainty.cells(probabilities, samples.class_names)
    protocols = {
        "train": evaluation.cv.setup.protocol,
        "val": EvaluationProtocol.VALIDATION_SPLIT,
        "test": EvaluationProtocol.TEST_SPLIT if split.setup is None else split.setup.protocol,
    }
    rows = []
    for i in np.flatnonzero(evaluation.logits.is_held_out(split)):
        sample, name = samples[i], str(split.assignment[i])
        prediction = samples.class_names[best[i]]
        is_correct = str(prediction == sample.label).lower()
        ood_score, is_ood, prediction_set = cells[i]
        texts = (sample.name, name, sample.label or "", prediction)
        numbers = (f"{probabilities[i, best[i]]:.4f}", is_correct, protocols[name].value, ood_score, is_ood)
        rows.append([*map(escape_formula, texts), *numbers, escape_formula(prediction_set)])
    write_csv(path, _PREDICTION_COLUMNS, rows)


def write_scores(
    path: Path,
    samples: Samples,
    features: Features,
    split: Split,
    evaluation: HeadEvaluation,
    uncertainty: UncertaintyModel,
) -> ScoredImages:
    """Write `scores.npz`, without pickle, and return it: logits of held-out images, out-of-fold for training images.

    Keys: `paths` (N,) str, `split` (N,) str, `label` (N,) int64 class ids, `logits` (N, K) float32 with the
    temperature applied, `digests` (N,) leading 16 hex digits of each file's SHA-256, `ood_score` (N,) float32, NaN
    where unknown.
    """
    kept = np.flatnonzero(evaluation.logits.is_held_out(split))
    ood_score = uncertainty.held_out[kept].astype(np.float32)
    scored = ScoredImages(
        names=tuple(samples.names[i] for i in kept),
        split=split.assignment[kept].astype(str),
        class_ids=samples.class_ids[kept],
        logits=evaluation.logits.held_out(split)[kept].astype(np.float32),
        groups=split.groups_of(kept),
        digests=tuple(features.digests[i][:16] for i in kept),
        ood_score=ood_score,
    )
    _write_arrays(
        path,
        paths=_texts(scored.names),
        split=scored.split,
        label=scored.class_ids,
        logits=scored.logits,
        ood_score=ood_score,
        digests=np.array(scored.digests, dtype=str),
    )
    return scored


def _write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _texts(names: Sequence[str]) -> NDArray[np.str_]:
    return np.array([stored_name(name) for name in names], dtype=str)


def clock_time(at: float | None = None) -> str:
    """Return local time with its offset from UTC (ISO 8601, milliseconds).

    Args:
        at: A value of `time.monotonic()`; now by default.
    """
    ago = 0.0 if at is None else time.monotonic() - at
    return datetime.fromtimestamp(time.time() - ago).astimezone().isoformat(timespec="milliseconds")


def environment(seed: int, marker: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `environment.json`: versions, machine, command and times of a run.

    Args:
        seed: Random seed of the run.
        marker: Marker of the run folder (`run_folder.read_marker`).

    Returns:
        `started` is the start of the first command; `resumed` (resumed runs only) lists the times of resuming;
        `finished` is now, before the report is written. Packages that are not installed are left out.
    """
    from importlib import metadata

    versions: dict[str, str] = {}
    for name in ("headstart", "numpy", "Pillow", "onnxruntime", "onnx", "torch", "torchvision", "timm", "scikit-learn"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cores": available_cores(),
        "versions": versions,
        "seed": seed,
        "started": marker.get("started"),
        **({"resumed": marker["resumed"]} if marker.get("resumed") else {}),
        "finished": clock_time(),
        "command": marker.get("command"),
    }
