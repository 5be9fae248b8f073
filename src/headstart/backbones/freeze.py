"""Freezing that is real: no gradient, evaluation mode, out of the optimiser, and a digest that proves it.

The one decision: what is frozen is put into evaluation mode at every call, whatever `train()` was said to
the network around it, so batch norm cannot drift; and BatchNorm of trainable stages also keeps its
statistics unless that is asked for, because small batches spoil them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from headstart.backbones.rules import cut_position
from headstart.errors import SettingError, UsageError

if TYPE_CHECKING:
    from headstart.backbones.zoo import Backbone

__all__ = [
    "BatchNormPolicy",
    "freeze",
    "frozen_digest",
    "read_freeze",
    "unfreeze",
]

BatchNormPolicy = Literal["frozen", "train"]
"""What BatchNorm of trainable stages does: keep its statistics and train scale and shift, or live statistics."""

_BATCH_NORM = nn.modules.batchnorm._BatchNorm


def read_freeze(what: str | int | Sequence[str] | None, stage_names: Sequence[str]) -> tuple[str, ...]:
    """The names of the frozen stages.

    Args:
        what: `none`; `all` (everything but the head); a count k (the first k of stem, stage1, ..., neck); one
            stage name or `last-2`, which is a cut: everything before it; or a list, which is taken as it is.
        stage_names: All stages of the network in forward order.

    Raises:
        SettingError: An unknown name, or a count that does not fit.
    """
    body = [n for n in stage_names if n != "head"]
    if isinstance(what, str) and ("," in what or what.startswith("[")):
        what = [part.strip(" '\"") for part in what.strip("[]").split(",") if part.strip()]
    if isinstance(what, str) and what.strip().lstrip("-").isdigit():
        what = int(what)
    if what is None or what == "none" or what is False:
        return ()
    if what == "all" or what is True:
        return tuple(body)
    if isinstance(what, int):
        if not 0 <= what <= len(body):
            raise SettingError(
                f"freeze={what} does not fit: this network has {len(body)} parts before its head.",
                hint=f"a count is the first so many of {', '.join(body)}",
            )
        return tuple(body[:what])
    if isinstance(what, str):
        cut = cut_position(what, stage_names, also=", and a count, all, none")
        return tuple(stage_names[:cut])
    unknown = [n for n in what if n not in stage_names]
    if unknown:
        raise SettingError(
            f"freeze names {', '.join(f'`{n}`' for n in unknown)}, which this network does not have.",
            hint=f"its stages are {', '.join(stage_names)}",
        )
    return tuple(n for n in stage_names if n in what)


def freeze(
    backbone: Backbone,
    what: str | int | Sequence[str] | None = None,
    *,
    below: str | None = None,
    batch_norm: BatchNormPolicy = "frozen",
) -> tuple[str, ...]:
    """Freezes stages; all others train.

    Args:
        backbone: Its prefixes and suffixes share its modules, so the freezing holds for them too.
        what: As in `read_freeze`.
        below: A cut: everything before it is frozen; the same as naming that stage.
        batch_norm: What BatchNorm of the trainable stages does.

    Returns:
        The frozen stages.

    Raises:
        SettingError: `what` does not fit this network.
        UsageError: Both or neither of `what` and `below`.
    """
    if (what is None) == (below is None):
        raise UsageError("say what to freeze once: `what` or `below`.", hint='freeze(backbone, below="stage4")')
    names = read_freeze(what if below is None else below, backbone.stage_names)
    _apply(backbone, names, batch_norm)
    return names


def unfreeze(backbone: Backbone, from_: str = "stem", *, batch_norm: BatchNormPolicy = "frozen") -> tuple[str, ...]:
    """Lets everything from a stage on train; what was frozen before it stays frozen.

    Returns:
        The stages that are still frozen.
    """
    cut = cut_position(from_, backbone.stage_names)
    names = tuple(n for n in backbone.frozen_stages if backbone.stage_names.index(n) < cut)
    _apply(backbone, names, batch_norm)
    return names


def frozen_digest(backbone: Backbone) -> str:
    """SHA-256 of all tensors in the frozen stages: equal before and after training, to the bit."""
    digest = hashlib.sha256()
    frozen = {backbone.stage_names.index(n) for n in backbone.frozen_stages}
    for name, tensor in sorted(backbone.module.state_dict().items()):
        if backbone.network.map.stage_of.get(name) in frozen:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _apply(backbone: Backbone, names: tuple[str, ...], batch_norm: BatchNormPolicy) -> None:
    """Sets gradients, and keeps frozen modules in evaluation mode by a hook before each call."""
    if batch_norm not in ("frozen", "train"):
        raise SettingError(f"batch_norm is `frozen` or `train`, not `{batch_norm}`.")
    for handle in backbone.freeze_hooks:
        handle.remove()
    frozen = {backbone.stage_names.index(n) for n in names}
    stage_of = backbone.network.map.stage_of
    for name, parameter in backbone.module.named_parameters():
        parameter.requires_grad_(stage_of.get(name) not in frozen)
    hooks = []
    for path, module in backbone.module.named_modules():
        is_frozen = bool(path) and backbone.network.stages_of_module(path) <= frozen
        if is_frozen or (batch_norm == "frozen" and isinstance(module, _BATCH_NORM)):
            module.training = False
            hooks.append(module.register_forward_pre_hook(_stay_in_evaluation))
    backbone.freeze_hooks = hooks
    backbone.frozen_stages = names
    backbone.batch_norm = batch_norm


def _stay_in_evaluation(module: Any, inputs: Any) -> None:
    module.training = False
