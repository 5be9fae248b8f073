"""Define all settings with type, default and meaning, and resolve them from file, command line and Python.

The command line overrides the file, and the file overrides the defaults; explicit values override automatic ones. An
unknown setting, or one without effect, is an error.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from headstart.config.aliases import ALIASES, UNSUPPORTED, shown
from headstart.config.detect import DetectSettings
from headstart.config.effects import GRADIENT_STRATEGIES, validate_combination
from headstart.errors import SettingError
from headstart.messages.decisions import reason_message
from headstart.messages.settings import expected_value
from headstart.types.records import Decision
from headstart.utils.devices import parse_device
from headstart.utils.fractions import parse_fraction
from headstart.utils.limits import MAX_IMAGE_SIZE, MAX_PIXELS
from headstart.utils.serialization import plain

__all__ = [
    "GRADIENT_STRATEGIES",
    "DetectSettings",
    "FinetuneSettings",
    "ProbeSettings",
    "ResolvedConfig",
    "TrainSettings",
    "canonical_name",
    "finer_settings",
    "known_names",
    "parse_minutes",
    "parse_override",
    "resolve",
    "takes_no_value",
]

Validator = Callable[[Mapping[str, Any]], None]
_ROW = frozenset(("value", "source", "reason"))
_ROW_DETAILS = frozenset(("evidence", "text", "requested"))


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ProbeSettings(_Settings):
    """Settings of the closed-form head on the frozen backbone."""

    class_weights: str = Field(
        "none",
        description="`none`, `auto` (equal weight per class), or JSON, or a JSON or CSV file, of name and weight.",
    )
    logistic: Literal["auto", "on", "off"] = Field("auto", description="Also try logistic regression.")
    flip_tta: Literal["auto", "on", "off"] = Field(
        "auto", description="Flip test-time augmentation (doubles the prediction time)."
    )

    @field_validator("class_weights", mode="before")
    @classmethod
    def _balanced(cls, value: Any) -> Any:
        return "auto" if value == "balanced" else value  # scikit-learn's name

    @field_validator("logistic", "flip_tta", mode="before")
    @classmethod
    def _switches(cls, value: Any) -> Any:
        return ("on" if value else "off") if isinstance(value, bool) else value  # YAML reads on as true


class FinetuneSettings(_Settings):
    """Settings of gradient training; defaults depend on the images and are recorded in the run."""

    head_lr: float | None = Field(None, gt=0, lt=10, description="Peak learning rate of the head.")
    layer_decay: float | None = Field(None, gt=0, le=1, description="Learning-rate factor per earlier stage.")
    warmup: float | None = Field(None, ge=0, lt=1, description="Fraction of the steps with linear warm-up.")
    weight_decay: float | None = Field(None, ge=0, lt=10, description="Weight decay towards the initial weights.")
    label_smoothing: float | None = Field(None, ge=0, lt=1, description="Label smoothing.")
    mixup: float | None = Field(None, ge=0, le=10, description="Mixup strength (alpha); 0 disables it.")
    cutmix: float | None = Field(None, ge=0, le=10, description="CutMix strength (alpha); 0 disables it.")
    drop_path: float | None = Field(None, ge=0, lt=1, description="Stochastic depth of the last residual block.")
    grad_accum_steps: int | None = Field(
        None, ge=1, le=10_000, description="Batches per optimizer step (gradient accumulation)."
    )
    sampling: Literal["natural", "balanced"] | None = Field(
        None, description="`natural`, or `balanced`: sample all classes equally often."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Compute precision; `auto` uses bfloat16 if it is measured to be faster."
    )
    tensorboard: bool = Field(False, description="Write TensorBoard event files to `RUN/tensorboard`.")
    dropout: float | None = Field(None, ge=0, lt=1, description="Dropout probability of the head's inputs.")
    hidden: tuple[int, ...] | None = Field(None, description="Widths of the hidden layers of the head, e.g. 256.")
    head: str | None = Field(None, description="Custom head, e.g. `hidden=256,dropout=0.5,pool=flatten`.")
    head_only_fraction: float | None = Field(
        None, ge=0, lt=1, description="Fraction of the steps that train only the head."
    )
    swa_fraction: float | None = Field(
        None, ge=0, le=1, description="Fraction of the final steps whose weights are averaged (SWA)."
    )
    grad_clip_norm: float | None = Field(None, ge=0, description="Maximum gradient norm; 0 disables clipping.")
    train_image_size: int | None = Field(
        None, ge=32, le=1024, description="Image size of training views in pixels; evaluation uses `image_size`."
    )
    refit_head: bool | None = Field(
        None, description="Average the trained head with a closed-form head refitted on the fine-tuned features."
    )
    monitor: Literal["val_loss", "val_accuracy", "val_f1_macro"] = Field(
        "val_loss", description="Metric for `patience`: `val_loss`, `val_accuracy` or `val_f1_macro`."
    )

    @field_validator("hidden", mode="before")
    @classmethod
    def _widths(cls, value: Any) -> Any:
        if isinstance(value, int):
            return (value,)
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class TrainSettings(_Settings):
    """All settings of `headstart train`."""

    data: str = Field(description="Folder, CSV/TSV table, metadata file, list or zip of images.")
    task: str = Field("auto", description="What the model predicts; `auto`: from the data.")
    out: str | None = Field(None, description="Run folder; default: the next free `runs/trainN`.")
    strategy: Literal["auto", "probe", "head", "finetune", "full", "scratch"] = Field(
        "auto",
        description="`probe`: closed-form head on the frozen backbone; `head`: head trained by gradient descent; "
        "`finetune`: also the last stages; `full`: all weights; `scratch`: from random weights; `auto`: the probe, and "
        "with a budget fine-tuning if it is measurably better.",
    )
    train_from: str | None = Field(None, description="First trained stage: a stage, `last`, `last-2` or `head`.")
    epochs: int | None = Field(None, ge=1, le=100_000, description="Number of epochs.")
    batch_size: int | None = Field(None, ge=1, le=100_000, description="Batch size.")
    lr: float | None = Field(None, gt=0, lt=10, description="Peak learning rate of the last stage.")
    optimizer: Literal["adamw", "adam", "nadam", "radam", "adagrad", "rmsprop", "sgd"] | None = Field(
        None, description="Optimizer: adamw, adam, nadam, radam, adagrad, rmsprop or sgd."
    )
    schedule: Literal["cosine", "linear", "constant", "step", "onecycle"] | None = Field(
        None,
        description="Learning-rate schedule: cosine, linear, constant, onecycle or step (x 0.1 at 50, 75 and 90 %).",
    )
    augment: str | None = Field(None, description="Augmentations, e.g. `flip,zoom=.2,shear=.2`, or `none`.")
    unfreeze: str | None = Field(None, description="Gradual unfreezing, e.g. `stage7@0,stage6@30%`.")
    num_views: int | None = Field(None, ge=1, le=1000, description="Cached augmented views per image.")
    folds: int | None = Field(None, ge=2, le=100, description="Number of cross-validation folds.")
    patience: int | None = Field(None, ge=1, description="Early stopping: epochs without improvement.")
    select: Literal["requested", "best"] = Field(
        "requested", description="Final model: `requested`, or `best` (the probe unless training is better)."
    )
    backbone: str = Field("efficientnet_lite0", description="Pretrained backbone; see `headstart models`.")
    weights: str | None = Field(None, description="Weights tag or file; default: that of the backbone.")
    image_size: int | None = Field(None, ge=32, le=MAX_IMAGE_SIZE, description="Input image size in pixels.")
    resize_mode: Literal["crop", "cover", "squash", "pad", "auto"] = Field(
        "crop", description="Resize mode: crop, cover, squash, pad or auto."
    )
    intensity_range: tuple[float, float] | None = Field(
        None, description="Intensity range LOW,HIGH of 16-bit and float images."
    )
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="Reject images with more pixels before decoding.")
    seed: int = Field(0, ge=0, lt=2**32, description="Random seed.")
    time_budget: float | None = Field(None, gt=0, description="Time budget, e.g. `5m` or `90s`.")
    group_from: str | None = Field(None, description="Group key: column, pattern, none or image (only duplicates).")
    layout: str | None = Field(None, description="Role of each folder level, e.g. `{group}/{label}/*`.")
    label_pattern: str | None = Field(None, description="Regular expression for the label in a file name.")
    first_id: Literal[0, 1, "none"] | None = Field(None, description="Class id of the first class name: 0, 1 or none.")
    table: str | None = Field(None, description="Table or list with the labels, relative to the data folder.")
    image_column: str | None = Field(None, description="Column of a table with the image paths.")
    label_column: str | None = Field(None, description="Column of a table with the labels.")
    split_column: str | None = Field(None, description="Column of a table with the splits; `none` ignores it.")
    group_column: str | None = Field(None, description="Column of a table with the groups; `none` ignores it.")
    exclude: tuple[str, ...] = Field((), description="Files and folders that are not read, e.g. `masks`.")
    pages: str | None = Field(None, description="Page of files with several: a number, max, mean or R=1,G=3.")
    name_encoding: str | None = Field(None, description="Encoding of file names in archives that do not state it.")
    split: str | None = Field(None, description="Reuse the `split.csv` of an earlier run.")
    test_size: float | None = Field(None, gt=0, lt=0.9, description="Fraction held out as test split, e.g. `20%`.")
    exclude_classes: tuple[str, ...] = Field((), description="Classes to exclude.")
    positive: str | None = Field(
        None,
        description="Positive class for ROC AUC, sensitivity and specificity; default: the rarer of two.",
    )
    label_corrections: str | None = Field(None, description="Apply the column `action` of a `label_errors.csv`.")
    ood_fpr: float = Field(0.05, gt=0, lt=1, description="Target false-positive rate of OOD detection, e.g. `5%`.")
    coverage: float = Field(0.9, gt=0, lt=1, description="Target coverage of the prediction sets, e.g. `90%`.")
    include_images: bool = Field(True, description="Include images and file names in the report.")
    device: Annotated[str, BeforeValidator(parse_device)] = Field(
        "auto", description="`auto`, `cpu`, a GPU index such as `0`, or `cuda`, `mps` ..."
    )
    num_threads: int | None = Field(None, ge=1, le=512, description="Number of threads; default: one per core.")
    offline: bool = Field(False, description="Never use the network.")
    allow_external_paths: bool = Field(False, description="Allow table paths outside the folder of the table.")
    cache: bool = Field(True, description="Cache features in the folder HEADSTART_CACHE.")
    probe: ProbeSettings = Field(default_factory=lambda: ProbeSettings())
    finetune: FinetuneSettings = Field(default_factory=lambda: FinetuneSettings())
    detect: DetectSettings = Field(default_factory=lambda: DetectSettings())

    @field_validator("time_budget", mode="before")
    @classmethod
    def _minutes(cls, value: Any) -> Any:
        return parse_minutes(value) if isinstance(value, str) else value

    @field_validator("optimizer", "schedule", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("ood_fpr", "coverage", "test_size", mode="before")
    @classmethod
    def _fractions(cls, value: Any) -> Any:
        return parse_fraction(value) if isinstance(value, str) else value

    @field_validator("intensity_range")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError("it should be LOW,HIGH with LOW below HIGH")
        return value

    @field_validator("intensity_range", "exclude", "exclude_classes", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


@dataclass(frozen=True)
class ResolvedConfig:
    """Settings with their sources.

    Attributes:
        settings: The values.
        sources: `default`, `config`, `cli` or `python` by dotted name.
        decisions: Automatically chosen values, which `to_yaml` includes.
    """

    settings: TrainSettings
    sources: dict[str, str]
    decisions: tuple[Decision, ...] = field(default=())

    def is_explicit(self, name: str) -> bool:
        """Return whether the user set it; explicit values are never changed."""
        return self.sources.get(name, "default") != "default"

    def with_decisions(self, decisions: Iterable[Decision]) -> ResolvedConfig:
        """Return a copy with additional decisions."""
        return replace(self, decisions=(*self.decisions, *decisions))

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the rows of `config.resolved.yaml`: the value that was used for every setting, its source and reason.

        `reason` is null for plain defaults and explicit values; `requested` is the user's value if another was used.
        """
        chosen = {d.setting: d for d in self.decisions}
        rows: dict[str, dict[str, Any]] = {}
        for name, value in _flat(self.settings.model_dump()).items():
            rows[name] = {"value": value, "source": self.sources.get(name, "default"), "reason": None}
            if (decision := chosen.pop(name, None)) is not None:
                rows[name] = _row(decision)
                if self.is_explicit(name):
                    is_same = plain(value) == plain(decision.value)
                    rows[name] |= {"source": self.sources[name]} if is_same else {"requested": value}
        return dict(plain(rows | {name: _row(decision) for name, decision in chosen.items()}))

    def to_yaml(self) -> str:
        """Render `config.resolved.yaml`."""
        return yaml.safe_dump(self.rows(), sort_keys=False, allow_unicode=True, width=110)


