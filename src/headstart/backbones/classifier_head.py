"""Build a new classifier head on a backbone.

A head is described by a small frozen value (`HeadSpec`) with one spelling for the command line and Python; the module
depends only on it and on the shape of the backbone's output.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn import functional

from headstart.errors import SettingError

if TYPE_CHECKING:
    from headstart.backbones.loading import Backbone

__all__ = ["ClassifierHead", "HeadSpec", "HeadedBackbone", "attach_head", "head_cut", "pool_state", "read_head"]

_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "elu": nn.ELU}
_POOLS = ("avg", "max", "gem", "flatten")


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """Configuration of a classifier head.

    Attributes:
        pool: `avg`, `max`, `gem` (generalized mean with a learned exponent) or `flatten`; None is `avg`
            for feature maps and nothing for vectors.
        hidden: Widths of hidden layers, in order.
        activation: After each hidden layer: `relu`, `gelu`, `silu`, `tanh` or `elu`.
        dropout: Probability in [0, 1) after each hidden layer, or before the output without hidden layers.
        batch_norm: Whether each hidden layer is followed by batch norm.
        output: `linear`, or `cosine` (similarity to one direction per class, times a learned scale).
        neck: `keep` or `drop` the backbone's neck; `auto` drops it only if a pooling was requested and the
            neck would return a vector, like VGG's two fully connected layers.
    """

    pool: Literal["avg", "max", "gem", "flatten"] | None = None
    hidden: tuple[int, ...] = ()
    activation: str = "relu"
    dropout: float = 0.0
    batch_norm: bool = False
    output: Literal["linear", "cosine"] = "linear"
    neck: Literal["auto", "keep", "drop"] = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        _require(self.pool is None or self.pool in _POOLS, f"pool is one of {', '.join(_POOLS)}, not `{self.pool}`.")
        _require(self.activation in _ACTIVATIONS, f"activation must be one of {', '.join(_ACTIVATIONS)}.")
        _require(0 <= self.dropout < 1, f"dropout must be in [0, 1), not {self.dropout}.")
        _require(self.output in ("linear", "cosine"), f"output must be `linear` or `cosine`, not `{self.output}`.")
        _require(self.neck in ("auto", "keep", "drop"), f"neck must be `auto`, `keep` or `drop`, not `{self.neck}`.")
        _require(all(w > 0 for w in self.hidden), f"hidden layers need at least one unit, not {self.hidden}.")

    def __str__(self) -> str:
        """Return the command-line spelling, for `read_head`."""
        parts = []
        for f in fields(self):
            value = getattr(self, f.name)
            if value == f.default:
                continue
            if isinstance(value, tuple):
                value = "[" + ",".join(map(str, value)) + "]"
            parts.append(f"{f.name}={str(value).lower() if isinstance(value, bool) else value}")
        return ",".join(parts) or "pool=avg"


def read_head(text: str) -> HeadSpec:
    """Parse `hidden=256,dropout=0.5,pool=flatten`; several hidden layers are `hidden=[1024,256]`.

    Raises:
        SettingError: Unknown key (the error suggests the nearest one) or an invalid value.
    """
    values: dict[str, Any] = {}
    setting_names = [f.name for f in fields(HeadSpec)]
    for part in _split(text):
        key, equals, value = (s.strip() for s in part.partition("="))
        if not equals or key not in setting_names:
            nearest = difflib.get_close_matches(key, setting_names, 1, 0.4)
            raise SettingError(
                f"unknown head setting `{part}`.",
                hint=f"did you mean `{nearest[0]}=...`?" if nearest else f"settings: {', '.join(setting_names)}",
            )
        try:
            values[key] = _value(key, value)
        except ValueError as error:
            raise SettingError(
                f"invalid value `{value}` for the head's {key}.", hint="--head hidden=256,dropout=0.5"
            ) from (error)
    return HeadSpec(**values)


class ClassifierHead(nn.Module):  # type: ignore[misc]
    """Pooling, hidden layers and an output layer.

    Args:
        spec: Configuration of the head.
        shapes: (C, H, W) or (C,) of each input tensor; several are pooled and concatenated.
        num_classes: Width of the output.
        is_nhwc: Whether maps are (B, H, W, C).
    """

    def __init__(
        self, spec: HeadSpec, shapes: Sequence[tuple[int, ...]], num_classes: int, is_nhwc: bool = False
    ) -> None:
        super().__init__()
        self.spec = spec
        self.is_nhwc = is_nhwc
        self.pool = spec.pool or "avg"
        self.exponent = nn.Parameter(torch.tensor(3.0)) if self.pool == "gem" else None
        width = sum(_pooled_width(s, self.pool) for s in shapes)
        layers: list[Any] = []
        for units in spec.hidden:
            layers.append(nn.Linear(width, units, bias=not spec.batch_norm))
            if spec.batch_norm:
                layers.append(nn.BatchNorm1d(units))
            layers.append(_ACTIVATIONS[spec.activation]())
            if spec.dropout:
                layers.append(nn.Dropout(spec.dropout))
            width = units
        if spec.dropout and not spec.hidden:
            layers.append(nn.Dropout(spec.dropout))
        self.hidden = nn.Sequential(*layers)
        self.output = _Cosine(width, num_classes) if spec.output == "cosine" else nn.Linear(width, num_classes)

    def forward(self, *state: Any) -> Any:
        """Return logits (B, K) from the state of the backbone."""
        if len(state) == 1 and isinstance(state[0], (tuple, list)):
            state = tuple(state[0])
        pooled = [self._pooled(x) for x in state]  # each (B, D)
        return self.output(self.hidden(pooled[0] if len(pooled) == 1 else torch.cat(pooled, 1)))

    def _pooled(self, x: Any) -> Any:
        if x.dim() == 4 and self.exponent is not None:
            x = x.permute(0, 3, 1, 2) if self.is_nhwc else x
            return x.clamp(min=1e-6).pow(self.exponent).mean((2, 3)).pow(1 / self.exponent)
        return pool_state(x, self.pool, self.is_nhwc)


def pool_state(x: Any, pool: str, is_nhwc: bool = False) -> Any:
    """Pool a map (B, C, H, W) to a vector (B, D) by `avg`, `max` or `flatten`; vectors stay unchanged."""
    if x.dim() == 4 and is_nhwc:
        x = x.permute(0, 3, 1, 2)
    if x.dim() != 4 or pool == "flatten":
        return x.flatten(1)
    return x.amax((2, 3)) if pool == "max" else x.mean((2, 3))


class _Cosine(nn.Module):  # type: ignore[misc]
    """Cosine similarity to one direction per class, times a learned scale."""

    def __init__(self, width: int, num_classes: int, scale: float = 16.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, width))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Any) -> Any:
        return self.scale * functional.linear(functional.normalize(x), functional.normalize(self.weight))


class HeadedBackbone(nn.Module):  # type: ignore[misc]
    """Backbone up to a cut, with a new head; shares its layers with the backbone.

    Attributes:
        body: Images (B, C, H, W) to the state at `cut`.
        head: The state to logits (B, K).
        cut: `head`, or `neck` if the neck was dropped.
    """

    def __init__(self, body: Any, head: ClassifierHead, cut: str) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.cut = cut

    def forward(self, x: Any) -> Any:
        """Return images (B, C, H, W) to logits (B, K)."""
        return self.head(self.body(x))


def attach_head(backbone: Backbone, num_classes: int, spec: HeadSpec | str | None = None) -> HeadedBackbone:
    """Attach a new classifier to a backbone.

    Args:
        backbone: Its own classifier is dropped.
        num_classes: K.
        spec: Configuration of the head; default pooling and one linear layer.

    Raises:
        SettingError: The spec does not fit the backbone.
    """
    spec = read_head(spec) if isinstance(spec, str) else spec or HeadSpec()
    cut = head_cut(backbone, spec)
    network = backbone.network
    head = ClassifierHead(spec, network.state_shapes(cut), num_classes, network.is_nhwc)
    return HeadedBackbone(backbone.prefix(cut), head, cut)


def head_cut(backbone: Backbone, spec: HeadSpec) -> str:
    """Return where a new head begins: after the neck, or before it if the neck is dropped."""
    shapes = backbone.network.state_shapes("head")
    is_vector = all(len(s) == 1 or s[1:] == (1, 1) for s in shapes)
    if spec.neck == "drop" or (spec.neck == "auto" and spec.pool is not None and is_vector):
        return "neck"
    return "head"


def _pooled_width(shape: tuple[int, ...], pool: str) -> int:
    if pool != "flatten" or len(shape) == 1:
        return shape[0]
    return shape[0] * shape[1] * shape[2]


def _split(text: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign == "[") - (sign == "]")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [p.strip() for p in parts if p.strip()]


def _value(key: str, text: str) -> Any:
    if key == "hidden":
        return tuple(int(v) for v in text.strip("[]").replace("+", ",").split(",") if v.strip())
    if key == "dropout":
        return float(text)
    if key == "batch_norm":
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise ValueError(text)
        return text.lower() in ("true", "1", "yes")
    return text.lower()


def _require(is_met: bool, message: str) -> None:
    if not is_met:
        raise SettingError(message, hint="--head hidden=256,dropout=0.5,pool=flatten")
