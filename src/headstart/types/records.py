"""Define frozen value types shared by the packages.

This module imports neither torch nor Pillow. Samples keep the same order for a whole run, so every array of length N
is aligned with `Samples`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headstart.types.codes import (
    DecisionReason,
    EvaluationProtocol,
    EvaluationSetup,
    Evidence,
    Finding,
    GroupSource,
    GroupStatus,
    ReadingNote,
    SplitReason,
)
from headstart.types.inventory import Inventory

__all__ = [
    "ClassScore",
    "DatasetReport",
    "Decision",
    "Estimate",
    "Evaluation",
    "Features",
    "GroupEvidence",
    "GroupPattern",
    "HandledFiles",
    "ImagePair",
    "Prediction",
    "Problem",
    "Sample",
    "Samples",
    "Shortcut",
    "Split",
    "SplitName",
]

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of the input data.

    Attributes:
        path: Absolute path of the file.
        name: Path relative to the data root, with `/`.
        label: Class name, or None.
        split: Split given by the data, or None.
        group: Group of related samples (same patient, video, original) that stay in one fold and split, or None.
    """

    path: str
    name: str
    label: str | None = None
    split: SplitName | None = None
    group: str | None = None


@dataclass(frozen=True)
class Samples(Sequence[Sample]):
    """The images of a dataset in a fixed order (sorted by name, or in the order of a list).

    Attributes:
        items: The samples.
        class_names: Sorted names of all labels; a `class_id` is a position in it.
        root: Folder of the relative names.
        layout: Short name of the detected layout, e.g. `class folders`.
        notes: Assumptions of the reader and unused files.
        problems: Unusable files (missing, unsupported format ...).
        columns: Other columns of a table, one value per sample, for `--group-from`.
        used_columns: Columns of the table that were used, by setting (`label_column` ...).
        has_inferred_groups: Whether groups were inferred from nested folders.
        inventory: Every file below the data folder, used or not.
    """

    items: tuple[Sample, ...]
    class_names: tuple[str, ...]
    root: str = ""
    layout: str = ""
    notes: tuple[ReadingNote, ...] = ()
    problems: tuple[Problem, ...] = ()
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    used_columns: dict[str, str] = field(default_factory=dict)
    has_inferred_groups: bool = False
    inventory: Inventory = field(default_factory=Inventory)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    @cached_property
    def class_ids(self) -> NDArray[np.int64]:
        """(N,) index of each label in `class_names`; -1 without a label."""
        position = {name: i for i, name in enumerate(self.class_names)}
        return np.array([position.get(s.label or "", -1) for s in self.items], dtype=np.int64)

    def take(self, index: NDArray[np.int64]) -> Samples:
        """Select samples; class names are kept."""
        return replace(
            self,
            items=tuple(self.items[i] for i in index),
            columns={k: tuple(v[i] for i in index) for k, v in self.columns.items()},
        )

    @cached_property
    def paths(self) -> list[str]:
        return [s.path for s in self.items]

    @cached_property
    def names(self) -> list[str]:
        return [s.name for s in self.items]


@dataclass(frozen=True, slots=True)
class Problem:
    """One unusable file or line.

    Attributes:
        name: Path relative to the data root.
        kind: Short stable word: `unreadable`, `empty`, `truncated`, `missing`, `permission` ...
        detail: Description.
    """

    name: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class HandledFiles:
    """Unusual files of one kind that were handled.

    Attributes:
        kind: Short stable word: `rotated`, `transparent`, `wrong-extension`, `animated` ...
        count: Number of files.
        detail: Handling.
        examples: Some names.
    """

    kind: str
    count: int
    detail: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImagePair:
    """Two images that are duplicates or near-duplicates.

    Attributes:
        a, b: Names relative to the data root.
        kind: `bytes`, `pixels`, `near`, `flipped` or `cropped`.
        similarity: In [0, 1]; 1 for equal pixels.
        split_a, split_b, label_a, label_b: Splits and labels, or None.
        index_a, index_b: Positions in the samples.
    """

    a: str
    b: str
    kind: str
    similarity: float
    split_a: str | None
    split_b: str | None
    label_a: str | None
    label_b: str | None
    index_a: int
    index_b: int


