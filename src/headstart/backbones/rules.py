"""Assign parameters to stages, for every architecture.

A rule maps parameter names to stages and nothing else. The data flow is read from the traced network, so a rule cannot
produce a wrong prefix; at worst it finds no stages and reports that. timm's own layer groups cover most of its
networks; the table below has families that group otherwise, and torchvision's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.errors import SettingError, UsageError

__all__ = ["AUXILIARY", "NoStagesError", "StageMap", "cut_position", "map_stages"]

AUXILIARY = ("AuxLogits.", "aux1.", "aux2.", "aux_logits.")
"""Name prefixes of auxiliary classifiers, which are used in training only."""

_MAX_STAGES = 8  # more groups than this are merged by resolution, or into quarters
_JOINED = ("timm.selecsls",)  # groups that are single layers

Rule = Callable[[str], Any]
"""Parameter name to `stem`, `neck` or a sortable stage key (a number or a tuple of numbers)."""


class NoStagesError(UsageError):
    """This network cannot be cut into stages; the message states why in one sentence."""


@dataclass(frozen=True)
class StageMap:
    """Stage of each parameter and buffer.

    Attributes:
        stage_of: Name of a parameter or buffer to its position: 0 stem, 1..N stages, N+1 neck, N+2 head.
        num_stages: N.
        classifiers: Names of the modules that return the logits.
    """

    stage_of: dict[str, int]
    num_stages: int
    classifiers: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return `stem, stage1 .. stageN, neck, head`."""
        return ("stem", *(f"stage{k}" for k in range(1, self.num_stages + 1)), "neck", "head")


def cut_position(cut: str, stage_names: Sequence[str], *, also: str = "") -> int:
    """Return the position of the first stage after a cut.

    Args:
        cut: A stage, or `last-2` for the last two stages with neck and head, or `last` for the last one.
        stage_names: `stem, stage1 .. stageN, neck, head`.
        also: Further accepted values, for the hint.

    Raises:
        SettingError: Unknown stage; the error lists the stages.
    """
    cut = cut.strip().lower()
    num = len(stage_names) - 3
    count = "1" if cut == "last" else cut.removeprefix("last-") if cut.startswith("last-") else ""
    if count.isdigit() and 1 <= int(count) <= num:
        return num + 1 - int(count)
    if cut in stage_names:
        return list(stage_names).index(cut)
    raise SettingError(
        f"this network has no stage `{cut}`.",
        hint=f"its stages are {', '.join(stage_names)}; last-1 .. last-{num} count from the end{also}",
    )


def map_stages(network: Any) -> StageMap:
    """Find the stages of a network of timm, torchvision or headstart.

    Raises:
        NoStagesError: No rule fits.
    """
    classifiers = _classifiers(network)
    names = [n for n, _ in network.named_parameters()] + [n for n, _ in network.named_buffers()]
    names = [n for n in names if not n.startswith(AUXILIARY)]
    rule = _rule(network)
    keys = {n: rule(n) for n in names}
    heads = {n for n in names if any(n.startswith(c + ".") for c in classifiers)}
    order = sorted({k for n, k in keys.items() if n not in heads and k not in ("stem", "neck")})
    if not order:
        raise NoStagesError("it has no repeated groups of layers")
    position: dict[Any, int] = {k: i for i, k in enumerate(order, 1)}
    if len(order) > _MAX_STAGES or _family(network) in _JOINED:
        position = _joined(network, order, keys)
    count = max(position.values())
    position |= {"stem": 0, "neck": count + 1}
    stage_of = {n: count + 2 if n in heads else position[keys[n]] for n in names}
    return StageMap(stage_of, count, classifiers)


def _classifiers(network: Any) -> tuple[str, ...]:
    """Return the names of the modules that return the logits.

    A classifier with hidden layers is represented by its last linear layer, so that the rest of it counts as
    neck; two parallel classifiers (distillation) are kept whole.
    """
    stated = (getattr(network, "pretrained_cfg", None) or {}).get("classifier")
    modules = dict(network.named_modules())
    if stated is None:
        linear = [n for n, m in modules.items() if _is_linear(m) and not n.startswith(AUXILIARY)]
        if not linear:
            raise NoStagesError("it has no classifier")
        return (linear[-1],)
    names = (stated,) if isinstance(stated, str) else tuple(stated)
    names = tuple(n for n in names if not (n + ".").startswith(AUXILIARY))
    if any(n not in modules or not list(modules[n].parameters()) for n in names) or not names:
        raise NoStagesError("it has no classifier")
    if len(names) > 1:
        parents = tuple(n.rpartition(".")[0] for n in names)
        return parents if len(set(parents)) == len(names) else names
    inside = [n for n, m in modules.items() if (n + ".").startswith(names[0] + ".") and _is_linear(m)]
    return (inside[-1],) if inside else names


