"""Which stage a parameter belongs to, for every architecture.

The one decision: a rule maps names of parameters to stages and nothing else.  Where the data then
flows is read from the traced network, so a rule cannot make a prefix that computes something wrong;
at worst it finds no stages, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["NoStagesError", "StageMap", "map_stages"]


class NoStagesError(Exception):
    """No rule finds stages in this network; the message says why in one sentence."""


@dataclass(frozen=True)
class StageMap:
    """Stage of each parameter and buffer.

    Attributes:
        stage_of: Name of a parameter or buffer to its position: 0 stem, 1..N stages, N+1 neck, N+2 head.
        num_stages: N.
        classifiers: Names of the modules that give the logits.
        ignored: Leading names of what only exists in training (auxiliary heads).
    """

    stage_of: dict[str, int]
    num_stages: int
    classifiers: tuple[str, ...]
    ignored: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """`stem, stage1 .. stageN, neck, head`."""
        return ("stem", *(f"stage{k}" for k in range(1, self.num_stages + 1)), "neck", "head")


Rule = Callable[[str], Any]
"""Name of a parameter to `stem`, `neck`, a sortable stage key (a number or tuple of numbers), or None for neck."""


def map_stages(module: Any, library: str) -> StageMap:
    """Finds the stages of a network of timm, torchvision or headstart.

    Raises:
        NoStagesError: No rule fits.
    """
    classifiers = _classifiers(module)
    ignored = ("AuxLogits.", "aux1.", "aux2.", "aux_logits.")
    names = [n for n, _ in module.named_parameters()] + [n for n, _ in module.named_buffers()]
    names = [n for n in names if not n.startswith(ignored)]
    rule = _timm_rule(module)
    keys = {n: rule(n) for n in names}
    heads = {n for n in names if any(n.startswith(c + ".") for c in classifiers)}
    order = sorted({k for n, k in keys.items() if n not in heads and k not in ("stem", "neck", None)})
    if not order:
        raise NoStagesError("no repeated groups of layers were found in it")
    position = {k: i for i, k in enumerate(order, 1)}
    position["stem"], position["neck"], position[None] = 0, len(order) + 1, len(order) + 1
    stage_of = {n: len(order) + 2 if n in heads else position[keys[n]] for n in names}
    return StageMap(stage_of, len(order), classifiers, ignored)


def _classifiers(module: Any) -> tuple[str, ...]:
    """Names of the modules that give the logits."""
    stated = (getattr(module, "pretrained_cfg", None) or {}).get("classifier")
    if stated:
        return (stated,) if isinstance(stated, str) else tuple(stated)
    last = [n for n, m in module.named_modules() if type(m).__name__ in ("Linear", "Conv2d")]
    return (last[-1],)


def _timm_rule(module: Any) -> Rule:
    """timm's own grouping of layers (`group_matcher`), read with its groups apart."""
    matcher = module.group_matcher(coarse=True)
    if not isinstance(matcher, dict):
        raise NoStagesError("its library groups its layers by a function that does not name stages")
    patterns: list[tuple[re.Pattern[str], str, int, Any]] = []
    for ordinal, (group, spec) in enumerate(matcher.items()):
        for pattern, suffix in spec if isinstance(spec, (list, tuple)) else [(spec, None)]:
            if pattern is not None:
                patterns.append((re.compile(pattern), group, ordinal, suffix))

    def rule(name: str) -> Any:
        for pattern, group, ordinal, suffix in patterns:
            found = pattern.match(name)
            if not found:
                continue
            if group == "stem":
                return "stem"
            if suffix is not None and suffix[-1] == 99999:
                return "neck"
            numbers = tuple(float(g) for g in found.groups() if g is not None)
            return (ordinal, *numbers, *(suffix or ()))
        return None

    return rule
