"""Map setting names of other tools to headstart's, and explain names without an equivalent.

An alias has exactly the same meaning. The hint for any other known name states the alternative, because the setting
with the nearest spelling would be wrong.
"""

from __future__ import annotations

__all__ = ["ALIASES", "UNSUPPORTED", "shown"]

ALIASES = {
    "arch": "backbone",
    "model": "backbone",
    "imgsz": "image_size",
    "img_size": "image_size",
    "size": "image_size",
    "batch": "batch_size",
    "lr0": "lr",
    "base_lr": "lr",
    "learning_rate": "lr",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "threads": "num_threads",
    "workers": "num_threads",
    "num_workers": "num_threads",
    "budget": "time_budget",
    "time_limit": "time_budget",
    "class_weights": "probe.class_weights",
    "class_weight": "probe.class_weights",
    "pos_label": "positive",
    "positive_class": "positive",
    "project": "out",
    "from": "train_from",
    "range": "intensity_range",
    "opt": "optimizer",
    "optim": "optimizer",
    "optimiser": "optimizer",
    "sched": "schedule",
    "scheduler": "schedule",
    "lr_scheduler": "schedule",
    "aug": "augment",
    "augmentation": "augment",
    "early_stopping_patience": "patience",
    "cv": "folds",
    "k_fold": "folds",
    "n_splits": "folds",
    "head_lr": "finetune.head_lr",
    "layer_decay": "finetune.layer_decay",
    "smoothing": "finetune.label_smoothing",
    "weight_decay": "finetune.weight_decay",
    "wd": "finetune.weight_decay",
    "warmup": "finetune.warmup",
    "warmup_ratio": "finetune.warmup",
    "mixup": "finetune.mixup",
    "dropout": "finetune.dropout",
    "hidden": "finetune.hidden",
    "cutmix": "finetune.cutmix",
    "drop_path": "finetune.drop_path",
    "stochastic_depth": "finetune.drop_path",
    "grad_accum_steps": "finetune.grad_accum_steps",
    "accumulate_grad_batches": "finetune.grad_accum_steps",
    "gradient_accumulation_steps": "finetune.grad_accum_steps",
    "sampling": "finetune.sampling",
    "precision": "finetune.precision",
    "tensorboard": "finetune.tensorboard",
    "head": "finetune.head",
    "head_spec": "finetune.head",
    "head_only_fraction": "finetune.head_only_fraction",
    "swa_fraction": "finetune.swa_fraction",
    "grad_clip_norm": "finetune.grad_clip_norm",
    "clip_grad": "finetune.grad_clip_norm",
    "grad_clip": "finetune.grad_clip_norm",
    "clipnorm": "finetune.grad_clip_norm",
    "gradient_clip_val": "finetune.grad_clip_norm",
    "max_grad_norm": "finetune.grad_clip_norm",
    "train_image_size": "finetune.train_image_size",
    "refit_head": "finetune.refit_head",
    "monitor": "finetune.monitor",
    "box_format": "detect.box_format",
    "iou": "detect.nms_iou",
    "agnostic_nms": "detect.class_agnostic_nms",
    "class_agnostic_nms": "detect.class_agnostic_nms",
    "max_det": "detect.max_detections",
    "max_detections": "detect.max_detections",
}
"""Other spellings and short forms with exactly the same meaning."""

_FREEZE = (
    "--train-from STAGE sets the first trained stage and freezes all before it; --strategy head freezes the backbone"
)
_FROZEN_FIRST = (
    "use --unfreeze stage7@0,stage6@30% to unfreeze stages gradually, or finetune.head_only_fraction=0.2 to train "
    "the head alone for the first fifth of the steps"
)
_VALIDATION = (
    "images are held out automatically, or taken from a folder `val`; --folds 5 cross-validates, --test-size 20% holds "
    "out a test split"
)
_RATES = "use --lr (last stage), finetune.layer_decay (factor for each earlier stage) and finetune.head_lr (head)"
_PRECISION = "use finetune.precision=bfloat16 or float32; the default is the one measured to be faster"
_EXISTING = "runs are never overwritten: each uses the next free runs/trainN, or the folder of --out"
_PRETRAINED = "weights are pretrained, except with --strategy scratch; --weights selects others"
_DEVICE = "use --device cpu, --device 0 (the first GPU), or a torch device such as cuda or mps"
_AUGMENT = "use --augment flip,zoom=0.2,rotate=10,brightness=0.2; preview: headstart show DATA --num-augmented 6"
_EARLY = "--patience 5 stops after five epochs without improvement; finetune.monitor sets the metric"
_WARMUP = "finetune.warmup is a fraction of the steps: 3 of 30 epochs are finetune.warmup=0.1"
_ALWAYS = "every run is deterministic: the same seed, --num-threads and versions give the same weights"
_HEAD = "use --head hidden=256,activation=relu,dropout=0.5,pool=avg"
_RESUME = "use headstart resume RUN"

UNSUPPORTED = {
    **dict.fromkeys(("freeze", "frozen", "freeze_layers", "freeze_backbone", "trainable", "unfreeze_layers"), _FREEZE),
    **dict.fromkeys(("fine_tune_at", "trainable_layers", "layers", "tune_layers"), _FREEZE),
    **dict.fromkeys(("freeze_epochs", "frozen_epochs", "unfreeze_epoch", "unfreeze_milestones"), _FROZEN_FIRST),
    **dict.fromkeys(("val_split", "validation_split", "valid_pct", "val_size", "val", "valid_size"), _VALIDATION),
    **dict.fromkeys(("lr_mult", "backbone_lr", "backbone_lr_ratio", "lr_head", "lrs", "encoder_lr"), _RATES),
    **dict.fromkeys(
        ("lrf", "min_lr", "cos_lr", "onecycle"), "use --schedule cosine, linear, constant, step or onecycle"
    ),
    **dict.fromkeys(("momentum", "nesterov", "betas"), "sgd and rmsprop use a fixed momentum of 0.9"),
    **dict.fromkeys(("amp", "half", "fp16", "bf16", "mixed_precision"), _PRECISION),
    **dict.fromkeys(("exist_ok", "overwrite", "name", "run_name"), _EXISTING),
    **dict.fromkeys(("pretrained", "from_scratch"), _PRETRAINED),
    **dict.fromkeys(("gpu", "gpus", "cuda", "cpu", "accelerator"), _DEVICE),
    **dict.fromkeys(("fliplr", "flipud", "hflip", "vflip", "flip", "degrees", "rotation", "translate"), _AUGMENT),
    **dict.fromkeys(("scale", "shear", "hsv_h", "hsv_s", "hsv_v", "color_jitter", "auto_augment", "erasing"), _AUGMENT),
    **dict.fromkeys(("early_stopping", "early_stop"), _EARLY),
    **dict.fromkeys(("warmup_epochs", "warmup_steps"), _WARMUP),
    "deterministic": _ALWAYS,
    **dict.fromkeys(("activation", "units", "pool", "pooling", "batch_norm", "dense"), _HEAD),
    **dict.fromkeys(("resume", "checkpoint"), _RESUME),
    **dict.fromkeys(("steps", "max_steps", "steps_per_epoch"), "use --epochs or --budget 5m"),
    "loss": "training minimizes cross-entropy; finetune.label_smoothing=0.1 and --class-weights auto change it",
}
"""Hints for names of other tools without an equivalent setting."""

_SHOWN = {
    "time_budget": "budget",
    "probe.class_weights": "class_weights",
    "finetune.head": "head",
}


def shown(name: str) -> str:
    """Return the short name of a setting, as on the command line; settings files accept it too."""
    return _SHOWN.get(name, name)