def _row(decision: Decision) -> dict[str, Any]:
    row = {"value": decision.value, "source": decision.source, "reason": decision.reason}
    return row | ({"evidence": decision.evidence} if decision.evidence else {}) | {"text": reason_message(decision)}


@dataclass(frozen=True)
class MergedSettings:
    """Settings before validation.

    Attributes:
        values: Values by dotted name.
        sources: `cli`, `python` or `config` by dotted name.
    """

    values: dict[str, Any]
    sources: dict[str, str]

    def resolve(self, *, is_validated: bool = False) -> ResolvedConfig:
        """Add the defaults; unless a task has validated the values, check them as those of a classifier.

        Raises:
            SettingError: There are no data, a value is invalid, or a setting has no effect.
        """
        values = self.values
        if not is_validated:
            validate_combination(values)
        if "data" not in values:
            raise SettingError("no data given.", hint="e.g. headstart train photos/")
        nested: dict[str, Any] = {}
        for name, value in values.items():
            target = nested
            *parents, leaf = name.split(".")
            for parent in parents:
                target = target.setdefault(parent, {})
            target[leaf] = os.fspath(value) if isinstance(value, os.PathLike) else value
        try:
            settings = TrainSettings.model_validate(nested)
        except ValidationError as error:
            problems, meanings = [], []
            for item in error.errors():
                name = ".".join(str(part) for part in item["loc"] if not isinstance(part, int))
                problems.append(
                    f"`{shown(name)}` cannot be {values.get(name, item['input'])!r}: {expected_value(item)}"
                )
                meanings.append(f"{shown(name)}: {_meaning(name)}")
            raise SettingError("; ".join(problems) + ".", hint=" ".join(meanings)) from error
        return ResolvedConfig(settings, self.sources)


