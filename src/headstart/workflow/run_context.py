"""What every road carries: the settings, where it talks and writes, and how long its steps took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from headstart.config import ResolvedConfig, known_names
from headstart.events import EventStream
from headstart.records import Decision
from headstart.serialization import plain
from headstart.setting_effects import has_effect
from headstart.system import Clock
from headstart.types import DecisionReason, Evidence
from headstart.workflow.run_files import environment, write_json
from headstart.workflow.run_folder import finish_run_folder, read_marker
from headstart.workflow.run_recorder import RunRecorder

__all__ = ["RunContext", "planned_decision"]


def planned_decision(resolved: ResolvedConfig, setting: str, value: Any, num_train: int) -> list[Decision]:
    """Return the decision for a value of a training's plan; none where it is what the user set.

    Args:
        resolved: The settings.
        setting: Dotted name.
        value: What the training uses, as plain values.
        num_train: Training images.
    """
    evidence: Evidence = {"num_train": num_train}
    if not resolved.is_explicit(setting):
        return [Decision(setting, value, DecisionReason.DEFAULT_FOR_NUM_TRAIN, "default", evidence)]
    asked = plain(attrgetter(setting)(resolved.settings))
    if asked == value:
        return []
    reason = DecisionReason.BATCH_LIMITED_BY_DATA if setting == "batch_size" else DecisionReason.ADAPTED_FROM_ASKED
    return [Decision(setting, value, reason, evidence={"asked": asked, **evidence})]


@dataclass
class RunContext:
    """One pass along a road; `resolved` and `duration_s` grow as it goes."""

    resolved: ResolvedConfig
    events: EventStream
    folder: Path
    duration_s: dict[str, float] = field(default_factory=dict)
    clock: Clock = time.monotonic
    next_commands: list[tuple[str, str | None]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.events.subscribe(RunRecorder(self.folder), replay=True)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the seconds of a step under its name."""
        started = self.clock()
        try:
            yield
        finally:
            self.duration_s[what] = self.duration_s.get(what, 0.0) + self.clock() - started

    def decide(self, decisions: Sequence[Decision], *, is_said: bool = True) -> None:
        """Keep decisions, with the real source of what the user set, and emit them unless `is_said` is False."""
        sources = self.resolved.sources
        decisions = [replace(d, source=sources.get(d.setting, "cli")) if d.source == "cli" else d for d in decisions]
        self.resolved = self.resolved.with_decisions(decisions)
        self.events.decide(*(decisions if is_said else ()))

    def decide_used(self, *decisions: Decision) -> None:
        """Record, without printing, the values that null and `auto` settings came to; other settings are skipped."""
        settings = self.resolved.settings
        self.decide([d for d in decisions if attrgetter(d.setting)(settings) in (None, "auto")], is_said=False)

    def write_settings(self) -> None:
        """`environment.json` and `config.resolved.yaml`: on what it ran, and with which settings."""
        chosen = {d.setting: d.value for d in self.resolved.decisions}
        model = {name: chosen.get(name, getattr(self.resolved.settings, name)) for name in ("task", "strategy")}
        unused = [n for n in known_names() if n not in chosen and not has_effect(n, **model)]
        self.decide_used(*(Decision(n, None, DecisionReason.NO_EFFECT, "default", model) for n in unused))
        found = environment(self.resolved.settings.seed, read_marker(self.folder))
        write_json(self.folder / "environment.json", found)
        (self.folder / "config.resolved.yaml").write_text(self.resolved.to_yaml(), encoding="utf-8")

    def end(self) -> None:
        """Mark the run as finished: to be called after everything else was written."""
        finish_run_folder(self.folder)
