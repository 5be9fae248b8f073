"""The values that travel between rooms: frozen, plain, without behavior beyond reading themselves.

Nothing here imports torch or Pillow.  Arrays are numpy; the order of samples is one order for a whole
run, so every array of length N in these records is aligned with `Samples`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headstart.types import (
    DecisionReason,
    EvaluationProtocol,
    EvaluationSetup,
    Evidence,
    Finding,
    GroupStatus,
    ReadingNote,
)

__all__ = [
    "ClassScore",
    "DatasetReport",
    "Decision",
    "Estimate",
    "Evaluation",
    "Features",
    "GroupEvidence",
    "GroupPattern",
    "ImagePair",
    "Prediction",
    "Problem",
    "Remark",
    "Sample",
    "Samples",
    "Shortcut",
    "Split",
    "SplitName",
]

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image as a person gave it.

    Attributes:
        path: Absolute path of the file.
        name: The path as the person would write it, relative to the data root, with `/`.
        label: Class name, or None where the image has no label.
        split: The split that the person's layout gave it, or None.
        group: Samples that share a group must not be parted (same patient, video, original), or None.
    """

    path: str
    name: str
    label: str | None = None
    split: SplitName | None = None
    group: str | None = None


@dataclass(frozen=True)
class Samples(Sequence[Sample]):
    """The images of a data set, in one fixed order (sorted by name unless a list gave the order).

    Attributes:
        items: The samples.
        class_names: Sorted names of all labels; a `class_id` is a position in it.
        root: The folder that names are relative to.
        layout: Short name of the layout that was recognized, e.g. `class folders`.
        notes: What the reader assumed and what it did not use; stops nothing.
        problems: Files that reading already knows cannot be used (missing, a foreign format ...).
        columns: The other columns of a table, each with one value a sample, for `--group-from`.
        has_inferred_groups: Whether the groups were inferred from nested folders, not given.
    """

    items: tuple[Sample, ...]
    class_names: tuple[str, ...]
    root: str = ""
    layout: str = ""
    notes: tuple[ReadingNote, ...] = ()
    problems: tuple[Problem, ...] = ()
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    has_inferred_groups: bool = False

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    @cached_property
    def class_ids(self) -> NDArray[np.int64]:
        """(N,) position of each label in `class_names`; -1 where there is no label."""
        position = {name: i for i, name in enumerate(self.class_names)}
        return np.array([position.get(s.label or "", -1) for s in self.items], dtype=np.int64)

    def take(self, index: NDArray[np.int64]) -> Samples:
        """Return the same for some of the samples; the class names stay."""
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
    """One file (or line) that cannot be used as it is.

    Attributes:
        name: Path relative to the data root.
        kind: Short stable word: `unreadable`, `empty`, `truncated`, `missing`, `permission` ...
        detail: What is wrong, in plain words.
    """

    name: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Remark:
    """Files that are odd in one way and were handled.

    Attributes:
        kind: Short stable word: `rotated`, `transparent`, `wrong-extension`, `animated` ...
        count: How many.
        detail: What was done, in plain words.
        examples: Some of their names.
    """

    kind: str
    count: int
    detail: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImagePair:
    """Two images that are copies of each other.

    Attributes:
        a, b: Names relative to the data root.
        kind: `bytes`, `pixels`, `near`, `mirrored` or `cropped`.
        similarity: In [0, 1]; 1 for equal pixels.
        split_a, split_b, label_a, label_b: What the data say of each, or None.
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
    """Numbers that decide whether a guessed grouping may be applied.

    Attributes:
        num_images: Training images that were looked at.
        num_independent: Independent groups of training images once certain copies are joined; an image without a
            group counts as one.
        effective_groups: 1 / (sum of squared group shares), between 1 and `num_independent`.
        groups_per_level: Effective number of groups (exp of the conditional entropy) inside one level of `class`,
            `split` and `camera`, as far as known; near 1 where the factor determines the group.
        unscorable_fraction: Share of the training images, or of the classes if that is larger, whose class lies in
            one group.
        copies_within, copies_across: Pairs of certain copies inside one group, and in two different ones.
        off_axis_fraction: Fraction of the similarity within groups outside its strongest direction; near 0 for
            a recording condition such as exposure. None if images of one group do not look alike.
        accuracy_baseline: Accuracy of always predicting the most frequent class, or None if no score was measured.
        num_straddling: Groups on both sides of the split that the data bring.
        straddling_fraction: Share of the scored images that are in such a group.
    """

    num_images: int = 0
    num_independent: int = 0
    effective_groups: float = 0.0
    groups_per_level: dict[str, float] = field(default_factory=dict)
    unscorable_fraction: float = 0.0
    copies_within: int = 0
    copies_across: int = 0
    off_axis_fraction: float | None = None
    accuracy_baseline: float | None = None
    num_straddling: int = 0
    straddling_fraction: float = 0.0


@dataclass(frozen=True, slots=True)
class GroupPattern:
    """One guess about what belongs together, with its evidence.

    Attributes:
        pattern: What `--group-from` takes to ask for it.
        meaning: The same in words.
        num_groups: Groups of at least two training images.
        status: What becomes of it, and why.
        p_value: Of the permutation test within classes.
        nearness: How much nearer images of one group are than any two of a class (difference of cosines).
        accuracy_independent: Out-of-fold accuracy as if every image stood alone, or None if not measured.
        accuracy_grouped: The same with whole groups left out, or None if not measured.
        evidence: The other numbers that `status` follows from.
        source: `guessed` (from names, columns or times), `inferred` (from nested folders), `given` (by a table or
            `--layout`) or `asked` (with `--group-from`). Guesses have to pass all rules, inferred groups the last one.
    """

    pattern: str
    meaning: str
    num_groups: int
    status: GroupStatus
    p_value: float
    nearness: float
    accuracy_independent: float | None
    accuracy_grouped: float | None
    evidence: GroupEvidence = field(default_factory=GroupEvidence)
    source: Literal["guessed", "inferred", "given", "asked"] = "guessed"

    @property
    def accepted(self) -> bool:
        """Whether images of one group look alike beyond chance; true for groups that the user gave."""
        return not self.status.is_rejected

    @property
    def is_used(self) -> bool:
        """Whether training keeps these groups together unless told otherwise."""
        return self.status is GroupStatus.APPLIED


@dataclass(frozen=True, slots=True)
class Shortcut:
    """Something about the files, not their content, that gives a class away.

    Attributes:
        what: The cue (a key of `messages.shortcuts.CUES`), e.g. `file size`.
        accuracy: Balanced out-of-fold accuracy of a small classifier that sees only the cue, in [0, 1].
        chance: What guessing reaches.
        given_class: The class that is given away most, or None where the cue predicts well without giving one away.
        given_class_fraction: Fraction of its images whose nearest neighbors in this cue share the class.
        classes: All classes of which more than a fifth are given away, the most first; at most three.
        examples: Names of some images of `given_class` that are given away.
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
    """The data doctor's judgement of one data set; nothing in it changes a file.

    Attributes:
        num_samples: Images that were judged.
        layout: How they were understood.
        classes: Class name to counts by split (`none` without one).
        formats: Counts by file format.
        unreadable: Files that cannot be used, by name and kind.
        remarks: Oddities that were handled.
        duplicates: Pairs with equal bytes or pixels.
        near_duplicates: Pairs that are nearly the same image.
        leaks: Those of both that lie in different splits.
        label_conflicts: Those of both that have different labels.
        group_patterns: Guesses about what belongs together, with evidence.
        shortcuts: What gives a class away besides content.
        size_range: (smallest, median, largest) of the longer side, pixels, or None.
        overlap_fraction: Share of the median image that a square network sees, by resize mode.
        intensity_range: What 16-bit and float images are mapped from, or None.
        decisions: What was chosen, and why.
        findings: Further findings (about classes, groups and pixels), the worst first.
        is_misleading: Whether a score on these data as they are would mislead, or files are lost.
    """

    num_samples: int
    layout: str
    classes: dict[str, dict[str, int]]
    formats: dict[str, int]
    unreadable: tuple[Problem, ...] = ()
    remarks: tuple[Remark, ...] = ()
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
    """Who is trained on and who is only scored.

    Attributes:
        assignment: (N,) of `train`, `val`, `test`, or the empty string for a sample that is left out.
        groups: (N,) integer group of each sample, or None where every sample stands alone.
        source: `given` (the person's own), `file` (a saved manifest) or `made` (by us).
        setup: How the test split was drawn and is scored, or None where there is none.
        seed: The seed it was made with.
        reason: One sentence that says why it is so.
        evidence: Numbers and names behind the reason.
    """

    assignment: NDArray[np.str_]
    groups: NDArray[np.int64] | None
    source: Literal["given", "file", "made"]
    setup: EvaluationSetup | None
    seed: int
    reason: str = ""
    evidence: Evidence = field(default_factory=dict)

    def where(self, name: SplitName) -> NDArray[np.int64]:
        """Return positions of the samples in one split."""
        return np.flatnonzero(self.assignment == name)