def merge_settings(
    given: Mapping[str, Any],
    *,
    config_file: str | Path | None = None,
    overrides: Iterable[str] = (),
    source: str = "cli",
) -> MergedSettings:
    """Merge a settings file and explicit values.

    Args:
        given: Explicit values by name (aliases and dotted names allowed); None means not given.
        config_file: A YAML file of settings, or a run's `config.resolved.yaml`.
        overrides: `name=value` texts; nested names are dotted.
        source: Source of the explicit values: `cli` or `python`.

    Raises:
        SettingError: An unknown setting, or one with two values.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if config_file is not None:
        for name, value in _read_file(Path(config_file)).items():
            _set_once(values, sources, canonical_name(name), value, "config", name)
    explicit: tuple[dict[str, Any], dict[str, str]] = {}, {}
    for name, value in [
        *((n, v) for n, v in _flat(dict(given)).items() if v is not None),
        *(parse_override(text) for text in overrides),
    ]:
        _set_once(*explicit, canonical_name(name), value, source, name)
    return MergedSettings(values | explicit[0], sources | explicit[1])


def resolve(given: Mapping[str, Any], *, validate: Validator = validate_combination, **merging: Any) -> ResolvedConfig:
    """Merge and validate settings; see `merge_settings` and `MergedSettings.resolve`."""
    merged = merge_settings(given, **merging)
    validate(merged.values)
    return merged.resolve(is_validated=True)


def parse_override(text: str) -> tuple[str, Any]:
    """Return name and value of `probe.flip_tta=on`; the value is parsed as YAML.

    Raises:
        SettingError: There is no `=`.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SettingError(f"cannot parse `{text}`; expected NAME=VALUE.", hint="e.g. finetune.mixup=0.2")
    return name.strip(), _scalar(value)


