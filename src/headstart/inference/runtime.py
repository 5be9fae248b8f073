"""Run a saved classifier with numpy, Pillow and ONNX Runtime.

With several images, each worker thread decodes a batch and runs it in a single-threaded session. A single image runs in
a session that uses all threads.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headstart.errors import BundleError, UsageError
from headstart.inference.bundle import Bundle, read_bundle
from headstart.inference.image_inputs import Source, as_sources, name_of, to_pixels
from headstart.inference.output_decoder import OutputDecoder
from headstart.inference.session import check_session, open_session
from headstart.preprocessing.image_spec import ImageError, normalize
from headstart.types.records import Prediction
from headstart.utils.system import available_cores

__all__ = ["BATCH", "ChannelOrder", "ImageOutput", "Runtime", "softmax"]

ChannelOrder = Literal["rgb", "bgr"]

Outputs: TypeAlias = tuple[NDArray[np.float32], ...]
ImageOutput: TypeAlias = tuple[str, Outputs | ImageError]
"""Name of an image, and its row of each network output, or the error if the image is unreadable."""

BATCH = 2
"""Default batch size per worker thread. Larger batches overflow the CPU caches and use more memory
(`benchmarks/bench_predict.py`)."""


class Runtime:
    """Inference runtime of a bundle.

    Args:
        bundle: A bundle, or its path (run folder, bundle folder or zip).
        num_threads: Number of threads; None uses all available cores.

    Raises:
        UsageError: `num_threads` is below 1, or see `read_bundle`.
        BundleError: The bundle is not a classifier, or see `read_bundle`.
    """

    def __init__(self, bundle: Bundle | str | os.PathLike[str], num_threads: int | None = None) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(os.fspath(bundle))
        if self.bundle.task != "classify":
            raise BundleError(
                f"`{self.bundle.path}` is a `{self.bundle.task}` model, not a classifier.",
                hint="use headstart.load, which opens models of all tasks",
            )
        if num_threads is not None and num_threads < 1:
            raise UsageError(f"num_threads must be at least 1, got {num_threads}.")
        self.num_threads = num_threads or available_cores()
        self._sessions: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Runtime], tuple[Bundle, int]]:
        return Runtime, (self.bundle, self.num_threads)  # sessions cannot be pickled; they are created again

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.bundle.class_names

    def predict(
        self,
        sources: Any,
        top: int = 1,
        *,
        batch: int = BATCH,
        channel_order: ChannelOrder = "rgb",
        ood_fpr: float | None = None,
        coverage: float | None = None,
    ) -> list[Prediction]:
        """Predict one or many images; see `iter_predict`."""
        options: Any = {"batch": batch, "channel_order": channel_order, "ood_fpr": ood_fpr, "coverage": coverage}
        return list(self.iter_predict(sources, top, **options))

    def iter_predict(
        self,
        sources: Any,
        top: int = 1,
        *,
        batch: int = BATCH,
        channel_order: ChannelOrder = "rgb",
        ood_fpr: float | None = None,
        coverage: float | None = None,
    ) -> Iterator[Prediction]:
        """Predict images lazily, with a few batches in memory.

        Args:
            sources: One or an iterable of: paths, bytes of files, PIL images, (H, W, 3) uint8 arrays.
            top: Number of most probable classes per image, at least 1.
            batch: Batch size.
            channel_order: Channel order of arrays: `rgb`, or `bgr` as in OpenCV.
            ood_fpr: Maximum false-positive rate of OOD detection; None uses the value stored in the bundle.
            coverage: Coverage of prediction sets; None uses the value stored in the bundle.

        Returns:
            One prediction per source, in order; unreadable images have `error` set and no `label`.

        Raises:
            UsageError: A source has an unsupported type, or an option is out of range or not supported by the bundle.
        """
        if top < 1:
            raise UsageError(f"top must be at least 1, got {top}.")
        decoder = OutputDecoder(self.bundle, ood_fpr, coverage)
        outputs = self.iter_outputs(sources, decoder.outputs, batch=batch, channel_order=channel_order)
        return (self._prediction(name, output, top, decoder) for name, output in outputs)

    def predict_proba(
        self, sources: Any, *, batch: int = BATCH, channel_order: ChannelOrder = "rgb"
    ) -> NDArray[np.float64]:
        """Return (N, K) probabilities in the order of `class_names`; rows of unreadable images are NaN."""
        return softmax(self._collect(sources, "logits", batch, channel_order))

    def embed(self, sources: Any, *, batch: int = BATCH, channel_order: ChannelOrder = "rgb") -> NDArray[np.float32]:
        """Return (N, D) embeddings; rows of unreadable images are NaN."""
        return self._collect(sources, "embedding", batch, channel_order)

    def _collect(self, sources: Any, output: str, batch: int, channel_order: ChannelOrder) -> NDArray[np.float32]:
        outputs = self.iter_outputs(sources, (output,), batch=batch, channel_order=channel_order)
        # Errors are not kept: their tracebacks reference the bytes of the image.
        rows = [None if isinstance(values, ImageError) else values[0] for _, values in outputs]
        good = next((row for row in rows if row is not None), None)
        width = len(good) if good is not None else len(self.class_names) if output == "logits" else 0
        table = np.full((len(rows), width), np.nan, dtype=np.float32)
        for i, row in enumerate(rows):
            if row is not None:
                table[i] = row
        return table

    def predict_proba_and_ood(
        self, sources: Any, *, batch: int = BATCH, channel_order: ChannelOrder = "rgb"
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (N, K) probabilities and (N,) OOD scores; NaN for unreadable images and without an OOD rule."""
        decoder = OutputDecoder(self.bundle)
        missing = np.full(len(self.class_names), np.nan)
        rows: list[NDArray[np.float64]] = []
        ood_score: list[float] = []
        for _, outputs in self.iter_outputs(sources, decoder.outputs, batch=batch, channel_order=channel_order):
            if isinstance(outputs, ImageError):
                rows.append(missing)
                ood_score.append(np.nan)
                continue
            rows.append(softmax(outputs[0]))
            value = decoder.ood_score(rows[-1], outputs)
            ood_score.append(np.nan if value is None else value)
        return np.array(rows).reshape(-1, len(missing)), np.array(ood_score, dtype=np.float64)

    def _prediction(self, name: str, outputs: Outputs | ImageError, top: int, decoder: OutputDecoder) -> Prediction:
        if isinstance(outputs, ImageError):
            return Prediction(file=name, label=None, probability=None, error=str(outputs), problem=outputs.kind)
        probabilities = softmax(outputs[0])
        order = np.argsort(-probabilities, kind="stable")[:top]
        best = tuple((self.class_names[i], float(probabilities[i])) for i in order)
        ood_score = decoder.ood_score(probabilities, outputs)
        return Prediction(
            file=name,
            label=best[0][0],
            probability=best[0][1],
            top=best,
            ood_score=ood_score,
            is_ood=decoder.is_ood(ood_score),
            prediction_set=decoder.prediction_set(probabilities),
        )

    def iter_outputs(
        self,
        sources: Any,
        outputs: tuple[str, ...],
        *,
        batch: int = BATCH,
        channel_order: ChannelOrder = "rgb",
    ) -> Generator[ImageOutput, None, None]:
        """Yield the network outputs of each image, with a few batches in memory.

        Args:
            sources, batch, channel_order: As in `iter_predict`.
            outputs: Names of outputs, e.g. `("logits", "embedding")`.

        Returns:
            For each source, in order, its name and its row of each output, or the error if it is unreadable.

        Raises:
            UsageError: See `iter_predict`, or the model has no such output.
        """
        if batch < 1:
            raise UsageError(f"batch must be at least 1, got {batch}.")
        if channel_order not in ("rgb", "bgr"):
            raise UsageError(f"channel_order must be `rgb` or `bgr`, got {channel_order!r}.")
        if isinstance(sources, Sequence) and not isinstance(sources, (str, bytes)):
            batch = min(batch, max(1, -(-len(sources) // self.num_threads)))  # use all threads for short lists too
        return self._stream(enumerate(as_sources(sources)), outputs, batch, channel_order)

    def _stream(
        self, numbered: Iterator[tuple[int, Source]], outputs: tuple[str, ...], batch: int, channel_order: ChannelOrder
    ) -> Generator[ImageOutput, None, None]:
        chunk = list(islice(numbered, max(batch, 2)))
        if len(chunk) < 2 or self.num_threads == 1:
            session = self._session(self.num_threads, outputs)
            while chunk:
                yield from self._work(chunk, outputs, session, channel_order)
                chunk = list(islice(numbered, batch))
            return
        numbered, chunk = chain(chunk, numbered), []
        session = self._session(1, outputs)
        pending: deque[Future[list[ImageOutput]]] = deque()
        with ThreadPoolExecutor(self.num_threads, thread_name_prefix="headstart") as pool:
            try:
                while (chunk := list(islice(numbered, batch))) or pending:
                    if chunk:
                        pending.append(pool.submit(self._work, chunk, outputs, session, channel_order))
                    if not chunk or len(pending) > 2 * self.num_threads:
                        yield from pending.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _work(
        self, chunk: list[tuple[int, Source]], outputs: tuple[str, ...], session: Any, channel_order: ChannelOrder
    ) -> list[ImageOutput]:
        """Decode a batch of images and run the network on the readable ones."""
        results: list[Any] = []
        pixels: list[NDArray[np.uint8]] = []
        for index, source in chunk:
            try:
                pixels.append(to_pixels(source, self.bundle.spec, channel_order))
                results.append((name_of(source, index), None))
            except ImageError as error:
                results.append((name_of(source, index), error))
        if pixels:
            try:
                arrays = session.run(list(outputs), {"pixels": normalize(np.stack(pixels), self.bundle.spec)})
            except Exception as error:  # ONNX Runtime's errors share no base but Exception
                raise BundleError(f"the model of `{self.bundle.path}` failed: {str(error).splitlines()[0]}") from error
            rows = iter(zip(*arrays, strict=True))
            results = [(name, next(rows) if problem is None else problem) for name, problem in results]
        return results

    def _session(self, num_threads: int, outputs: tuple[str, ...]) -> Any:
        """Return the session with this number of threads; it is created once."""
        with self._lock:
            if num_threads not in self._sessions:
                session = open_session(self.bundle.model, num_threads)
                check_session(session, self.bundle.spec.size_hw, len(self.class_names))
                self._sessions[num_threads] = session
            session = self._sessions[num_threads]
        missing = set(outputs) - {value.name for value in session.get_outputs()}
        if missing:
            raise UsageError(f"the model has no output `{'`, `'.join(sorted(missing))}`.")
        return session


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True, initial=-np.inf)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted
