"""Define small frozen values with stable codes, used by all layers.

Text is not data: code compares the codes and numbers of these values, and `headstart.messages` renders them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Literal, TypeAlias

__all__ = [
    "RESUBSTITUTION",
    "USER_TEST_SPLIT",
    "USER_VALIDATION_SPLIT",
    "DecisionReason",
    "EvaluationProtocol",
    "EvaluationSetup",
    "Evidence",
    "Finding",
    "FindingKind",
    "GroupSource",
    "GroupStatus",
    "JsonValue",
    "NoteKind",
    "ReadingKind",
    "ReadingNote",
    "Severity",
    "SplitReason",
    "SplitSource",
    "UnusedReason",
]

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
Evidence: TypeAlias = Mapping[str, JsonValue]
"""Numbers and names behind a finding or decision, by snake_case name; JSON-serializable."""

GroupSource: TypeAlias = Literal["guessed", "named", "inferred", "given", "requested"]
"""Origin of groups: guessed from names, columns or times, the name of a column that states a subject or capture unit,
inferred from nested folders, given by a table or `--layout`, or requested with `--group-from`."""


class DecisionReason(StrEnum):
    """Stable codes of decision reasons; each has a message in `headstart.messages.decisions`."""

    # data
    BOXES_FOUND = "boxes_found"
    BOX_FORMAT_OF_FILES = "box_format_of_files"
    CONFLICTING_LABELS = "conflicting_labels"
    DUPLICATES_KEPT_TOGETHER = "duplicates_kept_together"
    DUPLICATE_THRESHOLD_FROM_DATA = "duplicate_threshold_from_data"
    GROUPS_REQUESTED = "groups_requested"
    GROUPS_GIVEN_BY_DATA = "groups_given_by_data"
    GROUPS_IN_QUESTION = "groups_in_question"
    GROUPS_NAMED_BY_COLUMN = "groups_named_by_column"
    GROUPS_PER_IMAGE = "groups_per_image"
    GROUPS_SUPPORTED_BY_IMAGES = "groups_supported_by_images"
    GROUPS_SWITCHED_OFF = "groups_switched_off"
    HELD_OUT_BY_DEFAULT = "held_out_by_default"
    LAYOUT_RECOGNIZED = "layout_recognized"
    NAMES_NUMBERED = "names_numbered"
    NO_BOXES = "no_boxes"
    NO_GROUPS_FOUND = "no_groups_found"
    SET_BY_USER = "set_by_user"
    VALUE_RANGE_CONSTANT = "value_range_constant"
    VALUE_RANGE_OF_BITS = "value_range_of_bits"
    VALUE_RANGE_OF_FLOATS = "value_range_of_floats"
    VALUE_RANGE_OF_PERCENTILES = "value_range_of_percentiles"
    # defaults and given values
    REQUESTED_VALUE_ADAPTED = "requested_value_adapted"
    DEFAULT_FOR_NUM_TRAIN = "default_for_num_train"
    DEFAULT_INPUT_SIZE = "default_input_size"
    DEFAULT_WEIGHTS = "default_weights"
    DEVICE_OF_TRAINING = "device_of_training"
    FEATURES_ON_CPU = "features_on_cpu"
    NEXT_FREE_FOLDER = "next_free_folder"
    NO_EFFECT = "no_effect"
    OFF_BY_DEFAULT = "off_by_default"
    ONE_THREAD_PER_CORE = "one_thread_per_core"
    THREADS_MEASURED = "threads_measured"
    # head
    BLOCKS_COMPARED = "blocks_compared"
    BLOCKS_COMPARED_ON_SUBSET = "blocks_compared_on_subset"
    CALIBRATIONS_COMPARED = "calibrations_compared"
    CLASSES_WEIGH_THE_SAME = "classes_weigh_the_same"
    CLASS_WEIGHTS_FROM_FILE = "class_weights_from_file"
    RESIZE_MODES_COMPARED = "resize_modes_compared"
    RESIZE_MODES_NOT_COMPARABLE = "resize_modes_not_comparable"
    LOGISTIC_COMPARED = "logistic_compared"
    LOGISTIC_NEEDS_SCIKIT_LEARN = "logistic_needs_scikit_learn"
    LOGISTIC_SWITCHED_OFF = "logistic_switched_off"
    LOGISTIC_TAKES_TOO_LONG = "logistic_takes_too_long"
    LOGISTIC_TOO_FEW_IMAGES_PER_CLASS = "logistic_too_few_images_per_class"
    LOGISTIC_TOO_FEW_IMAGES_PER_FEATURE = "logistic_too_few_images_per_feature"
    FLIP_COMPARED = "flip_compared"
    FLIP_IS_TRAINING_VIEW = "flip_is_training_view"
    FLIP_NEEDS_BUDGET = "flip_needs_budget"
    MIXTURE_COMPARED = "mixture_compared"
    PENALTIES_COMPARED = "penalties_compared"
    SINGLE_BLOCK = "single_block"
    TEMPERATURE_FITTED = "temperature_fitted"
    TOO_FEW_TO_COMPARE_BLOCKS = "too_few_to_compare_blocks"
    POSITIVE_CLASS_IS_RARER = "positive_class_is_rarer"
    POSITIVE_CLASS_OF_MODEL = "positive_class_of_model"
    # gradient training
    BATCH_LIMITED_BY_DATA = "batch_limited_by_data"
    BUDGET_SPENT = "budget_spent"
    BUDGET_TOO_SHORT_FOR_EPOCH = "budget_too_short_for_epoch"
    BUDGET_TOO_SHORT_FOR_TRIAL = "budget_too_short_for_trial"
    CACHE_TOO_SMALL = "cache_too_small"
    EPOCHS_FIT_BUDGET = "epochs_fit_budget"
    FLIP_LOWERS_ACCURACY = "flip_lowers_accuracy"
    FOLDS_FIT_BUDGET = "folds_fit_budget"
    NO_BUDGET = "no_budget"
    NO_PILOT_GAIN = "no_pilot_gain"
    PHASES_CANNOT_BE_CUT = "phases_cannot_be_cut"
    PHASES_FIT_CACHE = "phases_fit_cache"
    PHASES_TOO_LARGE = "phases_too_large"
    PILOTS_COMPARED = "pilots_compared"
    PRECISIONS_COMPARED = "precisions_compared"
    TRAINING_TOO_SHORT_TO_MEASURE = "training_too_short_to_measure"
    TRIAL_FITS_BUDGET = "trial_fits_budget"
    TUNED_COMPARED_WITH_PROBE = "tuned_compared_with_probe"
    VIEWS_FIT_BUDGET = "views_fit_budget"
    # detection
    BOXES_PER_CLASS = "boxes_per_class"
    BOX_SIZES = "box_sizes"
    IMAGES_FIT_BUDGET = "images_fit_budget"
    SIZE_ROUNDED_UP = "size_rounded_up"
    SECTIONS_FIT_RUN = "sections_fit_run"
    STEPS_FIT_BUDGET = "steps_fit_budget"
    STRATEGY_FITS_BUDGET = "strategy_fits_budget"
    WHOLE_IMAGE_FOR_BOXES = "whole_image_for_boxes"


class Severity(StrEnum):
    """Severity of a finding.

    ERROR: a score on these data would be misleading, or data are lost. WARNING: results suffer or are uncertain.
    INFO: handled, or for information only.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class FindingKind(StrEnum):
    """Stable codes of findings; each has a message in `headstart.messages.findings`."""

    ALL_SCORED_IMAGES_LEAK = "all_scored_images_leak"
    ANNOTATIONS_CORRECTED = "annotations_corrected"
    ANNOTATIONS_NOT_USED = "annotations_not_used"
    CLASSES_NOT_IN_DATA = "classes_not_in_data"
    CLASSES_NOT_IN_MODEL = "classes_not_in_model"
    CLASS_IMBALANCE = "class_imbalance"
    CLASS_IN_ONE_GROUP = "class_in_one_group"
    CLASS_NOT_IN_TEST = "class_not_in_test"
    CLASS_NOT_IN_TRAIN = "class_not_in_train"
    CLASS_TOO_SMALL = "class_too_small"
    CLASS_WITH_ONE_IMAGE = "class_with_one_image"
    CLASS_WITHOUT_IMAGES = "class_without_images"
    DUPLICATES_AT_BASELINE = "duplicates_at_baseline"
    DUPLICATES_WITH_OTHER_BOXES = "duplicates_with_other_boxes"
    CONFOUNDED = "confounded"
    CORRECTIONS_APPLIED = "corrections_applied"
    CORRECTIONS_OF_SCORED_IMAGES = "corrections_of_scored_images"
    CORRECTIONS_OF_UNKNOWN_IMAGES = "corrections_of_unknown_images"
    CROWDED_IMAGES = "crowded_images"
    DETECTABLE_DIFFERENCE = "detectable_difference"
    DETECTION_LIMIT_REACHED = "detection_limit_reached"
    DUPLICATE_IMAGES = "duplicate_images"
    FEW_GROUPS = "few_groups"
    FILES_HANDLED = "files_handled"
    FILES_NOT_USED = "files_not_used"
    GROUPS_ACROSS_SPLITS = "groups_across_splits"
    GROUPS_APPLIED = "groups_applied"
    GROUPS_IN_QUESTION = "groups_in_question"
    GROUPS_NOT_APPLIED = "groups_not_applied"
    GROUPS_REJECTED = "groups_rejected"
    IMAGES_TRAINED_ON = "images_trained_on"
    INTERVAL_NOT_MEASURABLE = "interval_not_measurable"
    LABEL_CONFLICTS = "label_conflicts"
    LEAKING_IMAGES = "leaking_images"
    LOG_LOSS_DIFFERS = "log_loss_differs"
    MIXED_PIXEL_TYPES = "mixed_pixel_types"
    NARROW_CROP = "narrow_crop"
    OOD_IMAGES = "ood_images"
    OOD_RATES = "ood_rates"
    PAGES_NOT_USED = "pages_not_used"
    PREDICTION_SET_COVERAGE = "prediction_set_coverage"
    SCORED_DETECTIONS_LIMITED = "scored_detections_limited"
    SCORES_OUT_OF_FOLD = "scores_out_of_fold"
    SCORES_OF_TRAINING_IMAGES = "scores_of_training_images"
    SHORTCUT = "shortcut"
    SINGLE_CLASS = "single_class"
    SMALL_BOXES = "small_boxes"
    UNSCORABLE_IMAGES = "unscorable_images"
    UNREADABLE_FILES = "unreadable_files"


