"""Compare two runs on the same images, paired.

Images are identified by content, not by name. Runs scored on different images cannot be compared without new data.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headstart.data.grouping import number_groups
from headstart.data.options import ReadOptions
from headstart.data.problem_findings import unreadable_findings
from headstart.errors import DataError, InvalidEvaluationError, UsageError
from headstart.evaluation.metrics import is_skewed, softmax
from headstart.evaluation.paired_comparison import compare_paired
from headstart.events import EventStream, Stage
from headstart.inference.runtime import Runtime
from headstart.messages.numbers import pluralize
from headstart.reports.comparison_text import Comparison, comparison_findings, comparison_json
from headstart.reports.record import ClassifierRecord, read_record
from headstart.reports.summary import summarize
from headstart.tasks.classify.evaluate import match_images, read_as_trained, read_problem
from headstart.tasks.evaluation import is_training_image
from headstart.types.codes import EvaluationProtocol, Finding, FindingKind, Severity

__all__ = ["compare_runs"]


@dataclass(frozen=True)
class _Common:
    """Predictions of both runs on the same images; classes in the order of run A."""

    probabilities: tuple[NDArray[np.float64], NDArray[np.float64]]
    class_ids: NDArray[np.int64]
    groups: NDArray[np.int64] | None
    protocol: EvaluationProtocol


def compare_runs(folders: tuple[Path, Path], data: str | None, options: ReadOptions, events: EventStream) -> Comparison:
    """Compare two runs; see `Task.compare`."""
    records = (_read(folders[0]), _read(folders[1]))
    names = _run_names(folders)
    class_names = _same_classes(records, names)
    if data is None:
        for field in fields(ReadOptions):
            value = getattr(options, field.name)
            if value is not None and value is not False and value != ():
                option = "--" + field.name.replace("_", "-")
                raise UsageError(f"{option} has no effect without --data.", hint=f"remove {option}")
        common = _from_scores(records[0], records[1], names)
    else:
        common = _from_data(folders, records[0], data, events, options)
    counts = np.bincount(common.class_ids, minlength=len(class_names))
    metric: Literal["accuracy", "balanced_accuracy"] = "balanced_accuracy" if is_skewed(counts) else "accuracy"
    result = compare_paired(
        common.probabilities,
        common.class_ids,
        class_names,
        metric=metric,
        groups=common.groups,
        is_out_of_fold=common.protocol.is_out_of_fold,
    )
    comparison = Comparison(
        names=names,
        numbers=comparison_json(result, names, common.protocol, is_new_data=data is not None),
        findings=tuple(comparison_findings(result)),
        reports=(summarize(records[0]), summarize(records[1])),
    )
    for event in comparison.events:
        events.emit(event)
    return comparison


def _read(folder: Path) -> ClassifierRecord:
    record = read_record(folder, has_paths=False)
    assert isinstance(record, ClassifierRecord)  # checked before
    return record


def _run_names(folders: Sequence[Path]) -> tuple[str, str]:
    a, b = (f.resolve().name for f in folders)
    return (a, b) if a != b else (str(folders[0]), str(folders[1]))


def _same_classes(records: Sequence[ClassifierRecord], names: Sequence[str]) -> tuple[str, ...]:
    a, b = (f.class_names for f in records)
    if set(a) != set(b):
        pairs = ((names[0], set(a) - set(b)), (names[1], set(b) - set(a)))
        only = [f"only {run} has {', '.join(f'`{n}`' for n in sorted(own)[:5])}" for run, own in pairs if own]
        raise DataError(
            f"the runs have different classes: {'; '.join(only)}.",
            hint="train both on the same classes (see --exclude-classes)",
        )
    return a


def _from_scores(a: ClassifierRecord, b: ClassifierRecord, names: Sequence[str]) -> _Common:
    """Compare the stored scores of test images, or the out-of-fold ones where neither run has a test split."""
    splits = [f.headline_split for f in (a, b)]
    if splits[0] != splits[1]:
        tested, other = names if splits[0] == "test" else names[::-1]
        raise DataError(
            f"{tested} was scored on a test split, {other} out of fold; the images differ.",
            hint="score both on the same images: headstart compare RUN_A RUN_B --data LABELED_IMAGES",
        )
    for record, name in zip((a, b), names, strict=True):
        if not len(record.scored):
            raise DataError(
                f"{name} has no stored scores.", hint="score both on the same images: --data LABELED_IMAGES"
            )
    rows_a, rows_b = _match(a, b, splits[0], names)
    order = [b.class_names.index(n) for n in a.class_names]
    class_ids = a.scored.class_ids[rows_a]
    labels_b = np.array([a.class_names.index(n) for n in b.class_names], dtype=np.int64)[b.scored.class_ids[rows_b]]
    if (class_ids != labels_b).any():
        raise DataError(
            f"the labels in {names[1]} and {names[0]} differ for "
            f"{pluralize(int((class_ids != labels_b).sum()), 'image')}.",
            hint="score both on the same labels: --data LABELED_IMAGES",
        )
    is_test = splits[0] == "test"
    probabilities = softmax(_logits(a)[rows_a]), softmax(_logits(b)[rows_b][:, order])
    protocol = EvaluationProtocol.TEST_SPLIT if is_test else _out_of_fold_protocol(a)
    return _Common(probabilities, class_ids, a.scored.groups_of(rows_a), protocol)


def _match(
    a: ClassifierRecord, b: ClassifierRecord, split: str, names: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the same images in both runs, by digest where both have it, else by name.

    Raises:
        DataError: The runs were scored on different images.
    """
    has_digests = bool(a.scored.digests) and bool(b.scored.digests)
    keys = []
    for record in (a, b):
        rows = np.flatnonzero(record.scored.split == split)
        source = record.scored.digests if has_digests else record.scored.names
        count: dict[str, int] = {}
        row_of: dict[tuple[str, int], int] = {}
        for i in rows:
            number = count[source[i]] = count.get(source[i], -1) + 1  # identical files are numbered
            row_of[(source[i], number)] = int(i)
        keys.append(row_of)
    both = sorted(set(keys[0]) & set(keys[1]), key=lambda k: keys[0][k])
    if len(both) < max(len(keys[0]), len(keys[1])):
        sets = "test sets" if split == "test" else "training sets"
        raise DataError(
            f"the {sets} differ: {names[0]} was scored on {pluralize(len(keys[0]), 'image')}, {names[1]} on "
            f"{len(keys[1]):,}, with {len(both):,} in both.",
            hint="train both with one split (--split RUN_A/split.csv), or use --data LABELED_IMAGES",
        )
    return np.array([keys[0][k] for k in both], dtype=np.int64), np.array([keys[1][k] for k in both], dtype=np.int64)


