"""Predicts from a bundle with numpy, Pillow and ONNX Runtime alone.

The one decision: with many pictures, every worker thread decodes a handful and runs them through a
session of one thread, so decoding and the network share the cores without waiting for each other; a
lone picture gets a session that uses all cores.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headstart.deploy.bundle import Bundle, read_bundle
from headstart.deploy.pictures import Source, as_sources, name_of, to_pixels
from headstart.errors import BundleError, UsageError
from headstart.machine import available_cores
from headstart.pixels.spec import PictureError, normalise
from headstart.records import Prediction

__all__ = ["Runtime", "measure_latency", "softmax"]

ChannelOrder = Literal["rgb", "bgr"]

Answer: TypeAlias = tuple[str, tuple[NDArray[np.float32], ...] | PictureError]
"""Name of a picture, and one row of each output of the network or what is wrong with the picture."""

BATCH = 4
"""Pictures a worker takes at once; more is slower on a CPU, whose caches overflow (`benchmarks/bench_predict.py`)."""


class Runtime:
    """A bundle that is ready to predict.

    Args:
        bundle: A bundle, or the path of one (run folder, bundle folder or zip).
        threads: Cores to use; None means all that this process may use.

    Raises:
        UsageError, BundleError: As in `read_bundle`.
    """

    def __init__(self, bundle: Bundle | str | os.PathLike[str], threads: int | None = None) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(os.fspath(bundle))
        if threads is not None and threads < 1:
            raise UsageError(f"The number of threads is at least 1, not {threads}.")
        self.threads = threads or available_cores()
        self._sessions: dict[int, Any] = {}
        self._lock = threading.Lock()

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.bundle.class_names

    def predict(
        self, sources: Any, top: int = 1, *, batch: int = BATCH, channel_order: ChannelOrder = "rgb"
    ) -> list[Prediction]:
        """Predicts one or many pictures; see `iter_predict`."""
        return list(self.iter_predict(sources, top, batch=batch, channel_order=channel_order))

    def iter_predict(
        self, sources: Any, top: int = 1, *, batch: int = BATCH, channel_order: ChannelOrder = "rgb"
    ) -> Iterator[Prediction]:
        """Predicts pictures one after another, holding only a few in memory.

        Args:
            sources: One or an iterable of: paths, bytes of files, PIL pictures, (H, W, 3) uint8 arrays.
            top: How many classes to name for each picture, at least 1; at most all are named.
            batch: Pictures a run of the network.
            channel_order: Of arrays: `rgb`, or `bgr` as OpenCV has it.

        Yields:
            One prediction a source, in order; where a picture cannot be read, with `error` and without `label`.

        Raises:
            UsageError: A source is of another kind, or an option does not fit.
        """
        if top < 1:
            raise UsageError(f"top is at least 1, not {top}.")
        names = self.bundle.class_names
        for name, outputs in self.iter_outputs(sources, ("logits",), batch=batch, channel_order=channel_order):
            if isinstance(outputs, PictureError):
                yield Prediction(file=name, label=None, probability=None, error=str(outputs))
                continue
            probabilities = softmax(outputs[0])
            order = np.argsort(-probabilities, kind="stable")[:top]
            best = tuple((names[i], float(probabilities[i])) for i in order)
            yield Prediction(file=name, label=best[0][0], probability=best[0][1], top=best)

    def predict_proba(
        self, sources: Any, *, batch: int = BATCH, channel_order: ChannelOrder = "rgb"
    ) -> NDArray[np.float64]:
        """(N, K) probabilities in the order of `class_names`; NaN rows where a picture cannot be read."""
        return softmax(self._collect(sources, "logits", batch, channel_order))

    def embed(self, sources: Any, *, batch: int = BATCH, channel_order: ChannelOrder = "rgb") -> NDArray[np.float32]:
        """(N, D) pooled features of the network; NaN rows where a picture cannot be read."""
        return self._collect(sources, "embedding", batch, channel_order)

    def _collect(self, sources: Any, output: str, batch: int, channel_order: ChannelOrder) -> NDArray[np.float32]:
        rows = [
            outputs for _, outputs in self.iter_outputs(sources, (output,), batch=batch, channel_order=channel_order)
        ]
        good = next((row[0] for row in rows if not isinstance(row, PictureError)), None)
        width = len(self.class_names) if good is None and output == "logits" else 0 if good is None else len(good)
        table = np.full((len(rows), width), np.nan, dtype=np.float32)
        for i, row in enumerate(rows):
            if not isinstance(row, PictureError):
                table[i] = row[0]
        return table

    def iter_outputs(
        self,
        sources: Any,
        outputs: tuple[str, ...],
        *,
        batch: int = BATCH,
        channel_order: ChannelOrder = "rgb",
    ) -> Generator[Answer, None, None]:
        """Yields (name, one row of each output) or (name, what is wrong with the picture), in order."""
        if batch < 1:
            raise UsageError(f"batch is at least 1, not {batch}.")
        if channel_order not in ("rgb", "bgr"):
            raise UsageError(f"channel_order is `rgb` or `bgr`, not {channel_order!r}.")
        numbered = enumerate(as_sources(sources))
        first = list(islice(numbered, 2))
        if len(first) < 2 or self.threads == 1:
            session = self._session(self.threads)
            while first:
                yield from self._work(first, outputs, session, channel_order)
                first = list(islice(numbered, batch))
            return
        session = self._session(1)
        pending: deque[Future[Any]] = deque()
        chunk = first + list(islice(numbered, max(batch - 2, 0)))
        with ThreadPoolExecutor(self.threads, thread_name_prefix="headstart") as pool:
            try:
                while chunk or pending:
                    if chunk:
                        pending.append(pool.submit(self._work, chunk, outputs, session, channel_order))
                        chunk = list(islice(numbered, batch))
                    if pending and (not chunk or len(pending) > 2 * self.threads):
                        yield from pending.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _work(
        self, chunk: list[tuple[int, Source]], outputs: tuple[str, ...], session: Any, channel_order: ChannelOrder
    ) -> list[Answer]:
        """Decodes a handful of pictures and runs the network on those that could be read."""
        results: list[Any] = []
        pixels: list[NDArray[np.uint8]] = []
        for index, source in chunk:
            try:
                pixels.append(to_pixels(source, self.bundle.spec, channel_order))
                results.append((name_of(source, index), None))
            except PictureError as error:
                results.append((name_of(source, index), error))
        if pixels:
            rows = iter(zip(*session.run(list(outputs), {"pixels": self._input(pixels)}), strict=True))
            results = [(name, next(rows) if problem is None else problem) for name, problem in results]
        return results

    def _input(self, pixels: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return normalise(np.stack(pixels), self.bundle.spec)

    def _session(self, threads: int) -> Any:
        """The session with that many threads, made when it is first needed."""
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = session = open_session(self.bundle.model, threads)
                _check_session(session, self.bundle.spec.size_hw, len(self.class_names))
            return self._sessions[threads]


def open_session(model: bytes, threads: int) -> Any:
    """An ONNX Runtime session on the CPU.

    Raises:
        BundleError: ONNX Runtime refuses the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised, and said in our words
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base but Exception
        raise BundleError(
            f"ONNX Runtime {onnxruntime.__version__} cannot open the model: {str(error).splitlines()[0]}",
            hint="pip install --upgrade onnxruntime",
        ) from error


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True, initial=-np.inf)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


