"""Measure what the training of a detector costs on this machine: seconds of views, steps and final steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.detection.plan import DetectPlan
from headstart.training.batch_sources import epoch_order
from headstart.types.arrays import Ids
from headstart.utils.system import Clock

if TYPE_CHECKING:
    from headstart.detection.trainer import DetectorTrainer

__all__ = ["DetectTimer"]

_WARMUP_STEPS, _TIMED_STEPS, _MIN_TIMED = 2, 5, 2
_TIMED_S = 3.0  # timing stops after this many seconds, but not before `_MIN_TIMED` steps
_CHUNK, _CHUNKS = 8, 3  # views are timed in chunks; the first is warm-up
_MORE_WORKERS = 1.5  # default contention of several threads, relative to one thread


class DetectTimer:
    """Measures costs on the training images.

    Args:
        trainer: The trainer.
        clock: Returns the time in seconds.
        cpu_clock: Returns the CPU seconds of this process.
        num_torch_threads: Threads of a step.
    """

    def __init__(self, trainer: DetectorTrainer, clock: Clock, cpu_clock: Clock, num_torch_threads: int) -> None:
        self._trainer, self._clock, self._cpu_clock = trainer, clock, cpu_clock
        self._num_torch_threads = num_torch_threads
        self._contention = 1.0
        self._worker_contention: float | None = None

    def time_training(self, plan: DetectPlan, order: Ids) -> dict[str, Any]:
        """Measure the seconds per view and per step, after warm-up; return the fields of `MeasuredCosts`.

        Args:
            plan: The plan.
            order: Positions of the training images, in the order in which they are used.
        """
        view_s = self._time_views(plan, order) if plan.is_cached else 0.0
        training = self._trainer.training(plan, order)
        size = min(plan.batch_size, len(order))
        count = (_WARMUP_STEPS + _TIMED_STEPS) * size
        # Of a plan with cached views, the images whose first view is cached.
        used = np.resize(order[:size] if plan.is_cached else epoch_order(order, 0, plan.seed), count)
        training.source.announce([(int(s), 1) for s in used])
        seconds, busy = list[float](), list[float]()
        for i in range(_WARMUP_STEPS + _TIMED_STEPS):
            began, began_cpu = self._clock(), self._cpu_clock()
            training.take_step(used[i * size : (i + 1) * size], np.ones(size, dtype=np.int64))
            seconds.append(self._clock() - began)
            busy.append(self._cpu_clock() - began_cpu)
            timed = seconds[_WARMUP_STEPS:]
            if len(timed) >= _MIN_TIMED and sum(seconds) > _TIMED_S:
                break
        cpu_s = sum(busy[_WARMUP_STEPS:]) / self._num_torch_threads
        self._contention = max(1.0, sum(seconds[_WARMUP_STEPS:]) / max(cpu_s, 1e-9))
        return {"view_s": view_s, "step_s": max(float(np.median(seconds[_WARMUP_STEPS:])), 1e-6)}

    def time_final_steps(self, plan: DetectPlan, order: Ids) -> dict[str, Any]:
        """Measure the final steps, after `time_training`; return the measured fields of `FinalSteps`."""
        return {
            "export_cpu_s": self._trainer.export_cpu_s(plan),
            "image_cpu_s": self._trainer.time_images(plan, order[:3]),
            "contention": self._contention,
            "num_threads": self._trainer.num_threads,
            "worker_contention": self._worker_contention or _MORE_WORKERS * (self._contention - 1.0) + 1.0,
        }

    def missing_views(self, plan: DetectPlan, samples: Ids, last: int, first: int = 1) -> list[tuple[int, int]]:
        """Return (image, view) pairs of the views that are not cached, ordered by view."""
        pairs = [(int(s), v) for v in range(first, last + 1) for s in samples]
        return [pair for pair in pairs if not self._trainer.is_cached(plan, *pair)]

    def _time_views(self, plan: DetectPlan, order: Ids) -> float:
        """Measure the seconds per view; 0 if all views are cached."""
        pairs = self.missing_views(plan, order, max(1, plan.num_views))[: _CHUNK * _CHUNKS]
        if not pairs:
            return 0.0
        seconds_per_view, seconds, cpu_s = list[float](), 0.0, 0.0
        for start in range(0, len(pairs), _CHUNK):
            part = pairs[start : start + _CHUNK]
            began, began_cpu = self._clock(), self._cpu_clock()
            self._trainer.make_views(plan, part, np.inf)
            seconds_per_view.append((self._clock() - began) / len(part))
            if start:
                seconds += self._clock() - began
                cpu_s += self._cpu_clock() - began_cpu
        if cpu_s:
            self._worker_contention = max(1.0, seconds * self._trainer.num_threads / cpu_s)
        return float(np.median(seconds_per_view[1:] or seconds_per_view))