class NoteKind(StrEnum):
    """Stable codes of pipeline notes; each has a message in `headstart.messages.notes`."""

    BOX_SIZES = "box_sizes"
    CACHE_NOT_WRITTEN = "cache_not_written"
    COVERAGE_NOT_KEPT = "coverage_not_kept"
    DATASET_SPLIT = "dataset_split"
    DATA_MOVED = "data_moved"
    FINE_TUNING_SKIPPED = "fine_tuning_skipped"
    RESIZE_MODE_NOT_MEASURED = "resize_mode_not_measured"
    IMAGES_MISSING = "images_missing"
    LABELS_CHANGED = "labels_changed"
    NO_BACKBONE_FOR_CHECK = "no_backbone_for_check"
    NO_DUPLICATES_TO_DRAW = "no_duplicates_to_draw"
    OVERFITTING = "overfitting"
    PROBE_NOT_WORSE = "probe_not_worse"
    REPORT_NOT_WRITTEN = "report_not_written"
    RUN_RESUMABLE = "run_resumable"
    RUN_WITHOUT_DATA_PATH = "run_without_data_path"
    RUN_WITHOUT_PREDICTIONS = "run_without_predictions"
    RUN_WITHOUT_SETTINGS = "run_without_settings"
    SPEED_MEASURED = "speed_measured"
    STOP_REQUESTED = "stop_requested"
    TRAINING_DIVERGED = "training_diverged"
    TRAINING_RESUMED = "training_resumed"
    TRAINING_STOPPED = "training_stopped"


