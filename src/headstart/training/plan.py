"""The values of one training by gradient, and the defaults that depend on how many images there are.

A plan is plain data that fully determines a training together with its seed; nothing
is looked up elsewhere while it runs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from headstart.errors import SettingError

__all__ = ["FinetunePlan", "default_augment", "default_plan", "parse_unfreeze"]


@dataclass(frozen=True, slots=True)
class FinetunePlan:
    """What one training does.

    Attributes:
        strategy: `head`, `finetune`, `full` or `scratch`.
        cut: First stage that trains.
        epochs: Passes over the training images.
        batch_size: Images a step.
        lr: Peak rate of the last stage; earlier ones have `lr * layer_decay ** k`.
        head_lr: Peak rate of the head.
        layer_decay: Factor on the rate for each stage further from the head.
        optimizer: See `optim.OPTIMIZERS`.
        schedule: See `optim.SCHEDULES`.
        warmup: Share of the steps in which rates rise from zero.
        weight_decay: Pull towards the start (towards zero from scratch), a rate like the learning rate.
        label_smoothing: Share of the target that is spread over all classes.
        mixup: Alpha of the beta distribution that images are mixed with; 0 is off.
        cutmix: The same for rectangles that are taken from another image; 0 is off.
        dropout: On the head's input while training.
        drop_path: Share of times that the last residual block is left out while training, less for earlier ones.
        grad_accum_steps: Batches whose gradients are summed before a step.
        sampling: `natural`, or `balanced`: every class comes up equally often.
        precision: `float32` or `bfloat16` of what a layer computes in (weights stay in float32).
        hidden: Widths of hidden layers beside the probe's linear map.
        head: The head that a person described (`backbones.newhead.HeadSpec` in words), which starts from random
            weights; empty for the probe's.
        head_only_fraction: Share of the steps in which the head trains alone.
        swa_fraction: Share of the last steps whose weights are averaged.
        grad_clip_norm: Largest norm of the gradient; 0 is off.
        views: Stored views an image.
        is_cached: Whether what comes before the cut is stored; without, it is computed in every epoch.
        augment: How views differ, in the words of `pixels.views`.
        train_image_size: Shorter side of training views in pixels; 0 for the size of prediction, at which scores are
            always measured.
        refit_head: Whether the final head is the mean of the trained head and a closed-form head refitted on the
            fine-tuned features of the training images, resized as in prediction.
        patience: Epochs without a better `monitor` before it stops; None never stops.
        monitor: `val_loss`, `val_accuracy` or `val_f1_macro`.
        unfreeze: (stage, share of the steps after which it trains); empty trains all at once.
        seed: Of order, views and dropout.
    """

    strategy: str
    cut: str
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
    views: int = 4
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
        return {k: _listed(v) for k, v in asdict(self).items()}

    @property
    def is_linear(self) -> bool:
        """Whether the head stays one affine map of normalized features."""
        return not self.hidden and not self.head

    @property
    def is_from_pixels(self) -> bool:
        """Whether every step begins with images, not with stored states."""
        return self.strategy in ("full", "scratch") or not self.is_cached

    @property
    def starts_as_probe(self) -> bool:
        """Whether the way from the probe to the trained weights can be gone in part."""
        return self.strategy != "scratch" and not self.head

    def with_(self, **changes: Any) -> FinetunePlan:
        """Return the same with some values replaced."""
        return replace(self, **changes)


def _listed(value: Any) -> Any:
    """Return a value as JSON gives it back: a plan is compared with the one in a checkpoint."""
    return [_listed(v) for v in value] if isinstance(value, tuple) else value


def default_augment(strategy: str) -> str:
    """Return how views differ where nobody says it; source: `benchmarks/bench_tuning.py`."""
    if strategy == "scratch":
        return "flip,crop=0.35,brightness=0.3,contrast=0.3,saturation=0.2"
    return "flip,crop=0.5,brightness=0.2,contrast=0.2"


def default_plan(strategy: str, cut: str, num_train: int, num_classes: int, *, seed: int = 0) -> FinetunePlan:
    """Return the values for this many training images."""
    per_class = num_train / max(1, num_classes)
    plan = FinetunePlan(
        strategy=strategy,
        cut=cut,
        epochs=10,
        batch_size=32 if num_train >= 128 else max(4, num_train // 4),
        label_smoothing=0.1 if per_class >= 20 and strategy in ("full", "scratch") else 0.0,
        mixup=0.1 if num_train >= 20_000 else 0.0,
        augment=default_augment(strategy),
        seed=seed,
    )
    if strategy == "head":
        return plan.with_(epochs=30, lr=1e-3, head_lr=1e-3, weight_decay=0.02, views=4)
    if strategy == "full":
        return plan.with_(lr=2e-4, layer_decay=0.7)
    if strategy == "scratch":
        return plan.with_(epochs=30, lr=1e-3, head_lr=1e-3, layer_decay=1.0, weight_decay=0.05, swa_fraction=0.1)
    return plan


def parse_unfreeze(text: str) -> tuple[tuple[str, float], ...]:
    """`stage7@0,stage6@30%` to stages and the share of the training after which each trains.

    Raises:
        SettingError: It is not written like that.
    """
    found = []
    for part in text.split(","):
        stage, at, when = (p.strip() for p in part.partition("@"))
        try:
            share = float(when.rstrip("%")) / (100.0 if when.endswith("%") else 1.0) if at else 0.0
        except ValueError:
            share = -1.0
        if not stage or not 0.0 <= share < 1.0:
            raise SettingError(
                f"`{part.strip()}` does not say when a stage is unfrozen.",
                hint="write stage7@0,stage6@30%,stage5@60%",
            )
        found.append((stage, share))
    if not any(share == 0.0 for _, share in found):
        raise SettingError("nothing would train at first.", hint="let the last stage start at 0: stage7@0,...")
    return tuple(found)
