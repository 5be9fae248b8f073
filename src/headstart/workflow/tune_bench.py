"""The bench on which trainings are run: network, cached views, checkpoints, and one training after another.

The one decision: every training has a name and leaves its result under it, so that walking the same road
again after a stop reads what is done and goes on with what is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.config import TrainSettings
from headstart.errors import HeadstartError, SettingError
from headstart.features.boundary import BoundaryCache, BoundarySpace, RowLayout
from headstart.features.engine import OnnxEngine
from headstart.features.front import prepare_front
from headstart.features.viewing import Views
from headstart.heads.linear import LinearHead
from headstart.machine import cache_root
from headstart.pixels.spec import PictureError, normalise, read_bytes
from headstart.pixels.views import make_view, parse_augment, view_rng
from headstart.tuning.checkpoint import Checkpoints
from headstart.tuning.loop import EpochRecord, Training, predict_logits
from headstart.tuning.network import FreshHead, HeadModule, SealedNetwork, TunedNetwork, interpolate
from headstart.tuning.plan import TuningPlan, parse_unfreeze
from headstart.tuning.safety import SHARES
from headstart.tuning.sources import BoundarySource, PixelSource, Source
from headstart.workflow.embedding import Embedder
from headstart.workflow.tune_jobs import JobResult, StoppedError, Stopper, find_device, read_result, write_result

if TYPE_CHECKING:
    from headstart.talk import Talk
    from headstart.workflow.probe_road import FoundProbe

__all__ = ["Bench", "StoppedError", "Stopper"]

Ids = NDArray[np.int64]


class Bench:
    """Runs trainings of one run.

    Args:
        found: The probe with its samples, features and split.
        settings: Of the run.
        talk: Told what happens.
        checkpoints: Of the run.
        folder_name: How the run is called in the sentence after a stop.
        threads: Of the views' workers.
        torch_threads: Of torch; as many by default.
    """

    def __init__(
        self,
        found: FoundProbe,
        settings: TrainSettings,
        talk: Talk,
        checkpoints: Checkpoints,
        folder_name: str,
        threads: int,
        torch_threads: int | None = None,
    ) -> None:
        import torch

        self.found, self.settings, self.talk, self.checkpoints = found, settings, talk, checkpoints
        self.folder_name, self.threads = folder_name, threads
        self.embedder: Embedder = found.embedder
        self.blocks = tuple(self.embedder.graph.blocks)
        self.cache = BoundaryCache(cache_root())
        self.is_cached = settings.cache
        self.stopper = Stopper()
        self._sources: dict[tuple[Any, ...], tuple[Source, int]] = {}
        self._backbone: Any = None
        self._has_drop_path = False
        self._is_refusal_said = False
        self.device = find_device(settings.device)
        self._pretrained: dict[str, Any] = {}
        torch.set_num_threads(torch_threads or threads)

    # -- the parts of a training

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
        """The name of the first stage after a cut that may be written as `last`, `last-2` or a stage.

        Raises:
            UsageError: There is no such cut.
        """
        network = self.backbone.network
        name: str = network.names[network.position("last-1" if text == "last" else text)]
        return name

    def cut_for(self) -> str:
        """The first stage that trains, from strategy, `from` and `unfreeze`."""
        settings = self.settings
        if settings.strategy == "head" or settings.cut == "head":
            return self.head_cut(settings.tune.head) if settings.tune.head else "head"
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
        """Where a described head begins: `head`, or `neck` where the backbone's neck is dropped."""
        from headstart.backbones.newhead import head_cut, read_head

        return str(head_cut(self.backbone, read_head(spec_text)))

    def blocks_width(self, block: str) -> int:
        """Width of a block of pooled features."""
        return int(self.embedder.graph.blocks[block])

    def pooled(self, names: Sequence[str]) -> Any:
        """The backbone as it is now, from pictures to pooled features."""
        from headstart.backbones import pooled_outputs

        return pooled_outputs(self.backbone, names)

    def with_logits(self, net: TunedNetwork, temperature: float, cut: str) -> Any:
        """From pictures to (logits, embedding), head included; a described head begins at `cut`."""
        from torch import nn

        if isinstance(net.head, FreshHead):
            return SealedNetwork(self.backbone.prefix(cut), net.head.layers, temperature).eval()
        names = tuple(dict.fromkeys((*net.head.names, "embedding")))
        if not self._pretrained:
            _ = self.backbone
        pooled, head = self.pooled(names), net.head

        class Whole(nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.pooled, self.head = pooled, head

            def forward(self, pixels: Any) -> Any:
                blocks = dict(zip(names, self.pooled(pixels), strict=True))
                return self.head(blocks) / temperature, blocks["embedding"]

        return Whole().eval()

    def source(self, plan: TuningPlan) -> tuple[Source, int]:
        """Where batches come from, and how many states a batch has."""
        key = (plan.strategy, plan.cut, plan.is_cached, plan.head, plan.augment, plan.seed)
        if key not in self._sources:
            self._sources[key] = self._open_source(plan)
        return self._sources[key]

    def _open_source(self, plan: TuningPlan) -> tuple[Source, int]:
        augment = parse_augment(plan.augment)
        samples, features, spec = self.found.samples, self.found.features, self.embedder.spec
        digests = [bytes.fromhex(d) for d in features.digests]
        if plan.is_from_pixels:

            def make(sample: int, view: int) -> NDArray[np.float32]:
                try:
                    data = read_bytes(samples.paths[sample])
                    rng = view_rng(digests[sample], view, plan.seed) if view else None
                    return normalise(make_view(data, spec, augment, rng), spec)
                except PictureError as error:
                    raise HeadstartError(f"`{samples.names[sample]}` cannot be read now: {error.detail}.") from error

            return PixelSource(make, self.threads), 1
        if plan.strategy == "head" and not plan.head:
            graph = self.embedder.graph
            layout = RowLayout(self.blocks, tuple((graph.blocks[b],) for b in self.blocks), "float32")
            engine, digest, num_states = OnnxEngine(graph.path), graph.digest, 0
        else:
            front = self._front(plan)
            engine, digest, layout = OnnxEngine(front.path), front.digest, front.layout
            num_states = sum(name.startswith("state") for name in layout.names)
        space = self._space(digest, spec.digest, layout)
        progress = self.talk.progress("making views", "views")
        views = Views(
            samples.paths, features.digests, samples.names, engine, spec, space, augment, plan.seed,
            threads=self.threads, progress=progress,
        )  # fmt: skip
        return BoundarySource(views, num_states), num_states

    def _space(self, digest: str, spec_digest: str, layout: RowLayout) -> BoundarySpace:
        if self.is_cached:
            return self.cache.space(digest, spec_digest, layout)
        return BoundarySpace(self.checkpoints.folder / "views" / digest[:16], layout)

    def row_bytes(self, plan: TuningPlan) -> int:
        """Bytes that one stored view takes on the disk."""
        source, _ = self.source(plan)
        return source.views.space.layout.row_bytes if isinstance(source, BoundarySource) else 0

    def _front(self, plan: TuningPlan) -> Any:
        from headstart.backbones import pooled_outputs
        from headstart.backbones.newhead import pool_state, read_head
        from headstart.backbones.parts import split_blocks

        cut = plan.cut
        network = self.backbone.network
        early = [] if plan.head else split_blocks(network, cut, self.blocks)[0]
        # A fixed pooling is done before rows are stored: they are 50 times smaller then.
        pool = read_head(plan.head).pool or "avg" if plan.head and plan.strategy == "head" else "none"
        pool = pool if pool in ("avg", "max") else "none"
        is_nhwc = network.is_nhwc
        position = network.position(cut)
        below = network.names[position - 1] if position else None

        def load() -> Any:
            from torch import nn

            prefix = self.backbone.prefix(cut)
            pooled = pooled_outputs(self.backbone, early) if early else None

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

            self._reset()
            return Front().eval()

        block = below if below in self.blocks and pool == "none" else None
        kind = cut if pool == "none" else f"{cut}-{pool}"
        return prepare_front(self.embedder.graph, cache_root(), kind, early, load, state_block=block)

    def _reset(self) -> None:
        self._backbone.module.to("cpu")
        self.backbone.module.load_state_dict(self._pretrained)

    def network(self, plan: TuningPlan, head: LinearHead) -> TunedNetwork:
        """A network at its start: pretrained (or, from scratch, random) weights and the given head."""
        import torch

        module = self._head_module(plan, head)
        if plan.strategy == "head":
            if plan.head:
                self._reset()
            net = TunedNetwork(module)
            net.to(self.device)
            return net
        from headstart.backbones.parts import middle, pooled_suffix, split_blocks

        network = self.backbone.network
        self._reset()
        cut = "stem" if plan.is_from_pixels else plan.cut
        is_scratch = plan.strategy == "scratch"
        if is_scratch:
            torch.manual_seed(plan.seed)
            for part in self.backbone.module.modules():
                if hasattr(part, "reset_parameters"):
                    part.reset_parameters()
            generator = torch.Generator().manual_seed(plan.seed)
            if isinstance(module, HeadModule):
                with torch.no_grad():
                    module.weight.normal_(0.0, 0.1, generator=generator)
                    module.bias.zero_()
        if isinstance(module, FreshHead):
            used, rear = list(module.names), middle(network, cut, self.head_cut(plan.head))
        else:
            _, after = split_blocks(network, cut, self.blocks)
            used = [b for b in after if b in head.normaliser.names or b == "embedding"]
            rear = pooled_suffix(network, cut, used)
        net = TunedNetwork(
            module,
            rear.to(memory_format=torch.channels_last),
            used,
            owner=self.backbone.module,
            stage_of=network.map.stage_of,
            trainable=range(network.position(plan.cut), len(network.names)),
            is_bn_live=is_scratch,
        )
        if plan.drop_path or self._has_drop_path:
            self._has_drop_path = True
            if not net.set_drop_path(plan.drop_path) and plan.drop_path:
                raise SettingError(
                    "`tune.drop_path` has no effect: what trains of this network has no residual blocks.",
                    hint="leave tune.drop_path out",
                )
        net.to(self.device)
        return net

    def move_to_cpu(self, net: TunedNetwork) -> None:
        """Network and backbone, for export."""
        net.to("cpu")
        if self._backbone is not None:
            self._backbone.module.to("cpu")

    def _head_module(self, plan: TuningPlan, head: LinearHead) -> HeadModule | FreshHead:
        if not plan.head:
            return HeadModule(head, hidden=plan.hidden, dropout=plan.dropout, seed=plan.seed)
        from headstart.backbones.newhead import read_head

        network = self.backbone.network
        shapes = network.state_shapes(self.head_cut(plan.head))
        return FreshHead(read_head(plan.head), shapes, head.num_classes, network.is_nhwc, plan.seed)

    # -- trainings

    def run(
        self,
        name: str,
        plan: TuningPlan,
        head: LinearHead,
        train: Ids,
        val: Ids | None = None,
        *,
        class_weights: NDArray[np.floating] | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
    ) -> JobResult:
        """Runs a training to its end, goes on with one that was stopped, or reads one that ended.

        Raises:
            StoppedError: Ctrl-C; it is saved.
        """
        done = self.checkpoints.load(f"{name}.done")
        if done is not None:
            result = read_result(done)
            for record in result.records:
                if on_epoch:
                    on_epoch(record)
            return result
        net = self.network(plan, head)
        source, _ = self.source(plan)
        names = self.backbone.network.names if plan.strategy != "head" else ()
        class_ids = self.found.samples.class_ids
        training = Training(net, source, class_ids, plan, train, val, class_weights, names, self.device)
        before = net.frozen_digest()
        saved = self.checkpoints.load(name)
        if saved is not None:
            try:
                training.restore(saved)
            except (ValueError, KeyError) as error:
                raise SettingError(f"the training `{name}` cannot go on: {error}.", hint="start a new run") from error
            self.talk.say(f"  going on with {name} at step {training.step:,} of {training.num_steps:,}")
            for record in training.records:
                if on_epoch:
                    on_epoch(record)
        with self.stopper.listening():
            for maybe in training.run():
                if maybe is not None and on_epoch:
                    on_epoch(maybe)
                if self.stopper.is_asked or self.checkpoints.is_due():
                    self.checkpoints.save(name, training.snapshot())
                if self.stopper.is_asked:
                    raise StoppedError(
                        f"stopped at step {training.step:,} of {training.num_steps:,}; everything is saved.",
                        hint=f"headstart resume {self.folder_name}",
                    )
            result = self._result(training, before)
        self._say_refused(source)
        self.checkpoints.save(f"{name}.done", write_result(result))
        self.checkpoints.drop(name)
        return result

    def _say_refused(self, source: Source) -> None:
        """Says once that rows could not be kept."""
        reason = source.views.space.write_error if isinstance(source, BoundarySource) else None
        if reason and not self._is_refusal_said:
            self._is_refusal_said = True
            self.talk.warn(f"stored views could not be kept ({reason}); the result is the same, it only takes longer.")

    def _result(self, training: Training, frozen_before: str) -> JobResult:
        net, val, source = training.net, training.val, training.source
        end = net.copy_trained()
        shares = SHARES if training.plan.starts_as_probe else (1.0,)
        logits = None
        if val is not None and len(val):
            parts = []
            for share in shares:
                net.load_trained(interpolate(training.start, end, share))
                parts.append(predict_logits(net, source, val, device=self.device))
            net.load_trained(end)
            logits = np.stack(parts)
        best = len(training.records)
        if training.plan.patience is not None and training.records and training.val is not None:
            sign = 1.0 if training.plan.monitor == "val_loss" else -1.0
            values = [sign * (getattr(r, training.plan.monitor) or 0.0) for r in training.records]
            best = int(np.argmin(values)) + 1
        return JobResult(
            logits, shares, training.start, end, tuple(training.records), training.is_diverged, best,
            frozen_before, net.frozen_digest(),
        )  # fmt: skip

    def close(self) -> None:
        """Stops the workers; what is made is kept."""
        for source, _ in self._sources.values():
            if isinstance(source, BoundarySource):
                source.views.close()
                self.cache.bound(keep=source.views.space)
            elif isinstance(source, PixelSource):
                source.close()
