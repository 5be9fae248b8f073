"""`headstart compare`: brings the predictions of two runs onto the same images, or says why that cannot be.

Images are the same when their bytes are, whatever they are called; runs that were scored
on different images are not compared on what happens to be common, but refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headstart.data.report_findings import unreadable_findings
from headstart.data.sources import read
from headstart.errors import DataError, InvalidEvaluationError, UsageError
from headstart.evaluation.metrics import is_skewed, softmax
from headstart.evaluation.paired_comparison import compare_paired
from headstart.events import EventStream, Stage
from headstart.export.runtime import Runtime
from headstart.messages.numbers import pluralize
from headstart.reports.comparison_text import Comparison, comparison_findings, comparison_json
from headstart.reports.run_data import RunData
from headstart.reports.summary import summarize
from headstart.system import atomic_file
from headstart.types import EvaluationProtocol, Finding, FindingKind, Severity
from headstart.workflow.detector_report import is_detector_run
from headstart.workflow.model_evaluation import match_labels, read_problem, seen_in_training
from headstart.workflow.reading_report import report_reading
from headstart.workflow.report_writer import read_facts
from headstart.workflow.run_files import write_json

__all__ = ["compare_runs", "write_comparison"]


@dataclass(frozen=True)
class _Common:
    """What both say of the same images; classes in the order of run A."""

    probabilities: tuple[NDArray[np.float64], NDArray[np.float64]]
    truth: NDArray[np.int64]
    groups: NDArray[np.int64] | None
    protocol: EvaluationProtocol


def compare_runs(
    run_a: str | os.PathLike[str],
    run_b: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    seed: int = 0,
    events: EventStream | None = None,
    **reading: Any,
) -> Comparison:
    """See `api.compare`; `reading` are options of `data.sources.read`."""
    events = events or EventStream()
    folders = (Path(run_a), Path(run_b))
    if any(is_detector_run(folder) for folder in folders):
        raise UsageError(
            "compare is for runs that tell classes; detectors cannot be compared yet.",
            hint="headstart evaluate scores each on the same images",
        )
    facts = tuple(read_facts(folder, paths={}) for folder in folders)
    names = _run_names(folders)
    class_names = _same_classes(facts, names)
    if data is None:
        for name, value in reading.items():
            if value not in (None, False):
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} has no effect without --data.", hint=f"leave {option} out")
        common = _from_scores(facts[0], facts[1], names)
    else:
        common = _from_data(folders, facts[0], os.fspath(data), events, reading)
    counts = np.bincount(common.truth, minlength=len(class_names))
    metric: Literal["accuracy", "balanced_accuracy"] = "balanced_accuracy" if is_skewed(counts) else "accuracy"
    found = compare_paired(
        *common.probabilities,
        common.truth,
        class_names,
        metric=metric,
        groups=common.groups,
        is_out_of_fold=common.protocol.is_out_of_fold,
        seed=seed,
    )
    comparison = Comparison(
        names=names,
        numbers=comparison_json(found, names, common.protocol, is_new_data=data is not None),
        findings=tuple(comparison_findings(found)),
        reports=(summarize(facts[0]), summarize(facts[1])),
    )
    for event in comparison.events:
        events.emit(event)
    return comparison


def _run_names(folders: Sequence[Path]) -> tuple[str, str]:
    a, b = (f.resolve().name for f in folders)
    return (a, b) if a != b else (str(folders[0]), str(folders[1]))


def _same_classes(facts: Sequence[RunData], names: Sequence[str]) -> tuple[str, ...]:
    a, b = (f.class_names for f in facts)
    if set(a) != set(b):
        pairs = ((names[0], set(a) - set(b)), (names[1], set(b) - set(a)))
        only = [f"only {run} has {', '.join(f'`{n}`' for n in sorted(own)[:5])}" for run, own in pairs if own]
        raise DataError(
            f"the runs know different classes: {'; '.join(only)}.",
            hint="train both on the same classes (--exclude-classes leaves some out)",
        )
    return a


def _from_scores(a: RunData, b: RunData, names: Sequence[str]) -> _Common:
    """From what the runs kept of their own test images, or out of fold where neither has any."""
    splits = [f.headline_split for f in (a, b)]
    if splits[0] != splits[1]:
        tested, other = names if splits[0] == "test" else names[::-1]
        raise DataError(
            f"{tested} was scored on test images, {other} on its own training images that were left out: two "
            "different sets of images.",
            hint="headstart compare RUN_A RUN_B --data LABELLED_IMAGES scores both on the same",
        )
    for facts, name in zip((a, b), names, strict=True):
        if facts.scored.logits is None:
            raise DataError(
                f"{name} kept no scores of its images.", hint="--data LABELLED_IMAGES scores both on the same"
            )
    rows_a, rows_b = _match(a, b, splits[0], names)
    order = [b.class_names.index(n) for n in a.class_names]
    truth = a.scored.truth[rows_a]
    labels_b = np.array([a.class_names.index(n) for n in b.class_names], dtype=np.int64)[b.scored.truth[rows_b]]
    if (truth != labels_b).any():
        raise DataError(
            f"the labels in {names[1]} and {names[0]} differ for {pluralize(int((truth != labels_b).sum()), 'image')}: "
            "the runs were scored against different truths.",
            hint="--data LABELLED_IMAGES scores both against one",
        )
    is_test = splits[0] == "test"
    probabilities = softmax(_logits(a)[rows_a]), softmax(_logits(b)[rows_b][:, order])
    protocol = EvaluationProtocol.TEST_SPLIT if is_test else _out_of_fold_protocol(a)
    return _Common(probabilities, truth, a.scored.groups_of(rows_a), protocol)


def _match(a: RunData, b: RunData, split: str, names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows of the same images in both, by content where both know it, else by name.

    Raises:
        DataError: The sets differ.
    """
    has_digests = bool(a.scored.digests) and bool(b.scored.digests)
    keys = []
    for facts in (a, b):
        rows = np.flatnonzero(facts.scored.split == split)
        source = facts.scored.digests if has_digests else facts.scored.names
        seen: dict[str, int] = {}
        found: dict[tuple[str, int], int] = {}
        for i in rows:
            number = seen[source[i]] = seen.get(source[i], -1) + 1  # copies of one file are told apart by their number
            found[(source[i], number)] = int(i)
        keys.append(found)
    both = sorted(set(keys[0]) & set(keys[1]), key=lambda k: keys[0][k])
    if len(both) < max(len(keys[0]), len(keys[1])):
        what = "test sets" if split == "test" else "training sets"
        raise DataError(
            f"the {what} differ: {names[0]} was scored on {pluralize(len(keys[0]), 'image')}, {names[1]} on "
            f"{len(keys[1]):,}, with {len(both):,} in both. A difference could come from the "
            "images instead of the models.",
            hint="train both with one split (--split RUN_A/split.csv), or give --data LABELLED_IMAGES",
        )
    return np.array([keys[0][k] for k in both], dtype=np.int64), np.array([keys[1][k] for k in both], dtype=np.int64)


