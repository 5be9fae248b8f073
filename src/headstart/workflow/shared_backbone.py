"""The backbone in torch: loaded when it is first needed, cut where a plan says, put back as it was published.

There is one copy of the network in a run; every training begins by putting the published
weights back into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headstart.config import TrainSettings
from headstart.errors import SettingError
from headstart.training.plan import FinetunePlan, parse_unfreeze
from headstart.workflow.feature_extraction import FeatureExtractor

__all__ = ["SharedBackbone"]


class SharedBackbone:
    """The backbone of a run.

    Args:
        embedder: Knows which network, and its input size.
        settings: Of the run.
    """

    def __init__(self, embedder: FeatureExtractor, settings: TrainSettings) -> None:
        self.embedder, self.settings = embedder, settings
        self._backbone: Any = None
        self._pretrained: dict[str, Any] = {}

    @property
    def backbone(self) -> Any:
        """The network in torch, loaded when it is first needed."""
        if self._backbone is None:
            from headstart.backbones import load_backbone

            name = self.embedder.graph.backbone
            size = self.embedder.spec.size_hw
            settings = self.settings
            self._backbone = load_backbone(name, weights=settings.weights, offline=settings.offline, size=size)
            self._pretrained = {n: t.clone() for n, t in self._backbone.module.state_dict().items()}
        return self._backbone

    def cut(self, text: str) -> str:
        """Return the name of the first stage after a cut that may be written as `last`, `last-2` or a stage.

        Raises:
            UsageError: There is no such cut.
        """
        network = self.backbone.network
        name: str = network.names[network.position(text)]
        return name

    def cut_for(self) -> str:
        """Return the first stage that trains, from strategy, `from` and `unfreeze`."""
        settings = self.settings
        if settings.strategy == "head" or settings.cut == "head":
            return self.head_cut(settings.finetune.head) if settings.finetune.head else "head"
        if settings.strategy in ("full", "scratch"):
            return "stem"
        if settings.unfreeze is not None:
            network = self.backbone.network
            stages = [stage for stage, _ in parse_unfreeze(settings.unfreeze)]
            first = min(stages, key=network.position)
            if settings.cut is not None and self.cut(settings.cut) != self.cut(first):
                raise SettingError(
                    f"`from` says {settings.cut} and `unfreeze` begins at {first}.", hint="leave `from` out"
                )
            return self.cut(first)
        return self.cut(settings.cut or "last-2")

    def head_cut(self, spec_text: str) -> str:
        """Return where a described head begins: `head`, or `neck` where the backbone's neck is dropped."""
        from headstart.backbones.classifier_head import head_cut, read_head

        return str(head_cut(self.backbone, read_head(spec_text)))

    def end_cut(self, plan: FinetunePlan) -> str:
        """Return where the head of a training begins."""
        return self.head_cut(plan.head) if plan.head else "head"

    def blocks_width(self, block: str) -> int:
        """Return width of a block of pooled features."""
        return int(self.embedder.graph.blocks[block])

    def pooled(self, names: Sequence[str]) -> Any:
        """Return the backbone as it is now, from images to pooled features."""
        from headstart.backbones import pooled_outputs

        return pooled_outputs(self.backbone, names)

    def reset(self) -> None:
        """Put the published weights back, on the CPU."""
        module = self.backbone.module
        module.to("cpu")
        module.load_state_dict(self._pretrained)

    def move_to_cpu(self) -> None:
        """For export."""
        if self._backbone is not None:
            self._backbone.module.to("cpu")