class GroupStatus(StrEnum):
    """Decision about an inferred grouping, with its reason."""

    APPLIED = "applied"
    ALTERNATIVE = "alternative"
    REJECTED_COUNTER_PREFIX = "rejected_counter_prefix"
    REJECTED_NO_SIMILARITY = "rejected_no_similarity"
    QUESTION_CONTRADICTED_BY_DUPLICATES = "question_contradicted_by_duplicates"
    QUESTION_CONFOUNDED_WITH_CLASS = "question_confounded_with_class"
    QUESTION_CONFOUNDED_WITH_SPLIT = "question_confounded_with_split"
    QUESTION_CONFOUNDED_WITH_CAMERA = "question_confounded_with_camera"
    QUESTION_CONFOUNDED_WITH_EXPOSURE = "question_confounded_with_exposure"
    QUESTION_TOO_FEW_GROUPS = "question_too_few_groups"
    QUESTION_SCORE_AT_BASELINE = "question_score_at_baseline"

    @property
    def is_question(self) -> bool:
        """Whether the user must decide; the groups are not applied."""
        return self.value.startswith("question_")

    @property
    def is_rejected(self) -> bool:
        """Whether the name or the images contradict the groups."""
        return self.value.startswith("rejected_")


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of a check.

    Attributes:
        kind: Stable code.
        severity: Severity.
        evidence: Names and numbers behind it; the keys depend on the kind.
    """

    kind: FindingKind
    severity: Severity
    evidence: Evidence = field(default_factory=dict)


class ReadingKind(StrEnum):
    """Stable codes of reading notes; each has a message in `headstart.messages.reading`."""

    # assumptions
    ARCHIVE_NAMES_DECODED = "archive_names_decoded"
    ARCHIVES_UNPACKED = "archives_unpacked"
    BOX_FORMAT_ASSUMED = "box_format_assumed"
    CLASSES_ALIKE = "classes_alike"
    CLASSES_FROM_LIST = "classes_from_list"
    CLASSES_MERGED = "classes_merged"
    GROUPS_SHARED = "groups_shared"
    GROUPS_UNKNOWN = "groups_unknown"
    LABELS_BY_MAJORITY = "labels_by_majority"
    LABELS_BY_POSITION = "labels_by_position"
    SPLITS_FROM_LISTS = "splits_from_lists"
    ENCODING_GUESSED = "encoding_guessed"
    FOUND_ELSEWHERE = "found_elsewhere"
    LABELS_MATCHED = "labels_matched"
    FILE_NAMES_STALE = "file_names_stale"
    IMAGES_ASSUMED_EMPTY = "images_assumed_empty"
    LABELS_ELSEWHERE = "labels_elsewhere"
    CLASSES_NUMBERED = "classes_numbered"
    NAMES_FROM_FILE = "names_from_file"
    NAMES_FROM_PATHS = "names_from_paths"
    OBJECTS_IGNORED = "objects_ignored"
    OUTLINES_BOXED = "outlines_boxed"
    PATHS_RESPELLED = "paths_respelled"
    PLACES_MOVED = "places_moved"
    READ_AS_TRAINED = "read_as_trained"
    SPLITS_FROM_FOLDERS = "splits_from_folders"
    TRAIN_SPLIT_ONLY = "train_split_only"
    VALUES_SCALED = "values_scaled"
    # unused
    ANNOTATIONS_COPIED = "annotations_copied"
    AUXILIARY_IMAGES = "auxiliary_images"
    BOX_SCORES = "box_scores"
    BOXES_UNUSED = "boxes_unused"
    COPIES_UNUSED = "copies_unused"
    EMPTY_FOLDERS = "empty_folders"
    FILES_EXCLUDED = "files_excluded"
    IMAGES_IN_NO_SPLIT = "images_in_no_split"
    IMAGES_NOT_ANNOTATED = "images_not_annotated"
    IMAGES_NOT_IN_TABLE = "images_not_in_table"
    KEYPOINTS = "keypoints"
    NAMES_FILE_UNUSED = "names_file_unused"
    OBJECTS_NOT_WRITTEN = "objects_not_written"
    OTHER_FILES = "other_files"
    PREDICTIONS_UNUSED = "predictions_unused"
    PARTS_UNUSED = "parts_unused"
    REPEATED_ROWS = "repeated_rows"
    SHARDS_MISSING = "shards_missing"
    NUMBERS_UNMAPPED = "numbers_unmapped"
    TABLES_UNUSED = "tables_unused"
    UNLABELED_IMAGES = "unlabeled_images"


_UNUSED = frozenset(
    {
        *(ReadingKind.EMPTY_FOLDERS, ReadingKind.IMAGES_NOT_IN_TABLE, ReadingKind.NAMES_FILE_UNUSED),
        *(ReadingKind.OTHER_FILES, ReadingKind.REPEATED_ROWS, ReadingKind.UNLABELED_IMAGES),
        *(ReadingKind.AUXILIARY_IMAGES, ReadingKind.BOX_SCORES, ReadingKind.BOXES_UNUSED, ReadingKind.KEYPOINTS),
        *(ReadingKind.IMAGES_IN_NO_SPLIT, ReadingKind.IMAGES_NOT_ANNOTATED),
        *(ReadingKind.COPIES_UNUSED, ReadingKind.FILES_EXCLUDED, ReadingKind.TABLES_UNUSED),
        *(ReadingKind.ANNOTATIONS_COPIED, ReadingKind.PREDICTIONS_UNUSED, ReadingKind.OBJECTS_NOT_WRITTEN),
        *(ReadingKind.PARTS_UNUSED, ReadingKind.SHARDS_MISSING, ReadingKind.NUMBERS_UNMAPPED),
    }
)
_INFO = frozenset(
    {
        *(ReadingKind.CLASSES_FROM_LIST, ReadingKind.READ_AS_TRAINED),
        *(ReadingKind.EMPTY_FOLDERS, ReadingKind.OTHER_FILES, ReadingKind.PATHS_RESPELLED),
        *(ReadingKind.REPEATED_ROWS, ReadingKind.SPLITS_FROM_FOLDERS),
        *(ReadingKind.AUXILIARY_IMAGES, ReadingKind.KEYPOINTS, ReadingKind.OUTLINES_BOXED),
        *(ReadingKind.FILE_NAMES_STALE, ReadingKind.IMAGES_ASSUMED_EMPTY, ReadingKind.PLACES_MOVED),
        *(ReadingKind.FILES_EXCLUDED, ReadingKind.ANNOTATIONS_COPIED, ReadingKind.LABELS_ELSEWHERE),
        *(ReadingKind.OBJECTS_IGNORED, ReadingKind.TRAIN_SPLIT_ONLY),
        *(ReadingKind.ARCHIVES_UNPACKED, ReadingKind.VALUES_SCALED),
    }
)


@dataclass(frozen=True, slots=True)
class ReadingNote:
    """One assumption of the dataset reader, or one kind of unused data.

    Attributes:
        kind: Stable code.
        count: Number of images, rows, files or classes; the unit depends on the kind.
        examples: Up to five names.
        evidence: Further names and numbers; the keys depend on the kind.
    """

    kind: ReadingKind
    count: int
    examples: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_unused(self) -> bool:
        """Whether data are unused; otherwise it is an assumption."""
        return self.kind in _UNUSED

    @property
    def severity(self) -> Severity:
        """WARNING if labels or splits may be wrong or images are unused, otherwise INFO."""
        return Severity.INFO if self.kind in _INFO else Severity.WARNING


class UnusedReason(StrEnum):
    """Stable codes of why a file is not used; unusable files have the kind of their `Problem` instead."""

    AUXILIARY = "auxiliary"
    CONTAINER = "container"
    COPY = "copy"
    EXCLUDED = "excluded"
    IN_NO_SPLIT = "in_no_split"
    LINK_TO_FOLDER = "link_to_folder"
    NO_LABEL = "no_label"
    NOT_AN_IMAGE = "not_an_image"
    NOT_IN_TABLE = "not_in_table"
    PICKLED = "pickled"
    PREDICTIONS = "predictions"
    SYSTEM_FILE = "system_file"
    TABLE_NOT_UNDERSTOOD = "table_not_understood"
    TIED_LABELS = "tied_labels"


class EvaluationProtocol(StrEnum):
    """Relation of the scored samples to the training samples."""

    RESUBSTITUTION = "resubstitution"
    LEAVE_ONE_OUT = "leave_one_out"
    LEAVE_ONE_GROUP_OUT = "leave_one_group_out"
    K_FOLD = "k_fold"
    VALIDATION_SPLIT = "validation_split"
    TEST_SPLIT = "test_split"

    @property
    def is_out_of_fold(self) -> bool:
        """Whether the scored samples are also training samples of the other folds."""
        return self in (self.LEAVE_ONE_OUT, self.LEAVE_ONE_GROUP_OUT, self.K_FOLD)


class SplitSource(StrEnum):
    """Origin of a split: the user (folders, table, manifest) or headstart."""

    USER = "user"
    MADE = "made"


class SplitReason(StrEnum):
    """Stable codes of how a split came about; each has a message in `headstart.messages.notes`."""

    ALL_TRAIN = "all_train"
    FOLDS = "folds"
    GIVEN = "given"
    HELD_OUT = "held_out"
    NOT_SPLIT = "not_split"
    REPAIR_MOVED = "repair_moved"
    REPAIR_REDRAWN = "repair_redrawn"
    TEST_NOT_SCORABLE = "test_not_scorable"
    VAL_IS_SCORED = "val_is_scored"


@dataclass(frozen=True, slots=True)
class EvaluationSetup:
    """An evaluation protocol with its details; None and False if not applicable.

    Attributes:
        protocol: Evaluation protocol.
        num_folds: Number of cross-validation folds.
        num_folds_used: Number of scored folds, if not all.
        held_out_fraction: Held-out fraction in (0, 1) of a split drawn by headstart.
        split_source: Origin of the split.
        is_used_for_selection: Whether the samples were also used for model selection.
        includes_leaks: Whether they include samples with a duplicate in the training data.
    """

    protocol: EvaluationProtocol
    num_folds: int | None = None
    num_folds_used: int | None = None
    held_out_fraction: float | None = None
    split_source: SplitSource | None = None
    is_used_for_selection: bool = False
    includes_leaks: bool = False

    def to_json(self) -> dict[str, JsonValue]:
        """Return `protocol` and, as `protocol_detail`, every detail that applies."""
        detail = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name != "protocol" and getattr(self, f.name) not in (None, False)
        }
        return {"protocol": self.protocol.value, "protocol_detail": detail}

    @classmethod
    def from_json(cls, block: Mapping[str, Any]) -> EvaluationSetup:
        """Read what `to_json` wrote; other keys of the block are ignored.

        Raises:
            ValueError: The protocol is unknown.
        """
        detail = dict(block.get("protocol_detail") or {})
        known = {f.name for f in fields(cls)} - {"protocol"}
        if detail.get("split_source") is not None:
            detail["split_source"] = SplitSource(detail["split_source"])
        protocol = EvaluationProtocol(str(block.get("protocol")))
        return cls(protocol, **{name: value for name, value in detail.items() if name in known})


RESUBSTITUTION = EvaluationSetup(EvaluationProtocol.RESUBSTITUTION)
USER_TEST_SPLIT = EvaluationSetup(EvaluationProtocol.TEST_SPLIT, split_source=SplitSource.USER)
USER_VALIDATION_SPLIT = EvaluationSetup(EvaluationProtocol.VALIDATION_SPLIT, split_source=SplitSource.USER)