def measure_latency(model: bytes, size_hw: tuple[int, int], num_classes: int) -> dict[str, Any]:
    """Time of one normalised picture through the warm model on all cores, milliseconds.

    Raises:
        BundleError: The model does not take such pictures or knows another number of classes.
    """
    threads = available_cores()
    session = open_session(model, threads)
    _check_session(session, size_hw, num_classes)
    pixels = np.zeros((1, 3, *size_hw), dtype=np.float32)
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 33 and (len(times) < 8 or time.perf_counter() - begun < 1.0):
        started = time.perf_counter()
        session.run(None, {"pixels": pixels})
        times.append((time.perf_counter() - started) * 1000)
    p50, p95 = np.quantile(times[3:], [0.5, 0.95])  # the first runs warm up
    rounded = {"p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3)}
    return {"batch": 1, **rounded, "threads": threads, "runs": len(times) - 3}


def _check_session(session: Any, size_hw: tuple[int, int], num_classes: int) -> None:
    """The model takes and gives what `bundle.json` says."""
    inputs = {value.name: (value.type, list(value.shape)) for value in session.get_inputs()}
    outputs = {value.name: list(value.shape) for value in session.get_outputs()}
    expected = [3, *size_hw]
    if list(inputs) != ["pixels"] or inputs["pixels"][0] != "tensor(float)" or inputs["pixels"][1][1:] != expected:
        raise BundleError(f"The model takes {inputs}; one float32 input `pixels` of (B, {expected}) is expected.")
    if outputs.get("logits", [])[1:] != [num_classes]:
        raise BundleError(f"The model gives {outputs}; `logits` of {num_classes} classes are expected.")
