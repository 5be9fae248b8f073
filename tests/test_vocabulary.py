"""Test that names replaced by standard terms do not return: one term per concept."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("src", "tests", "benchmarks", "docs", "examples")
SUFFIXES = {".py", ".md", ".html", ".txt", ".toml", ".yaml", ".json"}

# Old identifier, setting or key -> standard term. Only names without another legitimate use.
RENAMED = {
    "ADAPTED_FROM_ASKED": "REQUESTED_VALUE_ADAPTED",
    "ANSWERS": "UNSUPPORTED",
    "Arm": "Candidate",
    "Bench": "DetectorTrainer",
    "BoundaryCache": "ArrayRows",
    "BoundarySpace": "ArrayRows",
    "CheckedBoxes": "DatasetReport",
    "DetectBench": "DetectorTrainer",
    "DetectRoad": "RunContext",
    "DishonestError": "InvalidEvaluationError",
    "Facts": "RunData",
    "FoundProbe": "FittedProbe",
    "GROUPS_ASKED_FOR": "GROUPS_REQUESTED",
    "HeadSettings": "ProbeConfig",
    "Health": "DatasetReport",
    "IMAGINED_SAMPLES": "PSEUDO_SAMPLES",
    "JobResult": "TrainingResult",
    "Judge": "ClassDecoder",
    "Judged": "DatasetReport",
    "Judgement": "ModelEvaluation",
    "Looker": "ImageScanner",
    "Looks": "ScanResult",
    "MULTIPLIERS": "INVERSE_TEMPERATURES",
    "Memory": "ScanCache",
    "NOVELTY_NOT_MEASURED": "OOD_NOT_MEASURED",
    "Parted": "SplitDataset",
    "PhaseRows": "PhaseCaches",
    "ProbeRoad": "RunContext",
    "Rear": "Suffix",
    "Remark": "Finding",
    "Resolved": "ResolvedConfig",
    "Road": "RunContext",
    "SURE_LOSS": "UNSCORABLE_LOSS",
    "Situation": "ResultSummary",
    "StoppedError": "TrainingInterrupted",
    "Stopper": "InterruptHandler",
    "Taps": "FeatureTaps",
    "Trunk": "SharedBackbone",
    "Trust": "UncertaintyModel",
    "UNMEASURABLE_IMAGES": "UNSCORABLE_IMAGES",
    "Worth": "EffectiveSampleSize",
    "allow_outside": "allow_external_paths",
    "as_given": "including_leaks",
    "as_seen": "preprocessed",
    "budget_minutes": "time_budget",
    "check_effects": "validate_combination",
    "choose_arm": "select_candidate",
    "choosing_bias": "selection_bias",
    "commonest_confusion": "most_frequent_confusion",
    "compare_memory": "verify_resume_state",
    "copies_across": "duplicates_across",
    "copies_at_baseline": "duplicates_at_baseline",
    "copies_kept_together": "duplicates_kept_together",
    "copies_within": "duplicates_within",
    "curving": "learning_curve",
    "detect_finish": "detector_outputs",
    "detect_road": "train_detector",
    "doubt_center": "ood_center",
    "doubt_scale": "ood_scale",
    "doubting": "ood_section",
    "estimate_share": "estimate_proportion",
    "explaining": "attribution",
    "false_alarms": "false_positive_rate",
    "find_probe": "fit_training_probe",
    "fit_mode": "resize_mode",
    "given_away": "revealed_fractions",
    "given_share": "given_class_fraction",
    "groups_asked_for": "groups_requested",
    "guard_cell": "escape_formula",
    "has_rest": "has_residual_norm",
    "head_first": "head_only_fraction",
    "is_burnt": "is_saturated",
    "is_dishonest": "is_misleading",
    "is_measurable": "is_scorable",
    "is_mirrored": "is_flipped",
    "is_right": "is_correct",
    "is_suspect": "is_label_error",
    "is_unknown": "is_ood",
    "least_accuracy": "min_accuracy",
    "least_agreement": "min_agreement",
    "least_budget_s": "min_budget_s",
    "least_fraction": "min_fraction",
    "least_images": "min_images",
    "least_steps": "min_steps",
    "least_val_loss": "min_val_loss",
    "left_out_residual": "out_of_fold_residual",
    "left_s": "remaining_s",
    "left_seconds": "remaining_seconds",
    "measure_worth": "effective_sample_size",
    "mirror_compared": "flip_compared",
    "mirrored_features": "flipped_features",
    "most_steps": "max_steps",
    "no_pictures": "no_images",
    "num_called": "num_flagged",
    "num_pictures": "num_images",
    "num_suspects": "num_label_errors",
    "num_twice": "num_doubled",
    "num_wrong": "num_errors",
    "parse_share": "parse_fraction",
    "pictures": "images",
    "probe_finish": "probe_outputs",
    "probe_road": "train_probe",
    "realised": "empirical",
    "realised_per_class": "empirical_per_class",
    "recall_at_false_alarms": "recall_at_false_positive_rates",
    "recall_settings": "load_resume_state",
    "refilling": "graph_weights",
    "remark_message": "describe_finding",
    "rest_center": "residual_center",
    "rest_scale": "residual_scale",
    "room_bytes": "free_bytes",
    "seconds_left": "remaining_seconds",
    "seen_share": "overlap_fraction",
    "share_accepted": "coverage",
    "share_empty": "empty_fraction",
    "share_of_scored": "scored_fraction",
    "share_right": "accuracy",
    "share_single": "single_fraction",
    "share_small": "small_fraction",
    "share_smaller": "smaller_fraction",
    "shipped": "final",
    "skip_class": "exclude_classes",
    "stage_decay": "layer_decay",
    "stopper": "interrupt_handler",
    "straddling_share": "straddling_fraction",
    "test_as_given": "test_including_leaks",
    "test_share": "test_fraction",
    "thaw": "unfreeze_after",
    "tiny_share": "tiny_fraction",
    "trust_probe": "fit_uncertainty",
    "trusting": "calibration_section",
    "tune_costs": "finetune_costs",
    "tune_fitting": "resources",
    "tune_road": "train_finetune",
    "twins": "conflicting_duplicates",
    "unmeasurable": "unscorable",
    "unmeasurable_images": "unscorable_images",
    "unmeasurable_share": "unscorable_fraction",
    "unshown": "hidden_decisions",
    "value_range": "intensity_range",
    "weights_licence": "weights_license",
    "workflow": "pipelines",
}
# British spellings of the code's words; the ecosystem writes American English.
SPELLINGS = {
    "licence": "license",
    "colour": "color",
    "centre": "center",
    "neighbour": "neighbor",
    "normalise": "normalize",
    "optimise": "optimize",
}
# Words of users' data.
ALLOWED = {("src/headstart/data/folder_words.py", "pictures"): "a common name of folders that hold images"}


def files() -> Iterator[Path]:
    """Yield text files with names of the project; golden records keep the names of their time."""
    yield ROOT / "README.md"
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in SUFFIXES and path != Path(__file__) and "records" not in path.parts:
                yield path


def current_text(path: Path) -> str:
    """Return a file's text; old names on the left side of rules of the golden key map are dropped."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return re.sub(r'"(key|value|path|removed)": "[^"]*"', "", text) if path.name == "keymap.json" else text