@dataclass(frozen=True, slots=True)
class GroupEvidence:
    """Evidence for or against an inferred grouping.

    Attributes:
        num_images: Tested training images.
        num_independent: Independent groups of training images after joining certain duplicates; an image without a
            group counts as one.
        effective_groups: 1 / (sum of squared group shares), between 1 and `num_independent`.
        groups_per_level: Effective number of groups (exp of the conditional entropy) inside one level of `class`,
            `split` and `camera`, as far as known; near 1 where the factor determines the group.
        unscorable_fraction: Fraction of the training images, or of the classes if that is larger, whose class is in
            one group.
        duplicates_within, duplicates_across: Pairs of certain duplicates within a group and across groups.
        off_axis_fraction: Fraction of the similarity within groups outside its strongest direction; near 0 for
            a recording condition such as exposure. None if images of one group do not look alike.
        accuracy_baseline: Majority-class accuracy, or None without a score.
        num_straddling: Groups in several splits of the data.
        straddling_fraction: Fraction of the scored images in such groups.
    """

    num_images: int = 0
    num_independent: int = 0
    effective_groups: float = 0.0
    groups_per_level: dict[str, float] = field(default_factory=dict)
    unscorable_fraction: float = 0.0
    duplicates_within: int = 0
    duplicates_across: int = 0
    off_axis_fraction: float | None = None
    accuracy_baseline: float | None = None
    num_straddling: int = 0
    straddling_fraction: float = 0.0


@dataclass(frozen=True, slots=True)
class GroupPattern:
    """One candidate grouping with its evidence.

    Attributes:
        pattern: Value of `--group-from` for it.
        grouping: Origin of its groups (see `GroupCandidate`).
        num_groups: Groups of at least two training images.
        status: Decision and reason.
        p_value: p-value of the permutation test within classes.
        nearness: Mean cosine similarity within groups minus within classes.
        accuracy_independent: Leave-one-out accuracy, or None.
        accuracy_grouped: Leave-one-group-out accuracy, or None.
        evidence: Other numbers behind `status`.
        source: Origin. Guesses have to pass all rules, named groups all but similarity, inferred groups the last one.
    """

    pattern: str
    grouping: Evidence
    num_groups: int
    status: GroupStatus
    p_value: float
    nearness: float
    accuracy_independent: float | None
    accuracy_grouped: float | None
    evidence: GroupEvidence = field(default_factory=GroupEvidence)
    source: GroupSource = "guessed"

    @property
    def accepted(self) -> bool:
        """Whether within-group similarity is above chance; true for given groups."""
        return not self.status.is_rejected

    @property
    def is_used(self) -> bool:
        """Whether training keeps these groups together by default."""
        return self.status is GroupStatus.APPLIED


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A cue other than the subject that predicts a class.

    Attributes:
        what: The cue (a key of `messages.shortcuts.CUES`), e.g. `file size`.
        accuracy: Balanced out-of-fold accuracy of a small classifier on the cue, in [0, 1].
        chance: Chance level.
        given_class: Class revealed most by the cue, or None.
        given_class_fraction: Fraction of its images whose nearest neighbors in the cue share the class.
        classes: Up to three classes with more than a fifth revealed, most first.
        examples: Names of some revealed images of `given_class`.
    """

    what: str
    accuracy: float
    chance: float
    given_class: str | None
    given_class_fraction: float
    classes: tuple[str, ...]
    examples: tuple[str, ...]


@dataclass(frozen=True)
class DatasetReport:
    """Result of the dataset check.

    Attributes:
        num_samples: Checked images.
        layout: Detected layout.
        classes: Class name to counts by split (`none` without a split).
        formats: Counts by file format.
        unreadable: Unusable files by name and kind.
        handled_files: Unusual files that were handled.
        duplicates: Pairs with equal bytes or pixels.
        near_duplicates: Near-duplicate pairs.
        leaks: Pairs across splits.
        label_conflicts: Pairs with different labels.
        group_patterns: Candidate groupings with evidence.
        shortcuts: Cues other than the subject that predict a class.
        size_range: (smallest, median, largest) of the longer side, pixels, or None.
        overlap_fraction: Visible fraction of the median image for a square input, by resize mode.
        intensity_range: Value range of 16-bit and float images, or None.
        decisions: Decisions with reasons.
        findings: Further findings (classes, groups, pixels), worst first.
        is_misleading: Whether a score on these data would be misleading, or files are lost.
    """

    num_samples: int
    layout: str
    classes: dict[str, dict[str, int]]
    formats: dict[str, int]
    unreadable: tuple[Problem, ...] = ()
    handled_files: tuple[HandledFiles, ...] = ()
    duplicates: tuple[ImagePair, ...] = ()
    near_duplicates: tuple[ImagePair, ...] = ()
    leaks: tuple[ImagePair, ...] = ()
    label_conflicts: tuple[ImagePair, ...] = ()
    group_patterns: tuple[GroupPattern, ...] = ()
    shortcuts: tuple[Shortcut, ...] = ()
    size_range: tuple[int, int, int] | None = None
    overlap_fraction: dict[str, float] = field(default_factory=dict)
    intensity_range: tuple[float, float] | None = None
    decisions: tuple[Decision, ...] = ()
    findings: tuple[Finding, ...] = ()
    is_misleading: bool = False


@dataclass(frozen=True)
class Split:
    """Assignment of samples to splits.

    Attributes:
        assignment: (N,) `train`, `val`, `test`, or the empty string for an excluded sample.
        groups: (N,) integer group of each sample, or None without groups.
        source: `given` (by the data), `file` (a saved manifest) or `made` (by headstart).
        setup: Evaluation setup of the test split, or None.
        seed: Random seed.
        reason: Code of how the split came about.
        evidence: Numbers and names behind the reason.
    """

    assignment: NDArray[np.str_]
    groups: NDArray[np.int64] | None
    source: Literal["given", "file", "made"]
    setup: EvaluationSetup | None
    seed: int
    reason: SplitReason = SplitReason.GIVEN
    evidence: Evidence = field(default_factory=dict)

    def where(self, name: SplitName) -> NDArray[np.int64]:
        """Return the positions of the samples of one split."""
        return np.flatnonzero(self.assignment == name)

    def groups_of(self, index: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return the groups of some samples, or None without groups."""
        return None if self.groups is None else self.groups[index]


