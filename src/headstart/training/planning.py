"""Make the plan of a training: explicit settings first, defaults from the images."""

from __future__ import annotations

from headstart.backbones.cards import find_card
from headstart.backbones.classifier_head import read_head
from headstart.backbones.rules import cut_position
from headstart.config.settings import ResolvedConfig, TrainSettings
from headstart.errors import SettingError
from headstart.preprocessing.augmentation import parse_augment
from headstart.training.optim import OPTIMIZERS, SCHEDULES
from headstart.training.plan import FinetunePlan, default_plan, parse_unfreeze
from headstart.training.shared_backbone import SharedBackbone

__all__ = ["HEAD_FIRST", "check_descriptions", "check_stages", "make_plan"]

HEAD_FIRST = 0.2
"""Fraction of the steps in which a randomly initialized head trains alone, to protect the pretrained stages.

Source: Kumar et al. (2022), fine-tuning can distort pretrained features.
"""

_DIRECT = ("epochs", "batch_size", "lr", "optimizer", "schedule", "num_views", "patience")
_NESTED = (
    "head_lr", "layer_decay", "warmup", "weight_decay", "label_smoothing", "mixup", "cutmix", "dropout",
    "drop_path", "grad_accum_steps", "sampling", "hidden", "head_only_fraction",
    "swa_fraction", "grad_clip_norm", "train_image_size",
)  # fmt: skip


def check_descriptions(settings: TrainSettings) -> None:
    """Check the text settings for head, augmentation and stages before anything is computed.

    Raises:
        SettingError: A description is invalid, or the network lacks a stage.
        UsageError: The network does not exist.
    """
    if settings.finetune.head is not None:
        read_head(settings.finetune.head)
    if settings.augment is not None:
        parse_augment(settings.augment)
    stages = [] if settings.train_from is None else [settings.train_from]
    if settings.unfreeze is not None:
        stages += [stage for stage, _ in parse_unfreeze(settings.unfreeze)]
    known = find_card(settings.backbone).stage_names  # empty where tracing is needed: see `check_stages`
    for stage in stages if known else ():
        cut_position(stage, known)


def check_stages(settings: TrainSettings, backbone: SharedBackbone, *, has_val: bool) -> None:
    """Check that the stages exist and that `folds` has an effect.

    Raises:
        SettingError: A stage does not exist, or `folds` has no effect.
    """
    if settings.train_from is not None or settings.unfreeze is not None:
        backbone.cut_for()
    if has_val and settings.folds is not None:
        raise SettingError(
            "`folds` has no effect: the training is evaluated on your validation split.",
            hint="remove `folds`, or ignore the split with `*` in --layout",
        )


def make_plan(resolved: ResolvedConfig, strategy: str, cut: str, num_train: int, num_classes: int) -> FinetunePlan:
    """Return the plan of a training.

    Args:
        resolved: The settings.
        strategy: `head`, `finetune`, `full` or `scratch`.
        cut: First trainable stage.
        num_train, num_classes: Size of the dataset, for defaults.

    Raises:
        SettingError: A value is invalid.
    """
    settings = resolved.settings
    plan = default_plan(strategy, cut, num_train, num_classes, seed=settings.seed)
    changes = {name: getattr(settings, name) for name in _DIRECT if getattr(settings, name) is not None}
    changes |= {
        name: getattr(settings.finetune, name) for name in _NESTED if getattr(settings.finetune, name) is not None
    }
    changes["monitor"] = settings.finetune.monitor
    for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        if name in changes and changes[name] not in known:
            raise SettingError(f"unknown {name} `{changes[name]}`.", hint=f"use one of: {', '.join(known)}")
    if settings.augment is not None:
        changes["augment"] = parse_augment(settings.augment).to_text()
    if settings.finetune.head is not None:
        changes["head"] = str(read_head(settings.finetune.head))
        if (
            strategy in ("finetune", "full")
            and settings.finetune.head_only_fraction is None
            and settings.unfreeze is None
        ):
            changes["head_only_fraction"] = HEAD_FIRST
    if settings.unfreeze is not None:
        changes["unfreeze"] = parse_unfreeze(settings.unfreeze)
    if strategy == "head" and settings.lr is not None and settings.finetune.head_lr is None:
        changes["head_lr"] = settings.lr
    plan = plan.with_(**changes)
    has_refit = strategy in ("finetune", "full") and plan.is_linear
    plan = plan.with_(refit_head=has_refit and settings.finetune.refit_head is not False)
    if parse_augment(plan.augment).is_plain:
        plan = plan.with_(num_views=1)
    if strategy in ("full", "scratch"):  # nothing is cached: new views every epoch
        plan = plan.with_(num_views=plan.epochs)
    if settings.finetune.precision != "auto":
        plan = plan.with_(precision=settings.finetune.precision)
    return plan.with_(num_views=min(plan.num_views, plan.epochs), batch_size=min(plan.batch_size, num_train))
