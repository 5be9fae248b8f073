"""Test `on_progress` and `cancel` of the functions: they stop in under a second, and runs can be resumed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headstart
from headstart.errors import CancelledError
from headstart.events import CancelToken, EpochFinished, Event, EventStream, Progress
from headstart.pipelines.resume import find_resumable
from headstart.types.events import Stage

HEAD: dict[str, Any] = {"strategy": "head", "num_views": 1, "num_threads": 1, "batch_size": 1000}
TINY: dict[str, Any] = {"backbone": "timm:resnet10t", "weights": "none", "image_size": 64}


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> headstart.Run:
    return headstart.train(photos, out=tmp_path_factory.mktemp("runs") / "probe", num_threads=1)


class CancelAfterEpoch:
    """Sets an event when an epoch ends, and measures how long the function then takes."""

    def __init__(self) -> None:
        self.event, self.at = threading.Event(), 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, EpochFinished) and not self.event.is_set():
            self.event.set()
            self.at = time.monotonic()

    def check(self) -> None:
        """Fail if no epoch ended, or the function did not stop in a second."""
        assert self.event.is_set()
        assert time.monotonic() - self.at < 1.0


@pytest.mark.long
def test_canceled_training_is_resumed_to_the_same_weights(make_images: Callable[..., Path], tmp_path: Path) -> None:
    few = make_images(tmp_path / "few", {"stripes": 8, "discs": 8})
    whole = headstart.train(few, out=tmp_path / "whole", epochs=2, **TINY, **HEAD)
    canceler = CancelAfterEpoch()
    with pytest.raises(CancelledError) as caught:
        headstart.train(
            few, out=tmp_path / "run", epochs=2, on_progress=canceler, cancel=canceler.event, **TINY, **HEAD
        )
    canceler.check()
    assert caught.value.code == "cancelled"
    resumed = headstart.resume(tmp_path / "run")
    weights = [(r.folder / "bundle" / "model.safetensors").read_bytes() for r in (whole, resumed)]
    assert weights[0] == weights[1]


def test_canceled_training_is_saved(make_images: Callable[..., Path], tmp_path: Path) -> None:
    few = make_images(tmp_path / "few", {"stripes": 8, "discs": 8})
    canceler = CancelAfterEpoch()
    with pytest.raises(CancelledError):
        headstart.train(
            few, out=tmp_path / "run", epochs=2, on_progress=canceler, cancel=canceler.event, **TINY, **HEAD
        )
    canceler.check()
    assert find_resumable(tmp_path) == tmp_path / "run"


def test_functions_stop(photos: Path, run: headstart.Run) -> None:
    is_set = threading.Event()
    is_set.set()
    token = CancelToken()
    token.cancel()
    for cancel in (is_set, token):
        for function in (
            lambda: headstart.check(photos, cancel=cancel),  # noqa: B023
            lambda: headstart.evaluate(run.folder, photos, cancel=cancel),  # noqa: B023
            lambda: headstart.predict(run.folder, photos, cancel=cancel),  # noqa: B023
        ):
            with pytest.raises(CancelledError):
                function()


def test_prediction_reports_progress(photos: Path, run: headstart.Run) -> None:
    seen: list[Event] = []
    predictions = headstart.predict(run.folder, photos, on_progress=seen.append)
    last = [event for event in seen if isinstance(event, Progress)][-1]
    assert (last.stage, last.done, last.total) == (Stage.PREDICT, len(predictions), 48)


def test_evaluation_reports_progress(photos: Path, run: headstart.Run) -> None:
    seen: list[Event] = []
    headstart.evaluate(run.folder, photos, on_progress=seen.append)
    assert any(isinstance(e, Progress) and e.stage is Stage.EVALUATE and e.done == 48 for e in seen)


def test_streams_stop(run: headstart.Run) -> None:
    cancel = threading.Event()
    frames = (np.full((40, 40, 3), i, np.uint8) for i in range(100))
    results = iter(run.model.predict(frames, cancel=cancel))
    next(results)
    cancel.set()
    with pytest.raises(CancelledError):
        list(results)


def test_eight_threads_predict_what_one_does(photos: Path, run: headstart.Run) -> None:
    model = run.model
    images = sorted(photos.rglob("*.jpg"))[::12]
    expected = model.predict_proba(images)
    with ThreadPoolExecutor(8) as pool:
        for table in pool.map(lambda _: model.predict_proba(images), range(16)):
            np.testing.assert_array_equal(table, expected)


def test_event_streams_take_any_event() -> None:
    cancel = threading.Event()
    stream = EventStream(cancel=cancel)
    stream.raise_if_cancelled()
    cancel.set()
    with pytest.raises(CancelledError):
        stream.raise_if_cancelled()
