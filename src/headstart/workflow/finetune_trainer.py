"""The bench on which trainings are run: a network at its start, and one training after another.

Every training has a name and leaves its result under it, so that walking the same road
again after a stop reads what is done and goes on with what is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.backbones.build import draw_weights
from headstart.errors import SettingError
from headstart.probe.linear import LinearHead
from headstart.training.loop import EpochRecord, Training, normalized_rows, predict_logits
from headstart.training.network import FinetunedNetwork, HeadModule, RandomHead, SelfContainedNetwork, interpolate
from headstart.training.plan import FinetunePlan
from headstart.training.probe_comparison import SHARES
from headstart.types import NoteKind
from headstart.workflow.devices import find_device
from headstart.workflow.finetune_sources import BatchSources
from headstart.workflow.training_jobs import (
    InterruptHandler,
    TrainingInterruptedError,
    TrainingResult,
    read_result,
    write_result,
)

__all__ = ["FinetuneTrainer", "Refit"]

Ids = NDArray[np.int64]

_REFIT_SHARE = 0.5
"""Share of the closed-form head on tuned features in the head that is kept; the rest is the trained one."""

Refit = Callable[[NDArray[np.float32], Ids], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""From (N, D) normalized rows of the tuned network and the N samples to weight and bias of a head."""


