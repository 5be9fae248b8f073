"""What every road carries: the settings, where it talks and writes, and how long its steps took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headstart.config import Resolved
from headstart.events import EventStream
from headstart.machine import Clock
from headstart.records import Decision
from headstart.workflow.run_files import environment, write_json
from headstart.workflow.run_folder import finish_run_folder, read_marker
from headstart.workflow.run_recorder import RunRecorder

__all__ = ["Road"]


@dataclass
class Road:
    """One pass along a road; `resolved` and `duration_s` grow as it goes."""

    resolved: Resolved
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
        """Adds the seconds of a step under its name."""
        started = self.clock()
        try:
            yield
        finally:
            self.duration_s[what] = self.duration_s.get(what, 0.0) + self.clock() - started

    def decide(self, decisions: Sequence[Decision], *, is_said: bool = True) -> None:
        """Keeps decisions; says the automatic ones with their reasons."""
        self.resolved = self.resolved.with_decisions(decisions)
        self.events.decide(*(decisions if is_said else ()))

    def decide_used(self, **used: tuple[Any, str]) -> None:
        """Record, without printing, the value that a null or `auto` setting came to.

        Args:
            used: (value, reason) by the name of a top-level setting; a setting with a value of its own is skipped.
        """
        is_open = {name: getattr(self.resolved.settings, name) in (None, "auto") for name in used}
        self.decide([Decision(n, v, why) for n, (v, why) in used.items() if is_open[n]], is_said=False)

    def write_settings(self) -> None:
        """`environment.json` and `config.resolved.yaml`: on what it ran, and with which settings."""
        found = environment(self.resolved.settings.seed, read_marker(self.folder))
        write_json(self.folder / "environment.json", found)
        (self.folder / "config.resolved.yaml").write_text(self.resolved.to_yaml(), encoding="utf-8")

    def end(self) -> None:
        """Mark the run as finished: to be called after everything else was written."""
        finish_run_folder(self.folder)
