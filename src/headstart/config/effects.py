"""Which settings would be ignored: refused with the reason, because nothing a person says may be without effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.config.aliases import shown
from headstart.errors import SettingError

__all__ = ["GRADIENT_STRATEGIES", "has_effect", "validate_combination", "validate_detector_combination"]

_CLOSED_FORM = "the probe's head is computed in closed form, not trained by gradient"
_WITHOUT_EFFECT = {
    "epochs": "the probe has no epochs: its head is computed in closed form",
    "lr": "the probe has no learning rate: its head is computed in closed form",
    "patience": "the probe has nothing to stop early: its head is computed in closed form",
    "batch_size": "the probe's result does not depend on a batch size, and its memory hardly does",
    "train_from": "nothing of the network is trained by the probe",
    "unfreeze": "nothing of the network is trained by the probe",
    "num_views": "the probe looks at every image as it is",
    "augment": "the probe looks at every image as it is",
    "folds": "the probe is scored by leaving out every image in turn, which is finer than any folds",
    "finetune.head": "the probe's head is one linear map computed in closed form; other heads are trained by gradient",
    **dict.fromkeys(("optimizer", "schedule", "select"), _CLOSED_FORM),
}
"""Settings of training by gradient, refused with the reason where nothing is trained by gradient."""

_CLASSIFY_ONLY = {
    *("select", "unfreeze", "patience", "label_pattern", "layout", "first_id", "label_corrections", "exclude_classes"),
    *("positive", "ood_fpr", "coverage"),
}
"""Settings that only classification has, beside the groups `head` and `finetune`."""

_DETECT_TOO = ("detect.layer_decay", "detect.warmup", "detect.weight_decay", "detect.grad_clip_norm")
"""Settings of a detector that have the name of one in `finetune`."""

GRADIENT_STRATEGIES = ("head", "finetune", "full", "scratch")

_BECAUSE = {
    ("folds", "auto"): ": the budget says how many parts are trained on",
    ("select", "auto"): ", which keeps what is better anyway",
    ("train_from", "full"): ", which trains every stage",
    ("train_from", "scratch"): ", which trains every stage",
    ("num_views", "full"): ", which makes a new view of every image in every epoch",
    ("num_views", "scratch"): ", which makes a new view of every image in every epoch",
}
"""Why a setting has no effect with a strategy, where that is not plain."""

_ONECYCLE_RISE = 0.3  # share of the steps; see `tuning.optim.factor_at`


def has_effect(name: str, *, task: str, strategy: str) -> bool:
    """Return whether a run uses a setting at all.

    Args:
        name: Dotted name.
        task: `classify` or `detect`.
        strategy: That of the model, `probe` where nothing was trained by gradient.
    """
    group = name.partition(".")[0]
    if task == "detect":
        return name not in _CLASSIFY_ONLY and group not in ("probe", "finetune")
    return group != "detect" and (strategy != "probe" or (name not in _WITHOUT_EFFECT and group != "finetune"))


def validate_combination(values: Mapping[str, Any]) -> None:
    """Refuse what would be ignored.

    Raises:
        SettingError: A setting has no effect with the others.
    """
    for name in values:
        if name.startswith("detect."):
            raise SettingError(
                f"`{name}` has no effect on images without boxes.", hint=f"leave `{name}` out, or --task detect"
            )
    strategy = values.get("strategy", "auto")
    is_gradient = strategy in GRADIENT_STRATEGIES or (strategy == "auto" and "time_budget" in values)
    for name in values:
        if not is_gradient and (name in _WITHOUT_EFFECT or name.startswith("finetune.")):
            word = shown(name)
            raise SettingError(
                f"`{word}` has no effect here: {_WITHOUT_EFFECT.get(name, _CLOSED_FORM)}.",
                hint=f"leave `{word}` out, or train by gradient: --strategy finetune (or head, full, scratch)",
            )
    is_head_only = strategy == "head" or (strategy == "finetune" and values.get("train_from") == "head")
    alone = {
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
    for name, fitting in alone.items():
        own = "head" if is_head_only and name != "train_from" else strategy
        if name in values and own not in fitting and is_gradient:
            raise SettingError(
                f"`{shown(name)}` has no effect with the strategy `{own}`{_BECAUSE.get((name, own), '')}.",
                hint=f"leave `{shown(name)}` out, or take --strategy {fitting[0]}",
            )
    if is_gradient:
        _check_pairs(values, is_head_only=is_head_only)
    if strategy in GRADIENT_STRATEGIES and "time_budget" in values and "epochs" in values:
        raise SettingError("`epochs` and `budget` both say how long to train.", hint="give one of them")


def _check_pairs(values: Mapping[str, Any], *, is_head_only: bool) -> None:
    """Refuse settings of training by gradient that another one makes pointless."""
    for name in ("finetune.hidden", "finetune.dropout"):
        if name in values and "finetune.head" in values:
            word = name.removeprefix("finetune.")
            raise SettingError(f"`{name}` is part of the head you described.", hint=f"--head {word}=...,...")
    if "finetune.refit_head" in values and ("finetune.head" in values or "finetune.hidden" in values):
        raise SettingError(
            "`finetune.refit_head` fits a linear head in closed form, and the head you described is another.",
            hint="leave finetune.refit_head out",
        )
    if values.get("finetune.sampling") == "balanced" and str(values.get("probe.class_weights", "none")) != "none":
        raise SettingError(
            "`finetune.sampling=balanced` and `class_weights` correct the same imbalance twice.",
            hint="give one of them",
        )
    if str(values.get("probe.flip_tta", "auto")).lower() in ("on", "true"):
        raise SettingError(
            "`probe.flip_tta` has no effect on a head trained by gradient.", hint="leave `probe.flip_tta` out"
        )
    if is_head_only and "lr" in values and "finetune.head_lr" in values:
        raise SettingError(
            "`lr` has no effect beside `finetune.head_lr`: nothing but the head trains.", hint="give one of them"
        )
    if "finetune.layer_decay" in values and values.get("train_from") in ("last", "last-1"):
        raise SettingError(
            "`finetune.layer_decay` has no effect: only one stage trains, at the rate `lr`.",
            hint="leave `finetune.layer_decay` out, or begin earlier: --train-from last-2",
        )
    if "finetune.monitor" in values and "patience" not in values:
        raise SettingError(
            "`finetune.monitor` has no effect without `patience`: nothing is watched.", hint="--patience 5, for example"
        )
    warmup, schedule = values.get("finetune.warmup"), str(values.get("schedule", "")).lower()
    if schedule == "onecycle" and isinstance(warmup, (int, float)) and warmup < _ONECYCLE_RISE:
        raise SettingError(
            "`finetune.warmup` below 0.3 has no effect with `schedule=onecycle`, which warms up for 30 % of the steps.",
            hint="omit `finetune.warmup`, or use --schedule cosine",
        )
    _check_views(values)


def _check_views(values: Mapping[str, Any]) -> None:
    """Refuse more views of an image than would ever be looked at."""
    views, epochs = values.get("num_views"), values.get("epochs")
    if not isinstance(views, int) or views < 2:
        return
    if str(values.get("augment", "")).strip().lower() == "none":
        raise SettingError(
            "`num_views` has no effect with `augment: none`, since all views would be the same.",
            hint="give one of them",
        )
    if isinstance(epochs, int) and 0 < epochs < views:
        raise SettingError(
            f"`num_views: {views}` has no effect beyond {epochs}: each epoch looks at one view of an image.",
            hint=f"--num-views {epochs}, or more --epochs",
        )


def validate_detector_combination(values: Mapping[str, Any]) -> None:
    """Refuse what would be ignored in training a detector.

    Raises:
        SettingError: A setting has no effect on a detector, or with the others.
    """
    strategy = values.get("strategy", "auto")
    if strategy == "probe":
        raise SettingError(
            "a detector has no probe in closed form.", hint="--strategy head trains on the frozen backbone"
        )
    for name in values:
        if name in _CLASSIFY_ONLY or name.startswith(("probe.", "finetune.")):
            own = f"detect.{name.rpartition('.')[2]}"
            hint = f"its own is `{own}`" if own in _DETECT_TOO else "its own settings are `detect.*`"
            raise SettingError(
                f"`{shown(name)}` has no effect on a detector.", hint=f"leave `{shown(name)}` out; {hint}"
            )
    if values.get("resize_mode") in ("crop", "cover"):
        raise SettingError(
            f"`resize_mode={values['resize_mode']}` would cut objects off.", hint="use --resize-mode squash or pad"
        )
    alone = {
        "train_from": ("finetune",),
        "num_views": ("head", "finetune", "auto"),
        "detect.backbone_lr": ("finetune", "full", "scratch", "auto"),
        "detect.layer_decay": ("finetune", "full", "scratch", "auto"),
        "detect.unfreeze_after": ("finetune", "auto"),
    }
    for name, fitting in alone.items():
        if name in values and strategy not in fitting:
            raise SettingError(
                f"`{shown(name)}` has no effect with the strategy `{strategy}`.",
                hint=f"leave `{shown(name)}` out, or take --strategy {fitting[0]}",
            )
    _check_views(values)
    if "time_budget" in values and "epochs" in values:
        raise SettingError("`epochs` and `budget` both say how long to train.", hint="give one of them")
