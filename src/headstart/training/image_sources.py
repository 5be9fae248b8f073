"""Open the batch sources of trainings: cached activations at the cut, or pixels.

A source is opened once for all trainings of a run with the same views and prefix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart.events import Stage
from headstart.features.decoded_cache import DecodedCache, DecodedImages
from headstart.features.engines import OnnxEngine
from headstart.features.prefix_graph import PrefixGraph, prepare_prefix
from headstart.features.view_activations import ViewActivations, ViewSet
from headstart.preprocessing.augmentation import parse_augment
from headstart.preprocessing.image_spec import ImageSpec
from headstart.store.arrays import ArrayRows, RowLayout
from headstart.store.cache import Cache
from headstart.training.batch_sources import ActivationSource, PixelSource, SizedSource, Source
from headstart.training.checkpoint import Checkpoints
from headstart.training.phase_caches import PhaseCaches
from headstart.training.plan import FinetunePlan
from headstart.training.shared_backbone import SharedBackbone
from headstart.training.unfreezing import Phase
from headstart.types.codes import NoteKind
from headstart.utils.system import cache_root

if TYPE_CHECKING:
    from headstart.events import EventStream
    from headstart.quality.dataset_split import SplitDataset

__all__ = ["BatchSources"]


class BatchSources:
    """Opens the batch sources of one run.

    Args:
        data: The images and their digests.
        backbone: The shared backbone.
        checkpoints: Checkpoints of the run; also store the rows if the cache is off.
        events: The event stream.
        num_threads: Threads of the view workers.
    """

    def __init__(
        self,
        data: SplitDataset,
        backbone: SharedBackbone,
        checkpoints: Checkpoints,
        events: EventStream,
        num_threads: int,
    ) -> None:
        self.data, self.backbone, self.checkpoints = data, backbone, checkpoints
        self.events, self.num_threads = events, num_threads
        self.embedder = backbone.embedder
        self.blocks = tuple(self.embedder.graph.blocks)
        self.cache = Cache(cache_root())
        self.decoded: DecodedCache | None = None  # opened by a training on images
        self.is_cached = backbone.settings.cache
        self.phases = PhaseCaches(backbone, self.embedder, self.cache, is_on=self.is_cached)
        self._sources: dict[tuple[Any, ...], Source] = {}

    def open(self, plan: FinetunePlan) -> Source:
        """Return the batch source of a training."""
        key = (
            plan.strategy,
            plan.train_from,
            plan.is_cached,
            plan.head,
            plan.augment,
            plan.seed,
            plan.train_image_size,
        )
        if key not in self._sources:
            self._sources[key] = self._open(plan)
        return self._sources[key]

    def _open(self, plan: FinetunePlan) -> Source:
        spec = self.embedder.spec
        smaller = self._smaller(spec, plan.train_image_size)
        if plan.is_from_pixels:
            if self.decoded is None and self.is_cached:
                self.decoded = DecodedCache(self.cache)
            images = DecodedImages(self._views(plan), spec, self.decoded, view_spec=smaller)
            return PixelSource(images.make, self.num_threads)
        plain = self._stored(plan, spec)
        return SizedSource(self._stored(plan, smaller), plain) if smaller != spec else plain

    def _views(self, plan: FinetunePlan) -> ViewSet:
        samples = self.data.samples
        digests = self.data.features.digests
        return ViewSet(samples.paths, digests, samples.names, parse_augment(plan.augment), plan.seed)

    @staticmethod
    def _smaller(spec: ImageSpec, size: int) -> ImageSpec:
        """Return the image spec of training views at another size."""
        if not size:
            return spec
        scale = size / min(spec.size_hw)
        return spec.with_(size_hw=tuple(round(scale * side) for side in spec.size_hw))

    def _stored(self, plan: FinetunePlan, spec: ImageSpec) -> ActivationSource:
        """Return the source of cached rows at the cut, for images at the size of `spec`."""
        if plan.strategy == "head" and not plan.head:
            graph = self.embedder.graph
            engine, digest, layout, num_states = OnnxEngine(graph.path), graph.digest, graph.layout, 0
        else:
            prefix = self._prefix(plan, spec)
            engine, digest, layout = OnnxEngine(prefix.path), prefix.digest, prefix.layout
            num_states = sum(name.startswith("state") for name in layout.names)
        space = self._space(digest, spec.digest, layout)
        progress = self.events.progress(Stage.VIEWS, "view")
        views = ViewActivations(self._views(plan), engine, spec, space, num_threads=self.num_threads, progress=progress)
        return ActivationSource(views, num_states)

    def _space(self, digest: str, spec_digest: str, layout: RowLayout) -> ArrayRows:
        if self.is_cached:
            return ArrayRows.open(self.cache, "activations", layout, digest, spec_digest)
        return ArrayRows(self.checkpoints.folder / "views" / digest[:16], layout)

    def row_bytes(self, plan: FinetunePlan) -> int:
        """Return the bytes of one cached view on disk, in all phases together."""
        return sum(self.phase_bytes(plan))

    def phase_bytes(self, plan: FinetunePlan) -> list[int]:
        """Return the bytes of one cached view on disk, per phase."""
        sources = [phase.source for phase in self.open_phases(plan)] or [self.open(plan)]
        stored = [_stored_in(source) for source in sources]
        return [own[0].views.space.layout.row_bytes if own else 0 for own in stored]

    def open_phases(self, plan: FinetunePlan) -> tuple[Phase, ...]:
        """Return the batch sources of each unfreezing phase; empty where one source serves throughout."""
        return self.phases.open(plan, self.open(plan))

    def num_made(self, plan: FinetunePlan) -> int | None:
        """Return the number of rows computed for a plan's source so far; None where nothing is cached."""
        stored = _stored_in(self.open(plan))
        return sum(s.views.num_made for s in stored) if stored else None

    def _prefix(self, plan: FinetunePlan, spec: ImageSpec) -> PrefixGraph:
        from headstart.backbones import pooled_outputs
        from headstart.backbones.classifier_head import pool_state, read_head
        from headstart.backbones.suffix_parts import split_blocks

        cut = plan.train_from
        network = self.backbone.model.network
        early = [] if plan.head else split_blocks(network, cut, self.blocks)[0]
        # Fixed pooling is applied before caching: rows are 50 times smaller.
        pool = read_head(plan.head).pool or "avg" if plan.head and plan.strategy == "head" else "none"
        pool = pool if pool in ("avg", "max") else "none"
        is_nhwc = network.is_nhwc
        position = network.position(cut)
        below = network.names[position - 1] if position else None

        def load() -> Any:
            from torch import nn

            prefix = self.backbone.model.prefix(cut)
            pooled = pooled_outputs(self.backbone.model, early) if early else None

            class Prefix(nn.Module):  # type: ignore[misc]
                def __init__(self) -> None:
                    super().__init__()
                    self.prefix, self.pooled = prefix, pooled

                def forward(self, pixels: Any) -> Any:
                    state = self.prefix(pixels)
                    states = tuple(state) if isinstance(state, (tuple, list)) else (state,)
                    if pool != "none":
                        states = tuple(pool_state(s, pool, is_nhwc) for s in states)
                    return (*states, *(self.pooled(pixels) if self.pooled is not None else ()))

            self.backbone.reset()
            return Prefix().eval()

        block = below if below in self.blocks and pool == "none" else None
        kind = cut if pool == "none" else f"{cut}-{pool}"
        return prepare_prefix(self.embedder.graph.at(spec), cache_root(), kind, early, load, state_block=block)

    def warn_not_cached(self, source: Source) -> None:
        """Flush the cache, and warn once if it cannot be written."""
        errors = [s.views.space.write_error for s in _stored_in(source)]
        cache, reason = "augmented views", next(filter(None, errors), None)
        if isinstance(source, PixelSource) and self.decoded is not None:
            self.decoded.rows.flush()
            cache, reason = "decoded images", self.decoded.rows.write_error
        if reason:
            self.events.warn_once(NoteKind.CACHE_NOT_WRITTEN, what=cache, reason=reason)

    def close(self) -> None:
        """Stop the workers; cached rows are kept."""
        self.phases.close()  # first: its rows derive from those of the others
        for source in self._sources.values():
            for stored in _stored_in(source):
                stored.views.close()
            if isinstance(source, PixelSource):
                source.close()
            self.warn_not_cached(source)


def _stored_in(source: Source) -> list[ActivationSource]:
    """Return the cached sources inside a source, training views first."""
    if isinstance(source, SizedSource):
        return [source.views, source.plain]
    return [source] if isinstance(source, ActivationSource) else []
