"""Test training the whole network from cached decoded images."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from event_text import events_of, lines_of, notes_of

import headstart
from headstart.api.functions import resume
from headstart.events import EventStream
from headstart.features.decoded_cache import DecodedCache
from headstart.preprocessing.image_spec import ImageSpec
from headstart.store.cache import cache_info, clear_cache
from headstart.training.checkpoint import Checkpoints, load_snapshot
from headstart.training.image_sources import BatchSources
from headstart.training.loop import TrainingState
from headstart.training.plan import default_plan
from headstart.types.codes import NoteKind

pytest.importorskip("torch")

FULL: dict[str, Any] = {"strategy": "full", "epochs": 2, "image_size": 64, "num_threads": 1}


class Killed(BaseException):
    """Simulates SIGKILL; no code catches it."""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., Path]) -> Path:
    return make_images(tmp_path_factory.mktemp("few"), {"stripes": 10, "discs": 10}, first_seed=70)


@pytest.fixture
def own_cache(cache_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set up a cache with the session's graphs and no images."""
    own = tmp_path / "cache"
    if (cache_root / "graphs").is_dir():
        shutil.copytree(cache_root / "graphs", own / "graphs")
    monkeypatch.setenv("HEADSTART_CACHE", str(own))
    return own


def weights_of(run: headstart.Run) -> dict[str, Any]:
    (done,) = (run.folder / "checkpoints").glob("full-*.done.safetensors")
    return {name: tensor.numpy() for name, tensor in load_snapshot(done).tensors.items()}


@pytest.mark.long
def test_images_are_decoded_once(few: Path, tmp_path: Path, own_cache: Path, decodes: list[bytes]) -> None:
    headstart.train(few, out=tmp_path / "run", **{**FULL, "epochs": 3})
    assert 20 <= len(decodes) == len(set(decodes))
    assert "decoded" in {part.name for part in cache_info(own_cache)}


@pytest.mark.long
def test_full_disk_is_reported(few: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    expected = weights_of(headstart.train(few, out=tmp_path / "whole", **FULL))
    assert clear_cache(own_cache, "decoded") > 0
    monkeypatch.setattr("headstart.store.rows.private_folder", full)
    monkeypatch.setattr("headstart.store.rows._SHARD_BYTES", 50_000)
    run = headstart.train(few, out=tmp_path / "full", **FULL)
    notes = [event["kind"] for event in events_of(run.folder, "note")]
    assert NoteKind.CACHE_NOT_WRITTEN in notes
    weights = weights_of(run)
    assert all(np.array_equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize("when", ["a training ends", "the run ends"])
def test_failed_last_write_is_reported(few: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headstart.store.rows.private_folder", full)
    monkeypatch.setattr("headstart.training.image_sources.DecodedCache", partial(DecodedCache, read_rate=np.inf))
    paths = [str(p) for p in sorted(few.rglob("*.jpg"))[:4]]
    digests = [hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in paths]
    fitted: Any = SimpleNamespace(
        embedder=SimpleNamespace(spec=ImageSpec(size_hw=(64, 64)), graph=SimpleNamespace(blocks={"embedding": 8})),
        samples=SimpleNamespace(paths=paths, names=paths),
        features=SimpleNamespace(digests=digests),
    )
    backbone: Any = SimpleNamespace(settings=SimpleNamespace(cache=True), embedder=fitted.embedder)
    events = EventStream()
    sources = BatchSources(fitted, backbone, Checkpoints(own_cache / "checkpoints"), events, 1)
    source = sources.open(default_plan("full", "stem", 4, 2))
    source.batch(np.arange(4), np.ones(4, dtype=np.int64))
    assert not lines_of(events)  # far less than one write
    if when == "a training ends":
        sources.warn_not_cached(source)
        assert len(lines_of(events)) == 1
    sources.close()
    (note,) = notes_of(events)
    assert note.kind is NoteKind.CACHE_NOT_WRITTEN


@pytest.mark.long
def test_killed_run_resumes_to_same_weights(few: Path, tmp_path: Path, own_cache: Path, decodes: list[bytes]) -> None:
    expected = weights_of(headstart.train(few, out=tmp_path / "whole", **FULL))
    num_first = len(decodes)
    save, names = Checkpoints.save, []

    def dying(self: Checkpoints, name: str, snapshot: TrainingState) -> None:
        save(self, name, snapshot)
        names.append(name)
        if len(names) == 2:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "is_due", lambda self: True)
        patch.setattr(Checkpoints, "save", dying)
        with pytest.raises(Killed):
            headstart.train(few, out=tmp_path / "killed", **FULL)
    assert len(decodes) == num_first  # all were cached
    assert clear_cache(own_cache, "decoded") > 0
    again = weights_of(resume(tmp_path / "killed"))
    assert len(decodes) > num_first
    without = weights_of(headstart.train(few, out=tmp_path / "without", cache=False, **FULL))
    for weights in (again, without):
        assert all(np.array_equal(weights[name], expected[name]) for name in expected)
