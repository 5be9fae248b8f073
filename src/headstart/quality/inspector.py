"""Inspect a dataset: scan its images, and add the findings of a backbone and a probe.

The scan and the feature extraction share one pass: each file is read and decoded once. A report is cached
under a key of everything it depends on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from headstart.data.image_scan import ImageScanner, ScanResult, scan_images
from headstart.data.scan_cache import ScanCache
from headstart.errors import HeadstartError
from headstart.events import EventStream, Stage
from headstart.quality.inspection import inspect_dataset
from headstart.quality.intensity_range import choose_range, has_16_bit
from headstart.store.cache import Cache
from headstart.types.codes import NoteKind
from headstart.types.records import DatasetReport, Decision, Features, Samples
from headstart.utils.limits import MAX_PIXELS
from headstart.utils.serialization import restore
from headstart.utils.system import cache_root

__all__ = ["DatasetInspector"]

_VERSION = 11  # of the cached report; other versions are recomputed
_MAX_SCORED = 1500  # more images make the group effect slower to measure, not clearer


class DatasetInspector:
    """Inspects one dataset.

    Args:
        samples: The images.
        events: The event stream; receives progress.
        intensity_range: Input range of 16-bit and float images; None chooses it from the data.
        max_pixels: Larger images are rejected.
        group_from: Source of the groups; None infers them.
        num_threads: Worker threads; one per core by default.
        use_cache: Whether scans and reports are cached on disk.
    """

    def __init__(
        self,
        samples: Samples,
        events: EventStream,
        *,
        intensity_range: tuple[float, float] | None = None,
        max_pixels: int = MAX_PIXELS,
        group_from: str | None = None,
        num_threads: int | None = None,
        use_cache: bool = True,
    ) -> None:
        self.samples = samples
        self._events, self._range, self._max_pixels, self._threads = events, intensity_range, max_pixels, num_threads
        self._group_from = group_from
        self._cache = ScanCache(Cache(cache_root())) if use_cache else None
        self.scanner = ImageScanner(samples, max_pixels=max_pixels, cache=self._cache)

    def find_range(self, *, is_split_later: bool = False) -> tuple[tuple[float, float] | None, Decision | None]:
        """Return the intensity range and the decision; scans only if there may be 16-bit or float images."""
        if self._range is not None or not has_16_bit(self.samples.paths):
            return self._range, None
        chosen, decision = choose_range(self.samples, self.scan())
        if decision is None:
            return chosen, None
        evidence = {**decision.evidence, "includes_held_out": is_split_later}
        return chosen, replace(decision, setting="intensity_range", evidence=evidence)

    def scan(self) -> ScanResult:
        """Scan every image, where no feature extraction does so."""
        progress = self._events.progress(Stage.SCAN)
        return scan_images(self.samples, num_threads=self._threads, progress=progress, scanner=self.scanner)

    def inspect(self, features: Features | None = None, backbone_key: str = "") -> DatasetReport:
        """Return the report on everything scanned so far.

        Args:
            features: Features of the same images, in the same order.
            backbone_key: Identifies the backbone and its preprocessing in the cache key.
        """
        key = self._key(backbone_key if features is not None else "none")
        cached = self._cache.note(key) if self._cache is not None else None
        if cached is not None:
            return restore(DatasetReport, cached)  # type: ignore[no-any-return]
        scan = self.scanner.result()
        report = inspect_dataset(
            self.samples,
            scan=scan,
            embeddings=None if features is None else features.blocks.get("embedding"),
            score=None if features is None else _score(self.samples, features),
            intensity_range=self._range,
            max_pixels=self._max_pixels,
            num_threads=self._threads,
            group_from=self._group_from,
        )
        if self._cache is not None:
            self._cache.save(scan, {key: asdict(report)})
            if self._cache.rows.write_error:
                self._events.warn_once(NoteKind.CACHE_NOT_WRITTEN, what="scans", reason=self._cache.rows.write_error)
        return report

    def _key(self, backbone_key: str) -> str:
        """Return a digest of everything that a report depends on."""
        rows = [
            "\t".join((digest, s.name, s.label or "", s.split or "", s.group or "", _modification_day(s.path)))
            for digest, s in zip(self.scanner.digests(), self.samples, strict=True)
        ]
        unread = [f"{p.name}\t{p.kind}" for p in (*self.samples.problems, *self.scanner.problems())]
        columns = [f"{name}\t{_digest_of(cells)}" for name, cells in self.samples.columns.items()]
        more = [
            *columns,
            backbone_key,
            repr(self._range),
            str(self._max_pixels),
            repr(self._group_from),
            self.samples.layout,
        ]
        return f"report-{_VERSION}-{_digest_of([*rows, *unread, *more])}"


def _digest_of(values: Sequence[str]) -> str:
    """Return a digest of an ordered sequence of values."""
    return hashlib.sha256("\n".join(values).encode()).hexdigest()


def _modification_day(path: str) -> str:
    """Return the day a file was last modified, which may reveal its class; empty where unknown."""
    try:
        return str(int(os.stat(path).st_mtime // 86400))
    except (OSError, ValueError):
        return ""


def _score(samples: Samples, features: Features) -> Callable[[NDArray[np.int64] | None], float]:
    """Return a function that maps a grouping to the out-of-fold accuracy of a probe on the training images."""
    in_training = np.array([s.split in (None, "train") for s in samples], dtype=bool)
    usable = np.flatnonzero(in_training & features.is_ok & (samples.class_ids >= 0))
    if len(usable) > _MAX_SCORED:
        usable = np.sort(np.random.default_rng(0).choice(usable, _MAX_SCORED, replace=False))
    counts = np.bincount(samples.class_ids[usable], minlength=len(samples.class_names))
    usable = usable[counts[samples.class_ids[usable]] >= 2]
    classes, class_ids = np.unique(samples.class_ids[usable], return_inverse=True)

    def score(groups: NDArray[np.int64] | None) -> float:
        from headstart.probe.probe import fit_probe

        try:
            fit = fit_probe(
                {name: block[usable] for name, block in features.blocks.items()},
                class_ids.astype(np.int64),
                len(classes),
                groups=None if groups is None else groups[usable],
                logistic=False,
            )
        except HeadstartError:  # too few classes or groups to measure the effect
            return float("nan")
        return float(fit.candidate_hits[-1].mean())

    return score