def _is_linear(module: Any) -> bool:
    return any(c.__name__ in ("Linear", "Conv2d") for c in type(module).__mro__)


def _family(network: Any) -> str:
    path = type(network).__module__.split(".")
    return f"{path[0]}.{path[-1]}"


def _rule(network: Any) -> Rule:
    family = _family(network)
    maker = _SPECIAL.get(family)
    if maker is not None:
        return maker(network)
    table = _TABLES.get(family)
    if table is not None:
        return _from_table(table)
    if hasattr(network, "group_matcher"):
        return _from_library(network)
    raise NoStagesError(f"the stages of the family `{family}` are unknown")


# -- rules from a table of patterns: the first match decides; a capture group in it is the stage's number

_TABLES: dict[str, list[tuple[str, Any]]] = {
    "timm.inception_v3": [("Conv2d_", "stem"), ("Mixed_5", 1), ("Mixed_6", 2), ("Mixed_7", 3)],
    "timm.inception_v4": [
        (r"features\.[0-5]\.", "stem"),
        (r"features\.[6-9]\.", 1),
        (r"features\.1[0-7]\.", 2),
        (r"features\.(?:18|19|20|21)\.", 3),
    ],
    "timm.inception_resnet_v2": [
        ("conv2d_7b", "neck"),
        ("conv2d_", "stem"),
        (r"mixed_5b|repeat\.", 1),
        ("mixed_6a|repeat_1", 2),
        ("mixed_7a|repeat_2|block8", 3),
    ],
    "timm.xception": [
        (r"conv[12]\.|bn[12]\.", "stem"),
        (r"block([12])\.", None),
        (r"block(?:[3-9]|10|11)\.", 3),
        (r"block12|conv[34]|bn[34]", 4),
    ],
    "timm.nasnet": [
        ("conv0|cell_stem", "stem"),
        (r"cell_[0-5]\.", 1),
        (r"reduction_cell_0|cell_(?:[6-9]|10|11)\.", 2),
        ("reduction_cell_1|cell_1[2-7]", 3),
    ],
    "timm.pnasnet": [
        ("conv_0|cell_stem", "stem"),
        (r"cell_[0-3]\.", 1),
        (r"cell_[4-7]\.", 2),
        (r"cell_(?:8|9|10|11)\.", 3),
    ],
    "timm.rdnet": [("stem", "stem"), (r"dense_stages\.(\d+)", None)],
    "timm.metaformer": [("stem", "stem"), (r"stages\.(\d+)", None)],
    "timm.hrnet": [
        (r"conv[12]\.|bn[12]\.", "stem"),
        ("layer1", 1),
        (r"(?:transition1|stage2)\.", 2),
        (r"(?:transition2|stage3)\.", 3),
        (r"(?:transition3|stage4)\.", 4),
    ],
    "torchvision.resnet": [(r"conv1|bn1", "stem"), (r"layer(\d)", None)],
    "torchvision.densenet": [
        (r"features\.(?:conv0|norm0)", "stem"),
        (r"features\.(?:denseblock|transition)(\d)", None),
    ],
    "torchvision.inception": [("Conv2d_", "stem"), ("Mixed_5", 1), ("Mixed_6", 2), ("Mixed_7", 3)],
    "torchvision.googlenet": [(r"conv[123]\.", "stem"), (r"inception([345])", None)],
    "torchvision.shufflenetv2": [("conv1", "stem"), (r"stage(\d)", None)],
    "torchvision.regnet": [("stem", "stem"), (r"trunk_output\.block(\d)", None)],
    "torchvision.convnext": [
        (r"features\.0\.", "stem"),
        (r"features\.1\.", 1),
        (r"features\.[23]\.", 2),
        (r"features\.[45]\.", 3),
        (r"features\.[67]\.", 4),
    ],
    "torchvision.mnasnet": [
        (r"layers\.[01]\.", "stem"),
        (r"layers\.[3-7]\.", 1),
        (r"layers\.(8|9|10|11|12|13)\.", None),
    ],
}


