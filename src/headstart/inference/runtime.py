"""Run a saved model with numpy, Pillow and ONNX Runtime.

With several images, each worker thread reads a batch, runs it in a single-threaded session and decodes the outputs. A
single image runs in a session that uses all threads.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart.errors import BundleError, UsageError
from headstart.inference.bundle import Bundle, read_bundle
from headstart.inference.decoders import Decoder, RowDecoder
from headstart.inference.image_inputs import Source, as_sources, is_stream, name_of, read_source
from headstart.inference.session import check_session, open_session
from headstart.preprocessing.image_spec import ImageError, normalize
from headstart.utils.system import available_cores

__all__ = ["BATCH", "ChannelOrder", "Runtime"]

ChannelOrder = Literal["rgb", "bgr"]

Result = TypeVar("Result")

BATCH = 2
"""Default batch size per worker thread. Larger batches overflow the CPU caches and use more memory
(`benchmarks/bench_predict.py`)."""


class Runtime:
    """Inference runtime of a bundle of any task.

    Args:
        bundle: A bundle, or its path (run folder, bundle folder or zip).
        num_threads: Number of threads; None uses all available cores.

    Raises:
        UsageError: `num_threads` is below 1, or see `read_bundle`.
        BundleError: See `read_bundle`.
    """

    def __init__(self, bundle: Bundle | str | os.PathLike[str], num_threads: int | None = None) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(os.fspath(bundle))
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
        decoder: Decoder[Result],
        *,
        batch: int | None = None,
        channel_order: ChannelOrder = "rgb",
    ) -> Generator[Result, None, None]:
        """Yield the decoded result of each image, with a few batches in memory.

        An iterator, e.g. of the frames of a camera, is read at most `num_threads` batches ahead of the results; the
        first result is yielded before the second batch is read.

        Args:
            sources: One or an iterable of: paths, bytes of files, PIL images, (H, W, 3) uint8 arrays.
            decoder: Decoder of the outputs, e.g. `ClassDecoder` or `BoxDecoder`.
            batch: Batch size; None uses 1 for an iterator, else `BATCH`.
            channel_order: Channel order of arrays: `rgb`, or `bgr` as in OpenCV.

        Returns:
            One result per source, in order.

        Raises:
            UsageError: A source has an unsupported type, an option is out of range, or the model lacks an output.
        """
        if batch is not None and batch < 1:
            raise UsageError(f"batch must be at least 1, got {batch}.")
        if channel_order not in ("rgb", "bgr"):
            raise UsageError(f"channel_order must be `rgb` or `bgr`, got {channel_order!r}.")
        is_live = is_stream(sources)
        batch = batch or (1 if is_live else BATCH)
        if isinstance(sources, Sequence) and not isinstance(sources, (str, bytes)):
            batch = min(batch, max(1, -(-len(sources) // self.num_threads)))  # use all threads for short lists too
        return self._stream(enumerate(as_sources(sources)), decoder, batch, channel_order, is_live)

    def tables(
        self,
        sources: Any,
        outputs: tuple[str, ...],
        *,
        batch: int | None = None,
        channel_order: ChannelOrder = "rgb",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[NDArray[np.float32]]:
        """Return an (N, D) array per output, e.g. of `logits` and `embedding`; rows of unreadable images are NaN.

        The arguments and errors are those of `predict`; `progress` is called with (done, total) after each image.
        """
        decoder = RowDecoder(outputs)
        rows = []
        for _, row in self.predict(sources, decoder, batch=batch, channel_order=channel_order):
            rows.append(row)
            if progress is not None:
                progress(len(rows), len(sources))
        good = next((row for row in rows if row is not None), None)
        tables = []
        for k, name in enumerate(outputs):
            width = len(self.class_names) if name == "logits" else 0 if good is None else good[k].size
            missing = np.full(width, np.nan, dtype=np.float32)
            table = [missing if row is None else np.ravel(row[k]) for row in rows]
            tables.append(np.array(table, dtype=np.float32).reshape(len(rows), width))
        return tables

    def _stream(
        self,
        numbered: Iterator[tuple[int, Source]],
        decoder: Decoder[Result],
        batch: int,
        channel_order: ChannelOrder,
        is_live: bool,
    ) -> Generator[Result, None, None]:
        chunk = list(islice(numbered, batch if is_live else max(batch, 2)))
        if self.num_threads == 1 or (len(chunk) < 2 and not is_live):
            session = self.session(self.num_threads, decoder.outputs)
            while chunk:
                yield from self._work(chunk, decoder, session, channel_order)
                chunk = list(islice(numbered, batch))
            return
        most = self.num_threads if is_live else 2 * self.num_threads  # batches in progress
        ahead = 0 if is_live else most  # grows with every result of an iterator, which may block at any time
        numbered, chunk = chain(chunk, numbered), []
        session = self.session(1, decoder.outputs)
        pending: deque[Future[list[Result]]] = deque()
        with ThreadPoolExecutor(self.num_threads, thread_name_prefix="headstart") as pool:
            try:
                while (chunk := list(islice(numbered, batch))) or pending:
                    if chunk:
                        pending.append(pool.submit(self._work, chunk, decoder, session, channel_order))
                    if not chunk or len(pending) > ahead:
                        yield from pending.popleft().result()
                        ahead = min(ahead + 1, most)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _work(
        self, chunk: list[tuple[int, Source]], decoder: Decoder[Result], session: Any, channel_order: ChannelOrder
    ) -> list[Result]:
        """Read a batch of images, run the network on the readable ones, and decode its outputs."""
        spec = self.bundle.spec
        pixels: list[NDArray[np.uint8]] = []
        read: list[tuple[str, tuple[int, int]]] = []
        results: list[Any] = []
        for index, source in chunk:
            name = name_of(source, index)
            try:
                image, size_hw = read_source(source, spec, channel_order, needs_size=decoder.needs_size)
            except ImageError as error:
                results.append(decoder.fail(name, error))
                continue
            results.append(None)
            pixels.append(image)
            read.append((name, size_hw))
        if not pixels:
            return results
        try:
            arrays = session.run(list(decoder.outputs), {"pixels": normalize(np.stack(pixels), spec)})
        except Exception as error:  # ONNX Runtime's errors share no base but Exception
            raise BundleError(f"the model of `{self.bundle.path}` failed: {str(error).splitlines()[0]}") from error
        decoded = (
            decoder.decode(name, row, size) for (name, size), row in zip(read, zip(*arrays, strict=True), strict=True)
        )
        return [next(decoded) if result is None else result for result in results]

    def session(self, num_threads: int, outputs: tuple[str, ...]) -> Any:
        """Return the ONNX Runtime session with this number of threads; it is created once.

        Raises:
            BundleError: The model does not match the bundle.
            UsageError: The model lacks one of the outputs.
        """
        with self._lock:
            if num_threads not in self._sessions:
                session = open_session(self.bundle.model, num_threads)
                size_hw, has_boxes = self.bundle.spec.size_hw, self.bundle.has_boxes
                check_session(session, size_hw, len(self.class_names), has_boxes=has_boxes)
                self._sessions[num_threads] = session
            session = self._sessions[num_threads]
        missing = set(outputs) - {value.name for value in session.get_outputs()}
        if missing:
            raise UsageError(f"the model has no output `{'`, `'.join(sorted(missing))}`.")
        return session