@dataclass(frozen=True)
class Features:
    """Features of a frozen backbone for every image.

    Attributes:
        blocks: Pooled features by block name, e.g. `stage6`, `embedding`, each (N, D) float32.
        digests: (N,) content digest of each file, hex.
        problems: Files without features; their rows are NaN.
        is_ok: (N,) False where a row is NaN.
        tuned_on: Digests of the samples used to fine-tune the backbone (empty for a pretrained one). Leave-one-out on
            these samples would be biased and is refused.
    """

    blocks: dict[str, NDArray[np.float32]]
    digests: tuple[str, ...]
    problems: tuple[Problem, ...]
    is_ok: NDArray[np.bool_]
    tuned_on: frozenset[str] = frozenset()

    def take(self, index: NDArray[np.int64]) -> Features:
        """Select samples."""
        return Features(
            blocks={k: v[index] for k, v in self.blocks.items()},
            digests=tuple(self.digests[i] for i in index),
            problems=self.problems,
            is_ok=self.is_ok[index],
            tuned_on=self.tuned_on,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """One chosen value with its reason, shown with `-v` and stored in the run.

    Attributes:
        setting: Dotted name, e.g. `probe.ridge_penalty`.
        value: Chosen value; JSON-serializable.
        reason: Stable code of the reason.
        source: `auto`, `default`, `config`, `cli` or `python`.
        evidence: Numbers and names behind the reason; the keys depend on it, see `headstart.messages.decisions`.
    """

    setting: str
    value: Any
    reason: DecisionReason
    source: str = "auto"
    evidence: Evidence = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured fraction with its 95 % CI, in [0, 1].

    Attributes:
        value: Best estimate, corrected for selection bias if something was selected on the same data.
        low, high: Limits of the interval; None if not measurable (too few groups).
        raw_value: Uncorrected fraction.
        n_eff: Effective sample size.
    """

    value: float | None
    low: float | None
    high: float | None
    raw_value: float | None
    n_eff: float | None


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Metrics of one class; `support` is its number of scored samples."""

    name: str
    precision: Estimate
    recall: Estimate
    f1: Estimate
    support: int


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of a model on one set of samples (a block of `metrics.json`).

    Attributes:
        setup: The protocol with its details.
        num_samples, num_groups: Number of scored samples and groups (None without groups).
        accuracy, balanced_accuracy, f1_macro: With intervals.
        log_loss: Mean negative log-probability of the true class, nats.
        ece: Expected calibration error, in [0, 1].
        per_class: Metrics per class, in order of class ids.
        confusion: (K, K) counts, rows: true class, columns: predicted class.
        per_group: Accuracy and size of each group, or None.
        findings: Limitations of these numbers.
    """

    setup: EvaluationSetup
    num_samples: int
    num_groups: int | None
    accuracy: Estimate
    balanced_accuracy: Estimate
    f1_macro: Estimate
    log_loss: float | None
    ece: float | None
    per_class: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]
    per_group: dict[str, dict[str, float]] | None = None
    findings: tuple[Finding, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def protocol(self) -> EvaluationProtocol:
        """Protocol without details."""
        return self.setup.protocol


@dataclass(frozen=True, slots=True)
class Prediction:
    """Prediction for one image.

    Attributes:
        file: Name of the image as given.
        label: Most probable class, or None for an unreadable image.
        probability: Its probability in [0, 1].
        top: (class name, probability) pairs, most probable first.
        error: Reason for a missing label, or None.
        ood_score: Difference from the training images; about 0 in distribution, None without OOD detection.
        is_ood: Whether it counts as out of distribution; the label remains the most probable class.
        prediction_set: Classes of the conformal prediction set, most probable first; may be empty; None if the model
            has no prediction sets.
        problem: Kind of the error, as in `Problem`.
    """

    file: str
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...] = ()
    error: str | None = None
    ood_score: float | None = None
    is_ood: bool | None = None
    prediction_set: tuple[str, ...] | None = None
    problem: str | None = None