class FinetuneTrainer:
    """Runs trainings of one run.

    Args:
        sources: Where batches come from, with what they come from: the probe, its images and the backbone.
        folder_name: How the run is called in the sentence after a stop.
        torch_threads: Of torch.
    """

    def __init__(self, sources: BatchSources, folder_name: str, torch_threads: int) -> None:
        import torch

        self.sources, self.folder_name = sources, folder_name
        self.found, self.trunk, self.checkpoints = sources.found, sources.trunk, sources.checkpoints
        self.events, self.threads = sources.events, sources.threads
        self.embedder, self.blocks, self.settings = sources.embedder, sources.blocks, self.trunk.settings
        self.stopper = InterruptHandler(self.events)
        self._has_drop_path = False
        self.device = find_device(self.settings.device)
        torch.set_num_threads(torch_threads)

    # -- the parts of a training

    def with_logits(self, net: FinetunedNetwork, temperature: float, cut: str) -> Any:
        """From images to (logits, embedding), head included; a described head begins at `cut`."""
        from torch import nn

        if isinstance(net.head, RandomHead):
            return SelfContainedNetwork(self.trunk.backbone.prefix(cut), net.head.layers, temperature).eval()
        names = tuple(dict.fromkeys((*net.head.names, "embedding")))
        pooled, head = self.trunk.pooled(names), net.head

        class Whole(nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.pooled, self.head = pooled, head

            def forward(self, pixels: Any) -> Any:
                blocks = dict(zip(names, self.pooled(pixels), strict=True))
                return self.head(blocks) / temperature, blocks["embedding"]

        return Whole().eval()

    def network(self, plan: FinetunePlan, head: LinearHead) -> FinetunedNetwork:
        """Return a network at its start: pretrained (or, from scratch, random) weights and the given head."""
        import torch

        module = self._head_module(plan, head)
        if plan.strategy == "head":
            if plan.head:
                self.trunk.reset()
            net = FinetunedNetwork(module)
            net.to(self.device)
            return net
        network = self.trunk.backbone.network
        self.trunk.reset()
        cut = "stem" if plan.is_from_pixels else plan.cut
        is_scratch = plan.strategy == "scratch"
        if is_scratch:
            draw_weights(self.trunk.backbone.module, plan.seed)
            generator = torch.Generator().manual_seed(plan.seed)
            if isinstance(module, HeadModule):
                with torch.no_grad():
                    module.weight.normal_(0.0, 0.1, generator=generator)
                    module.bias.zero_()
        rear, used = self._rear(plan, module, cut)
        net = FinetunedNetwork(
            module,
            rear,
            used,
            owner=self.trunk.backbone.module,
            stage_of=network.map.stage_of,
            trainable=range(network.position(plan.cut), len(network.names)),
            is_bn_live=is_scratch,
        )
        if plan.drop_path or self._has_drop_path:
            self._has_drop_path = True
            if not net.set_drop_path(plan.drop_path) and plan.drop_path:
                raise SettingError(
                    "`finetune.drop_path` has no effect: what trains of this network has no residual blocks.",
                    hint="leave finetune.drop_path out",
                )
        net.to(self.device)
        return net

    def _rear(self, plan: FinetunePlan, module: HeadModule | RandomHead, cut: str) -> tuple[Any, list[str]]:
        """Return what lies between a cut and the head, and the names of what it gives."""
        import torch

        from headstart.backbones.suffix_parts import middle, pooled_suffix, split_blocks

        network = self.trunk.backbone.network
        if isinstance(module, RandomHead):
            used, rear = list(module.names), middle(network, cut, self.trunk.end_cut(plan))
        else:
            _, after = split_blocks(network, cut, self.blocks)
            used = [b for b in after if b in module.names or b == "embedding"]
            rear = pooled_suffix(network, cut, used)
        return rear.to(memory_format=torch.channels_last), used

    def move_to_cpu(self, net: FinetunedNetwork) -> None:
        """Network and backbone, for export."""
        net.to("cpu")
        self.trunk.move_to_cpu()

    def _head_module(self, plan: FinetunePlan, head: LinearHead) -> HeadModule | RandomHead:
        if not plan.head:
            return HeadModule(head, hidden=plan.hidden, dropout=plan.dropout, seed=plan.seed)
        from headstart.backbones.classifier_head import read_head

        network = self.trunk.backbone.network
        shapes = network.state_shapes(self.trunk.head_cut(plan.head))
        return RandomHead(read_head(plan.head), shapes, head.num_classes, network.is_nhwc, plan.seed)

    # -- trainings

    def run(
        self,
        name: str,
        plan: FinetunePlan,
        head: LinearHead,
        train: Ids,
        val: Ids | None = None,
        *,
        class_weights: NDArray[np.floating] | None = None,
        refit: Refit | None = None,
        on_epoch: Callable[[EpochRecord, bool], None] | None = None,
    ) -> TrainingResult:
        """Run a training to its end, go on with one that was stopped, or read one that ended.

        `on_epoch` gets the record of each epoch, and whether it is new: it is not where it is read back.

        Raises:
            TrainingInterruptedError: Ctrl-C; it is saved.
        """
        done = self.checkpoints.load(f"{name}.done")
        if done is not None:
            result = read_result(done)
            for record in result.records:
                if on_epoch:
                    on_epoch(record, False)
            return result
        source, phases = self.sources.open(plan), self.sources.open_phases(plan)  # may put the published weights back
        net = self.network(plan, head)
        for cut in [phase.cut for phase in phases if phase.cut]:
            is_end = cut == self.trunk.end_cut(plan)
            net.add_cut(cut, *((None, ()) if is_end else self._rear(plan, net.head, cut)))
        names = self.trunk.backbone.network.names if plan.strategy != "head" else ()
        class_ids = self.found.samples.class_ids
        training = Training(net, source, class_ids, plan, train, val, class_weights, names, self.device, phases=phases)
        before = net.frozen_digest()
        saved = self.checkpoints.load(name)
        if saved is not None:
            try:
                training.restore(saved)
            except (ValueError, KeyError) as error:
                raise SettingError(f"the training `{name}` cannot go on: {error}.", hint="start a new run") from error
            self.events.note(NoteKind.TRAINING_RESUMED, phase=name, step=training.step, num_steps=training.num_steps)
            for record in training.records:
                if on_epoch:
                    on_epoch(record, False)
        with self.stopper.listening():
            for maybe in training.run():
                if maybe is not None and on_epoch:
                    on_epoch(maybe, True)
                if self.stopper.is_asked or self.checkpoints.is_due():
                    self.checkpoints.save(name, training.snapshot())
                if self.stopper.is_asked:
                    raise TrainingInterruptedError(
                        f"stopped at step {training.step:,} of {training.num_steps:,}; everything is saved.",
                        hint=f"headstart resume {self.folder_name}",
                    )
            result = self._result(training, before, refit)
        for each in (source, *(phase.source for phase in phases)):
            self.sources.say_refused(each)
        self.checkpoints.save(f"{name}.done", write_result(result))
        self.checkpoints.drop(name)
        return result

    def _result(self, training: Training, frozen_before: str, refit: Refit | None) -> TrainingResult:
        net, val, source = training.net, training.val, training.source
        end = net.copy_trained()
        shares = SHARES if training.plan.starts_as_probe else (1.0,)
        if refit is not None:
            rows = normalized_rows(net, source, training.train, device=self.device)
            net.head.move_to(*refit(rows, training.train), share=_REFIT_SHARE)
            end = net.copy_trained()
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
        return TrainingResult(
            logits, shares, training.start, end, tuple(training.records), training.is_diverged, best,
            frozen_before, net.frozen_digest(),
        )  # fmt: skip

    def close(self) -> None:
        """Stop the workers; what is made is kept."""
        self.sources.close()