@dataclass(frozen=True)
class Features:
    """What a frozen backbone says about every image.

    Attributes:
        blocks: Pooled features by block name, e.g. `stage6`, `embedding`, each (N, D) float32.
        digests: (N,) content digest of each file, hex.
        problems: Files that could not be embedded; their rows are NaN.
        is_ok: (N,) False where a row is NaN.
        tuned_on: Digests of the samples that the backbone itself was tuned on (empty for a
            pretrained network).  Leave-one-out on those would lie and is refused.
    """

    blocks: dict[str, NDArray[np.float32]]
    digests: tuple[str, ...]
    problems: tuple[Problem, ...]
    is_ok: NDArray[np.bool_]
    tuned_on: frozenset[str] = frozenset()

    def take(self, index: NDArray[np.int64]) -> Features:
        """Return the same for some of the samples."""
        return Features(
            blocks={k: v[index] for k, v in self.blocks.items()},
            digests=tuple(self.digests[i] for i in index),
            problems=self.problems,
            is_ok=self.is_ok[index],
            tuned_on=self.tuned_on,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """One value that was chosen, and why: shown with `-v` and kept in the run.

    Attributes:
        setting: Its dotted name, e.g. `probe.ridge_penalty`.
        value: What was chosen; JSON-serializable.
        reason: Stable code of why.
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
    """A measured share with its 95 % interval; all of it in [0, 1].

    Attributes:
        value: Best estimate, corrected for choosing where something was chosen on the same data.
        low, high: Ends of the interval; None where it cannot be measured (too few groups).
        raw_value: The plain share, before any correction.
        n_eff: The number of independent samples that the interval is worth.
    """

    value: float | None
    low: float | None
    high: float | None
    raw_value: float | None
    n_eff: float | None


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How one class fares; `support` counts its scored samples."""

    name: str
    precision: Estimate
    recall: Estimate
    f1: Estimate
    support: int


@dataclass(frozen=True)
class Evaluation:
    """What is known about a model on one set of scored samples (a block of `metrics.json`).

    Attributes:
        setup: The protocol with its details.
        num_samples, num_groups: What was scored (`num_groups` is None without groups).
        accuracy, balanced_accuracy, f1_macro: With intervals.
        log_loss: Mean negative log-probability of the true class, nats.
        ece: Expected calibration error, in [0, 1].
        per_class: One score a class, in order of class ids.
        confusion: (K, K) counts, rows truth, columns prediction.
        per_group: Accuracy and size of each group, or None.
        findings: What limits these numbers.
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
        """The protocol without its details."""
        return self.setup.protocol


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says about one image.

    Attributes:
        file: Name of the image as it was given.
        label: Most probable class, or None where the image could not be read.
        probability: Its probability in [0, 1].
        top: (class name, probability) pairs, most probable first.
        error: Why there is no label, or None.
        ood_score: How unlike all training images it is; about 0 for known ones, None where the model cannot tell.
        is_ood: Whether it counts as none of the classes; the label stays the best known class.
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
