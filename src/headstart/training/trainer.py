"""Run gradient training: build the network, train, save and resume.

Every training has a name and saves its result under it, so a resumed run skips finished trainings.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.backbones.build import draw_weights
from headstart.errors import SettingError
from headstart.features.device_choice import find_device
from headstart.probe.linear import LinearHead
from headstart.training.image_sources import BatchSources
from headstart.training.jobs import (
    InterruptHandler,
    TrainingInterruptedError,
    TrainingResult,
    read_result,
    write_result,
)
from headstart.training.loop import EpochRecord, Training, normalized_rows, predict_logits
from headstart.training.network import FinetunedNetwork, HeadModule, RandomHead, SelfContainedNetwork, interpolate
from headstart.training.plan import FinetunePlan
from headstart.training.probe_comparison import ALPHAS
from headstart.types.arrays import Ids
from headstart.types.codes import NoteKind

__all__ = ["FinetuneTrainer", "Refit"]


_REFIT_FRACTION = 0.5
"""Weight of the closed-form head on fine-tuned features in the final head; the rest is the trained head."""

Refit = Callable[[NDArray[np.float32], Ids], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Map (N, D) normalized rows of the fine-tuned network and N sample indices to weight and bias of a head."""


class FinetuneTrainer:
    """Runs the trainings of one run.

    Args:
        sources: Batch sources, with the images and the backbone.
        folder_name: Name of the run in the message after a stop.
        torch_threads: Number of torch threads.
    """

    def __init__(self, sources: BatchSources, folder_name: str, torch_threads: int) -> None:
        import torch

        self.sources, self.folder_name = sources, folder_name
        self.data, self.backbone, self.checkpoints = sources.data, sources.backbone, sources.checkpoints
        self.events, self.num_threads = sources.events, sources.num_threads
        self.embedder, self.blocks, self.settings = sources.embedder, sources.blocks, self.backbone.settings
        self.interrupt_handler = InterruptHandler(self.events)
        self._has_drop_path = False
        self.device = find_device(self.settings.device)
        torch.set_num_threads(torch_threads)

    # -- networks

    def with_logits(self, net: FinetunedNetwork, temperature: float, cut: str) -> Any:
        """Return the network from images to (logits, embedding), head included; a described head begins at `cut`."""
        from torch import nn

        if isinstance(net.head, RandomHead):
            return SelfContainedNetwork(self.backbone.model.prefix(cut), net.head.layers, temperature).eval()
        names = tuple(dict.fromkeys((*net.head.names, "embedding")))
        pooled, head = self.backbone.pooled(names), net.head

        class FullNetwork(nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.pooled, self.head = pooled, head

            def forward(self, pixels: Any) -> Any:
                blocks = dict(zip(names, self.pooled(pixels), strict=True))
                return self.head(blocks) / temperature, blocks["embedding"]

        return FullNetwork().eval()

    def network(self, plan: FinetunePlan, head: LinearHead) -> FinetunedNetwork:
        """Build a network: pretrained (or random, for scratch) weights and the given head."""
        import torch

        module = self._head_module(plan, head)
        if plan.strategy == "head":
            if plan.head:
                self.backbone.reset()
            net = FinetunedNetwork(module)
            net.to(self.device)
            return net
        network = self.backbone.model.network
        self.backbone.reset()
        cut = "stem" if plan.is_from_pixels else plan.train_from
        is_scratch = plan.strategy == "scratch"
        if is_scratch:
            draw_weights(self.backbone.model.module, plan.seed)
            generator = torch.Generator().manual_seed(plan.seed)
            if isinstance(module, HeadModule):
                with torch.no_grad():
                    module.weight.normal_(0.0, 0.1, generator=generator)
                    module.bias.zero_()
        suffix, used = self._suffix(plan, module, cut)
        net = FinetunedNetwork(
            module,
            suffix,
            used,
            owner=self.backbone.model.module,
            stage_of=network.map.stage_of,
            trainable=range(network.position(plan.train_from), len(network.names)),
            is_bn_live=is_scratch,
        )
        if plan.drop_path or self._has_drop_path:
            self._has_drop_path = True
            if not net.set_drop_path(plan.drop_path) and plan.drop_path:
                raise SettingError(
                    "`finetune.drop_path` has no effect: the trainable stages have no residual blocks.",
                    hint="remove finetune.drop_path",
                )
        net.to(self.device)
        return net

    def _suffix(self, plan: FinetunePlan, module: HeadModule | RandomHead, cut: str) -> tuple[Any, list[str]]:
        """Return the stages between a cut and the head, and the names of their outputs."""
        import torch

        from headstart.backbones.suffix_parts import middle, pooled_suffix, split_blocks

        network = self.backbone.model.network
        if isinstance(module, RandomHead):
            used, suffix = list(module.names), middle(network, cut, self.backbone.end_cut(plan))
        else:
            _, after = split_blocks(network, cut, self.blocks)
            used = [b for b in after if b in module.names or b == "embedding"]
            suffix = pooled_suffix(network, cut, used)
        return suffix.to(memory_format=torch.channels_last), used

    def move_to_cpu(self, net: FinetunedNetwork) -> None:
        """Move network and backbone to the CPU, for export."""
        net.to("cpu")
        self.backbone.move_to_cpu()

    def _head_module(self, plan: FinetunePlan, head: LinearHead) -> HeadModule | RandomHead:
        if not plan.head:
            return HeadModule(head, hidden=plan.hidden, dropout=plan.dropout, seed=plan.seed)
        from headstart.backbones.classifier_head import read_head

        network = self.backbone.model.network
        shapes = network.state_shapes(self.backbone.head_cut(plan.head))
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
        """Run a training, resume a stopped one, or read the result of a finished one.

        `on_epoch` receives the record of each epoch and whether it is new (False if read back).

        Raises:
            TrainingInterruptedError: Ctrl-C; the training is saved.
        """
        done = self.checkpoints.load(f"{name}.done")
        if done is not None:
            result = read_result(done)
            for record in result.records:
                if on_epoch:
                    on_epoch(record, False)
            return result
        source, phases = self.sources.open(plan), self.sources.open_phases(plan)  # may restore the pretrained weights
        net = self.network(plan, head)
        for cut in [phase.cut for phase in phases if phase.cut]:
            is_end = cut == self.backbone.end_cut(plan)
            net.add_cut(cut, *((None, ()) if is_end else self._suffix(plan, net.head, cut)))
        names = self.backbone.model.network.names if plan.strategy != "head" else ()
        class_ids = self.data.samples.class_ids
        training = Training(net, source, class_ids, plan, train, val, class_weights, names, self.device, phases=phases)
        before = net.frozen_digest()
        saved = self.checkpoints.load(name)
        if saved is not None:
            try:
                training.restore(saved)
            except (ValueError, KeyError) as error:
                raise SettingError(f"cannot resume the training `{name}`: {error}.", hint="start a new run") from error
            self.events.note(NoteKind.TRAINING_RESUMED, phase=name, step=training.step, num_steps=training.num_steps)
            for record in training.records:
                if on_epoch:
                    on_epoch(record, False)
        with self.interrupt_handler.listening():
            for finished in training.run():
                if finished is not None and on_epoch:
                    on_epoch(finished, True)
                if self.interrupt_handler.is_requested or self.checkpoints.is_due():
                    self.checkpoints.save(name, training.snapshot())
                if self.interrupt_handler.is_requested:
                    raise TrainingInterruptedError(
                        f"stopped at step {training.step:,} of {training.num_steps:,}; the training is saved.",
                        hint=f"headstart resume {shlex.quote(self.folder_name)}",
                    )
            result = self._result(training, before, refit)
        for each in (source, *(phase.source for phase in phases)):
            self.sources.warn_not_cached(each)
        self.checkpoints.save(f"{name}.done", write_result(result))
        self.checkpoints.drop(name)
        return result

    def _result(self, training: Training, frozen_before: str, refit: Refit | None) -> TrainingResult:
        net, val, source = training.net, training.val, training.source
        end = net.copy_trained()
        alphas = ALPHAS if training.plan.starts_as_probe else (1.0,)
        if refit is not None:
            rows = normalized_rows(net, source, training.train, device=self.device)
            net.head.move_to(*refit(rows, training.train), fraction=_REFIT_FRACTION)
            end = net.copy_trained()
        logits = None
        if val is not None and len(val):
            parts = []
            for alpha in alphas:
                net.load_trained(interpolate(training.start, end, alpha))
                parts.append(predict_logits(net, source, val, device=self.device))
            net.load_trained(end)
            logits = np.stack(parts)
        best = len(training.records)
        if training.plan.patience is not None and training.records and training.val is not None:
            sign = 1.0 if training.plan.monitor == "val_loss" else -1.0
            values = [sign * (getattr(r, training.plan.monitor) or 0.0) for r in training.records]
            best = int(np.argmin(values)) + 1
        return TrainingResult(
logits, alphas, training.start, end, tuple(training.records), training.is_diverged, best,
            frozen_before, net.frozen_digest(),
        )  # fmt: skip

    def close(self) -> None:
        """Stop the workers; cached rows are kept."""
        self.sources.close()
