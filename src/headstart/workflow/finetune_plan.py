"""From settings to the plan of a training: what a person set is obeyed, the rest depends on the images."""

from __future__ import annotations

from headstart.backbones.cards import find_card
from headstart.backbones.classifier_head import read_head
from headstart.backbones.rules import cut_position
from headstart.config import ResolvedConfig, TrainSettings
from headstart.errors import SettingError
from headstart.preprocessing.augmentation import parse_augment
from headstart.training.optim import OPTIMIZERS, SCHEDULES
from headstart.training.plan import FinetunePlan, default_plan, parse_unfreeze
from headstart.workflow.shared_backbone import SharedBackbone

__all__ = ["HEAD_FIRST", "check_places", "check_words", "make_plan"]

HEAD_FIRST = 0.2
"""Share of the steps in which a head from random weights trains alone, so that it does not spoil what lies below.

Source: Kumar et al. (2022), fine-tuning can distort pretrained features.
"""

_DIRECT = ("epochs", "batch_size", "lr", "optimizer", "schedule", "views", "patience")
_NESTED = (
    "head_lr", "layer_decay", "warmup", "weight_decay", "label_smoothing", "mixup", "cutmix", "dropout",
    "drop_path", "grad_accum_steps", "sampling", "hidden", "head_only_fraction",
    "swa_fraction", "grad_clip_norm", "train_image_size",
)  # fmt: skip


def check_words(settings: TrainSettings) -> None:
    """Refuse descriptions that are not understood, before anything is computed.

    Raises:
        SettingError: Of the head, the views or the unfreezing, or the network has no such stage.
        UsageError: There is no such network.
    """
    if settings.finetune.head is not None:
        read_head(settings.finetune.head)
    if settings.augment is not None:
        parse_augment(settings.augment)
    asked = [] if settings.cut is None else [settings.cut]
    if settings.unfreeze is not None:
        asked += [stage for stage, _ in parse_unfreeze(settings.unfreeze)]
    known = find_card(settings.backbone).stage_names  # empty where only tracing tells: `check_places` looks again
    for stage in asked if known else ():
        cut_position(stage, known)


def check_places(settings: TrainSettings, trunk: SharedBackbone, *, has_val: bool) -> None:
    """Refuse stages that the network does not have, and parts where the person's own validation images are used.

    Raises:
        SettingError: There is no such stage, or `folds` would have no effect.
    """
    if settings.cut is not None or settings.unfreeze is not None:
        trunk.cut_for()
    if has_val and settings.folds is not None:
        raise SettingError(
            "`folds` has no effect: your own validation images are what the training is judged by.",
            hint="leave `folds` out, or let --layout put `*` for the split",
        )


def make_plan(resolved: ResolvedConfig, strategy: str, cut: str, num_train: int, num_classes: int) -> FinetunePlan:
    """Return the plan of a training.

    Args:
        resolved: The settings.
        strategy: `head`, `finetune`, `full` or `scratch`.
        cut: First stage that trains.
        num_train, num_classes: What the defaults depend on.

    Raises:
        SettingError: A value does not exist or is not understood.
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
            raise SettingError(f"there is no {name} called `{changes[name]}`.", hint=f"there are: {', '.join(known)}")
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
    is_fit_again = strategy in ("finetune", "full") and plan.is_linear
    plan = plan.with_(refit_head=is_fit_again and settings.finetune.refit_head is not False)
    if parse_augment(plan.augment).is_plain:
        plan = plan.with_(views=1)
    if strategy in ("full", "scratch"):  # every epoch sees new views, since nothing is stored
        plan = plan.with_(views=plan.epochs)
    if settings.finetune.precision != "auto":
        plan = plan.with_(precision=settings.finetune.precision)
    return plan.with_(views=min(plan.views, plan.epochs), batch_size=min(plan.batch_size, num_train))
