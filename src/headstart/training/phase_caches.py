"""Cache activations for each phase of gradual unfreezing.

Images pass through the network once, up to the earliest stage that trains. Activations at later cuts are computed
from these with the pretrained stages in between, so training never changes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headstart.features.engines import OnnxEngine
from headstart.features.extractor import FeatureExtractor
from headstart.features.segment_graph import DerivedViews, derived_layout, prepare_segment
from headstart.preprocessing.image_spec import ImageSpec
from headstart.store.arrays import ArrayRows
from headstart.store.cache import Cache
from headstart.training.batch_sources import ActivationSource, PixelSource, SizedSource, Source
from headstart.training.plan import FinetunePlan
from headstart.training.shared_backbone import SharedBackbone
from headstart.training.unfreezing import Phase, phase_cuts
from headstart.utils.system import cache_root

__all__ = ["PhaseCaches"]


class PhaseCaches:
    """Opens the batch sources of the unfreezing phases of one run.

    Args:
        backbone: The shared backbone.
        embedder: Provides the graph of pooled features.
        cache: Stores the rows.
        is_on: Whether every phase has its own rows; False uses the rows of the earliest cut throughout.
    """

    def __init__(self, backbone: SharedBackbone, embedder: FeatureExtractor, cache: Cache, is_on: bool) -> None:
        self.backbone, self.embedder, self.cache, self.is_on = backbone, embedder, cache, is_on
        self.blocks = tuple(embedder.graph.blocks)
        self._derived: dict[tuple[int, str], ActivationSource] = {}

    def cuts(self, plan: FinetunePlan) -> tuple[tuple[float, str], ...]:
        """Return (fraction of the steps, first trainable stage from there on) per phase."""
        if not (self.is_on and plan.unfreeze and plan.strategy == "finetune" and plan.is_cached):
            return ((0.0, plan.train_from),)
        network, end = self.backbone.model.network, self.backbone.end_cut(plan)
        with_weights = set(network.map.stage_of.values())
        inside = range(network.position(plan.train_from), network.position(end))
        return phase_cuts(plan, [network.names[i] for i in inside if i in with_weights], end)

    def open(self, plan: FinetunePlan, base: Source) -> tuple[Phase, ...]:
        """Return the phases of a plan in order; empty where one source serves throughout.

        Args:
            plan: The training.
            base: The source at the earliest cut.
        """
        cuts = self.cuts(plan)
        if len(cuts) == 1 or isinstance(base, PixelSource):
            return ()
        source: Source = base
        phases, below = [Phase(cuts[-1][0], "", base)], plan.train_from
        for fraction, cut in reversed(cuts[:-1]):
            below, source = cut, self._at(plan, below, cut, source)
            phases.insert(0, Phase(fraction, cut, source))
        return tuple(phases)

    def close(self) -> None:
        """Stop the workers; cached rows are kept."""
        for source in reversed(self._derived.values()):  # sources of derived rows come last
            source.views.close()

    def _at(self, plan: FinetunePlan, begin: str, end: str, source: Source) -> Source:
        """Return the source at a later cut; training views and unaugmented images may differ in size."""
        if isinstance(source, SizedSource):
            parts = [self._at(plan, begin, end, part) for part in (source.views, source.plain)]
            return SizedSource(*parts)  # type: ignore[arg-type]
        assert isinstance(source, ActivationSource)
        key = (id(source), end)
        if key not in self._derived:
            self._derived[key] = self._derive(plan, begin, end, source)
        return self._derived[key]

    def _derive(self, plan: FinetunePlan, begin: str, end: str, source: ActivationSource) -> ActivationSource:
        from headstart.backbones.suffix_parts import split_blocks

        network, views = self.backbone.model.network, source.views
        known = views.space.layout.names
        early = [] if plan.head else split_blocks(network, end, self.blocks)[0]
        pooled = [block for block in early if block not in known]
        # Behind the last cut, a closed-form head needs pooled features only.
        has_states = bool(plan.head) or end != self.backbone.end_cut(plan)
        below = [network.names[network.position(cut) - 1] for cut in (begin, end)]
        is_pooled = has_states and network.position(begin) > 0 and set(below) <= set(self.blocks)
        part = prepare_segment(
            self.embedder.graph.at(views.spec),
            cache_root(),
            (begin, end),
            pooled,
            lambda: self._segment(begin, end if has_states else "", pooled, views.spec),
            blocks=(below[0], below[1]) if is_pooled else None,
        )
        layout = derived_layout(views.space.layout, part.layout)
        digest = f"{views.space.folder.name}/{part.digest}"
        space = ArrayRows.open(self.cache, "activations", layout, digest, views.spec.digest)
        num_states = sum(name.startswith("state") for name in layout.names)
        return ActivationSource(DerivedViews(views, OnnxEngine(part.path), space), num_states)

    def _segment(self, begin: str, end: str, pooled: Sequence[str], spec: ImageSpec) -> tuple[Any, Any]:
        """Return the pretrained stages between two cuts (or up to pooled features), and example states."""
        import torch
        from torch import nn

        from headstart.backbones.suffix_parts import middle, pooled_suffix

        self.backbone.reset()
        network = self.backbone.model.network
        parts = [middle(network, begin, end)] if end else []
        parts += [pooled_suffix(network, begin, pooled)] if pooled else []

        class Segment(nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.parts = nn.ModuleList(parts)

            def forward(self, *states: Any) -> Any:
                return tuple(output for part in self.parts for output in part(*states))

        generator = torch.Generator().manual_seed(0)
        pixels = torch.randn((2, 3, *spec.size_hw), generator=generator)
        module = Segment().eval()
        with torch.no_grad():
            state = self.backbone.model.prefix(begin).eval()(pixels)
        return module, tuple(state) if isinstance(state, (tuple, list)) else (state,)