def _from_table(table: list[tuple[str, Any]]) -> Rule:
    patterns = [(re.compile(p), key) for p, key in table]

    def rule(name: str) -> Any:
        for pattern, key in patterns:
            match = pattern.match(name)
            if match:
                return (int(match.group(1)) if key is None else key) if key not in ("stem", "neck") else key
        return "neck"

    return rule


# -- rules from the structure of a list of layers


def _plain_chain(network: Any) -> Rule:
    """VGG, AlexNet, SqueezeNet, ZFNet: the stem is the first convolution; a stage ends with its pooling.

    A chain of five layers with parameters (AlexNet) has one stage per layer.
    """
    layers = list(network.features.named_children())
    count = sum(1 for _, m in layers if list(m.parameters()))
    stages: dict[str, Any] = {}
    stage, has_stem = 1, False
    for name, layer in layers:
        kind = type(layer).__name__
        if _is_linear(layer) and not has_stem:
            stages[name], has_stem = "stem", True
            continue
        if kind.startswith("BatchNorm") and len(stages) == 1:
            stages[name] = "stem"
        elif "Pool" in kind:
            stage += 1 if count > 5 and any(s != "stem" for s in stages.values()) else 0
        elif list(layer.parameters()):
            stages[name] = stage
            stage += 1 if count <= 5 else 0

    def rule(name: str) -> Any:
        head, _, rest = name.partition(".")
        return stages.get(rest.partition(".")[0], "neck") if head == "features" else "neck"

    return rule


def _inverted_residuals(network: Any) -> Rule:
    """torchvision's MobileNets and EfficientNets: the first layer is the stem and the last the neck.

    Between them, a stage is a sequence (EfficientNet), or all blocks of one width (MobileNet).
    """
    layers = list(network.features.children())
    stages: dict[str, Any] = {"0": "stem", str(len(layers) - 1): "neck"}
    stage, width = 0, None
    for i, layer in enumerate(layers[1:-1], 1):
        if getattr(layer, "out_channels", i) != width:
            stage, width = stage + 1, getattr(layer, "out_channels", i)
        stages[str(i)] = stage

    def rule(name: str) -> Any:
        head, _, rest = name.partition(".")
        return stages[rest.partition(".")[0]] if head == "features" else "neck"

    return rule


_SPECIAL: dict[str, Callable[[Any], Rule]] = {
    "timm.vgg": _plain_chain,
    "torchvision.vgg": _plain_chain,
    "torchvision.alexnet": _plain_chain,
    "torchvision.squeezenet": _plain_chain,
    "headstart.zfnet": _plain_chain,
    "torchvision.mobilenetv2": _inverted_residuals,
    "torchvision.efficientnet": _inverted_residuals,
    "torchvision.mobilenetv3": _inverted_residuals,
}


# -- rules from timm's own grouping


def _from_library(network: Any) -> Rule:
    """Read timm's grouping of layers (`group_matcher`) with separate groups."""
    matcher = network.group_matcher(coarse=True)
    if not isinstance(matcher, dict):
        raise NoStagesError("its library groups its layers with a function that does not name stages")
    patterns: list[tuple[re.Pattern[str], str, int, Any]] = []
    for ordinal, (group, spec) in enumerate(matcher.items()):
        for pattern, suffix in spec if isinstance(spec, (list, tuple)) else [(spec, None)]:
            if pattern is not None:
                patterns.append((re.compile(pattern), group, ordinal, suffix))

    def rule(name: str) -> Any:
        for pattern, group, ordinal, suffix in patterns:
            match = pattern.match(name)
            if not match:
                continue
            if group == "stem":
                return "stem"
            if suffix is not None and suffix[-1] == 99999:
                return "neck"
            numbers = tuple(float(g) for g in match.groups() if g is not None)
            return (ordinal, *numbers, *(suffix or ()))
        return "neck"

    return rule


def _joined(network: Any, order: list[Any], keys: dict[str, Any]) -> dict[Any, int]:
    """Merge many small groups: a stage begins where a group reduces the resolution, else quarters."""
    strided = set()
    for name, module in network.named_modules():
        stride = getattr(module, "stride", 1)
        if (max(stride) if isinstance(stride, tuple) else stride or 1) == 1:
            continue
        strided |= {keys[n] for n in keys if n.startswith(name + ".")}
    position, stage = {}, 0
    for i, key in enumerate(order):
        if i == 0 or key in strided:
            stage += 1
        position[key] = stage
    if stage > _MAX_STAGES or stage < 2:
        return {key: 1 + 4 * i // len(order) for i, key in enumerate(order)}
    return position