def parse_minutes(text: str) -> float:
    """Return the minutes of `5m`, `90s`, `1.5h` or a plain number of minutes.

    Raises:
        SettingError: The text is not a duration.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|m|min|h)?\s*", text.lower())
    if not match:
        raise SettingError(f"`{text}` is not a duration.", hint="use e.g. 90s, 5m or 1.5h")
    return float(match[1]) * {"s": 1 / 60, "sec": 1 / 60, "m": 1.0, "min": 1.0, "h": 60.0}[match[2] or "m"]


def known_names() -> list[str]:
    """Return the dotted names of all settings."""
    names: list[str] = []
    for name, info in TrainSettings.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names.extend(f"{name}.{leaf}" for leaf in inner.model_fields)
        else:
            names.append(name)
    return names


def canonical_name(name: str) -> str:
    """Return the dotted name of a setting in any accepted spelling.

    Raises:
        SettingError: Unknown setting; the hint states the alternative or the nearest name.
    """
    spelled = name.strip().replace("-", "_").removeprefix("train.")
    spelled = ALIASES.get(spelled, spelled)
    if spelled in known_names():
        return spelled
    answer = UNSUPPORTED.get(spelled)
    group, _, leaf = spelled.rpartition(".")
    pool = [n.rpartition(".")[2] for n in known_names() if n.rpartition(".")[0] == group]
    near = difflib.get_close_matches(leaf, pool if group else [*known_names(), *ALIASES], n=1, cutoff=0.6)
    meant = f"{group}.{near[0]}" if near and group else "".join(near)
    hint = f"did you mean `{meant}`?" if near else "headstart train --help-all lists all settings"
    raise SettingError(f"unknown setting `{name}`.", hint=answer or hint)


def finer_settings() -> list[tuple[str, str]]:
    """Return (dotted name, meaning) of the settings of each group, in order."""
    return [(name, _meaning(name)) for name in known_names() if "." in name]


def takes_no_value(name: str) -> bool:
    """Return whether a setting is boolean."""
    model: type[BaseModel] = TrainSettings
    *parents, leaf = name.split(".")
    for parent in parents:
        model = model.model_fields[parent].annotation  # type: ignore[assignment]
    return model.model_fields[leaf].annotation in (bool, bool | None)


def _set_once(values: dict[str, Any], sources: dict[str, str], key: str, value: Any, source: str, name: str) -> None:
    if key in values and values[key] != value:
        raise SettingError(
            f"`{shown(key)}` is set to {values[key]!r} and, as `{name}`, to {value!r}.",
            hint="use one of them",
        )
    values[key] = value
    sources[key] = source


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingError(f"cannot read the settings file `{path}` ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"the settings file `{path}` is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingError(f"the settings file `{path}` has no `name: value` lines.")
    resolved = {k: v for k, v in content.items() if isinstance(v, dict) and _ROW <= set(v) <= _ROW | _ROW_DETAILS}
    if len(resolved) == len(content):  # config.resolved.yaml: use its explicit values
        explicit = {k: v for k, v in resolved.items() if "requested" in v or v["source"] in ("config", "cli", "python")}
        return {str(k): v.get("requested", v["value"]) for k, v in explicit.items()}
    return {str(k): _interpolate(v) for k, v in _flat(content).items()}


def _interpolate(value: Any) -> Any:
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise SettingError(f"the settings file uses the environment variable `{match[1]}`, which is not set.")
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", look_up, value)


def _scalar(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            flat.update(_flat(inner, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = inner
    return flat


def _meaning(name: str) -> str:
    model: type[BaseModel] = TrainSettings
    *parents, leaf = name.split(".")
    for parent in parents:
        inner = model.model_fields[parent].annotation if parent in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return name
        model = inner
    info = model.model_fields.get(leaf)
    return (info.description or name) if info else name
