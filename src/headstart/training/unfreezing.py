"""The phases of gradual unfreezing: from which share of the steps on a stage trains, and from which stored rows.

A phase begins where an earlier stage joins, and its batches are rows at the first stage that
trains in it, so nothing that is frozen for the moment is computed in every step; the weights, the optimizer and
its state are one and the same through all phases.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headstart.training.batch_sources import Source
from headstart.training.plan import FinetunePlan

__all__ = ["Phase", "Phases", "phase_cuts", "start_of"]


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a training in which the same stages train.

    Attributes:
        begin: Share of the steps, 0 to 1, after which it begins.
        cut: The first stage that trains, as the network knows it (`FinetunedNetwork.add_cut`); empty for its own cut.
        source: Gives batches at that cut.
    """

    begin: float
    cut: str
    source: Source


class Phases:
    """The phases of one training, by step.

    Args:
        phases: In order; the first one begins at 0.
        num_steps: Steps of the whole training.
    """

    def __init__(self, phases: Sequence[Phase], num_steps: int) -> None:
        self._phases = tuple(phases)
        self._num_steps = max(1, num_steps)

    def at(self, step: int) -> Phase:
        """Return the phase that a step lies in."""
        return self._phases[self._index(step)]

    def announce(self, wanted: Iterable[tuple[int, Sequence[tuple[int, int]]]]) -> None:
        """State what will be asked for.

        Args:
            wanted: (step, (sample, view) pairs) in order; each source hears of its own steps at once.
        """
        found: dict[int, list[tuple[int, int]]] = {}
        for step, pairs in wanted:
            found.setdefault(self._index(step), []).extend(pairs)
        for index, own in found.items():
            self._phases[index].source.announce(own)

    def _index(self, step: int) -> int:
        share = step / self._num_steps
        return max(i for i, phase in enumerate(self._phases) if i == 0 or share >= phase.begin)


def start_of(plan: FinetunePlan, stage: str) -> float:
    """Return share of the steps after which a stage trains."""
    return max(dict(plan.unfreeze).get(stage, 0.0), plan.head_only_fraction)


def phase_cuts(plan: FinetunePlan, stages: Sequence[str], end: str) -> tuple[tuple[float, str], ...]:
    """(share of the steps, first stage that trains from there on), one entry a phase; one alone without unfreezing.

    Args:
        plan: Says when stages begin, and the earliest cut.
        stages: Names of the stages that train at some time, in forward order.
        end: Where the head begins: the cut while nothing but the head trains.
    """
    if not plan.unfreeze:
        return ((0.0, plan.cut),)
    begins = [start_of(plan, stage) for stage in stages]
    cuts: list[tuple[float, str]] = []
    for share in sorted({0.0, *begins}):
        training = [stage for stage, begin in zip(stages, begins, strict=True) if begin <= share]
        cut = training[0] if training else end
        if not cuts or cuts[-1][1] != cut:
            cuts.append((share, cut))
    cuts[-1] = (cuts[-1][0], plan.cut)  # stages without weights lie before the first one that has some
    return tuple(cuts)
