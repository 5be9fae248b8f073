"""Freeze parts of a network: no gradient, evaluation mode, not in the optimizer, verified by a digest.

Frozen modules are set to evaluation mode on every call, regardless of `train()`, so their BatchNorm cannot drift.
BatchNorm of trainable stages keeps its statistics too unless configured otherwise, because small batches distort them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from torch import nn

from headstart.backbones.rules import cut_position
from headstart.errors import SettingError

__all__ = ["BATCH_NORM", "BatchNormPolicy", "Freezing", "read_freeze", "tensors_digest"]

BatchNormPolicy = Literal["frozen", "train"]
"""BatchNorm of trainable stages: fixed statistics with trained scale and shift, or live statistics."""

BATCH_NORM = nn.modules.batchnorm._BatchNorm
_HOOKS: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()


class Freezing:
    """Keep a part of a network unchanged while the rest trains.

    Creating it freezes all other parameters and drops their gradients; a later `Freezing` of the same
    module replaces it.

    Args:
        module: The network.
        trainable: Names of its parameters that train, all the time or in a part of the schedule.
        is_frozen: Whether the module at a path is frozen; by default if it, or the innermost enclosing module with
            parameters, has no trainable one.
        batch_norm: Policy for BatchNorm with trainable parameters.

    Raises:
        SettingError: Unknown BatchNorm policy.
    """

    def __init__(
        self,
        module: nn.Module,
        trainable: Collection[str],
        *,
        is_frozen: Callable[[str], bool] | None = None,
        batch_norm: BatchNormPolicy = "frozen",
    ) -> None:
        if batch_norm not in ("frozen", "train"):
            raise SettingError(f"batch_norm must be `frozen` or `train`, not `{batch_norm}`.")
        self._module, self._trainable, self._batch_norm = module, frozenset(trainable), batch_norm
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in self._trainable)
            parameter.grad = None
        for handle in _HOOKS.pop(module, ()):
            handle.remove()
        is_frozen = is_frozen or self._has_no_trainable
        self._frozen = {path for path, _ in module.named_modules() if path and is_frozen(path)}
        _HOOKS[module] = [
            self._keep_in_evaluation(each) for path, each in module.named_modules() if self._is_kept(path, each)
        ]

    def digest(self) -> str:
        """Return the SHA-256 of the frozen parameters and buffers, bit-identical before and after training."""
        tensors = {n: p for n, p in self._module.named_parameters() if n not in self._trainable}
        for path, each in self._module.named_modules():
            if self._batch_norm == "frozen" or path in self._frozen:
                tensors |= {f"{path}.{n}".lstrip("."): b for n, b in each.named_buffers(recurse=False)}
        return tensors_digest(tensors)

    def _has_no_trainable(self, path: str) -> bool:
        while path:
            names = [n for n, _ in self._module.get_submodule(path).named_parameters()]
            if names:
                return not any(f"{path}.{n}" in self._trainable for n in names)
            path = path.rpartition(".")[0]
        return not self._trainable

    def _is_kept(self, path: str, module: nn.Module) -> bool:
        return path in self._frozen or (self._batch_norm == "frozen" and isinstance(module, BATCH_NORM))

    @staticmethod
    def _keep_in_evaluation(module: nn.Module) -> Any:
        module.training = False
        return module.register_forward_pre_hook(_set_evaluation)


def _set_evaluation(module: nn.Module, inputs: Any) -> None:
    if module.training:
        module.training = False


def tensors_digest(tensors: Mapping[str, Any]) -> str:
    """Return the SHA-256 over names and bytes, hex."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name].detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def read_freeze(stages: str | int | Sequence[str] | None, stage_names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the frozen stages.

    Args:
        stages: `none`; `all` (everything but the head); a count k (the first k of stem, stage1, ..., neck); one
            stage name or `last-2`, which is a cut: everything before it; or a list of stages.
        stage_names: All stages of the network in forward order.

    Raises:
        SettingError: Unknown name, or a count that is too large.
    """
    body = [n for n in stage_names if n != "head"]
    if isinstance(stages, str) and ("," in stages or stages.startswith("[")):
        stages = [part.strip(" '\"") for part in stages.strip("[]").split(",") if part.strip()]
    if isinstance(stages, str) and stages.strip().lstrip("-").isdigit():
        stages = int(stages)
    if stages is None or stages == "none" or stages is False:
        return ()
    if stages == "all" or stages is True:
        return tuple(body)
    if isinstance(stages, int):
        if not 0 <= stages <= len(body):
            raise SettingError(
                f"freeze={stages} is out of range: this network has {len(body)} stages before its head.",
                hint=f"a count freezes the first stages of {', '.join(body)}",
            )
        return tuple(body[:stages])
    if isinstance(stages, str):
        cut = cut_position(stages, stage_names, also=", and a count, all, none")
        return tuple(stage_names[:cut])
    unknown = [n for n in stages if n not in stage_names]
    if unknown:
        raise SettingError(
            f"freeze contains {', '.join(f'`{n}`' for n in unknown)}, which this network does not have.",
            hint=f"its stages are {', '.join(stage_names)}",
        )
    return tuple(n for n in stage_names if n in stages)