def renamed_in(text: str, names: dict[str, str]) -> set[str]:
    """Return which of `names` occur in `text`, as whole identifiers or with hyphens as options."""
    found = set(re.findall(r"\w+", text)) | {w.replace("-", "_") for w in re.findall(r"--([a-z][a-z-]+)", text)}
    return names.keys() & found


@pytest.mark.parametrize("text", ["x.is_mirrored", '{"false_alarms": 1}', "--skip-class", "`pictures`: all"])
def test_old_names_are_detected(text: str) -> None:
    assert len(renamed_in(text, RENAMED)) == 1


def test_names_are_standard_terms() -> None:
    terms = RENAMED | SPELLINGS
    problems = [
        f"{path.relative_to(ROOT)}: `{name}`, use `{terms[name]}`"
        for path in files()
        for name in sorted(renamed_in(current_text(path), terms))
        if (str(path.relative_to(ROOT)), name) not in ALLOWED
    ]
    assert not problems, "\n".join(problems)


def leading_texts(node: ast.expr) -> Iterator[str]:
    """Yield the constant texts that a message can begin with."""
    if isinstance(node, ast.BinOp):
        yield from leading_texts(node.left)
    elif isinstance(node, ast.IfExp):
        yield from (*leading_texts(node.body), *leading_texts(node.orelse))
    elif isinstance(node, ast.JoinedStr) and node.values:
        yield from leading_texts(node.values[0])
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def capitalized_messages(source: str) -> list[str]:
    """Return error messages that begin with a capital letter, except names such as `X`, PyTorch and ONNX."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    errors = [c for c in calls if getattr(c.func, "id", getattr(c.func, "attr", "")).endswith("Error")]
    texts = [text for call in errors for argument in call.args for text in leading_texts(argument)]
    return [text for text in texts if re.match(r"[A-Z][a-z]*(?![A-Za-z])", text) and not text.startswith("X ")]


@pytest.mark.parametrize("call", ['e.DataError("No file")', 'DataError(f"No {x}" + y)', 'DataError("No" if x else "")'])
def test_capitalized_messages_are_detected(call: str) -> None:
    assert capitalized_messages(f"raise {call}")
    assert not capitalized_messages(f"raise {call}".replace("No", "no"))


def test_error_messages_start_in_lower_case() -> None:
    """The command line prints messages after `error: `."""
    problems = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in (ROOT / "src").rglob("*.py")
        for text in capitalized_messages(path.read_text(encoding="utf-8"))
    ]
    assert not problems, "\n".join(problems)
