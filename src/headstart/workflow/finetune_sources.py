"""Where a training's batches come from: stored rows of what lies before the cut, or pixels made anew.

A source is opened once for all trainings of a run that see the same views of the same prefix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart.events import Stage
from headstart.features.activation_cache import ActivationCache, ActivationPartition, RowLayout
from headstart.features.decoded_cache import DecodedCache, DecodedImages
from headstart.features.engines import OnnxEngine
from headstart.features.prefix_graph import PrefixGraph, prepare_prefix
from headstart.features.view_activations import ViewActivations
from headstart.preprocessing.augmentation import parse_augment
from headstart.preprocessing.image_spec import ImageSpec
from headstart.system import cache_root
from headstart.training.batch_sources import ActivationSource, PixelSource, SizedSource, Source
from headstart.training.checkpoint import Checkpoints
from headstart.training.plan import FinetunePlan
from headstart.training.unfreezing import Phase
from headstart.types import NoteKind
from headstart.workflow.phase_caches import PhaseCaches
from headstart.workflow.shared_backbone import SharedBackbone

if TYPE_CHECKING:
    from headstart.events import EventStream
    from headstart.workflow.probe_types import FittedProbe

__all__ = ["BatchSources"]


class BatchSources:
    """Opens sources for one run.

    Args:
        found: The probe with its samples and features.
        trunk: The backbone.
        checkpoints: Of the run; rows lie there where the cache is not to be used.
        events: The event stream.
        threads: Of the views' workers.
    """

    def __init__(
        self, found: FittedProbe, trunk: SharedBackbone, checkpoints: Checkpoints, events: EventStream, threads: int
    ) -> None:
        self.found, self.trunk, self.checkpoints, self.events, self.threads = found, trunk, checkpoints, events, threads
        self.embedder = found.embedder
        self.blocks = tuple(self.embedder.graph.blocks)
        self.cache = ActivationCache(cache_root())
        self.decoded: DecodedCache | None = None  # opened when a training begins with images
        self.is_cached = trunk.settings.cache
        self.phases = PhaseCaches(trunk, self.embedder, self.cache, is_on=self.is_cached)
        self._sources: dict[tuple[Any, ...], Source] = {}
        self._is_refusal_said = False

    def open(self, plan: FinetunePlan) -> Source:
        """Return where the batches of a training come from."""
        key = (plan.strategy, plan.cut, plan.is_cached, plan.head, plan.augment, plan.seed, plan.train_image_size)
        if key not in self._sources:
            self._sources[key] = self._open(plan)
        return self._sources[key]

    def _open(self, plan: FinetunePlan) -> Source:
        spec = self.embedder.spec
        smaller = self._smaller(spec, plan.train_image_size)
        if plan.is_from_pixels:
            if self.decoded is None and self.is_cached:
                self.decoded = DecodedCache(cache_root())
            samples, features = self.found.samples, self.found.features
            images = DecodedImages(
                samples.paths, features.digests, samples.names, spec, parse_augment(plan.augment), plan.seed,
                self.decoded, view_spec=smaller,
            )  # fmt: skip
            return PixelSource(images.make, self.threads)
        plain = self._stored(plan, spec)
        return SizedSource(self._stored(plan, smaller), plain) if smaller != spec else plain

    @staticmethod
    def _smaller(spec: ImageSpec, size: int) -> ImageSpec:
        """Return the pixel contract of training views: the same at another size."""
        if not size:
            return spec
        scale = size / min(spec.size_hw)
        return spec.with_(size_hw=tuple(round(scale * side) for side in spec.size_hw))

    def _stored(self, plan: FinetunePlan, spec: ImageSpec) -> ActivationSource:
        """Return rows at the cut, of images at the size of `spec`."""
        samples, features = self.found.samples, self.found.features
        if plan.strategy == "head" and not plan.head:
            graph = self.embedder.graph
            layout = RowLayout(self.blocks, tuple((graph.blocks[b],) for b in self.blocks), "float32")
            engine, digest, num_states = OnnxEngine(graph.path), graph.digest, 0
        else:
            front = self._front(plan, spec)
            engine, digest, layout = OnnxEngine(front.path), front.digest, front.layout
            num_states = sum(name.startswith("state") for name in layout.names)
        space = self._space(digest, spec.digest, layout)
        progress = self.events.progress(Stage.VIEWS, "view")
        views = ViewActivations(
            samples.paths, features.digests, samples.names, engine, spec, space, parse_augment(plan.augment), plan.seed,
            threads=self.threads, progress=progress,
        )  # fmt: skip
        return ActivationSource(views, num_states)

    def _space(self, digest: str, spec_digest: str, layout: RowLayout) -> ActivationPartition:
        if self.is_cached:
            return self.cache.space(digest, spec_digest, layout)
        return ActivationPartition(self.checkpoints.folder / "views" / digest[:16], layout)

    def row_bytes(self, plan: FinetunePlan) -> int:
        """Return bytes that one stored view takes on the disk, in all phases together."""
        return sum(self.phase_bytes(plan))

    def phase_bytes(self, plan: FinetunePlan) -> list[int]:
        """Return bytes that one stored view takes on the disk in each phase."""
        sources = [phase.source for phase in self.open_phases(plan)] or [self.open(plan)]
        stored = [_stored_in(source) for source in sources]
        return [own[0].views.space.layout.row_bytes if own else 0 for own in stored]

    def open_phases(self, plan: FinetunePlan) -> tuple[Phase, ...]:
        """Where batches come from in each phase of a gradual unfreezing; none where one source serves throughout."""
        return self.phases.open(plan, self.open(plan))

    def num_made(self, plan: FinetunePlan) -> int | None:
        """Return rows that were made for a plan's source so far; None where nothing is stored."""
        stored = _stored_in(self.open(plan))
        return sum(s.views.num_made for s in stored) if stored else None

    def _front(self, plan: FinetunePlan, spec: ImageSpec) -> PrefixGraph:
        from headstart.backbones import pooled_outputs
        from headstart.backbones.classifier_head import pool_state, read_head
        from headstart.backbones.suffix_parts import split_blocks

        cut = plan.cut
        network = self.trunk.backbone.network
        early = [] if plan.head else split_blocks(network, cut, self.blocks)[0]
        # A fixed pooling is done before rows are stored: they are 50 times smaller then.
        pool = read_head(plan.head).pool or "avg" if plan.head and plan.strategy == "head" else "none"
        pool = pool if pool in ("avg", "max") else "none"
        is_nhwc = network.is_nhwc
        position = network.position(cut)
        below = network.names[position - 1] if position else None

        def load() -> Any:
            from torch import nn

            prefix = self.trunk.backbone.prefix(cut)
            pooled = pooled_outputs(self.trunk.backbone, early) if early else None

            class Front(nn.Module):  # type: ignore[misc]
                def __init__(self) -> None:
                    super().__init__()
                    self.prefix, self.pooled = prefix, pooled

                def forward(self, pixels: Any) -> Any:
                    state = self.prefix(pixels)
                    states = tuple(state) if isinstance(state, (tuple, list)) else (state,)
                    if pool != "none":
                        states = tuple(pool_state(s, pool, is_nhwc) for s in states)
                    return (*states, *(self.pooled(pixels) if self.pooled is not None else ()))

            self.trunk.reset()
            return Front().eval()

        block = below if below in self.blocks and pool == "none" else None
        kind = cut if pool == "none" else f"{cut}-{pool}"
        return prepare_prefix(self.embedder.graph.at(spec), cache_root(), kind, early, load, state_block=block)

    def say_refused(self, source: Source) -> None:
        """Write what still waits to be kept, and says once where it could not be."""
        errors = [s.views.space.write_error for s in _stored_in(source)]
        what, reason = "augmented views", next(filter(None, errors), None)
        if isinstance(source, PixelSource) and self.decoded is not None:
            self.decoded.flush()
            what, reason = "decoded images", self.decoded.refusal
        if reason and not self._is_refusal_said:
            self._is_refusal_said = True
            self.events.warn(NoteKind.CACHE_NOT_WRITTEN, what=what, reason=reason)

    def close(self) -> None:
        """Stop the workers; what is made is kept."""
        self.phases.close()  # first: its rows are made from those of the others
        for source in self._sources.values():
            for stored in _stored_in(source):
                stored.views.close()
                self.cache.bound(keep=stored.views.space)
            if isinstance(source, PixelSource):
                source.close()
            self.say_refused(source)


def _stored_in(source: Source) -> list[ActivationSource]:
    """Return the sources of stored rows that a source draws from, training views first."""
    if isinstance(source, SizedSource):
        return [source.views, source.plain]
    return [source] if isinstance(source, ActivationSource) else []
