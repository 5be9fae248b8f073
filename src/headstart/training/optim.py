"""Build optimizers and learning-rate schedules by name, with weight decay towards the initial weights.

Weight decay is the same for every optimizer: after each step a weight moves by `rate * decay` of its distance to its
initial value. Source: Li, Grandvalet and Davoine (2018), L2-SP, decoupled as in AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from headstart.errors import SettingError
from headstart.training.network import FinetunedNetwork
from headstart.training.plan import FinetunePlan
from headstart.training.unfreezing import start_of

__all__ = ["OPTIMIZERS", "SCHEDULES", "Stepper", "factor_at", "load_optimizer", "optimizer_tensors"]

OPTIMIZERS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "adamw": lambda groups: torch.optim.AdamW(groups, weight_decay=0.0),
    "adam": lambda groups: torch.optim.Adam(groups),
    "nadam": lambda groups: torch.optim.NAdam(groups),
    "radam": lambda groups: torch.optim.RAdam(groups),
    "adagrad": lambda groups: torch.optim.Adagrad(groups),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, momentum=0.9),
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True),
}

SCHEDULES = ("cosine", "linear", "constant", "step", "onecycle")


def factor_at(schedule: str, progress: float, warmup: float) -> float:
    """Return the factor on the peak learning rate at a point of the training.

    Args:
        schedule: One of `SCHEDULES`; `step` divides by 10 at 50, 75 and 90 %; `onecycle` rises for 30 %.
        progress: Fraction of the steps done, 0 to 1.
        warmup: Fraction of the steps with a linearly rising rate.
    """
    if schedule == "onecycle":
        warmup = max(warmup, 0.3)
    if progress < warmup:
        return progress / warmup
    left = (progress - warmup) / max(1.0 - warmup, 1e-9)
    if schedule in ("cosine", "onecycle"):
        return 0.5 * (1.0 + math.cos(math.pi * min(left, 1.0)))
    if schedule == "linear":
        return max(0.0, 1.0 - left)
    if schedule == "step":
        return float(0.1 ** sum(progress >= at for at in (0.5, 0.75, 0.9)))
    return 1.0


class Stepper:
    """Optimizer over the stages of a network.

    Args:
        net: The network.
        plan: Learning rates, schedule and decay.
        num_steps: Total number of steps.
        stage_names: Names of stages by number, for `plan.unfreeze`.

    Raises:
        SettingError: The optimizer or schedule does not exist.
    """

    def __init__(
        self, net: FinetunedNetwork, plan: FinetunePlan, num_steps: int, stage_names: Sequence[str] = ()
    ) -> None:
        for setting, name, known in (("optimizer", plan.optimizer, OPTIMIZERS), ("schedule", plan.schedule, SCHEDULES)):
            if name not in known:
                raise SettingError(f"unknown {setting} `{name}`.", hint=f"use one of: {', '.join(known)}")
        self.plan = plan
        self.num_steps = max(1, num_steps)
        self.groups: list[dict[str, Any]] = [
            {"params": list(net.head.parameters()), "lr": plan.head_lr, "peak": plan.head_lr, "begin": 0.0}
        ]
        stages = sorted(net.stage_params, reverse=True)
        for rank, stage in enumerate(stages):
            name = stage_names[stage] if stage < len(stage_names) else ""
            peak = plan.lr * plan.layer_decay**rank
            params = [p for _, p in net.stage_params[stage]]
            self.groups.append({"params": params, "lr": peak, "peak": peak, "begin": start_of(plan, name)})
        self.optimizer = OPTIMIZERS[plan.optimizer](self.groups)
        self.params = [p for g in self.groups for p in g["params"]]
        is_head_new = plan.strategy == "scratch" or bool(plan.head)
        self._is_from_zero = [is_head_new, *[plan.strategy == "scratch"] * (len(self.groups) - 1)]
        self._starts = [
            [_decay_target(p, p, is_zero) for p in g["params"]]
            for g, is_zero in zip(self.groups, self._is_from_zero, strict=True)
        ]

    def set_starts(self, tensors: Mapping[str, Any], net: FinetunedNetwork) -> None:
        """Set the targets of weight decay of a resumed training."""
        by_id = {id(p): f"head.{n}" for n, p in net.head.named_parameters()}
        by_id |= {id(p): f"backbone.{n}" for pairs in net.stage_params.values() for n, p in pairs}
        self._starts = [
            [_decay_target(p, tensors[by_id[id(p)]], is_zero) for p in g["params"]]
            for g, is_zero in zip(self.groups, self._is_from_zero, strict=True)
        ]

    def begin(self, step: int) -> float:
        """Set the learning rates and trainable parameters of a step; return the largest rate."""
        progress = step / self.num_steps
        rate = 0.0
        for group in self.optimizer.param_groups:
            begin = group["begin"]
            is_on = progress >= begin
            own = (progress - begin) / max(1.0 - begin, 1e-9)
            group["lr"] = group["peak"] * factor_at(self.plan.schedule, own, self.plan.warmup) if is_on else 0.0
            rate = max(rate, group["lr"])
            for parameter in group["params"]:
                if parameter.requires_grad != is_on:
                    parameter.requires_grad_(is_on)
                    parameter.grad = None
        return rate

    def step(self) -> None:
        """Take one optimizer step with the current gradients."""
        if self.plan.grad_clip_norm:
            torch.nn.utils.clip_grad_norm_([p for p in self.params if p.grad is not None], self.plan.grad_clip_norm)
        self.optimizer.step()
        decay = self.plan.weight_decay
        if decay:
            with torch.no_grad():
                for group, starts in zip(self.optimizer.param_groups, self._starts, strict=True):
                    if group["lr"] > 0.0:
                        torch._foreach_lerp_(group["params"], starts, group["lr"] * decay)
        self.optimizer.zero_grad(set_to_none=True)

    def discard_gradients(self) -> None:
        """Discard the current gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Any]:
        """Return the optimizer's state as named tensors."""
        return optimizer_tensors(self.optimizer)

    def load_tensors(self, tensors: Mapping[str, Any]) -> None:
        """Load the optimizer's state."""
        load_optimizer(self.optimizer, tensors)


def optimizer_tensors(optimizer: Any) -> dict[str, Any]:
    """Return the state of an optimizer as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{k}": v for i, row in state.items() for k, v in row.items() if torch.is_tensor(v)}


def load_optimizer(optimizer: Any, tensors: Mapping[str, Any]) -> None:
    """Load the state of an optimizer from named tensors."""
    state_dict = optimizer.state_dict()
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        i, _, key = name.partition(".")
        state.setdefault(int(i), {})[key] = tensor.clone()
    state_dict["state"] = state
    optimizer.load_state_dict(state_dict)


def _decay_target(parameter: Any, start: Any, is_from_zero: bool) -> Any:
    """Return the target of weight decay: zero for random weight matrices, else the initial value."""
    if is_from_zero and parameter.dim() > 1:
        return torch.zeros_like(parameter)
    return start.detach().clone()
