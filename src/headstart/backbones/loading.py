"""Load a network by name, with weights and stages: `load_backbone`.

The libraries only build networks; `weights` always finds, checks and reads the weights, so that the same rules about
digests and code apply to every network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.backbones.build import build_empty, build_network
from headstart.backbones.cards import DEFAULT_BACKBONE, Card, find_card
from headstart.backbones.weights import find_weights
from headstart.errors import UsageError
from headstart.events import EventStream
from headstart.utils.system import file_digest

if TYPE_CHECKING:
    from headstart.backbones.freeze import BatchNormPolicy, Freezing
    from headstart.backbones.stages import StagedNetwork, StageInfo, Suffix

__all__ = ["Backbone", "load_backbone", "pooled_outputs"]

_FILES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")


class Backbone:
    """A network with its card and its stages.

    Attributes:
        card: Its card; `card.digest` is that of the loaded weights.
        module: The library's network with its original classifier, a torch module.
        in_channels: Channels of its input.
        size_hw: Input size in pixels for reported shapes.
        notes: How the network was adapted, in sentences.
        frozen_stages: Set by `freeze`.
    """

    def __init__(
        self,
        module: Any,
        card: Card,
        *,
        size_hw: tuple[int, int] | None = None,
        in_channels: int = 3,
        notes: Sequence[str] = (),
    ) -> None:
        self.module = module
        self.card = card
        self.in_channels = in_channels
        self.size_hw = size_hw or card.image_spec().size_hw
        self.notes = tuple(notes)
        self.frozen_stages: tuple[str, ...] = ()
        self._freezing: Freezing | None = None

    @cached_property
    def network(self) -> StagedNetwork:
        """Return the network traced and cut into stages.

        Raises:
            UsageError: The network cannot be cut; the error states why.
        """
        from headstart.backbones.rules import NoStagesError, map_stages
        from headstart.backbones.stages import StagedNetwork

        try:
            return StagedNetwork(self.module, map_stages(self.module), self.size_hw, self.in_channels)
        except NoStagesError as error:
            raise UsageError(
                f"{self.card.title} cannot be cut into stages: {error.message}.",
                hint="use one of the networks that `headstart models` lists",
            ) from error

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Return `stem, stage1 .. stageN, neck, head`."""
        return self.network.names

    @property
    def stages(self) -> list[StageInfo]:
        """Return the stage table at `size_hw`, in forward order."""
        return list(self.network.table)

    @property
    def num_features(self) -> int:
        """Return the width D of the embedding, the input of the classifier."""
        return self.network.num_features

    def prefix(self, cut: str) -> Any:
        """Return everything before stage `cut`: images (B, C, H, W) to a state, a tensor or a tuple of tensors.

        Raises:
            UsageError: Unknown cut; the error lists the stages.
        """
        return self.network.prefix(cut)

    def suffix(self, cut: str) -> Suffix:
        """Return everything from stage `cut` on: a state to logits (B, K).

        Raises:
            UsageError: Unknown cut; the error lists the stages.
        """
        return self.network.suffix(cut)

    def freeze(
        self,
        stages: str | int | Sequence[str] | None = None,
        *,
        below: str | None = None,
        batch_norm: BatchNormPolicy = "frozen",
    ) -> tuple[str, ...]:
        """Freeze stages; all others train. Prefixes and suffixes share the modules and are affected too.

        Args:
            stages: As in `read_freeze`.
            below: A cut: freezes everything before it, like naming that stage.
            batch_norm: Policy for BatchNorm of the trainable stages.

        Returns:
            The frozen stages.

        Raises:
            SettingError: `stages` does not fit this network.
            UsageError: Both or neither of `stages` and `below`.
        """
        from headstart.backbones.freeze import read_freeze

        if (stages is None) == (below is None):
            raise UsageError("set either `stages` or `below`.", hint='freeze(below="stage4")')
        return self._freeze(read_freeze(stages if below is None else below, self.stage_names), batch_norm)

    def unfreeze(self, from_: str = "stem", *, batch_norm: BatchNormPolicy = "frozen") -> tuple[str, ...]:
        """Unfreeze everything from a stage on; stages frozen before it stay frozen.

        Returns:
            The stages that are still frozen.
        """
        cut = self.network.position(from_)
        names = tuple(n for n in self.frozen_stages if self.stage_names.index(n) < cut)
        return self._freeze(names, batch_norm)

    def frozen_digest(self) -> str:
        """Return the SHA-256 of everything frozen by `freeze`; empty before it was called."""
        return "" if self._freezing is None else self._freezing.digest()

    def _freeze(self, names: tuple[str, ...], batch_norm: BatchNormPolicy) -> tuple[str, ...]:
        from headstart.backbones.freeze import Freezing

        frozen = {self.stage_names.index(n) for n in names}
        stage_of = self.network.map.stage_of
        self._freezing = Freezing(
            self.module,
            [n for n, _ in self.module.named_parameters() if stage_of.get(n) not in frozen],
            is_frozen=lambda path: self.network.stages_of_module(path) <= frozen,
            batch_norm=batch_norm,
        )
        self.frozen_stages = names
        return names

    def __repr__(self) -> str:
        return f"Backbone({self.card.name}, {self.card.weights_tag or 'no weights'})"


