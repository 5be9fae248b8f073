"""Test gradual unfreezing with cached activations per phase."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from event_text import decisions_of

import headstart
from headstart.api.functions import resume
from headstart.config.settings import resolve
from headstart.errors import UsageError
from headstart.types.records import Decision

pytest.importorskip("torch")

import torch

from headstart.advice.resources import fit_to_disk
from headstart.store.arrays import ArrayRows
from headstart.training.checkpoint import Checkpoints, load_snapshot
from headstart.training.loop import TrainingState
from headstart.training.phase_caches import PhaseCaches
from headstart.training.plan import FinetunePlan, default_plan, parse_unfreeze
from headstart.types.codes import DecisionReason

PLAN = default_plan("finetune", "stage6", 1000, 4).with_(unfreeze=parse_unfreeze("stage7@0,stage6@30%"), num_views=4)
NAMES = ("stem", "stage5", "stage6", "stage7", "neck", "head")


RESOLVED = resolve({"data": "x", "strategy": "finetune", "unfreeze": "stage7@0,stage6@30%"}, source="x")


def phase_rows(is_on: bool = True) -> PhaseCaches:
    stage_of = {"a": 1, "b": 2, "c": 3, "d": 5}  # the neck has no weights
    network = SimpleNamespace(names=NAMES, position=NAMES.index, map=SimpleNamespace(stage_of=stage_of))
    backbone = SimpleNamespace(model=SimpleNamespace(network=network), end_cut=lambda plan: "head")
    embedder = SimpleNamespace(graph=SimpleNamespace(blocks={}))
    return PhaseCaches(backbone, embedder, None, is_on)  # type: ignore[arg-type]


class FakeSources:
    """Sources with rows of 20 and 40 kB at the two cuts, and a given disk space."""

    def __init__(self, room: int, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        cache = SimpleNamespace(free_bytes=lambda: room)
        self.sources = SimpleNamespace(cache=cache, phases=phase_rows(), phase_bytes=self.phase_bytes)
        self.sources.row_bytes = lambda plan: sum(self.phase_bytes(plan))

    def phase_bytes(self, plan: FinetunePlan) -> list[int]:
        return [20_000, 40_000] if len(self.sources.phases.cuts(plan)) == 2 else [40_000]


def fitted(room: int, folder: Path) -> tuple[FinetunePlan, Decision, PhaseCaches]:
    """Return the fitting plan, the decision about phases, and the caches."""
    trainer = FakeSources(room, Checkpoints(folder))
    adapted = fit_to_disk(RESOLVED, trainer, PLAN, 1000)  # type: ignore[arg-type]
    return adapted.plan, adapted.decisions[0], trainer.sources.phases


def test_all_phases_are_reported(tmp_path: Path) -> None:
    plan, decision, rows = fitted(300_000_000, tmp_path)
    assert (plan, rows.is_on) == (PLAN, True)
    assert (decision.value, decision.reason) == ("one_per_cut", DecisionReason.PHASES_FIT_CACHE)
    assert decision.evidence["phases"] == [
        {"start": 0.0, "cut": "stage7", "needed_bytes": 100_000_000},
        {"start": 0.3, "cut": "stage6", "needed_bytes": 200_000_000},
    ]


def test_large_phases_use_earliest_cut(tmp_path: Path) -> None:
    plan, decision, rows = fitted(299_000_000, tmp_path)
    assert (plan, rows.is_on) == (PLAN, False)  # as many views as before
    assert (decision.value, decision.reason) == ("one", DecisionReason.PHASES_TOO_LARGE)
    assert (decision.evidence["free_bytes"], decision.evidence["cut"]) == (299_000_000, "stage6")
    plan, _, rows = fitted(120_000_000, tmp_path / "less")
    assert (plan.num_views, plan.is_cached, rows.is_on) == (2, True, False)


def test_resumed_run_keeps_rows(tmp_path: Path) -> None:
    assert not fitted(299_000_000, tmp_path)[2].is_on
    assert not fitted(900_000_000, tmp_path)[2].is_on


def test_network_without_later_cut_uses_earliest_cut(tmp_path: Path) -> None:
    trainer = FakeSources(900_000_000, Checkpoints(tmp_path))

    def refuse(plan: FinetunePlan) -> list[int]:
        raise UsageError("training cannot begin at `stage7`: a list of tensors crosses it.")

    trainer.sources.phase_bytes = refuse
    adapted = fit_to_disk(RESOLVED, trainer, PLAN, 1000)  # type: ignore[arg-type]
    assert adapted.plan == PLAN
    assert not trainer.sources.phases.is_on
    (decision,) = adapted.decisions
    assert decision.reason is DecisionReason.PHASES_CANNOT_BE_CUT
    assert decision.evidence == {"cut": "stage6", "wanted_cuts": ["stage7", "stage6"]}


def test_no_phases_without_cache_or_unfreezing() -> None:
    rows = phase_rows()
    assert rows.cuts(PLAN) == ((0.0, "stage7"), (0.3, "stage6"))
    assert rows.cuts(PLAN.with_(is_cached=False)) == rows.cuts(PLAN.with_(unfreeze=())) == ((0.0, "stage6"),)
    assert rows.cuts(PLAN.with_(strategy="full")) == phase_rows(is_on=False).cuts(PLAN) == ((0.0, "stage6"),)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., Path]) -> Path:
    return make_images(tmp_path_factory.mktemp("few"), {"stripes": 10, "discs": 10})


SETTINGS: dict[str, Any] = {
    "strategy": "finetune", "unfreeze": "stage7@0,stage6@50%", "epochs": 3, "num_views": 2, "num_threads": 1,
    "optimizer": "sgd",
}  # fmt: skip


@contextmanager
def one_source() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PhaseCaches, "cuts", lambda self, plan: ((0.0, plan.train_from),))
        yield


def ends(run: headstart.Run, part: str) -> TrainingState:
    (path,) = (run.folder / "checkpoints").glob(f"*-{part}.done.safetensors")
    return load_snapshot(path)


def difference(a: TrainingState, b: TrainingState) -> float:
    """Return the relative distance between two ends."""
    names = [n for n in a.tensors if n.startswith("end/")]
    moved = sum(float((a.tensors[n] - a.tensors["start/" + n[4:]]).square().sum()) for n in names)
    apart = sum(float((a.tensors[n] - b.tensors[n]).square().sum()) for n in names)
    assert moved > 1e-8
    return float(np.sqrt(apart / moved))


def test_phases_have_rows_and_keep_frozen_weights(few: Path, tmp_path: Path) -> None:
    opened: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        open_rows = ArrayRows.open
        patch.setattr(ArrayRows, "open", lambda *a: (opened.append(a[3]), open_rows(*a))[1])
        run = headstart.train(few, out=tmp_path / "run", **{**SETTINGS, "epochs": 2, "num_views": 1})
    assert sum("/" in digest for digest in opened) == 1  # rows at stage7, made from those at stage6
    phases = decisions_of(run.folder)["finetune.phases"]["evidence"]["phases"]
    assert [(phase["cut"], phase["start"]) for phase in phases] == [("stage7", 0.0), ("stage6", 0.5)]
    assert run.metrics["finetune"]["plan"]["train_from"] == "stage6"
    for part in ("fold1", "final"):
        done = ends(run, part)
        assert done.values["frozen_before"] == done.values["frozen_after"] != ""
        starts = [n for n in done.tensors if n.startswith("start/")]
        still = [n for n in starts if torch.equal(done.tensors[n], done.tensors["end/" + n[6:]])]
        assert len(still) < 0.1 * len(starts), still


class Killed(BaseException):
    """Simulates SIGKILL; no code catches it."""


@pytest.mark.long
@pytest.mark.parametrize("step", [3, 6, 8])
def test_run_killed_in_phases_resumes_to_same_weights(step: int, few: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "optimizer": "adamw"}
    whole = headstart.train(few, out=tmp_path / "whole", **settings)
    save = Checkpoints.save

    def dying(self: Checkpoints, name: str, snapshot: TrainingState) -> None:
        save(self, name, snapshot)
        if snapshot.values.get("step") == step:  # 12 steps: from the seventh on stage6 trains
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "is_due", lambda self: True)
        patch.setattr(Checkpoints, "save", dying)
        with pytest.raises(Killed):
            headstart.train(few, out=tmp_path / "killed", **settings)
    again = resume(tmp_path / "killed")
    for part in ("fold1", "final"):
        a, b = ends(whole, part), ends(again, part)
        assert all(torch.equal(a.tensors[n], b.tensors[n]) for n in a.tensors)
    assert again.score == whole.score


@pytest.mark.long
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"unfreeze": "stage7@0,stage6@30%,stage5@60%"},  # two cuts, one derived from the other
        {
            "unfreeze": "stage7@0,stage6@40%",
            "finetune": {"head_only_fraction": 0.2},
        },  # only the head at first: pooled features
        {"unfreeze": "stage7@0,stage6@40%", "finetune": {"train_image_size": 160}},  # views and scores of two sizes
        {"unfreeze": "stage7@0,stage6@40%", "head": "hidden=8", "finetune": {"head_only_fraction": 0.2}},
    ],
)
def test_phases_match_single_cut(more: dict[str, Any], few: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, **more}
    phased = headstart.train(few, out=tmp_path / "phased", **settings)
    assert decisions_of(phased.folder)["finetune.phases"]["value"] != "one"
    with one_source():
        plain = headstart.train(few, out=tmp_path / "plain", **settings)
    assert "finetune.phases" not in decisions_of(plain.folder)
    for part in ("fold1", "final"):
        a, b = ends(phased, part), ends(plain, part)
        assert difference(a, b) < 0.05  # the later rows are rounded to half precision, too
        assert a.values["frozen_before"] == a.values["frozen_after"] == b.values["frozen_after"]
    phased_logits, plain_logits = (ends(run, "fold1").tensors["logits"] for run in (phased, plain))
    np.testing.assert_allclose(phased_logits, plain_logits, atol=0.05)
