"""Which settings would be ignored: refused with the reason, because nothing a person says may be without effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.errors import SettingError

__all__ = ["GRADIENT_STRATEGIES", "check_detect_effects", "check_effects"]

_CLOSED_FORM = "the probe's head is computed in closed form, not trained by gradient"
_WITHOUT_EFFECT = {
    "epochs": "the probe has no epochs: its head is computed in closed form",
    "lr": "the probe has no learning rate: its head is computed in closed form",
    "patience": "the probe has nothing to stop early: its head is computed in closed form",
    "batch_size": "the probe's result does not depend on a batch size, and its memory hardly does",
    "cut": "nothing of the network is trained by the probe",
    "unfreeze": "nothing of the network is trained by the probe",
    "views": "the probe looks at every picture as it is",
    "augment": "the probe looks at every picture as it is",
    "folds": "the probe is scored by leaving out every picture in turn, which is finer than any folds",
    "tune.head": "the probe's head is one linear map computed in closed form; other heads are trained by gradient",
    **dict.fromkeys(("optimizer", "schedule", "keep"), _CLOSED_FORM),
}
"""Settings of training by gradient, refused with the reason where nothing is trained by gradient."""

_CLASSIFY_ONLY = {
    *("keep", "unfreeze", "patience", "label_pattern", "layout", "corrections", "skip_class", "reject", "coverage"),
}
"""Settings that only classification has, beside the groups `head` and `tune`."""

GRADIENT_STRATEGIES = ("head", "finetune", "full", "scratch")


def check_effects(values: Mapping[str, Any]) -> None:
    """Refuses what would be ignored.

    Raises:
        SettingError: A setting has no effect with the others.
    """
    for name in values:
        if name.startswith("detect."):
            raise SettingError(
                f"`{name}` has no effect on pictures without boxes.", hint=f"leave `{name}` out, or --task detect"
            )
    strategy = values.get("strategy", "auto")
    is_gradient = strategy in GRADIENT_STRATEGIES or (strategy == "auto" and "budget_minutes" in values)
    for name in values:
        if name in _WITHOUT_EFFECT or name.startswith("tune."):
            reason = _WITHOUT_EFFECT.get(name, _CLOSED_FORM)
            if not is_gradient:
                raise SettingError(
                    f"`{name}` has no effect here: {reason}.",
                    hint=f"leave `{name}` out, or train by gradient: --strategy finetune (or head, full, scratch)",
                )
    alone = {
        "cut": ("finetune", "auto"),
        "unfreeze": ("finetune",),
        "views": ("head", "finetune", "auto"),
        "tune.hidden": ("head",),
        "tune.head": GRADIENT_STRATEGIES,
        "tune.drop_path": ("finetune", "full", "scratch", "auto"),
        "tune.train_size": ("finetune", "full", "scratch", "auto"),
        "tune.refit": ("finetune", "full", "auto"),
        "tune.head_first": ("finetune", "full", "scratch"),
    }
    for name, fitting in alone.items():
        if name in values and strategy not in fitting and is_gradient:
            raise SettingError(
                f"`{name}` has no effect with the strategy `{strategy}`.",
                hint=f"leave `{name}` out, or take --strategy {fitting[0]}",
            )
    for name in ("tune.hidden", "tune.dropout"):
        if name in values and "tune.head" in values:
            word = name.removeprefix("tune.")
            raise SettingError(f"`{name}` is part of the head you described.", hint=f"--head {word}=...,...")
    if "tune.refit" in values and ("tune.head" in values or "tune.hidden" in values):
        raise SettingError(
            "`tune.refit` fits a linear head in closed form, and the head you described is another.",
            hint="leave tune.refit out",
        )
    if values.get("tune.sampling") == "balanced" and str(values.get("head.class_weights", "none")) != "none":
        raise SettingError(
            "`tune.sampling=balanced` and `class_weights` correct the same imbalance twice.", hint="give one of them"
        )
    if is_gradient and str(values.get("head.mirror", "auto")).lower() in ("on", "true"):
        raise SettingError("`head.mirror` has no effect on a head trained by gradient.", hint="leave `head.mirror` out")
    if strategy in GRADIENT_STRATEGIES and "budget_minutes" in values and "epochs" in values:
        raise SettingError("`epochs` and `budget` both say how long to train.", hint="give one of them")


def check_detect_effects(values: Mapping[str, Any]) -> None:
    """Refuses what would be ignored in training a detector.

    Raises:
        SettingError: A setting has no effect on a detector, or with the others.
    """
    strategy = values.get("strategy", "auto")
    if strategy == "probe":
        raise SettingError(
            "a detector has no probe in closed form.", hint="--strategy head trains on the frozen backbone"
        )
    for name in values:
        if name in _CLASSIFY_ONLY or name.startswith(("head.", "tune.")):
            raise SettingError(
                f"`{name}` has no effect on a detector.", hint=f"leave `{name}` out; its own settings are `detect.*`"
            )
    if values.get("fit") in ("crop", "cover"):
        raise SettingError(f"`fit: {values['fit']}` would cut objects off.", hint="--fit squash or --fit pad")
    alone = {
        "cut": ("finetune",),
        "views": ("head", "finetune", "auto"),
        "detect.backbone_lr": ("finetune", "full", "scratch", "auto"),
        "detect.thaw": ("finetune", "auto"),
    }
    for name, fitting in alone.items():
        if name in values and strategy not in fitting:
            raise SettingError(
                f"`{name}` has no effect with the strategy `{strategy}`.",
                hint=f"leave `{name}` out, or take --strategy {fitting[0]}",
            )
    if "budget_minutes" in values and "epochs" in values:
        raise SettingError("`epochs` and `budget` both say how long to train.", hint="give one of them")
