"""Hold the context of a run: settings, event stream, folder and durations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from headstart.config.settings import ResolvedConfig, known_names
from headstart.events import EventStream, RunRecorder
from headstart.runs.files import environment, write_json
from headstart.runs.folder import finish_run_folder, read_marker
from headstart.types.codes import DecisionReason
from headstart.types.records import Decision
from headstart.utils.system import Clock

__all__ = ["RunContext"]


@dataclass
class RunContext:
    """Context of one run; `resolved` and `duration_s` grow during the run.

    Attributes:
        resolved, events, folder: Settings, event stream and folder of the run.
        duration_s: Seconds by step.
        clock: Clock in seconds; used for the budget.
        started: Clock time when the command began.
        is_resumed: Whether a stopped run continues.
        journal: Values from `journal.json` of an earlier run, which are not measured again.
        has_effect: Tells whether a setting, by its dotted name, affects a model of a strategy; see `Task`.
    """

    resolved: ResolvedConfig
    events: EventStream
    folder: Path
    duration_s: dict[str, float] = field(default_factory=dict)
    clock: Clock = time.monotonic
    started: float = field(default_factory=time.monotonic)
    is_resumed: bool = False
    journal: Mapping[str, Any] = field(default_factory=dict)
    has_effect: Callable[[str, str], bool] = field(default=lambda name, strategy: True)

    def __post_init__(self) -> None:
        self.events.subscribe(RunRecorder(self.folder), replay=True)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the duration of the block to `duration_s[step]`."""
        started = self.clock()
        try:
            yield
        finally:
            self.duration_s[step] = self.duration_s.get(step, 0.0) + self.clock() - started

    def decide(self, decisions: Sequence[Decision], *, is_shown: bool = True) -> None:
        """Record decisions with the source of explicit settings, and emit them unless `is_shown` is False."""
        sources = self.resolved.sources
        decisions = [replace(d, source=sources.get(d.setting, "cli")) if d.source == "cli" else d for d in decisions]
        self.resolved = self.resolved.with_decisions(decisions)
        self.events.decide(*(decisions if is_shown else ()))

    def decide_used(self, *decisions: Decision) -> None:
        """Record, without printing, the resolved values of null and `auto` settings; skip other settings."""
        settings = self.resolved.settings
        self.decide([d for d in decisions if attrgetter(d.setting)(settings) in (None, "auto")], is_shown=False)

    def write_settings(self) -> dict[str, Any]:
        """Write `config.resolved.yaml` and return its rows by setting."""
        chosen = {d.setting: d.value for d in self.resolved.decisions}
        model = {name: chosen.get(name, getattr(self.resolved.settings, name)) for name in ("task", "strategy")}
        unused = [n for n in known_names() if n not in chosen and not self.has_effect(n, model["strategy"])]
        self.decide_used(*(Decision(n, None, DecisionReason.NO_EFFECT, "default", model) for n in unused))
        (self.folder / "config.resolved.yaml").write_text(self.resolved.to_yaml(), encoding="utf-8")
        return self.resolved.rows()

    def write_environment(self) -> dict[str, Any]:
        """Write `environment.json` and return its content."""
        versions = environment(self.resolved.settings.seed, read_marker(self.folder))
        return dict(write_json(self.folder / "environment.json", versions))

    def end(self) -> None:
        """Mark the run as finished; call after all files are written."""
        finish_run_folder(self.folder)