def _from_data(folders: Sequence[Path], a: RunData, data: str, events: EventStream, reading: dict[str, Any]) -> _Common:
    """Both predict labeled images that neither was trained on."""
    samples = match_labels(read(data, **reading), a.class_names)
    report_reading(samples, events)
    position = {name: i for i, name in enumerate(a.class_names)}
    scored = [s for s in samples if s.label in position]
    if not scored:
        raise DataError("no image has a label that the runs know.", hint=f"they know: {', '.join(a.class_names[:20])}")
    runtimes = [Runtime(os.fspath(folder)) for folder in folders]
    paths = [s.path for s in scored]
    known = np.zeros(len(scored), dtype=bool)
    for runtime in runtimes:
        known |= seen_in_training(paths, runtime.bundle.trained_on())
    if known.all():
        raise InvalidEvaluationError(
            "every one of these images was trained on by one of the runs; comparing on them would favour that one."
        )
    if known.any():
        evidence = {"count": int(known.sum()), "total": len(known)}
        events.find(Finding(FindingKind.IMAGES_TRAINED_ON, Severity.WARNING, evidence))
    keep = np.flatnonzero(~known)
    found = []
    for runtime in runtimes:
        order = [runtime.class_names.index(n) for n in a.class_names]
        with events.stage(Stage.EVALUATE, model=Path(runtime.bundle.path).name, num_images=len(keep)):
            found.append(runtime.predict_proba([paths[i] for i in keep])[:, order])
    is_read = np.isfinite(found[0]).all(axis=1) & np.isfinite(found[1]).all(axis=1)
    if not is_read.any():
        raise DataError("none of the images can be read.")
    if not is_read.all():
        failed = [read_problem(scored[i].name, paths[i], runtimes[0]) for i in keep[~is_read]]
        events.find(*unreadable_findings(failed))
    keep = keep[is_read]
    truth = np.array([position[scored[i].label or ""] for i in keep], dtype=np.int64)
    given = [scored[i].group for i in keep]
    groups = None
    if any(g is not None for g in given):
        numbers: dict[str, int] = {}
        texts = [g if g is not None else f"\0{i}" for i, g in enumerate(given)]
        groups = np.array([numbers.setdefault(t, len(numbers)) for t in texts], dtype=np.int64)
    return _Common((found[0][is_read], found[1][is_read]), truth, groups, EvaluationProtocol.TEST_SPLIT)


def _out_of_fold_protocol(facts: RunData) -> EvaluationProtocol:
    """Return how the training images of a run were scored; k-fold where the run does not say."""
    with suppress(ValueError):
        protocol = EvaluationProtocol(str((facts.metrics.get("cv") or {}).get("protocol")))
        if protocol.is_out_of_fold:
            return protocol
    return EvaluationProtocol.K_FOLD


def _logits(facts: RunData) -> NDArray[np.float64]:
    assert facts.scored.logits is not None  # looked at before
    return facts.scored.logits.astype(np.float64)


def write_comparison(folder: Path, found: Comparison) -> list[Path]:
    """`compare.json` and `compare.png` in a folder."""
    from headstart.reports.figures import figure_png

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "compare.json", found.to_json())
    with atomic_file(folder / "compare.png") as temporary:
        temporary.write_bytes(figure_png(found.plot()))
    return [folder / "compare.json", folder / "compare.png"]