def load_backbone(
    name: str = DEFAULT_BACKBONE,
    *,
    weights: str | None = None,
    offline: bool = False,
    in_channels: int = 3,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    mirror: str | None = None,
    events: EventStream | None = None,
) -> Backbone:
    """Build a network by name and load its weights.

    Args:
        name: Any spelling of a network name; `headstart models` lists them.
        weights: A local `.safetensors` or `.pth` file, another weights tag (`a1_in1k`), or `none` for reproducible
            random weights; None uses the card's own weights.
        offline: Never use the network.
        in_channels: Channels of the images; the stem is adapted if it is not 3.
        num_classes: Classes of the weights' classifier, if it is not the published one.
        image_size: Input size in pixels for reported shapes; None uses the card's own.
        mirror: Address that replaces the source's own.
        events: Receives a stage for each download.

    Returns:
        The backbone in eval mode, on the CPU.

    Raises:
        UsageError: Unknown network, or an unsupported size.
        WeightsError: The weights are missing, damaged or of another network.
        OfflineError: The weights would have to be downloaded.
    """
    card, path = _find_card_and_file(name, weights)
    size_hw = card.image_spec(image_size).size_hw
    if weights == "none" or (path is None and not card.has_weights and weights is not None):
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # reproducible
            module = build_network(card.library, card.arch, **_classes(card, num_classes))
        notes = ["random weights: trained from scratch"]
        card = replace(card, weights_tag="", source="none", digest="", top1=None, top5=None)
    else:
        module, card, notes = _with_weights(card, path, offline, mirror, num_classes, events)
    if in_channels != 3:
        from headstart.backbones.tensors import adapt_channels

        notes.append(adapt_channels(module, in_channels))
    return Backbone(module.eval(), card, size_hw=size_hw, in_channels=in_channels, notes=notes)


def pooled_outputs(backbone: Backbone, blocks: Sequence[str]) -> Any:
    """Return a torch module whose forward returns a tuple with one (B, D) tensor per block.

    Args:
        backbone: A loaded backbone.
        blocks: Stage names (globally pooled; a stage with several outputs concatenates them),
            `embedding` (input of the classifier), or `logits` (of the original classifier).

    Raises:
        UsageError: Unknown name; the error lists the stages.
    """
    return backbone.network.pooled(list(blocks))


def _find_card_and_file(name: str, weights: str | None) -> tuple[Card, Path | None]:
    """Return the card, and the weights file if one was given."""
    from headstart.backbones.store import stored_card

    if weights is None or weights == "none":
        try:
            card = find_card(name)
        except UsageError:
            base, dot, tag = name.rpartition(".")
            stored = stored_card(base, tag) if dot else None
            if stored is None:
                raise
            return stored, None
        if not card.has_weights:
            card = stored_card(name, "imported") or card
        return card, None
    if weights.endswith(_FILES) or Path(weights).is_file():
        return find_card(name), Path(weights)
    tag = weights.rpartition(".")[2]
    return stored_card(name, tag) or find_card(name, tag), None


def _with_weights(
    card: Card,
    path: Path | None,
    offline: bool,
    mirror: str | None,
    num_classes: int | None,
    events: EventStream | None,
) -> tuple[Any, Card, list[str]]:
    from headstart.backbones.tensors import fill_network, read_tensors

    is_in_order = card.source.startswith("package:")
    if path is not None:
        tensors, digest = read_tensors(path), file_digest(path)
        card = replace(
            card,
            weights_tag=f"{card.arch}.{path.name}",
            weights_reason="a local file",
            source=f"file:{path.name}",
            license="",
            top1=None,
            top5=None,
            figures_source="",
        )
        notes = [f"weights from `{path}`"]
    else:
        weights_file = find_weights(card, offline=offline, mirror=mirror, events=events)
        tensors, digest = read_tensors(weights_file.path), weights_file.digest
        num_classes = num_classes or weights_file.num_classes
        notes = [f"weights `{card.weights_tag}` {weights_file.origin}, checked by digest"]
        if not weights_file.is_published:
            notes = [f"weights `{card.weights_tag}` {weights_file.origin}; no published digest to check against"]
            card = replace(card, top1=None, top5=None, figures_source="", weights_reason="imported from a file")
    arguments = _classes(card, num_classes)
    module = build_empty(card.library, card.arch, **arguments)
    fill_network(module, tensors, card, is_in_order=is_in_order)
    if any(t.is_meta for t in (*module.parameters(), *module.buffers())):
        # Some networks compute constants while they are built, which are in no weights file.
        module = build_network(card.library, card.arch, **arguments)
        fill_network(module, tensors, card, is_in_order=is_in_order)
    return module, replace(card, digest=digest, num_classes=num_classes or card.num_classes), notes


def _classes(card: Card, num_classes: int | None) -> dict[str, int]:
    """Return the number of classes of the default weights in the library, usually 1,000."""
    classes = num_classes or card.num_classes
    return {} if classes == 1000 else {"num_classes": classes}
