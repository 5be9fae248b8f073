"""Define the plan of one training, and its defaults for a number of images.

Together with its seed, a plan fully determines a training.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from headstart.errors import SettingError

__all__ = ["FinetunePlan", "default_augment", "default_plan", "parse_unfreeze"]


@dataclass(frozen=True, slots=True)
class FinetunePlan:
    """Settings of one training.

    Attributes:
        strategy: `head`, `finetune`, `full` or `scratch`.
        train_from: First trainable stage.
        epochs: Number of epochs.
        batch_size: Images per step.
        lr: Peak learning rate of the last stage; earlier stages have `lr * layer_decay ** k`.
        head_lr: Peak learning rate of the head.
        layer_decay: Factor on the learning rate per stage away from the head.
        optimizer: See `optim.OPTIMIZERS`.
        schedule: See `optim.SCHEDULES`.
        warmup: Fraction of the steps in which rates rise from zero.
        weight_decay: Decay towards the initial weights (towards zero from scratch), a rate like the learning rate.
        label_smoothing: Fraction of the target spread over all classes.
        mixup: Alpha of the beta distribution of mixup; 0 is off.
        cutmix: Alpha of the beta distribution of CutMix; 0 is off.
        dropout: Dropout rate of the head's input.
        drop_path: Drop rate of the last residual block (stochastic depth), less for earlier ones.
        grad_accum_steps: Batches whose gradients are summed before a step.
        sampling: `natural`, or `balanced` with equal class frequencies.
        precision: Precision of the computation, `float32` or `bfloat16` (weights stay in float32).
        hidden: Widths of hidden layers parallel to the probe's linear map.
        head: Description of a new head (see `backbones.classifier_head.HeadSpec`), randomly initialized; empty for
            the probe's head.
        head_only_fraction: Fraction of the steps in which the head trains alone.
        swa_fraction: Fraction of the last steps whose weights are averaged (SWA).
        grad_clip_norm: Maximum gradient norm; 0 disables clipping.
        num_views: Cached views per image.
        is_cached: Whether activations at the cut are cached; else they are computed in every epoch.
        augment: Augmentation, see `preprocessing.augmentation`.
        train_image_size: Shorter side of training views in pixels; 0 for the size of prediction. Scores always use the
            size of prediction.
        refit_head: Whether the final head is the mean of the trained head and a closed-form head refitted on the
            fine-tuned features of the training images, resized as in prediction.
        patience: Epochs without improvement of `monitor` before training stops; None disables early stopping.
        monitor: `val_loss`, `val_accuracy` or `val_f1_macro`.
        unfreeze: (stage, fraction of the steps after which it is unfrozen); empty trains all from the start.
        seed: Random seed of order, views and dropout.
    """

    strategy: str
    train_from: str
    epochs: int
    batch_size: int = 32
    lr: float = 3e-4
    head_lr: float = 1e-3
    layer_decay: float = 0.6
    optimizer: str = "adamw"
    schedule: str = "cosine"
    warmup: float = 0.15
    weight_decay: float = 0.02
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    dropout: float = 0.0
    drop_path: float = 0.0
    grad_accum_steps: int = 1
    sampling: str = "natural"
    precision: str = "float32"
    hidden: tuple[int, ...] = ()
    head: str = ""
    head_only_fraction: float = 0.0
    swa_fraction: float = 0.25
    grad_clip_norm: float = 1.0
    num_views: int = 4
    is_cached: bool = True
    augment: str = "none"
    train_image_size: int = 0
    refit_head: bool = False
    patience: int | None = None
    monitor: str = "val_loss"
    unfreeze: tuple[tuple[str, float], ...] = ()
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {k: _to_lists(v) for k, v in asdict(self).items()}

    @property
    def is_linear(self) -> bool:
        """Return whether the head is one affine map of normalized features."""
        return not self.hidden and not self.head

    @property
    def is_from_pixels(self) -> bool:
        """Return whether every step starts from images, not from cached activations."""
        return self.strategy in ("full", "scratch") or not self.is_cached

    @property
    def starts_as_probe(self) -> bool:
        """Return whether the weights can be interpolated between the probe and the trained model."""
        return self.strategy != "scratch" and not self.head

    def with_(self, **changes: Any) -> FinetunePlan:
        """Return a copy with some values replaced."""
        return replace(self, **changes)


def _to_lists(value: Any) -> Any:
    """Return a value with lists instead of tuples, as read back from JSON."""
    return [_to_lists(v) for v in value] if isinstance(value, tuple) else value


def default_augment(strategy: str) -> str:
    """Return the default augmentation of a strategy; source: `benchmarks/bench_finetune_speed.py`."""
    if strategy == "scratch":
        return "flip,crop=0.35,brightness=0.3,contrast=0.3,saturation=0.2"
    return "flip,crop=0.5,brightness=0.2,contrast=0.2"


def default_plan(strategy: str, cut: str, num_train: int, num_classes: int, *, seed: int = 0) -> FinetunePlan:
    """Return the default plan for a number of training images."""
    per_class = num_train / max(1, num_classes)
    plan = FinetunePlan(
        strategy=strategy,
        train_from=cut,
        epochs=10,
        batch_size=32 if num_train >= 128 else max(4, num_train // 4),
        label_smoothing=0.1 if per_class >= 20 and strategy in ("full", "scratch") else 0.0,
        mixup=0.1 if num_train >= 20_000 else 0.0,
        augment=default_augment(strategy),
        seed=seed,
    )
    if strategy == "head":
        return plan.with_(epochs=30, lr=1e-3, head_lr=1e-3, weight_decay=0.02, num_views=4)
    if strategy == "full":
        return plan.with_(lr=2e-4, layer_decay=0.7)
    if strategy == "scratch":
        return plan.with_(epochs=30, lr=1e-3, head_lr=1e-3, layer_decay=1.0, weight_decay=0.05, swa_fraction=0.1)
    return plan


def parse_unfreeze(text: str) -> tuple[tuple[str, float], ...]:
    """Parse `stage7@0,stage6@30%` into stages and the fraction of the training after which each trains.

    Raises:
        SettingError: The text has another format.
    """
    stages = []
    for part in text.split(","):
        stage, at, when = (p.strip() for p in part.partition("@"))
        try:
            fraction = float(when.rstrip("%")) / (100.0 if when.endswith("%") else 1.0) if at else 0.0
        except ValueError:
            fraction = -1.0
        if not stage or not 0.0 <= fraction < 1.0:
            raise SettingError(
                f"cannot parse `{part.strip()}` in `unfreeze`; expected STAGE@FRACTION.",
                hint="e.g. stage7@0,stage6@30%,stage5@60%",
            )
        stages.append((stage, fraction))
    if not any(fraction == 0.0 for _, fraction in stages):
        raise SettingError("no stage in `unfreeze` starts at 0.", hint="start the last stage at 0: stage7@0,...")
    return tuple(stages)