def _from_data(
    folders: Sequence[Path], a: ClassifierRecord, data: str, events: EventStream, options: ReadOptions
) -> _Common:
    """Compare predictions on labeled images that neither run was trained on."""
    runtimes = [Runtime(os.fspath(folder)) for folder in folders]
    scored = match_images(read_as_trained(data, runtimes[0], options), a.class_names, events).scored
    paths = scored.paths
    known = np.zeros(len(scored), dtype=bool)
    for runtime in runtimes:
        known |= is_training_image(paths, runtime.bundle.trained_on())
    if known.all():
        raise InvalidEvaluationError(
            "all of these images were used to train one of the runs; the comparison would be biased."
        )
    if known.any():
        evidence = {"count": int(known.sum()), "total": len(known)}
        events.report(Finding(FindingKind.IMAGES_TRAINED_ON, Severity.WARNING, evidence))
    keep = np.flatnonzero(~known)
    probabilities = []
    for runtime in runtimes:
        order = [runtime.class_names.index(n) for n in a.class_names]
        with events.stage(Stage.EVALUATE, model=Path(runtime.bundle.path).name, num_images=len(keep)):
            probabilities.append(softmax(runtime.tables([paths[i] for i in keep], ("logits",))[0])[:, order])
    is_read = np.isfinite(probabilities[0]).all(axis=1) & np.isfinite(probabilities[1]).all(axis=1)
    if not is_read.any():
        raise DataError("cannot read any of the images.")
    if not is_read.all():
        failed = [read_problem(scored[i].name, paths[i], runtimes[0]) for i in keep[~is_read]]
        events.report(*unreadable_findings(failed))
    keep = keep[is_read]
    kept = scored.take(keep)
    groups = number_groups([s.group for s in kept]) if any(s.group for s in kept) else None
    return _Common(
        (probabilities[0][is_read], probabilities[1][is_read]), kept.class_ids, groups, EvaluationProtocol.TEST_SPLIT
    )


def _out_of_fold_protocol(record: ClassifierRecord) -> EvaluationProtocol:
    """Return the out-of-fold protocol of a run; k-fold where it is not recorded."""
    with suppress(ValueError):
        protocol = EvaluationProtocol(str((record.metrics.get("cv") or {}).get("protocol")))
        if protocol.is_out_of_fold:
            return protocol
    return EvaluationProtocol.K_FOLD


def _logits(record: ClassifierRecord) -> NDArray[np.float64]:
    return record.scored.logits.astype(np.float64)
