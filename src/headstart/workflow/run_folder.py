"""The run folder: where one execution leaves everything it found, never overwritten.

The one decision: a run is written under its final name from the start, with `unfinished.json` in it until
`metrics.json` is there.  So a run that was killed is known for what it is: the same command may be given
again and begins anew in the same folder.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.cells import guard_cell
from headstart.claim import LOCK, Claim
from headstart.errors import HeadstartError, UsageError
from headstart.machine import atomic_file, available_cores
from headstart.records import Features, Samples, Split
from headstart.trust.metrics import softmax

if TYPE_CHECKING:
    from headstart.heads.probe import ProbeFit
    from headstart.talk import Talk
    from headstart.workflow.judgement import Judgement
    from headstart.workflow.trusting import Trust

__all__ = [
    "can_go_on",
    "environment",
    "finish_run_folder",
    "own_run_folder",
    "write_csv",
    "write_json",
    "write_oof",
    "write_predictions",
    "write_scores",
]

_UNFINISHED = "unfinished.json"
_NAMES = {
    _UNFINISHED,
    "bundle",
    "checkpoints",
    "classification_report.csv",
    "classification_report.txt",
    "comment.md",
    "config.resolved.yaml",
    "environment.json",
    "figures",
    "health.json",
    "metrics.json",
    "oof.npz",
    "predictions.csv",
    "report.html",
    "report.json",
    "results.csv",
    "scores.npz",
    "split.csv",
    "summary.txt",
    "suspects.csv",
    "train.log",
}


@contextlib.contextmanager
def own_run_folder(
    out: str | None, *, again: Path | None = None, parent: Path | None = None, talk: Talk | None = None
) -> Iterator[Path]:
    """A run folder while it is written: nobody else works on it, and what came to nothing is taken back.

    Args:
        out: The folder itself; it may exist if it is empty, or if it holds nothing but a run that was killed
            and cannot be resumed.  None takes the next free `runs/trainN`.
        again: A run that can go on, to be gone on with.
        parent: Where numbered runs lie, `runs` by default.
        talk: Told how to go on with what was stopped.

    Raises:
        UsageError: The folder is not empty, cannot be made, or another process works on it.
        HeadstartError: The disk filled up, or the folder went away.
    """
    folder, claim = _take_new(out, parent) if again is None else (again, _take(again, str(again)))
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
        if talk and can_go_on(folder) and not isinstance(error, Exception):  # Ctrl-C where no training was under way
            talk.say(f"to go on: headstart resume {folder}")
        raise
    finally:
        if (folder / _UNFINISHED).exists() and can_go_on(folder):
            claim.drop()
        else:
            claim.end()
            if (folder / _UNFINISHED).exists():
                _discard(folder)


def can_go_on(folder: Path) -> bool:
    """Whether a run has saved enough to be resumed."""
    return (folder / "checkpoints" / "journal.json").exists()


def finish_run_folder(folder: Path) -> None:
    """Says that the run is whole: to be called after everything else was written."""
    (folder / _UNFINISHED).unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes readable JSON in one step; NaN becomes null, since JSON has no such number."""
    with atomic_file(path) as temporary:
        text = json.dumps(_clean(value), indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8", errors="surrogateescape")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table in one step: None is an empty cell, a float has six digits, names of any bytes survive.

    Texts that come from a person go through `guard_cell` first.
    """
    with (
        atomic_file(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(
            [f"{cell:.6g}" if isinstance(cell, float | np.floating) else cell for cell in row] for row in rows
        )


def write_oof(
    path: Path,
    *,
    names: list[str],
    groups: NDArray[np.int64] | None,
    class_ids: NDArray[np.int64],
    logits: NDArray[np.float32],
    protocol: str,
) -> None:
    """`oof.npz`: out-of-fold logits of every training sample, readable without pickle.

    Keys: `paths` (N,) str, `group` (N,) int64 (-1 without groups), `label` (N,) int64 class ids,
    `logits` (N, K) float32 with the temperature applied, `protocol` str.
    """
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            paths=np.array([n.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for n in names], dtype=str),
            group=np.full(len(names), -1, dtype=np.int64) if groups is None else groups,
            label=class_ids,
            logits=logits,
            protocol=np.array(protocol),
        )


def write_predictions(
    path: Path, samples: Samples, split: Split, judgement: Judgement, fit: ProbeFit, trust: Trust
) -> None:
    """`predictions.csv`: what is said of every scored picture; training pictures by a model that had not seen them.

    Columns: `file, split, label, prediction, probability, is_right, how, novelty, is_unknown, set`, the last three as
    in the answers of a bundle.
    """
    logits = judgement.logits.astype(np.float64)
    train = split.where("train")
    logits[train] = fit.oof_logits
    probabilities = softmax(logits)
    best = probabilities.argmax(axis=1)
    told = trust.cells(probabilities, samples.class_names)
    rows = []
    for i, sample in enumerate(samples):
        name = str(split.assignment[i])
        prediction = samples.class_names[best[i]]
        how = fit.protocol if name == "train" else (split.protocol or "given")
        is_right = str(prediction == sample.label).lower()
        novelty, is_unknown, fitting = told[i]
        texts = (sample.name, name, sample.label or "", prediction)
        numbers = (f"{probabilities[i, best[i]]:.4f}", is_right, how, novelty, is_unknown)
        rows.append([*map(guard_cell, texts), *numbers, guard_cell(fitting)])
    columns = ("file", "split", "label", "prediction", "probability", "is_right", "how", "novelty", "is_unknown", "set")
    write_csv(path, columns, rows)


def write_scores(
    path: Path, samples: Samples, features: Features, split: Split, judgement: Judgement, fit: ProbeFit, trust: Trust
) -> None:
    """`scores.npz`: logits of every picture, training pictures by a model that had not seen them; no pickle.

    Keys: `paths` (N,) str, `split` (N,) str, `label` (N,) int64 class ids, `logits` (N, K) float32 with the
    temperature applied, `digests` (N,) leading 16 hex digits of each file's sha256, `novelty` (N,) float32, NaN where
    it is not known.
    """
    logits = judgement.logits.copy()
    logits[split.where("train")] = fit.oof_logits
    names = [n.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for n in samples.names]
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            paths=np.array(names, dtype=str),
            split=split.assignment.astype(str),
            label=samples.class_ids,
            logits=logits.astype(np.float32),
            novelty=trust.honest.astype(np.float32),
            digests=np.array([d[:16] for d in features.digests], dtype=str),
        )


def environment(seed: int) -> dict[str, Any]:
    """Versions and machine of a run, for `environment.json`; asks nothing of modules that are not installed."""
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
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": [os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]],
    }


def _take_new(out: str | None, parent: Path | None) -> tuple[Path, Claim]:
    if out is not None:
        folder = Path(out)
        is_used = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        if is_used:
            _check_killed(folder, out)
        _make(folder)
        claim = _take(folder, out)
        if is_used:
            _empty(folder)
        return _marked(folder, claim)
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
        return _marked(folder, _take(folder, str(folder)))
    raise UsageError(f"there are too many runs in `{parent}`.", hint="name a new folder with --out")


def _take(folder: Path, called: str) -> Claim:
    claim = Claim(folder)
    if not claim.take():
        raise UsageError(
            f"another process is working on `{called}` right now.",
            hint="wait for it, stop it with Ctrl-C, or begin a run in another folder",
        )
    return claim


def _marked(folder: Path, claim: Claim) -> tuple[Path, Claim]:
    marker = {"pid": os.getpid(), "host": platform.node(), "command": sys.argv[1:]}  # for a person who wonders
    try:
        write_json(folder / _UNFINISHED, marker)
    except OSError as error:
        claim.end()
        raise _unmade(folder, error) from error
    return folder, claim


def _check_killed(folder: Path, out: str) -> None:
    """Refuses what is not the folder of a run that was killed and cannot go on: it is left as it is."""
    is_marked = (folder / _UNFINISHED).exists()
    if not is_marked and folder.is_dir() and all(_is_temporary(e) or e.name == LOCK for e in folder.iterdir()):
        return  # killed before it could leave its mark
    if not is_marked:
        raise UsageError(
            f"the run folder `{out}` exists and is not empty; a run never overwrites another.",
            hint="name a new folder with --out, or leave --out away",
        )
    if can_go_on(folder) and not Claim(folder).is_taken():
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
    """Takes back the folder of a run that came to nothing."""
    _empty(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _is_ours(entry: Path) -> bool:
    """Whether a run writes something of that name, temporary files of a killed one included."""
    return entry.name in _NAMES or entry.name == LOCK or _is_temporary(entry)


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


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    if isinstance(value, np.ndarray):
        return _clean(value.tolist())
    if isinstance(value, np.generic):
        return _clean(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
