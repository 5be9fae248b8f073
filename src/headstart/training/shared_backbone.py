"""Load the torch backbone once per run, cut it, and restore its pretrained weights before every training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headstart.config.settings import TrainSettings
from headstart.errors import SettingError
from headstart.features.extractor import FeatureExtractor
from headstart.training.plan import FinetunePlan, parse_unfreeze

__all__ = ["SharedBackbone"]


class SharedBackbone:
    """The torch backbone of a run.

    Args:
        embedder: Provides the network's name and input size.
        settings: Settings of the run.
    """

    def __init__(self, embedder: FeatureExtractor, settings: TrainSettings) -> None:
        self.embedder, self.settings = embedder, settings
        self._model: Any = None
        self._pretrained: dict[str, Any] = {}

    @property
    def model(self) -> Any:
        """Return the torch network, loaded on first use."""
        if self._model is None:
            from headstart.backbones import load_backbone

            name = self.embedder.graph.backbone
            size = self.embedder.spec.size_hw
            settings = self.settings
            self._model = load_backbone(name, weights=settings.weights, offline=settings.offline, image_size=size)
            self._pretrained = {n: t.clone() for n, t in self._model.module.state_dict().items()}
        return self._model

    def cut(self, text: str) -> str:
        """Return the name of the first stage after a cut, given as `last`, `last-2` or a stage name.

        Raises:
            UsageError: The cut does not exist.
        """
        network = self.model.network
        name: str = network.names[network.position(text)]
        return name

    def cut_for(self) -> str:
        """Return the first trainable stage, from the strategy, `train_from` and `unfreeze`."""
        settings = self.settings
        if settings.strategy == "head" or settings.train_from == "head":
            return self.head_cut(settings.finetune.head) if settings.finetune.head else "head"
        if settings.strategy in ("full", "scratch"):
            return "stem"
        if settings.unfreeze is not None:
            network = self.model.network
            stages = [stage for stage, _ in parse_unfreeze(settings.unfreeze)]
            first = min(stages, key=network.position)
            if settings.train_from is not None and self.cut(settings.train_from) != self.cut(first):
                raise SettingError(
                    f"`train_from` is {settings.train_from}, but `unfreeze` starts at {first}.",
                    hint="remove `train_from`",
                )
            return self.cut(first)
        return self.cut(settings.train_from or "last-2")

    def head_cut(self, spec_text: str) -> str:
        """Return the start of a described head: `head`, or `neck` where the backbone's neck is dropped."""
        from headstart.backbones.classifier_head import head_cut, read_head

        return str(head_cut(self.model, read_head(spec_text)))

    def end_cut(self, plan: FinetunePlan) -> str:
        """Return the cut at which the head of a training starts."""
        return self.head_cut(plan.head) if plan.head else "head"

    def blocks_width(self, block: str) -> int:
        """Return the width of a block of pooled features."""
        return int(self.embedder.graph.blocks[block])

    def pooled(self, names: Sequence[str]) -> Any:
        """Return the network from images to pooled features, with its current weights."""
        from headstart.backbones import pooled_outputs

        return pooled_outputs(self.model, names)

    def reset(self) -> None:
        """Restore the pretrained weights, on the CPU."""
        module = self.model.module
        module.to("cpu")
        module.load_state_dict(self._pretrained)

    def move_to_cpu(self) -> None:
        """Move the network to the CPU, for export."""
        if self._model is not None:
            self._model.module.to("cpu")
