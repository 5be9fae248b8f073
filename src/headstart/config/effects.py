"""Reject settings that would have no effect, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.config.aliases import shown
from headstart.errors import SettingError

__all__ = [
    "GRADIENT_STRATEGIES",
    "has_detector_effect",
    "has_effect",
    "validate_combination",
    "validate_detector_combination",
]

_CLOSED_FORM = "the probe's head is computed in closed form, not trained by gradient descent"
_WITHOUT_EFFECT = {
    "batch_size": "the probe's result does not depend on the batch size",
    "train_from": "the probe trains no stage of the backbone",
    "unfreeze": "the probe trains no stage of the backbone",
    "num_views": "the probe uses unaugmented images",
    "augment": "the probe uses unaugmented images",
    "folds": "the probe is evaluated by exact leave-one-out, without folds",
    "finetune.head": "the probe's head is one linear layer in closed form; other heads need gradient descent",
    **dict.fromkeys(("epochs", "lr", "patience", "optimizer", "schedule", "select"), _CLOSED_FORM),
}
"""Settings of gradient training, each with the reason why the probe ignores it."""

_CLASSIFY_ONLY = {
    *("select", "unfreeze", "patience", "label_pattern", "layout", "first_id", "label_corrections", "exclude_classes"),
    *("table", "image_column", "label_column", "split_column", "group_column", "pages"),
    *("positive", "ood_fpr", "coverage"),
}
"""Settings of classification only, besides the groups `probe` and `finetune`."""

_DETECT_TOO = ("detect.layer_decay", "detect.warmup", "detect.weight_decay", "detect.grad_clip_norm")
"""Detector settings with the same name as one in `finetune`."""

GRADIENT_STRATEGIES = ("head", "finetune", "full", "scratch")

_BECAUSE = {
    ("folds", "auto"): ": the budget determines the number of folds",
    ("select", "auto"): ", which always keeps the better model",
    ("train_from", "full"): ", which trains every stage",
    ("train_from", "scratch"): ", which trains every stage",
    ("num_views", "full"): ", which augments every image anew in every epoch",
    ("num_views", "scratch"): ", which augments every image anew in every epoch",
}
"""Why a setting has no effect with a strategy, where this is not obvious."""

_ONECYCLE_RISE = 0.3  # fraction of the steps; see `training.optim.factor_at`


def has_detector_effect(name: str) -> bool:
    """Return whether a setting, by its dotted name, affects the run of a detector."""
    return name not in _CLASSIFY_ONLY and name.partition(".")[0] not in ("probe", "finetune")


def has_effect(name: str, strategy: str) -> bool:
    """Return whether a setting affects the run of a classifier.

    Args:
        name: Dotted name.
        strategy: Strategy of the model; `probe` without gradient training.
    """
    group = name.partition(".")[0]
    return group != "detect" and (strategy != "probe" or (name not in _WITHOUT_EFFECT and group != "finetune"))


def validate_combination(values: Mapping[str, Any]) -> None:
    """Raise an error if a setting of a classifier would have no effect.

    Raises:
        SettingError: A setting has no effect with the others.
    """
    for name in values:
        if name.startswith("detect."):
            raise SettingError(
                f"`{name}` has no effect on images without boxes.", hint=f"remove `{name}`, or use --task detect"
            )
    strategy = values.get("strategy", "auto")
    is_gradient = strategy in GRADIENT_STRATEGIES or (strategy == "auto" and "time_budget" in values)
    for name in values:
        if not is_gradient and (name in _WITHOUT_EFFECT or name.startswith("finetune.")):
            word = shown(name)
            raise SettingError(
                f"`{word}` has no effect: {_WITHOUT_EFFECT.get(name, _CLOSED_FORM)}.",
                hint=f"remove `{word}`, or use --strategy finetune (or head, full, scratch)",
            )
    is_head_only = strategy == "head" or (strategy == "finetune" and values.get("train_from") == "head")
    strategies = {
        "train_from": ("finetune", "auto"),
        "unfreeze": ("finetune",),
        "num_views": ("head", "finetune", "auto"),
        "folds": GRADIENT_STRATEGIES,
        "select": GRADIENT_STRATEGIES,
        "finetune.hidden": ("head",),
        "finetune.head": GRADIENT_STRATEGIES,
        "finetune.layer_decay": ("finetune", "full", "scratch", "auto"),
        "finetune.drop_path": ("finetune", "full", "scratch", "auto"),
        "finetune.train_image_size": ("finetune", "full", "scratch", "auto"),
        "finetune.refit_head": ("finetune", "full", "auto"),
        "finetune.head_only_fraction": ("finetune", "full", "scratch"),
    }
    for name, fitting in strategies.items():
        own = "head" if is_head_only and name != "train_from" else strategy
        if name in values and own not in fitting and is_gradient:
            raise SettingError(
                f"`{shown(name)}` has no effect with the strategy `{own}`{_BECAUSE.get((name, own), '')}.",
                hint=f"remove `{shown(name)}`, or use --strategy {fitting[0]}",
            )
    if is_gradient:
        _check_pairs(values, is_head_only=is_head_only)
    if strategy in GRADIENT_STRATEGIES and "time_budget" in values and "epochs" in values:
        raise SettingError("`epochs` and `budget` are mutually exclusive.", hint="use one of them")


def _check_pairs(values: Mapping[str, Any], *, is_head_only: bool) -> None:
    """Raise an error if one setting of gradient training makes another one ineffective."""
    for name in ("finetune.hidden", "finetune.dropout"):
        if name in values and "finetune.head" in values:
            word = name.removeprefix("finetune.")
            raise SettingError(f"`{name}` has no effect with a custom head.", hint=f"use --head {word}=...,...")
    if "finetune.refit_head" in values and ("finetune.head" in values or "finetune.hidden" in values):
        raise SettingError(
            "`finetune.refit_head` cannot be used with a custom head: it refits a linear head in closed form.",
            hint="remove `finetune.refit_head`",
        )
    if values.get("finetune.sampling") == "balanced" and str(values.get("probe.class_weights", "none")) != "none":
        raise SettingError(
            "`finetune.sampling=balanced` and `class_weights` are mutually exclusive: both correct class imbalance.",
            hint="use one of them",
        )
    if str(values.get("probe.flip_tta", "auto")).lower() in ("on", "true"):
        raise SettingError(
            "`probe.flip_tta` has no effect on a head trained by gradient descent.", hint="remove `probe.flip_tta`"
        )
    if is_head_only and "lr" in values and "finetune.head_lr" in values:
        raise SettingError(
            "`lr` has no effect with `finetune.head_lr`: only the head is trained.", hint="use one of them"
        )
    if "finetune.layer_decay" in values and values.get("train_from") in ("last", "last-1"):
        raise SettingError(
            "`finetune.layer_decay` has no effect: only one stage is trained.",
            hint="remove `finetune.layer_decay`, or train more stages: --train-from last-2",
        )
    if "finetune.monitor" in values and "patience" not in values:
        raise SettingError("`finetune.monitor` has no effect without `patience`.", hint="add e.g. --patience 5")
    warmup, schedule = values.get("finetune.warmup"), str(values.get("schedule", "")).lower()
    if schedule == "onecycle" and isinstance(warmup, (int, float)) and warmup < _ONECYCLE_RISE:
        raise SettingError(
            "`finetune.warmup` below 0.3 has no effect with `schedule=onecycle`, which warms up for 30 % of the steps.",
            hint="remove `finetune.warmup`, or use --schedule cosine",
        )
    _check_views(values)


def _check_views(values: Mapping[str, Any]) -> None:
    """Raise an error if the training would not use all cached views."""
    views, epochs = values.get("num_views"), values.get("epochs")
    if not isinstance(views, int) or views < 2:
        return
    if str(values.get("augment", "")).strip().lower() == "none":
        raise SettingError(
            "`num_views` has no effect with `augment: none`: all views would be the same.",
            hint="use one of them",
        )
    if isinstance(epochs, int) and 0 < epochs < views:
        raise SettingError(
            f"`num_views` is {views}, but {epochs} epochs use at most {epochs} views of an image.",
            hint=f"use --num-views {epochs}, or more --epochs",
        )


def validate_detector_combination(values: Mapping[str, Any]) -> None:
    """Raise an error if a setting of a detector would have no effect.

    Raises:
        SettingError: A setting has no effect on a detector, or with the others.
    """
    strategy = values.get("strategy", "auto")
    if strategy == "probe":
        raise SettingError(
            "detectors have no closed-form probe.", hint="use --strategy head to train on the frozen backbone"
        )
    for name in values:
        if name in _CLASSIFY_ONLY or name.startswith(("probe.", "finetune.")):
            own = f"detect.{name.rpartition('.')[2]}"
            hint = f"use `{own}`" if own in _DETECT_TOO else "settings of a detector are `detect.*`"
            raise SettingError(f"`{shown(name)}` has no effect on a detector.", hint=f"remove `{shown(name)}`; {hint}")
    if values.get("resize_mode") in ("crop", "cover"):
        raise SettingError(
            f"`resize_mode={values['resize_mode']}` would cut off objects.", hint="use --resize-mode squash or pad"
        )
    strategies = {
        "train_from": ("finetune",),
        "num_views": ("head", "finetune", "auto"),
        "detect.backbone_lr": ("finetune", "full", "scratch", "auto"),
        "detect.layer_decay": ("finetune", "full", "scratch", "auto"),
        "detect.unfreeze_after": ("finetune", "auto"),
    }
    for name, fitting in strategies.items():
        if name in values and strategy not in fitting:
            raise SettingError(
                f"`{shown(name)}` has no effect with the strategy `{strategy}`.",
                hint=f"remove `{shown(name)}`, or use --strategy {fitting[0]}",
            )
    _check_views(values)
    if "time_budget" in values and "epochs" in values:
        raise SettingError("`epochs` and `budget` are mutually exclusive.", hint="use one of them")
