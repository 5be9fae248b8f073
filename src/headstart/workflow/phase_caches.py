"""The stored rows of each phase of gradual unfreezing: what is cut where, how it is made, what it takes.

Images go through the network once, up to the earliest stage that ever trains; the rows of a
later cut are made from those, by the stages between as they were published, so that training never touches them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headstart.features.activation_cache import ActivationCache
from headstart.features.engines import OnnxEngine
from headstart.features.segment_graph import DerivedViews, derived_layout, prepare_segment
from headstart.preprocessing.image_spec import ImageSpec
from headstart.system import cache_root
from headstart.training.batch_sources import ActivationSource, PixelSource, SizedSource, Source
from headstart.training.plan import FinetunePlan
from headstart.training.unfreezing import Phase, phase_cuts
from headstart.workflow.feature_extraction import FeatureExtractor
from headstart.workflow.shared_backbone import SharedBackbone

__all__ = ["PhaseCaches"]


class PhaseCaches:
    """Opens the sources of phases for one run.

    Args:
        trunk: The backbone.
        embedder: Knows the graph of pooled features.
        cache: Where rows are kept.
        is_on: Whether phases have rows of their own; False trains from the earliest cut's throughout.
    """

    def __init__(self, trunk: SharedBackbone, embedder: FeatureExtractor, cache: ActivationCache, is_on: bool) -> None:
        self.trunk, self.embedder, self.cache, self.is_on = trunk, embedder, cache, is_on
        self.blocks = tuple(embedder.graph.blocks)
        self._derived: dict[tuple[int, str], ActivationSource] = {}

    def cuts(self, plan: FinetunePlan) -> tuple[tuple[float, str], ...]:
        """Return (share of the steps, first stage that trains from there on), one entry a phase."""
        if not (self.is_on and plan.unfreeze and plan.strategy == "finetune" and plan.is_cached):
            return ((0.0, plan.cut),)
        network, end = self.trunk.backbone.network, self.trunk.end_cut(plan)
        with_weights = set(network.map.stage_of.values())
        inside = range(network.position(plan.cut), network.position(end))
        return phase_cuts(plan, [network.names[i] for i in inside if i in with_weights], end)

    def open(self, plan: FinetunePlan, base: Source) -> tuple[Phase, ...]:
        """Return the phases of a plan, in order; none where one source serves throughout.

        Args:
            plan: The training.
            base: The source at its earliest cut.
        """
        cuts = self.cuts(plan)
        if len(cuts) == 1 or isinstance(base, PixelSource):
            return ()
        source: Source = base
        phases, below = [Phase(cuts[-1][0], "", base)], plan.cut
        for share, cut in reversed(cuts[:-1]):
            below, source = cut, self._at(plan, below, cut, source)
            phases.insert(0, Phase(share, cut, source))
        return tuple(phases)

    def close(self) -> None:
        """Stop the workers; what is made is kept."""
        for source in reversed(self._derived.values()):  # those that others are made from come last
            source.views.close()
            self.cache.bound(keep=source.views.space)

    def _at(self, plan: FinetunePlan, begin: str, end: str, source: Source) -> Source:
        """Return the source at a later cut; training views and plain images may be of two sizes."""
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

        network, views = self.trunk.backbone.network, source.views
        known = views.space.layout.names
        early = [] if plan.head else split_blocks(network, end, self.blocks)[0]
        pooled = [block for block in early if block not in known]
        # Behind the last cut a closed-form head asks for pooled features alone.
        has_states = bool(plan.head) or end != self.trunk.end_cut(plan)
        below = [network.names[network.position(cut) - 1] for cut in (begin, end)]
        is_pooled = has_states and network.position(begin) > 0 and set(below) <= set(self.blocks)
        part = prepare_segment(
            self.embedder.graph.at(views.spec),
            cache_root(),
            (begin, end),
            pooled,
            lambda: self._between(begin, end if has_states else "", pooled, views.spec),
            blocks=(below[0], below[1]) if is_pooled else None,
        )
        layout = derived_layout(views.space.layout, part.layout)
        space = self.cache.space(f"{views.space.folder.name}/{part.digest}", views.spec.digest, layout)
        num_states = sum(name.startswith("state") for name in layout.names)
        return ActivationSource(DerivedViews(views, OnnxEngine(part.path), space), num_states)

    def _between(self, begin: str, end: str, pooled: Sequence[str], spec: ImageSpec) -> tuple[Any, Any]:
        """Return the published stages from one cut to another (to none but pooled features), and example states."""
        import torch
        from torch import nn

        from headstart.backbones.suffix_parts import middle, pooled_suffix

        self.trunk.reset()
        network = self.trunk.backbone.network
        parts = [middle(network, begin, end)] if end else []
        parts += [pooled_suffix(network, begin, pooled)] if pooled else []

        class Between(nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.parts = nn.ModuleList(parts)

            def forward(self, *states: Any) -> Any:
                return tuple(made for part in self.parts for made in part(*states))

        generator = torch.Generator().manual_seed(0)
        pixels = torch.randn((2, 3, *spec.size_hw), generator=generator)
        module = Between().eval()
        with torch.no_grad():
            state = self.trunk.backbone.prefix(begin).eval()(pixels)
        return module, tuple(state) if isinstance(state, (tuple, list)) else (state,)
