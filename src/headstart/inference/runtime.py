"""Predict from a bundle with numpy, Pillow and ONNX Runtime.

With many images each worker thread decodes a few and runs them in a single-threaded session; a single image uses a
session with all cores.
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

__all__ = ["BATCH", "Answer", "ChannelOrder", "Runtime", "softmax"]

ChannelOrder = Literal["rgb", "bgr"]

Outputs: TypeAlias = tuple[NDArray[np.float32], ...]
Answer: TypeAlias = tuple[str, Outputs | ImageError]
"""Name of an image, and one row of each output of the network or what is wrong with the image."""

BATCH = 2
"""Images a worker takes at once; more is slower on a CPU, whose caches overflow, and takes more memory
(`benchmarks/bench_predict.py`)."""


class Runtime:
    """Inference runtime of a bundle.

    Args:
        bundle: A bundle, or the path of one (run folder, bundle folder or zip).
        num_threads: Cores to use; None means all that this process may use.

    Raises:
        UsageError, BundleError: As in `read_bundle`.
    """

    def __init__(self, bundle: Bundle | str | os.PathLike[str], num_threads: int | None = None) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(os.fspath(bundle))
        if self.bundle.task != "classify":
            raise BundleError(
                f"`{self.bundle.path}` is a model for `{self.bundle.task}`, not a classifier.",
                hint="headstart.load opens every kind of model",
            )
        if num_threads is not None and num_threads < 1:
            raise UsageError(f"the number of threads is at least 1, not {num_threads}.")
        self.num_threads = num_threads or available_cores()
        self._sessions: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Runtime], tuple[Bundle, int]]:
        return Runtime, (self.bundle, self.num_threads)  # sessions are made anew where it arrives

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
        """Predict images lazily, with few of them in memory.

        Args:
            sources: One or an iterable of: paths, bytes of files, PIL images, (H, W, 3) uint8 arrays.
            top: How many classes to name for each image, at least 1; at most all are named.
            batch: Images a run of the network.
            channel_order: Of arrays: `rgb`, or `bgr` as OpenCV has it.
            ood_fpr: Fraction of known images that may be called unknown at most; None as the model was trained.
            coverage: Fraction of images whose set shall hold the true class; None as the model was trained.

        Returns:
            One prediction a source, in order; where an image cannot be read, with `error` and without `label`.

        Raises:
            UsageError: A source is of another kind, or an option does not fit.
        """
        if top < 1:
            raise UsageError(f"top is at least 1, not {top}.")
        decoder = OutputDecoder(self.bundle, ood_fpr, coverage)
        answers = self.iter_outputs(sources, decoder.outputs, batch=batch, channel_order=channel_order)
        return (self._prediction(name, outputs, top, decoder) for name, outputs in answers)

    def predict_proba(
        self, sources: Any, *, batch: int = BATCH, channel_order: ChannelOrder = "rgb"
    ) -> NDArray[np.float64]:
        """Return (N, K) probabilities in the order of `class_names`; NaN rows where an image cannot be read."""
        return softmax(self._collect(sources, "logits", batch, channel_order))

    def embed(self, sources: Any, *, batch: int = BATCH, channel_order: ChannelOrder = "rgb") -> NDArray[np.float32]:
        """Return (N, D) pooled features of the network; NaN rows where an image cannot be read."""
        return self._collect(sources, "embedding", batch, channel_order)

    def _collect(self, sources: Any, output: str, batch: int, channel_order: ChannelOrder) -> NDArray[np.float32]:
        answers = self.iter_outputs(sources, (output,), batch=batch, channel_order=channel_order)
        # Only that an image failed is kept: the error itself would hold on to the image's bytes.
        rows = [None if isinstance(outputs, ImageError) else outputs[0] for _, outputs in answers]
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
        """Return (N, K) probabilities and (N,) OOD score; NaN if unreadable or unavailable."""
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
    ) -> Generator[Answer, None, None]:
        """Yield the network outputs of images, with few of them in memory.

        Args:
            sources, batch, channel_order: As in `iter_predict`.
            outputs: Names of outputs, e.g. `("logits", "embedding")`.

        Returns:
            For each source in order its name, and one row of each output or what is wrong with the image.

        Raises:
            UsageError: As in `iter_predict`, or the model has no such output.
        """
        if batch < 1:
            raise UsageError(f"batch is at least 1, not {batch}.")
        if channel_order not in ("rgb", "bgr"):
            raise UsageError(f"channel_order is `rgb` or `bgr`, not {channel_order!r}.")
        if isinstance(sources, Sequence) and not isinstance(sources, (str, bytes)):
            batch = min(batch, max(1, -(-len(sources) // self.num_threads)))  # a few slow images use all cores too
        return self._stream(enumerate(as_sources(sources)), outputs, batch, channel_order)

    def _stream(
        self, numbered: Iterator[tuple[int, Source]], outputs: tuple[str, ...], batch: int, channel_order: ChannelOrder
    ) -> Generator[Answer, None, None]:
        chunk = list(islice(numbered, max(batch, 2)))
        if len(chunk) < 2 or self.num_threads == 1:
            session = self._session(self.num_threads, outputs)
            while chunk:
                yield from self._work(chunk, outputs, session, channel_order)
                chunk = list(islice(numbered, batch))
            return
        numbered, chunk = chain(chunk, numbered), []
        session = self._session(1, outputs)
        pending: deque[Future[list[Answer]]] = deque()
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
    ) -> list[Answer]:
        """Decode a few images and run the network on the readable ones."""
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
                raise BundleError(f"the model of `{self.bundle.path}` fails: {str(error).splitlines()[0]}") from error
            rows = iter(zip(*arrays, strict=True))
            results = [(name, next(rows) if problem is None else problem) for name, problem in results]
        return results

    def _session(self, num_threads: int, outputs: tuple[str, ...]) -> Any:
        """Return the session with the given number of threads, created lazily."""
        with self._lock:
            if num_threads not in self._sessions:
                session = open_session(self.bundle.model, num_threads)
                check_session(session, self.bundle.spec.size_hw, len(self.class_names))
                self._sessions[num_threads] = session
            session = self._sessions[num_threads]
        missing = set(outputs) - {value.name for value in session.get_outputs()}
        if missing:
            raise UsageError(f"the model has no output {', '.join(sorted(missing))}.")
        return session


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True, initial=-np.inf)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted
