"""Define the phases of gradual unfreezing, and the batch source of each.

A phase starts when another stage is unfrozen. Its batches are activations at its first trainable stage, so frozen
stages are not computed in every step. Weights and optimizer state carry over between phases.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headstart.training.batch_sources import Source
from headstart.training.plan import FinetunePlan

__all__ = ["Phase", "Phases", "phase_cuts", "start_of"]


@dataclass(frozen=True, slots=True)
class Phase:
    """Part of a training with a fixed set of trainable stages.

    Attributes:
        begin: Fraction of the steps, 0 to 1, at which it starts.
        cut: The first trainable stage (see `FinetunedNetwork.add_cut`); empty for the network's own cut.
        source: Batch source at that cut.
    """

    begin: float
    cut: str
    source: Source


class Phases:
    """Maps the steps of one training to its phases.

    Args:
        phases: In order; the first starts at 0.
        num_steps: Steps of the whole training.
    """

    def __init__(self, phases: Sequence[Phase], num_steps: int) -> None:
        self._phases = tuple(phases)
        self._num_steps = max(1, num_steps)

    def at(self, step: int) -> Phase:
        """Return the phase of a step."""
        return self._phases[self._index(step)]

    def announce(self, batches: Iterable[tuple[int, Sequence[tuple[int, int]]]]) -> None:
        """Announce the next batches to the sources.

        Args:
            batches: (step, (sample, view) pairs) in order.
        """
        by_phase: dict[int, list[tuple[int, int]]] = {}
        for step, pairs in batches:
            by_phase.setdefault(self._index(step), []).extend(pairs)
        for index, own in by_phase.items():
            self._phases[index].source.announce(own)

    def _index(self, step: int) -> int:
        progress = step / self._num_steps
        return max(i for i, phase in enumerate(self._phases) if i == 0 or progress >= phase.begin)


def start_of(plan: FinetunePlan, stage: str) -> float:
    """Return the fraction of the steps after which a stage is unfrozen."""
    return max(dict(plan.unfreeze).get(stage, 0.0), plan.head_only_fraction)


def phase_cuts(plan: FinetunePlan, stages: Sequence[str], end: str) -> tuple[tuple[float, str], ...]:
    """Return (fraction of the steps, first trainable stage from there on) per phase; one without unfreezing.

    Args:
        plan: The training plan, with the start of each stage and the earliest cut.
        stages: Names of the stages that train at some point, in forward order.
        end: Cut before the head, used while only the head trains.
    """
    if not plan.unfreeze:
        return ((0.0, plan.train_from),)
    begins = [start_of(plan, stage) for stage in stages]
    cuts: list[tuple[float, str]] = []
    for fraction in sorted({0.0, *begins}):
        training = [stage for stage, begin in zip(stages, begins, strict=True) if begin <= fraction]
        cut = training[0] if training else end
        if not cuts or cuts[-1][1] != cut:
            cuts.append((fraction, cut))
    cuts[-1] = (cuts[-1][0], plan.train_from)  # include stages without weights before the first one with weights
    return tuple(cuts)
